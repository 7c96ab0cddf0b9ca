"""Measure the constants of docs/scale.md on this machine.

    python -m benchmarks.scale_constants DATA [--only NAME ...] [--write]

DATA is the output of `asr prepare speechocean762`. Times are processor time, so other work on the machine matters little.
What starts once is taken off: each stage runs with a small and a large part of the corpus, and the difference counts.
``--write`` replaces the values, dates and machines of the constants in `scale_constants.tsv`.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from multiprocessing import get_context
from pathlib import Path

from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from benchmarks.scale import CONSTANTS, read_constants

Values = dict[str, float]

CORPUS_UTTERANCES = (100, 700)
"""Utterances of the small and the large part, about 4 s each."""
PREPARE_ROWS = (10_000, 60_000)
LISTED = (300_000, 1_500_000)
SHARDS = (1_000, 100_000)


def in_new_process(function: Callable[..., object], *arguments: object) -> tuple[float, float]:
    """Call a function in a process of its own. Returns its seconds of processor time and its peak memory in bytes."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(sender, function, arguments))
    process.start()
    result: tuple[float, float] = receiver.recv()
    process.join()
    return result


def _measured(sender, function, arguments) -> None:  # type: ignore[no-untyped-def]
    started = time.process_time()
    function(*arguments)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss begins with the parent's
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    sender.send((time.process_time() - started, peak * 1024.0))


