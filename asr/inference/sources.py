"""Manifests and shards as sources of bulk work: units of utterances, read by those who do the work.

A unit is a shard, or a run of utterances of a manifest. It has a number in the whole request and the name of its result
files, such as ``cuts_test.000003``.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.config import FeatureConfig
from asr.corpus.cuts import Utterance
from asr.corpus.manifest import count_cuts, stream_manifest
from asr.corpus.shards import BadShardError, Shards, is_shards, open_shards, read_utterances
from asr.corpus.spool import Spool
from asr.corpus.stores import is_url
from asr.errors import InputError
from asr.inference.hours_progress import HoursProgress
from asr.inference.result_files import DoneList, Problem, UnitResult, digest_folder, write_errors
from asr.inference.units import Loading, Make, Run, WorkersEndedError

MANIFEST_SUFFIXES = (".jsonl.gz", ".jsonl")
BAD_UNIT: dict[type[InputError], str] = {BadShardError: "bad shard", WorkersEndedError: "workers ended"}
UNIT_UTTERANCES, UNIT_S = 200, 1800.0
"""A run has at most so many utterances, and seconds of audio but for its last."""


@dataclass(frozen=True)
class CorpusUnit:
    """A run of utterances, or a shard: the location of the shards and its number among them."""

    number: int
    name: str
    utterances: tuple[Utterance, ...] = ()
    location: str = ""
    shard: int = 0


@dataclass(frozen=True)
class Source:
    """A manifest, or shards: where they are, the name of result files, and the digest and number of the utterances."""

    location: str
    name: str
    digest: str
    utterances: int
    shards: int = 0
    """The number of shards, 0 for a manifest."""

    @property
    def most_units(self) -> int:
        """The number of units, or more."""
        return self.shards or self.utterances


def open_sources(locations: Sequence[str]) -> list[Source]:
    """Manifests and shards; an empty list if none of the locations is one.

    Raises:
        InputError: some are and others are not, two have the same name, or one is not readable or an empty string.
    """
    if "" in locations:
        raise InputError("'': an empty path, expected a recording, a folder, a manifest or shards")
    found = [(location, _open(location)) for location in locations]
    sources = [source for _, source in found if source is not None]
    others = [location for location, source in found if source is None]
    if sources and others:
        raise InputError(
            f"{others[0]}: audio beside {sources[0].location}, expected audio alone, or manifests and shards"
        )
    for index, source in enumerate(sources):
        if (same := next((one for one in sources[:index] if one.name == source.name), None)) is not None:
            raise InputError(f"{source.location}: the same result files as {same.location}, expected another name")
    return sources


def _open(location: str) -> Source | None:
    path = Path(location)
    if is_url(location) or (path.is_dir() and is_shards(location)):
        shards = open_shards(location)
        name = location.rstrip("/").rpartition("/")[2] if is_url(location) else path.resolve().name
        return Source(
            location if is_url(location) else str(path.resolve()), name, shards.digest, shards.utterances, len(shards)
        )
    if path.name.endswith(MANIFEST_SUFFIXES):
        count = count_cuts(path)
        name = next(path.name.removesuffix(suffix) for suffix in MANIFEST_SUFFIXES if path.name.endswith(suffix))
        return Source(str(path.absolute()), name, hashlib.sha256(path.read_bytes()).hexdigest(), count)
    return None


def list_units(sources: Sequence[Source], need_phones: bool) -> Iterator[CorpusUnit]:
    """The units of all sources, numbered in their order.

    Raises:
        InputError: a line of a manifest cannot be used.
    """
    number = 0
    for source in sources:
        for unit in _shard_units(source, number) if source.shards else _manifest_units(source, number, need_phones):
            yield unit
            number += 1


def _shard_units(source: Source, first: int) -> Iterator[CorpusUnit]:
    for shard in range(source.shards):
        yield CorpusUnit(first + shard, f"{source.name}.{shard:06}", location=source.location, shard=shard)


def _manifest_units(source: Source, first: int, need_phones: bool) -> Iterator[CorpusUnit]:
    run, seconds, count = list[Utterance](), 0.0, 0
    for utterance in stream_manifest(Path(source.location), check_audio=False, need_phones=need_phones):
        if run and (len(run) == UNIT_UTTERANCES or seconds + utterance.duration_s > UNIT_S):
            yield CorpusUnit(first + count, f"{source.name}.{count:06}", tuple(run))
            run, seconds, count = [], 0.0, count + 1
        run.append(utterance)
        seconds += utterance.duration_s
    if run:
        yield CorpusUnit(first + count, f"{source.name}.{count:06}", tuple(run))


def describe_request(results: str, model: Path, loading: Loading, sources: Sequence[Source]) -> dict[str, str]:
    """What the results of bulk work depend on, by name, for a `DoneList`."""
    device, precision, decoder = loading
    return {
        "results": results,
        "model": digest_folder(model),
        "sources": " ".join(f"{source.name}:{source.digest}" for source in sources),
        "precision": f"{precision} on {device.partition(':')[0]}",
        "decoder": decoder,
    }


class UnitReader:
    """Reads the utterances of units, and keeps what it needs for shards."""

    def __init__(self, features: FeatureConfig, need_phones: bool) -> None:
        """``features`` are those of the model, which stored ones must have."""
        self.features, self.need_phones, self.spool = features, need_phones, Spool()
        self.shards: dict[str, Shards] = {}

    @contextmanager
    def read(self, unit: CorpusUnit) -> Iterator[Sequence[Utterance]]:
        """The utterances of a unit, whose audio can be read as long as the context lasts.

        Raises:
            BadShardError: the shard is truncated, altered or missing.
            InputError: the store does not answer.
        """
        if not unit.location:  # a run of a manifest
            yield unit.utterances
            return
        if unit.location not in self.shards:
            self.shards[unit.location] = open_shards(unit.location)
            self._check_features(self.shards[unit.location])
        with self.spool.fetch(self.shards[unit.location], unit.shard) as local:
            yield read_utterances(local, self.need_phones)

    def _check_features(self, shards: Shards) -> None:
        """Refuse stored features with other settings than the model's.

        Normalization comes later, but what it does with digital silence comes before.
        """
        wanted = asdict(self.features)
        for name, value in (shards.features or {}).items():
            same = value == wanted.get(name)
            if name == "normalization":
                same = (value == "running") == (self.features.normalization == "running")
            if not same:
                where = f"{shards.location}: stored features"
                raise InputError(f"{where}: {name} is {value!r}, expected the model's {wanted.get(name)!r}")


@dataclass(frozen=True)
class Work:
    """What progress calls it, the units of some sources, and what makes a worker."""

    name: str
    units: Iterable[CorpusUnit]
    sources: Sequence[Source]
    make: Make[CorpusUnit, UnitResult]


def do_units(work: Work, done: DoneList, run: Run, skip_bad: bool) -> None:
    """Do the units that are not done, note them down, and write ``errors.tsv``.

    With ``skip_bad``, bad shards are named and left out, and so are units that end all workers.

    Raises:
        InputError: a unit has failed; those that are done stay.
    """
    bad: dict[int, Problem] = {}
    todo = (unit for unit in work.units if unit.number not in done)
    total = sum(source.utterances for source in work.sources)
    earlier = sum(result.utterances for result in done.results.values())
    try:
        with HoursProgress(work.name, total, earlier) as progress:
            for outcome in run(work.make, todo, sum(source.most_units for source in work.sources)):
                unit, error = outcome.unit, outcome.error
                if isinstance(error, BadShardError | WorkersEndedError) and skip_bad:
                    bad[unit.number] = Problem(unit.name, unit.location, BAD_UNIT[type(error)], str(error))
                    print(f"asr: {unit.name}: {error}: skipped, {len(bad)} so far", file=sys.stderr)
                elif error is not None:
                    raise error if isinstance(error, BadShardError) else InputError(f"{unit.name}: {error}")
                elif outcome.result is not None:
                    done.add(unit.number, outcome.result)
                    progress.add(outcome.result.utterances, outcome.result.seconds)
    finally:
        done.close()
        problems = {number: result.problems for number, result in done.results.items()}
        in_order = sorted((problems | {number: [problem] for number, problem in bad.items()}).items())
        write_errors(done.out, [problem for _, own in in_order for problem in own])
