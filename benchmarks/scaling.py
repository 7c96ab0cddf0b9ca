"""Growth of training time and memory with the corpus, the length of utterances, the batch, and the number of processes.

    python -m benchmarks.scaling CUTS [--json FILE] [--only processes]

Each point is one process that trains the default model of the recipe on speechocean762 for one epoch: 48 utterances of CUTS
repeated 1 to 32 times; the same utterances concatenated to 1 to 16 times the length; batches of 20 to 320 seconds. The
feature cache is as large as the smallest corpus. The benchmark fits power laws to time and peak memory: exponent 1 is
linear, 0 is constant. First, concatenation must keep the number of phones. The ratios are the seconds per frame of the
first point over those of the last; 1 is linear.

The last series is `asr train` under torchrun with 1, 2 and 4 processes of one thread each, in float32: seconds of speech
that are trained in a second, without dev set and start. Each process needs a core of its own. The ratio is to the
ideal, n times what one process trains.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from asr.cli.compose import compose
from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.phones import inventory
from asr.features.dataset import Dataset, plan_training
from asr.nn.acoustic_model import AcousticModel
from asr.nn.ctc import ctc_loss
from asr.system.processor import choose_precision
from benchmarks.timing import CPU, SeparateProcess, build_parser, format_table, report_results

UTTERANCES, CACHE_GIB = 48, 0.003
REPEATS, CONCATENATED, BATCH_SECONDS = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16), (20, 40, 80, 160, 320)
PROCESSES, PROCESS_EPOCHS = (1, 2, 4), 4


def make_epoch(corpus: Sequence[Utterance], batch_seconds: float) -> Callable[[], object]:
    """Return a training epoch, to be called in its own process.

    Each call returns frames, seconds and peak memory in MiB.
    """
    torch.manual_seed(0)
    config = compose(["experiment=speechocean762", "run_dir=unused"])
    phones = inventory(config.corpus.inventory)
    dataset = Dataset(corpus, config.features, phones, CACHE_GIB)
    model = AcousticModel(config.model, config.features.bins, len(phones.symbols)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    use_bfloat16 = choose_precision("auto", CPU).name == "bfloat16"
    plan = plan_training([u.duration_s for u in corpus], [1.0], batch_seconds, 10**6, (1, 0))

    def run() -> tuple[int, float, float]:
        started, frames = time.perf_counter(), 0
        for _ in dataset.fill_cache([1.0]):
            pass
        for batch in dataset.batches(plan, config.augment, (1, 0)):
            with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16):
                log_probs, lengths = model(batch.features, batch.feature_lengths)
            losses, _ = ctc_loss(log_probs, lengths, batch.tokens, batch.token_lengths)
            losses.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            frames += int(batch.feature_lengths.sum())
        return frames, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    return run


def concatenate(utterances: Sequence[Utterance], count: int, folder: Path) -> list[Utterance]:
    """Concatenate each ``count`` consecutive utterances into one."""
    groups = [utterances[start : start + count] for start in range(0, len(utterances), count)]
    results = []
    for group in groups:
        samples = np.concatenate([read_audio(u.audio_path, 16000, u.start_s, u.duration_s) for u in group])
        path = folder / f"{count}_{group[0].id}.wav"
        soundfile.write(path, samples, 16000)
        phones = tuple(phone for utterance in group for phone in utterance.phones)
        duration_s = len(samples) / 16000
        results.append(Utterance(f"{group[0].id}-{count}", path, 16000, duration_s, group[0].speaker, phones))
    kept, expected = (sum(len(utterance.phones) for utterance in some) for some in (results, utterances))
    if kept != expected:
        raise SystemExit(f"{count} utterances concatenated: {kept} phones, expected {expected}")
    return results


def throughput(corpus: Sequence[Utterance], processes: int, folder: Path) -> float:
    """Return the seconds of speech that ``processes`` processes train in a second, after an untimed epoch."""
    speaker = corpus[-1].speaker
    splits = {"train": [u for u in corpus if u.speaker != speaker], "dev": [corpus[-1]], "test": [corpus[-1]]}
    write_corpus(folder, {name: list(some) for name, some in splits.items()}, {})
    run_dir = folder / f"run_{processes}"
    settings = {
        "experiment": "speechocean762",
        "corpus.dir": folder,
        "run_dir": run_dir,
        "augment.speeds": "[1.0]",
        "trainer.epochs": PROCESS_EPOCHS,
        "trainer.flat_start_epochs": 0,
        "trainer.aligner_epochs": 0,
        "trainer.precision": "float32",
        "trainer.threads": 1,
        "trainer.trackers": "[]",
    }
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *launcher, "-m", "asr", "train", *(f"{key}={value}" for key, value in settings.items())]
    subprocess.run(command, check=True, capture_output=True)
    minutes = [record["minutes"] for record in json.loads((run_dir / "history.json").read_text(encoding="utf-8"))]
    trained_s = sum(utterance.duration_s for utterance in splits["train"]) * (PROCESS_EPOCHS - 1)
    return trained_s / (60 * (minutes[-1] - minutes[0]))


def measure_processes(corpus: Sequence[Utterance], rounds: int) -> dict[str, float]:
    """Print what 1, 2 and 4 processes train in a second, the best of ``rounds``; return the ratios to the ideal."""
    cores = len(os.sched_getaffinity(0))
    measured: dict[int, float] = {}
    for _ in range(rounds):
        for count in PROCESSES:
            if count <= cores:
                with tempfile.TemporaryDirectory() as folder:
                    measured[count] = max(measured.get(count, 0.0), throughput(corpus, count, Path(folder)))
    rows = [
        [f"{count}", f"{speed:.1f}", f"{count * measured[1]:.1f}", f"{speed / (count * measured[1]):.2f}"]
        for count, speed in measured.items()
    ]
    print(format_table(["processes", "seconds of speech a second", "ideal", "of the ideal"], rows))
    for count in PROCESSES:
        if count not in measured:
            print(f"{count} processes: not measured, there are {cores} cores")
    return {f"{count} processes, of the ideal": measured[count] / (count * measured[1]) for count in measured}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit a power law by least squares on logarithmic scales; return its exponent."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main() -> None:
    """Measure every point of the three series and fit each series."""
    parser = build_parser(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("--only", choices=["processes"], help="measure this series alone")
    args = parser.parse_args()
    corpus = read_manifest(args.cuts)[:UTTERANCES]
    processes = measure_processes(read_manifest(args.cuts)[: 5 * UTTERANCES], args.rounds)
    if args.only:
        report_results(processes, {}, args.json)
        return
    with tempfile.TemporaryDirectory() as temporary:
        series = {
            "corpus, times": {count: (corpus * count, 80.0) for count in REPEATS},
            "utterance length, times": {n: (concatenate(corpus, n, Path(temporary)) * 4, 80.0) for n in CONCATENATED},
            "seconds in a batch": {seconds: (corpus * 8, float(seconds)) for seconds in BATCH_SECONDS},
        }
        rows, ratios, fits = [], {}, {}
        for name, points in series.items():
            measured = {
                size: measure(partial(make_epoch, *arguments), args.rounds) for size, arguments in points.items()
            }
            for size, (frames, seconds, peak) in measured.items():
                rows.append(
                    [f"{name} {size}", f"{frames}", f"{seconds:.1f}", f"{1e6 * seconds / frames:.0f}", f"{peak:.0f}"]
                )
            sizes, (first, *_, last) = list(measured), measured.values()
            fits[name] = {
                "time": exponent(sizes, [seconds for _, seconds, _ in measured.values()]),
                "memory": exponent(sizes, [peak for _, _, peak in measured.values()]),
            }
            ratios[f"{name}: time a frame, first over last"] = (first[1] / first[0]) / (last[1] / last[0])
    print(format_table(["", "frames", "seconds", "microseconds per frame", "peak MiB"], rows))
    for name, fit in fits.items():
        print(f"{name}: time grows as size^{fit['time']:.2f}, memory as size^{fit['memory']:.2f}")
    report_results(ratios | processes, {"exponents": fits}, args.json)


def measure(make: Callable[[], Callable[[], object]], rounds: int) -> tuple[int, float, float]:
    """Return an epoch's frames, its seconds (the minimum over ``rounds``, after one untimed) and peak memory in MiB."""
    process = SeparateProcess(make)
    results = [process() for _ in range(rounds + 1)]
    process.close()
    epochs = [result for result in results if isinstance(result, tuple)]
    frames, _, peak = epochs[-1]
    return frames, min(seconds for _, seconds, _ in epochs[1:]), peak


if __name__ == "__main__":
    main()