def run_command(*arguments: object) -> tuple[float, float]:
    """Run `asr` with one thread. Returns its seconds of processor time, with its children, and its peak memory in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "asr", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(
            f"{' '.join(map(str, arguments))[:200]}: exit status {os.waitstatus_to_exitcode(status)}, expected 0"
        )
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0


def hours_of(utterances: Sequence[Utterance]) -> float:
    """The hours of speech of some utterances."""
    return sum(utterance.duration_s for utterance in utterances) / 3600


def two_parts(data: Path, folder: Path) -> tuple[list[Path], float, list[list[Utterance]]]:
    """Write a small and a large corpus. Returns their folders, the difference in hours, and the utterances of each."""
    train, dev = read_manifest(data / "cuts_train.jsonl.gz"), read_manifest(data / "cuts_dev.jsonl.gz")
    parts = [train[:count] for count in CORPUS_UTTERANCES]
    folders = [folder / str(len(part)) for part in parts]
    for out, part in zip(folders, parts, strict=True):
        write_corpus(out, {"train": part, "dev": dev[:4]}, {})
    return folders, hours_of(parts[1]) - hours_of(parts[0]), parts


def prepare_rows(rows: int, audio: Path, out: Path) -> None:
    """Prepare a corpus of many utterances of 0.1 s in one file: what a row costs without its audio."""
    from data_prep.entries import Entry
    from data_prep.pipeline import PrepareOptions, prepare

    phones = ("AH", "B", "EH", "R", "S", "AE", "T", "AA", "N", "DH", "AH", "M", "AE", "T")

    def reader():  # type: ignore[no-untyped-def]
        for number in range(rows):
            name, start_s = f"utt-{number:09}", (number % 90) / 100
            where, words = f"table.csv: line {number}", f"a bear sat on the mat {name}"
            speaker = f"speaker-{number % 20000}"
            yield Entry(name, audio, speaker, where, words, phones, None, start_s, start_s + 0.1)

    prepare(reader, out, PrepareOptions(jobs=1))


def list_rows(rows: int) -> None:
    """The first pass over a corpus of many utterances."""
    from data_prep.entries import Entry
    from data_prep.listing import list_corpus

    def reader():  # type: ignore[no-untyped-def]
        for number in range(rows):
            yield Entry(f"utt-{number:09}", Path("a.wav"), f"speaker-{number % 20000}", "table.csv", "a bear")

    list_corpus(reader, lambda entry: None, 2000)


def preparation(data: Path, folder: Path) -> Values:
    """Preparation: a row, an hour of audio that is checked, memory."""
    audio = read_manifest(data / "cuts_train.jsonl.gz")[0].audio_path
    runs = [in_new_process(prepare_rows, rows, audio, folder / f"rows{rows}") for rows in PREPARE_ROWS]
    listed = [in_new_process(list_rows, rows)[1] for rows in LISTED]
    (few_s, few_bytes), (many_s, _) = runs
    return {
        "prepare_core_s_per_utterance": (many_s - few_s) / (PREPARE_ROWS[1] - PREPARE_ROWS[0]),
        "prepare_memory_bytes": few_bytes,
        "prepare_memory_bytes_per_utterance": (listed[1] - listed[0]) / (LISTED[1] - LISTED[0]),
    }


def reading(data: Path, folder: Path) -> Values:
    """Decoding all samples of FLAC, which is what the check of the audio costs."""
    import soundfile

    utterances = read_manifest(data / "cuts_train.jsonl.gz")[: CORPUS_UTTERANCES[1]]
    paths = []
    for utterance in utterances:
        paths.append(folder / f"{utterance.id}.flac")
        soundfile.write(paths[-1], read_audio(utterance.audio_path), 16000)
    started = time.process_time()
    for path in paths:
        read_audio(path)
    return {"check_core_s_per_h": (time.process_time() - started) / hours_of(utterances)}


def training(data: Path, folder: Path) -> Values:
    """An epoch of the default recipe from audio files, with nothing cached; planning; the size of a cut in a manifest."""
    folders, difference_h, (_, large) = two_parts(data, folder / "train")
    recipe = [
        "experiment=speechocean762",
        "trainer.epochs=1",
        "trainer.flat_start_epochs=0",
        "trainer.aligner_epochs=0",
    ]
    recipe += ["trainer.feature_cache_gib=0", "trainer.threads=1", "trainer.trackers=[]", "trainer.device=cpu"]
    (few_s, _), (many_s, peak_bytes) = [
        run_command("train", *recipe, f"corpus.dir={out}", f"run_dir={folder}/run{number}")
        for number, out in enumerate(folders)
    ]
    manifest = folders[1] / "cuts_train.jsonl.gz"
    return {
        "train_core_s_per_h": (many_s - few_s) / difference_h,
        "train_memory_bytes": peak_bytes,
        "cut_bytes": manifest.stat().st_size / len(large),
    }


def transcription(data: Path, folder: Path) -> Values:
    """`asr transcribe` on files, for both models that ship with the package."""
    folders, difference_h, parts = two_parts(data, folder / "transcribe")
    result: Values = {}
    for model, name in (("speechocean762-small", "transcribe"), ("english", "transcribe_english")):
        (few_s, _), (many_s, peak_bytes) = (
            run_command(
                "transcribe", *(u.audio_path for u in part), "--model", model, "--format", "json", "--out", out / model
            )
            for out, part in zip(folders, parts, strict=True)
        )
        result |= {f"{name}_core_s_per_h": (many_s - few_s) / difference_h, f"{name}_memory_bytes": peak_bytes}
    written = list((folders[1] / "speechocean762-small").rglob("*.json"))
    result["result_bytes_per_utterance"] = sum(path.stat().st_size for path in written) / len(written)
    return result


def shards(data: Path, folder: Path) -> Values:
    """Sharding: processor time and bytes of an hour in each format, and what an epoch's plan costs an utterance."""
    from asr.cli.compose import compose
    from asr.corpus.shards import open_shards, read_utterances
    from asr.corpus.spool import Spool
    from asr.features.dataset import plan_training

    folders, difference_h, (_, large) = two_parts(data, folder / "shards")
    result: Values = {}
    stored: Values = {}
    for content in ("flac", "opus", "features"):
        outs = [out / content for out in folders]
        cuts = [out / "cuts_train.jsonl.gz" for out in folders]
        seconds = [run_command("shard", one, out, "--format", content)[0] for one, out in zip(cuts, outs, strict=True)]
        stored[content] = sum(path.stat().st_size for path in outs[1].glob("*.tar"))
        result[f"{content}_bytes_per_s"] = stored[content] / (3600 * hours_of(large))
        if content == "flac":
            result["shard_core_s_per_h"] = (seconds[1] - seconds[0]) / difference_h
    location = folders[1] / "flac"
    opened = open_shards(location)
    config = compose(["run_dir=unused"])
    started = time.process_time()
    with Spool(folder / "spool") as spool:
        fetched = [spool.fetch(opened, number) for number in range(len(opened))]
        checked = time.process_time()
        utterances = [utterance for local in fetched for utterance in read_utterances(local)]
    durations_s = [utterance.duration_s for utterance in utterances]
    trainer = config.trainer
    plan_training(durations_s, config.augment.speeds, trainer.batch_seconds, trainer.batch_utterances, (1, 1))
    result["plan_core_s_per_utterance"] = (time.process_time() - checked) / len(utterances)
    result["checksum_core_s_per_gb"] = 1e9 * (checked - started) / stored["flac"]
    return result


