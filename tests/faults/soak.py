"""Soak test: thousands of files through one recognizer, hundreds of epochs of one training, constant use of resources.

    python -m tests.faults.soak [--files 20000] [--epochs 200]

The bundled model recognizes noise of 0.3 to 3 s in several formats and rates, every tenth file damaged; then a tiny model
trains on tones. The test samples memory, open files and threads, and prints the slope of each after the first third (least
squares; until then caches fill and the allocator reaches its size). Exits with 1 if memory grows by more than
`GROWTH_BYTES` per file or epoch, or if any open file or thread is left over.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.corpus.manifest import write_corpus
from asr.errors import InputError
from asr.inference.catalog import DEFAULT_MODEL, find_model
from asr.inference.recognizer import load
from asr.training.loop import train
from tests.conftest import TINY_MODEL, make_utterances, settings

GROWTH_BYTES = {"file": 256, "epoch": 16 * 1024}
"""Less than one leaked result per file (a transcript of three phones has 600 bytes), or one leaked state of the tiny model
per epoch (40 KiB); more than the history and the log of a training, which are meant to grow.
"""
FORMATS: tuple[tuple[str, dict[str, str]], ...] = (
    ("wav", {}),
    ("wav", {"subtype": "FLOAT"}),
    ("flac", {}),
    ("ogg", {}),
    ("mp3", {}),
    ("sph", {"format": "NIST"}),
)


@dataclass(frozen=True)
class Usage:
    """Resources of the process after ``done`` files or epochs."""

    done: int
    memory: int
    files: int
    threads: int

    @classmethod
    def now(cls, done: int) -> "Usage":
        """Measure bytes of resident memory, open files and threads."""
        process = Path("/proc/self")
        pages = int((process / "statm").read_text().split()[1])
        return cls(done, 4096 * pages, len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())))


def slopes(samples: Sequence[Usage]) -> dict[str, float]:
    """Return the growth of each resource per file or epoch, after the first third."""
    settled = samples[len(samples) // 3 :]
    done = [sample.done for sample in settled]
    return {
        resource: float(np.polyfit(done, [getattr(sample, resource) for sample in settled], 1)[0])
        for resource in ("memory", "files", "threads")
    }


def write_recordings(folder: Path) -> list[Path]:
    """Write sixty audio files, every tenth truncated to half."""
    draw, paths = np.random.default_rng(0), []
    for number in range(60):
        suffix, options = FORMATS[number % len(FORMATS)]
        rate = (16000, 8000, 16000, 44100)[number % 4]
        paths.append(folder / f"{number}.{suffix}")
        length_s = draw.choice([0.3, 0.4, 0.5, 3.0], p=[0.4, 0.3, 0.2, 0.1])
        samples = 0.1 * draw.standard_normal((int(rate * length_s), 1 + number % 2))
        soundfile.write(paths[-1], samples, rate, **options)
        if number % 10 == 9:
            paths[-1].write_bytes(paths[-1].read_bytes()[: paths[-1].stat().st_size // 2])
    return paths


def transcribe_files(folder: Path, count: int, every: int = 200) -> list[Usage]:
    """Transcribe ``count`` files with one recognizer; return the usage before each ``every`` files and at the end."""
    recognizer, paths, samples = load(find_model(DEFAULT_MODEL)), write_recordings(folder), []
    refused = 0
    for number in range(count):
        if number % every == 0:
            samples.append(Usage.now(number))
        try:
            recognizer.transcribe(paths[number % len(paths)])
        except InputError:
            refused += 1
    samples.append(Usage.now(count))
    print(f"{count} files, {refused} refused")
    return samples


def train_epochs(folder: Path, count: int) -> list[Usage]:
    """Train for ``count`` epochs; return the usage after each."""
    splits = {"train": ["a", "b", "c"], "dev": ["d"], "test": ["e"]}
    write_corpus(folder, {name: make_utterances(folder / name, ids, 4) for name, ids in splits.items()}, {})
    samples: list[Usage] = []

    class Sampler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if str(record.msg).startswith("epoch"):
                samples.append(Usage.now(len(samples) + 1))

    log, sampler = logging.getLogger("asr.training"), Sampler()
    log.addHandler(sampler)
    options = [f"corpus.dir={folder}", f"trainer.epochs={count}", "trainer.early_stopping_epochs=0"]
    options += ["trainer.precision=float32", "trainer.threads=1", "trainer.aligner_epochs=1", "trainer.device=cpu"]
    try:
        train(settings(*TINY_MODEL, *options), folder / "run")
    finally:
        log.removeHandler(sampler)
    return samples


def is_constant(samples: Sequence[Usage], unit: str) -> bool:
    """Print the slopes per 1,000 units ("file" or "epoch"); return whether all resources stay constant."""
    growth, first, last = slopes(samples), samples[len(samples) // 3], samples[-1]
    for name, slope in growth.items():
        size = " bytes" if name == "memory" else ""
        change = f"{getattr(first, name)} after {first.done}, {getattr(last, name)} after {last.done}"
        print(f"{name}: {1000 * slope:+.3g}{size} per 1,000 {unit}s ({change})", flush=True)
    most_files = max(sample.files for sample in samples[len(samples) // 3 :])
    left_over = most_files > first.files or last.threads > first.threads
    return growth["memory"] <= GROWTH_BYTES[unit] and not left_over


def main() -> None:
    """Run both parts in sequence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        passed = [is_constant(transcribe_files(Path(folder), args.files), "file")]
        passed.append(is_constant(train_epochs(Path(folder), args.epochs), "epoch"))
    print("constant" if all(passed) else "NOT CONSTANT")
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
