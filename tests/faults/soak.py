"""Thousands of files through one recognizer and hundreds of epochs of one training: what they hold must stay flat.

    python -m tests.faults.soak [--files 20000] [--epochs 200]

Noise of 0.3 to 3 s in several formats and rates, every tenth file damaged, goes through the model that comes with the
package; then a tiny model is trained on tones. On the way memory, open files and threads are counted, and for each the
slope over what follows the first third is printed (least squares; until then caches fill and the allocator finds its
size). Exits with 1 where one is not flat: memory that grows by more than `GROWTH_BYTES` a file or an epoch, or any file
or thread that stays.
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
"""Less than one result kept a file (a transcript of three phones has 600 bytes), or one state of the tiny model an epoch
(40 KiB); more than the history and the log of a training, which are meant to grow.
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
class Held:
    """What the process holds after so many files or epochs."""

    done: int
    memory: int
    files: int
    threads: int

    @classmethod
    def now(cls, done: int) -> "Held":
        """Bytes of resident memory, open files and threads."""
        process = Path("/proc/self")
        pages = int((process / "statm").read_text().split()[1])
        return cls(done, 4096 * pages, len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())))


def slopes(samples: Sequence[Held]) -> dict[str, float]:
    """Growth of each for one file or epoch, after the first third."""
    settled = samples[len(samples) // 3 :]
    done = [one.done for one in settled]
    return {
        what: float(np.polyfit(done, [getattr(one, what) for one in settled], 1)[0])
        for what in ("memory", "files", "threads")
    }


def recordings(folder: Path) -> list[Path]:
    """Sixty sound files, every tenth cut in the middle."""
    draw, paths = np.random.default_rng(0), []
    for number in range(60):
        ending, options = FORMATS[number % len(FORMATS)]
        rate = (16000, 8000, 16000, 44100)[number % 4]
        paths.append(folder / f"{number}.{ending}")
        length_s = draw.choice([0.3, 0.4, 0.5, 3.0], p=[0.4, 0.3, 0.2, 0.1])
        samples = 0.1 * draw.standard_normal((int(rate * length_s), 1 + number % 2))
        soundfile.write(paths[-1], samples, rate, **options)
        if number % 10 == 9:
            paths[-1].write_bytes(paths[-1].read_bytes()[: paths[-1].stat().st_size // 2])
    return paths


def transcribe_files(folder: Path, count: int, every: int = 200) -> list[Held]:
    """So many files through one recognizer; what was held on the way."""
    recognizer, paths, samples = load(find_model(DEFAULT_MODEL)), recordings(folder), []
    refused = 0
    for number in range(count):
        if number % every == 0:
            samples.append(Held.now(number))
        try:
            recognizer.transcribe(paths[number % len(paths)])
        except InputError:
            refused += 1
    samples.append(Held.now(count))
    print(f"{count} files, {refused} of them refused")
    return samples


def train_epochs(folder: Path, count: int) -> list[Held]:
    """A training of so many epochs; what was held after each."""
    splits = {"train": ["a", "b", "c"], "dev": ["d"], "test": ["e"]}
    write_corpus(folder, {name: make_utterances(folder / name, ids, 4) for name, ids in splits.items()}, {})
    samples: list[Held] = []

    class Sampler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if str(record.msg).startswith("epoch"):
                samples.append(Held.now(len(samples) + 1))

    log, sampler = logging.getLogger("asr.training"), Sampler()
    log.addHandler(sampler)
    options = [f"corpus.dir={folder}", f"trainer.epochs={count}", "trainer.early_stopping_epochs=0"]
    options += ["trainer.precision=float32", "trainer.threads=1", "trainer.aligner_epochs=1", "trainer.device=cpu"]
    try:
        train(settings(*TINY_MODEL, *options), folder / "run")
    finally:
        log.removeHandler(sampler)
    return samples


def flat(samples: Sequence[Held], what: str) -> bool:
    """Print the slopes by ``what``; whether they are flat."""
    found, first, last = slopes(samples), samples[len(samples) // 3], samples[-1]
    for name, slope in found.items():
        unit = " bytes" if name == "memory" else ""
        change = f"{getattr(first, name)} after {first.done}, {getattr(last, name)} after {last.done}"
        print(f"{name}: {1000 * slope:+.3g}{unit} in 1,000 {what}s ({change})", flush=True)
    stays = max(one.files for one in samples[len(samples) // 3 :]) > first.files or last.threads > first.threads
    return found["memory"] <= GROWTH_BYTES[what] and not stays


def main() -> None:
    """Both, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        passed = [flat(transcribe_files(Path(folder), chosen.files), "file")]
        passed.append(flat(train_epochs(Path(folder), chosen.epochs), "epoch"))
    print("flat" if all(passed) else "NOT FLAT")
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
