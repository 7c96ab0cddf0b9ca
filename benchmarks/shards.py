"""Training from shards against training from loose files: speed and memory, and whether reading ahead hides a slow store.

    python -m benchmarks.shards WORK CUTS... [--utterances 4000] [--train 1000] [--latency-ms 50] [--rounds 3] [--json FILE]

CUTS are manifests of training sets, smallest first. Their shards are written to the folder WORK first, unless they are
there. Each system is a process of its own that does what `asr train experiment=speechocean762` does, without a feature
cache: "reading" makes the batches (audio, speed perturbation, features, masks, padding), "training" updates the model with
them as well. Both read through the same code as training does, with the default number of shards at once.

A round takes batches until they have so many utterances; rounds are interleaved, and the first one is not timed. Speed is
seconds of speech a second, all rounds together: a round of the same number of utterances is longer where these are long.
Memory is the peak of the process. The ratios are those of speed, shards over loose files of the same corpus, and those of
memory, loose files over shards and the smallest corpus over the others (in shards). Shards are FLAC: with loose files in
another format, the ratio has the difference of the formats in it.

With ``--latency-ms``, the shards of the first corpus are read through a file system in which every request takes so long,
once with reading ahead and once without.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from asr.cli.compose import compose
from asr.corpus.manifest import read_manifest, write_corpus
from asr.corpus.shard_writer import write_shards
from asr.corpus.shards import open_shards
from asr.training.data import Share, Update, plan_updates, remaining_sections, shares
from asr.training.loop import prepare, update_weights
from asr.training.run import Run
from asr.training.shard_reader import ShardReader
from benchmarks.timing import SeparateProcess, build_parser, format_table, report_results

Measure = Callable[[], object]


class SlowFileSystem(LocalFileSystem):
    """Local files as a store in which every request takes `latency_s`."""

    protocol = "slow"
    latency_s = 0.0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol("/" + str(path).removeprefix("slow:").lstrip("/")))

    def cat_file(self, *arguments: Any, **options: Any) -> bytes:
        """Read a file after a pause."""
        time.sleep(self.latency_s)
        return bytes(super().cat_file(*arguments, **options))

    def info(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Describe a file after a pause."""
        time.sleep(self.latency_s)
        return dict(super().info(*arguments, **options))


def make_measure(
    overrides: Sequence[str], dev: Path, utterances: int, train: bool, latency_s: float, ahead: bool
) -> Measure:
    """Return what a process repeats: batches of so many utterances, and the updates with them.

    Each call returns utterances, seconds of their speech, seconds, those of them spent in opening sections, and the peak
    memory in MiB.
    """
    SlowFileSystem.latency_s = latency_s
    fsspec.register_implementation("slow", SlowFileSystem)
    if not ahead:
        ShardReader.start = lambda *_: None  # type: ignore[method-assign]
    fixed = [f"corpus.dev={dev.resolve()}", "trainer.feature_cache_gib=0", "trainer.trackers=[]", "trainer.device=cpu"]
    run = prepare(compose(["experiment=speechocean762", "run_dir=unused", *fixed, *overrides]), Path("unused"))
    run.progress.epoch = run.config.trainer.flat_start_epochs
    run.progress.loss_count = 1.0
    run.model.train()
    opening = [0.0]
    stream = batches(run, opening)

    def measure() -> dict[str, float]:
        count, frames, started, opening[0] = 0, 0, time.perf_counter(), 0.0
        while count < utterances:
            update, parts = next(stream)
            count += sum(len(items) for items, _ in update.batches)
            frames += sum(int(batch.feature_lengths.sum()) for batch, _ in parts)
            if train:
                update_weights(run, parts, update.divisor, 1e-4)
        seconds = time.perf_counter() - started
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        speech = frames * run.config.features.frame_shift_ms / 1000
        return {"utterances": count, "speech": speech, "seconds": seconds, "opening": opening[0], "mib": peak_mib}

    return measure


def batches(run: Run, opening: list[float]) -> Iterator[tuple[Update, list[Share]]]:
    """Yield the batches of one epoch after another; add the seconds that the opening of sections takes."""
    while True:
        sections = remaining_sections(run)
        while True:
            started = time.perf_counter()
            section = next(sections, None)
            opening[0] += time.perf_counter() - started
            if section is None:
                break
            yield from shares(run, section, plan_updates(run, section))
            run.progress.end_section()
        run.progress.epoch, run.progress.section = run.progress.epoch + 1, 0


def write_missing(cuts: Path, work: Path) -> Path:
    """The shards of a manifest; they are written unless they are there."""
    out = work / f"{cuts.resolve().parent.name}-{cuts.name.split('.')[0]}"
    started = time.perf_counter()
    shards = write_shards(cuts, out, jobs=2)
    hours, seconds = shards.duration_s / 3600, time.perf_counter() - started
    print(f"{out}: {len(shards)} shards, {shards.utterances} utterances, {hours:.1f} h ({seconds:.0f} s)", flush=True)
    return out


