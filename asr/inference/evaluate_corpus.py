"""A model and a manifest, or shards -> hypotheses and phone error rates, in units of work (`asr.inference.sources`)."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from asr.corpus.cuts import Utterance
from asr.corpus.shards import open_shards
from asr.corpus.spool import Spool, stream_shards
from asr.decoding.beam_search import load_decoder
from asr.decoding.best_path import best_path
from asr.errors import InputError
from asr.features.dataset import Dataset, Item, plan_evaluation
from asr.features.normalization import FeatureStatistics, FeatureSums
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.catalog import bundled_models
from asr.inference.evaluate import BATCH_SECONDS, load_dataset, pair_with_references, recognize
from asr.inference.result_files import UNUSABLE, DoneList, Problem, UnitResult, lock_output, write_result
from asr.inference.sources import (
    CorpusUnit,
    Source,
    UnitReader,
    Work,
    describe_request,
    do_units,
    list_units,
    open_sources,
)
from asr.inference.units import Loading, Run, fix_precision, run_here
from asr.scoring.conventions import conventions_for
from asr.scoring.error_rate import TranscriptPair
from asr.scoring.results import Evaluation, evaluate_hypotheses, read_json
from asr.system.files import read_text

DECODERS = ("best_path", "beam")

RESULTS = "hypotheses 1"
"""Changes when the code would write other hypotheses for the same request."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate on what: a model's folder, a manifest or shards; and the device, the precision and the decoder.

    ``decoder`` is one of `DECODERS`; ``beam`` is the search that `asr tune-decoder` saved in the model's folder.
    """

    model: Path
    location: str
    device: str = "cpu"
    precision: str = "auto"
    decoder: str = "best_path"

    @property
    def loading(self) -> Loading:
        """How a worker loads the model."""
        return self.device, self.precision, self.decoder


def evaluate(
    model: Path, cuts: Path, device: str = "cpu", precision: str = "auto", decoder: str = "best_path"
) -> Evaluation:
    """Score a bundle on every utterance of a manifest, under its own scoring convention and the related ones.

    ``decoder`` is one of `DECODERS`; ``beam`` is the search that `asr tune-decoder` saved in the model's folder.

    Raises:
        InputError: the bundle or the manifest cannot be used, or they have different phones.
    """
    return evaluate_corpus(EvaluationRequest(model, str(cuts), device, precision, decoder))


def evaluate_corpus(
    request: EvaluationRequest,
    out: Path | None = None,
    run: Run = run_here,
    skip_bad: bool = False,
    force: bool = False,
) -> Evaluation:
    """As `evaluate`, of a manifest or of shards, whose units ``run`` does.

    With ``out``, hypotheses and references are written to this folder, which all workers see. Those that an earlier command
    has written stay there, unless ``force`` is set. With ``skip_bad``, bad shards and audio that cannot be used are named,
    left out and counted; a model with statistics of each speaker reads all audio before, and stops at such audio.
    """
    request = replace(request, precision=fix_precision(request.loading)[1])
    sources = open_sources([request.location])
    if not sources:
        raise InputError(
            f"{request.location}: neither a manifest nor shards, expected cuts_*.jsonl.gz of `asr prepare`"
        )
    bundle = load_bundle(request.model, request.device if run is run_here else "cpu", request.precision)
    with TemporaryDirectory(prefix="asr-") as scratch, lock_output(out or Path(scratch)):
        folder = (out or Path(scratch)).absolute()
        done = DoneList(folder, describe_request(RESULTS, request.model, request.loading, sources), force)
        if sources[0].shards:
            ids, statistics, units = None, learn_from_shards(bundle, request.location), list_units(sources, True)
        else:
            dataset = load_dataset(bundle, Path(request.location), check_audio=not skip_bad)
            ids, statistics = [utterance.id for utterance in dataset.utterances], dataset.statistics
            units = iter(_batch_units(dataset, sources[0]))
        make = partial(make_evaluator, request, statistics, folder, bundle if run is run_here else None, skip_bad)
        do_units(Work("recognizing", units, sources, make), done, run, skip_bad)
        problems = [problem for result in done.results.values() for problem in result.problems]
        for count, problem in enumerate(problems, 1):
            if not skip_bad:
                raise InputError(f"{folder}: evaluated without {problem.id} ({problem.detail}), expected --force")
            print(f"asr: {problem.id}: {problem.detail}: left out, {count} so far", file=sys.stderr)
        pairs = {pair[0]: pair for pair in _read_pairs(done)}
    if not pairs:
        raise InputError(f"{request.location}: no utterance whose audio can be used, expected some")
    conventions = conventions_for(bundle.convention, bundle.inventory.symbols)
    # On the GPU of another machine, what auto became is not known here.
    precision = bundle.precision if run is run_here or request.precision != "auto" else None
    in_order = [pairs[one] for one in ids if one in pairs] if ids is not None else pairs.values()
    result = evaluate_hypotheses(in_order, conventions, request.decoder, precision, bundle.inventory.notation)
    return replace(result, left_out=sources[0].utterances - len(pairs))


def make_evaluator(
    request: EvaluationRequest,
    statistics: Mapping[str, FeatureStatistics],
    out: Path,
    bundle: Bundle | None,
    skip_bad: bool = False,
) -> Callable[[CorpusUnit], UnitResult]:
    """Load a model unless it is here already, and return what writes the hypotheses and references of a unit.

    With ``skip_bad``, utterances whose audio cannot be used are problems of the unit.
    """
    device, precision, decoder = request.loading
    loaded = bundle or load_bundle(request.model, device, precision)
    decode = load_decoder(request.model, loaded.inventory) if decoder == "beam" else best_path
    reader = UnitReader(loaded.features, need_phones=True)

    def make_dataset(utterances: Sequence[Utterance]) -> Dataset:
        return Dataset(utterances, loaded.features, loaded.inventory, cache_gib=0, statistics=statistics)

    def make_pairs(utterances: Sequence[Utterance]) -> list[TranscriptPair]:
        dataset = make_dataset(utterances)
        return pair_with_references(dataset, recognize(loaded, dataset, decode, shown=False))

    def work(unit: CorpusUnit) -> UnitResult:
        problems: list[Problem] = []
        with reader.read(unit) as utterances:
            try:
                pairs = make_pairs(utterances)
            except InputError:
                problems = find_unusable(make_dataset(utterances)) if skip_bad else []
                if not problems:
                    raise
                left_out = {problem.id for problem in problems}
                usable = [one for one in utterances if one.id not in left_out]
                pairs = make_pairs(usable) if usable else []
        file = f"{unit.name}.jsonl"
        size = write_result(out / file, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs).encode())
        return UnitResult(len(utterances), [], sum(one.duration_s for one in utterances), {file: size}, problems)

    return work


def find_unusable(dataset: Dataset) -> list[Problem]:
    """The utterances whose audio, or stored features, cannot be used."""
    problems = []
    for index, utterance in enumerate(dataset.utterances):
        try:
            dataset.features(Item(index, 1.0))
        except InputError as error:
            problems.append(Problem(utterance.id, str(utterance.audio_path), UNUSABLE, str(error)))
    return problems


def _batch_units(dataset: Dataset, source: Source) -> list[CorpusUnit]:
    """A unit for each batch: utterances of similar length from the whole manifest."""
    plan = plan_evaluation([utterance.duration_s for utterance in dataset.utterances], BATCH_SECONDS)
    batches = [tuple(dataset.utterances[item.utterance] for item in items) for items in plan]
    return [CorpusUnit(number, f"{source.name}.{number:06}", batch) for number, batch in enumerate(batches)]


def _read_pairs(done: DoneList) -> Iterator[TranscriptPair]:
    for _, result in sorted(done.results.items()):
        for file in result.files:
            for line in read_text(done.out / file, "hypotheses").split("\n")[:-1]:
                utterance_id, speaker, reference, hypothesis = json.loads(line)
                yield utterance_id, speaker, reference, hypothesis


def learn_from_shards(bundle: Bundle, location: str) -> Mapping[str, FeatureStatistics]:
    """The statistics that a bundle needs for shards: its own, or those of each speaker, for which all audio is read."""
    if bundle.features.normalization != "speaker":
        return bundle.statistics
    shards, sums = open_shards(location), defaultdict[str, FeatureSums](FeatureSums)
    with Spool() as spool:
        for _, utterances in stream_shards(shards, range(len(shards)), spool):
            Dataset(utterances, bundle.features, bundle.inventory, cache_gib=0).add_to(sums)
    return {speaker: one.statistics() for speaker, one in sums.items()}


def read_or_evaluate(path: Path, cuts: Path | None, decoder: str = "best_path") -> Evaluation:
    """Read an evaluation from a JSON file, or evaluate a model on a manifest: its folder, or the name of a bundled one.

    Raises:
        InputError: neither, or a model without a manifest.
    """
    if not path.exists():
        path = bundled_models().get(str(path), path)
    if not path.is_dir():
        return read_json(path)
    if cuts is None:
        raise InputError(f"{path}: a model folder without a manifest, expected the manifest to evaluate it on")
    return evaluate(path, cuts, decoder=decoder)
