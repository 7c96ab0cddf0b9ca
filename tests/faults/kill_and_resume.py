"""Kill a training repeatedly, restart it with the same command, and compare the result with an undisturbed training.

    python -m tests.faults.kill_and_resume CORPUS_DIR [--kills 20] [--seed 1] [OVERRIDE...]

Of four kills, one comes at a random moment of the start, two at random moments of training or validation, and one while a
checkpoint is being written. Weights, aligner and the log of losses must be identical bit by bit (CPU, float32, a fixed
number of threads). Exits with 1 if they differ.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from asr.training.checkpoint_files import load_last
from asr.training.run_folder import resumable

SETTINGS = (
    "model.hidden=32",
    "model.layers=2",
    "model.convolution_channels=[8,8]",
    "trainer.precision=float32",
    "trainer.threads=2",
    "trainer.epochs=8",
    "trainer.average_count=3",
    "trainer.early_stopping_epochs=5",
    "trainer.weight_noise=0.01",
    "trainer.checkpoint_minutes=0.004",
    "trainer.aligner_epochs=2",
    "trainer.trackers=[]",
)
"""A small model with everything that draws random numbers or keeps state; a checkpoint every quarter of a second."""

COMPARED_FILES = ("model.safetensors", "aligner.safetensors", "confidence.yaml", "phones.txt", "config.yaml")
MOMENTS = ("start", "training", "writing", "training")
TIMEOUT_S = 600.0


def command(corpus: Path, run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """Return the command that starts or resumes the training."""
    fixed = [f"corpus.dir={corpus}", f"run_dir={run_dir}", "resume=true"]
    return [sys.executable, "-m", "asr", "train", *SETTINGS, *overrides, *fixed]


def run_and_kill(call: Sequence[str], checkpoints: Path, moment: str, wait_s: float) -> bool:
    """Run the command and kill it at a moment; return False if it ended before.

    The moments are "start": ``wait_s`` seconds after the start; "training": ``wait_s`` seconds after this process's first
    checkpoint; "writing": the next time after that when a checkpoint is being written.
    """
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    last, before, started = checkpoints / "last.pt", modified_ns(checkpoints / "last.pt"), time.monotonic()
    counting = moment == "start"
    while process.poll() is None:
        if not counting and modified_ns(last) != before:
            counting, started = True, time.monotonic()
        due = counting and time.monotonic() - started > wait_s
        if due and (moment != "writing" or list(checkpoints.glob("*.partial"))):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0002 if moment == "writing" else 0.005)
    if process.returncode != 0:
        assert process.stderr is not None
        raise SystemExit(f"training: exit status {process.returncode}: {process.stderr.read().decode()[-500:]}")
    return False


def modified_ns(path: Path) -> int:
    """Return when a file was last modified, in nanoseconds; 0 if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def history(run_dir: Path) -> list[dict[str, object]]:
    """Read the log of losses, without the minutes."""
    records = json.loads((run_dir / "history.json").read_text(encoding="utf-8"))
    return [{name: value for name, value in record.items() if name != "minutes"} for record in records]


def differences(first: Path, second: Path) -> list[str]:
    """List the files that differ between two run folders."""
    different = [
        name
        for name in COMPARED_FILES
        if (first / "model" / name).read_bytes() != (second / "model" / name).read_bytes()
    ]
    return [*different, "history.json"] if history(first) != history(second) else different


def check(corpus: Path, folder: Path, kills: int, seed: int, overrides: Sequence[str] = ()) -> list[str]:
    """Train twice in ``folder``, once undisturbed and once with ``kills`` kills; return the files that differ."""
    whole, parts = folder / "whole", folder / "parts"
    started = time.monotonic()
    subprocess.run(command(corpus, whole, overrides), check=True, capture_output=True, timeout=TIMEOUT_S)
    whole_s = time.monotonic() - started
    draw, call = random.Random(seed), command(corpus, parts, overrides)
    moments = [MOMENTS[number % len(MOMENTS)] for number in range(kills)]
    done = 0
    for moment in moments:
        wait_s = draw.uniform(0, 0.5 * whole_s if moment == "start" else 0.5 * whole_s / kills)
        if not run_and_kill(call, parts / "checkpoints", moment, wait_s):
            break
        done += 1
        saved = load_last(parts / "checkpoints")["progress"] if resumable(parts) else {"epoch": 0, "groups": 0}
        print(f"kill {done} ({moment}): {saved['epoch']} epochs and {saved['groups']} updates saved", flush=True)
    subprocess.run(call, check=True, capture_output=True, timeout=TIMEOUT_S)
    print(f"{done} kills; the undisturbed training takes {whole_s:.1f} s, {len(history(whole))} epochs")
    return differences(whole, parts)


def main() -> None:
    """Run the check and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        different = check(args.corpus, Path(folder), args.kills, args.seed, args.overrides)
    if different:
        raise SystemExit(f"different: {', '.join(different)}")
    print("weights, aligner and losses are identical bit by bit")


if __name__ == "__main__":
    main()