def small_dev(cuts: Path, folder: Path) -> Path:
    """A dev set of one utterance, whose speaker the training set does not have: this measures training alone."""
    utterance = replace(read_manifest(cuts)[0], speaker="dev only")
    write_corpus(folder, {"dev": [utterance]}, {})
    return folder / "cuts_dev.jsonl.gz"


def compare(systems: Mapping[str, Callable[[], Measure]], rounds: int) -> dict[str, dict[str, float]]:
    """Run the systems interleaved, each in a process of its own; their speed and memory."""
    processes = {name: SeparateProcess(make) for name, make in systems.items()}
    records: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for number in range(rounds + 1):
        for name, process in processes.items():
            record = process()
            assert isinstance(record, dict)
            if number:
                records[name].append(record)
    for process in processes.values():
        process.close()
    return {
        name: {
            "rate": sum(one["speech"] for one in found) / sum(one["seconds"] for one in found),
            "utterances": sum(one["utterances"] for one in found) / sum(one["seconds"] for one in found),
            "opening": sum(one["opening"] for one in found) / sum(one["seconds"] for one in found),
            "mib": max(one["mib"] for one in found),
        }
        for name, found in records.items()
    }


def main() -> None:
    """Measure all corpora and print the tables."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        dev = small_dev(args.cuts[0], Path(folder))
        found: dict[str, dict[str, float]] = {}
        given = args.shards or [write_missing(cuts, args.work) for cuts in args.cuts]
        places = dict(zip(args.cuts, given, strict=True))
        for train, utterances in ((False, args.utterances), (True, args.train)):
            for cuts, shards in places.items():
                task = f"{'training' if train else 'reading'}, {open_shards(shards).duration_s / 3600:.1f} h"
                sources = {"loose files": cuts.resolve(), "shards": shards.resolve()}
                systems = {
                    f"{task}, {name}": partial(make_measure, [f"corpus.train={one}"], dev, utterances, train, 0.0, True)
                    for name, one in sources.items()
                }
                found |= compare(systems, args.rounds)
        ratios = ratios_of(found)
        if args.latency_ms:
            slow = compare(slow_systems(args, places[args.cuts[0]], dev, Path(folder)), args.rounds)
            found |= slow
            local, ahead, _ = slow.values()
            ratios[f"a store of {args.latency_ms:g} ms over the local disk"] = ahead["rate"] / local["rate"]
    rows = [
        [name, f"{one['rate']:.0f}", f"{one['utterances']:.1f}", f"{one['opening']:.1%}", f"{one['mib']:.0f}"]
        for name, one in found.items()
    ]
    print(format_table(["", "speech s/s", "utterances/s", "opening sections", "peak MiB"], rows))
    report_results(ratios, {"systems": found}, args.json)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = build_parser(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("work", type=Path, help="folder of the shards")
    parser.add_argument("cuts", type=Path, nargs="+")
    parser.add_argument("--shards", type=Path, nargs="+", help="their shards, if they are elsewhere than in WORK")
    parser.add_argument("--utterances", type=int, default=4000, help="utterances of a round of reading")
    parser.add_argument("--train", type=int, default=1000, help="utterances of a round of training")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    return parser.parse_args()


def slow_systems(args: argparse.Namespace, shards: Path, dev: Path, folder: Path) -> dict[str, Callable[[], Measure]]:
    """Reading from the local disk and from a slow store, one shard at once, with room for two."""
    largest = max(sum(file.size_bytes for file in shard.files) for shard in open_shards(shards))
    latency_s, title = args.latency_ms / 1000, f"a store of {args.latency_ms:g} ms"
    systems: dict[str, Callable[[], Measure]] = {}
    for name, place, ahead in (
        ("one shard at once, local disk", f"{shards.resolve()}", True),
        (f"one shard at once, {title}, read ahead", f"slow://{shards.resolve()}", True),
        (f"one shard at once, {title}, not ahead", f"slow://{shards.resolve()}", False),
    ):
        spool = [f"sources.spool_dir={folder / str(ahead)}", f"sources.spool_gib={2.2 * largest / 2**30}"]
        overrides = [f"corpus.train={place}", "sources.shards_at_once=1", *spool]
        systems[name] = partial(make_measure, overrides, dev, args.utterances, False, latency_s, ahead)
    return systems


def ratios_of(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Shards over loose files in speed; loose files over shards, and the smallest corpus over others, in memory."""
    ratios: dict[str, float] = {}
    smallest: dict[str, float] = {}
    for name, one in found.items():
        task, _, kind = name.rpartition(", ")
        if kind != "shards":
            continue
        loose = found[f"{task}, loose files"]
        ratios[f"{task}: speed"] = one["rate"] / loose["rate"]
        ratios[f"{task}: memory"] = loose["mib"] / one["mib"]
        work = task.split(",")[0]
        if work in smallest:
            ratios[f"{task}: memory of the smallest corpus over this one, in shards"] = smallest[work] / one["mib"]
        smallest.setdefault(work, one["mib"])
    return ratios


if __name__ == "__main__":
    main()
