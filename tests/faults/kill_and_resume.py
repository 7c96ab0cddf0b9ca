"""Kill a training again and again, start it again with the same command, and hold the end against one never killed.

    python -m tests.faults.kill_and_resume CORPUS_DIR [--kills 20] [--seed 1] [OVERRIDE...]

Of four kills one comes at a random moment of the start, two at random moments of training or validation, and one while
a checkpoint is being written. Weights, aligner and the log of losses must come out the same, bit by bit (CPU, float32, a
fixed number of threads). Exits with 1 where they do not.
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
"""Small, and with everything that draws random numbers or keeps a state; checkpoints every quarter of a second."""

SAME = ("model.safetensors", "aligner.safetensors", "confidence.yaml", "phones.txt", "config.yaml")
MOMENTS = ("start", "training", "writing", "training")
LONGEST_S = 600.0


def command(corpus: Path, run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """The training, which starts or goes on."""
    fixed = [f"corpus.dir={corpus}", f"run_dir={run_dir}", "resume=true"]
    return [sys.executable, "-m", "asr", "train", *SETTINGS, *overrides, *fixed]


def killed(call: Sequence[str], checkpoints: Path, moment: str, wait_s: float) -> bool:
    """Start, and kill at a moment of the kind wanted; whether it lived until then.

    "start": so many seconds after the start; "training": so many after the first checkpoint of its own; "writing": from
    then on, as soon as a checkpoint is being written.
    """
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    last, before, begun = checkpoints / "last.pt", written(checkpoints / "last.pt"), time.monotonic()
    counting = moment == "start"
    while process.poll() is None:
        if not counting and written(last) != before:
            counting, begun = True, time.monotonic()
        due = counting and time.monotonic() - begun > wait_s
        if due and (moment != "writing" or list(checkpoints.glob("*.partial"))):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0002 if moment == "writing" else 0.005)
    if process.returncode != 0:
        assert process.stderr is not None
        raise SystemExit(f"the training ended with {process.returncode}: {process.stderr.read().decode()[-500:]}")
    return False


def written(path: Path) -> int:
    """When a file was written last, in nanoseconds; 0 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def history(run_dir: Path) -> list[dict[str, object]]:
    """The log of losses, without the minutes."""
    records = json.loads((run_dir / "history.json").read_text(encoding="utf-8"))
    return [{name: value for name, value in record.items() if name != "minutes"} for record in records]


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same in two run folders."""
    found = [name for name in SAME if (one / "model" / name).read_bytes() != (other / "model" / name).read_bytes()]
    return [*found, "history.json"] if history(one) != history(other) else found


def check(corpus: Path, folder: Path, kills: int, seed: int, overrides: Sequence[str] = ()) -> list[str]:
    """Train twice into ``folder``, once with so many kills; what differs."""
    whole, parts = folder / "whole", folder / "parts"
    started = time.monotonic()
    subprocess.run(command(corpus, whole, overrides), check=True, capture_output=True, timeout=LONGEST_S)
    whole_s = time.monotonic() - started
    draw, call = random.Random(seed), command(corpus, parts, overrides)
    moments = [MOMENTS[number % len(MOMENTS)] for number in range(kills)]
    done = 0
    for moment in moments:
        wait_s = draw.uniform(0, 0.5 * whole_s if moment == "start" else 0.5 * whole_s / kills)
        if not killed(call, parts / "checkpoints", moment, wait_s):
            break
        done += 1
        saved = load_last(parts / "checkpoints")["progress"] if resumable(parts) else {"epoch": 0, "groups": 0}
        print(f"kill {done} ({moment}): {saved['epoch']} epochs and {saved['groups']} updates are saved", flush=True)
    subprocess.run(call, check=True, capture_output=True, timeout=LONGEST_S)
    print(f"{done} kills; undisturbed it takes {whole_s:.1f} s, {len(history(whole))} epochs")
    return differences(whole, parts)


def main() -> None:
    """Check, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        found = check(chosen.corpus, Path(folder), chosen.kills, chosen.seed, chosen.overrides)
    if found:
        raise SystemExit(f"not the same: {', '.join(found)}")
    print("weights, aligner and losses are the same, bit by bit")


if __name__ == "__main__":
    main()