def open_index(folder: Path) -> None:
    """Open an index of shards, as every process of a training does."""
    from asr.corpus.shards import open_shards

    open_shards(folder)


def index(_: Path, folder: Path) -> Values:
    """The index of many shards: bytes, and the peak memory of opening it."""
    from asr.corpus.shards import FORMAT, INDEX

    sizes, peaks = [], []
    for count in SHARDS:
        place = folder / str(count)
        place.mkdir()
        head = {"format": FORMAT, "shards": count, "content": "flac", "features": None}
        lines = [json.dumps(head)]
        for number in range(count):
            checksum = hashlib.sha256(str(number).encode()).hexdigest()
            files = {"cuts": [240_000 + number, checksum], "data": [600_000_000 + number, checksum]}
            counts = {"utterances": 3600, "seconds": 36_000.125 + number % 7, "longest_s": 29.93, "speakers": 120}
            lines.append(json.dumps(counts | files))
        (place / INDEX).write_text("\n".join(lines) + "\n", encoding="utf-8")
        sizes.append((place / INDEX).stat().st_size)
        peaks.append(in_new_process(open_index, place)[1])
    shards = SHARDS[1] - SHARDS[0]
    return {
        "index_bytes_per_shard": (sizes[1] - sizes[0]) / shards,
        "index_memory_bytes_per_shard": (peaks[1] - peaks[0]) / shards,
    }


STAGES: dict[str, Callable[[Path, Path], Values]] = {
    "preparation": preparation,
    "reading": reading,
    "training": training,
    "transcription": transcription,
    "shards": shards,
    "index": index,
}


def main() -> None:
    """Measure the stages, print the constants, and write them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="output of `asr prepare speechocean762`")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--write", action="store_true", help=f"write the constants to {CONSTANTS.name}")
    args = parser.parse_args()
    measured: Values = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.only:
            folder = Path(temporary, name)
            folder.mkdir()
            values = STAGES[name](args.data, folder)
            for constant, value in values.items():
                print(f"{constant}\t{value:.4g}", flush=True)
            measured |= values
    if args.write:
        write_constants(measured)


def write_constants(measured: Values) -> None:
    """Replace the values of the measured constants, and their dates."""
    constants = read_constants()
    for name, value in measured.items():
        source = constants[name].source.partition("; 20")[0]
        constants[name] = constants[name]._replace(value=float(f"{value:.3g}"), source=f"{source}; {date.today()}")
    with CONSTANTS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        writer.writerow(["name", "value", "unit", "kind", "from"])
        writer.writerows([name, f"{k.value:g}", *k[1:]] for name, k in constants.items())


if __name__ == "__main__":
    main()
