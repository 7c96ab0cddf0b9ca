"""Train on disks of many sizes, and on one that turns read-only: one line each, the last checkpoint whole, and it goes on.

    python -m tests.faults.full_disk CORPUS_DIR [--sizes 20] [OVERRIDE...]

Each disk is a file system in memory in a mount namespace of its own (Linux, `unshare`; no rights needed). With room the
training then goes on, and must end with the weights of one that always had room. Exits with 1 where something is amiss.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asr.training.checkpoint_files import load_last
from asr.training.run_folder import resumable
from tests.faults.kill_and_resume import SETTINGS, differences

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def train(corpus: Path, run_dir: Path, overrides: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A training that starts or goes on."""
    arguments = [*SETTINGS, *overrides, f"corpus.dir={corpus}", f"run_dir={run_dir}", "resume=true"]
    return subprocess.run([sys.executable, "-m", "asr", "train", *arguments], capture_output=True, text=True)


def amiss(done: subprocess.CompletedProcess[str], run_dir: Path) -> list[str]:
    """What is not as it must be after a training that found no room."""
    said = [line for line in done.stderr.splitlines() if line.startswith("asr: ")]
    wrong = [] if done.returncode == 2 else [f"exit status {done.returncode}"]
    wrong += [] if len(said) == 1 and "expected" in said[0] else [f"{len(said)} lines: {said}"]
    wrong += ["a traceback"] if "Traceback" in done.stderr else []
    wrong += ["a partial file"] if list(run_dir.rglob("*.partial")) else []
    if resumable(run_dir):
        load_last(run_dir / "checkpoints")
    return wrong


def check(corpus: Path, folder: Path, sizes: int, overrides: Sequence[str]) -> list[str]:
    """Train on so many sizes of disk; what is amiss."""
    whole, disk, found = folder / "whole", folder / "disk", []
    train(corpus, whole, overrides).check_returncode()
    disk.mkdir()
    needed = sum(path.stat().st_blocks * 512 for path in whole.rglob("*"))
    for number in range(sizes):
        room = max(4096, needed * number // sizes)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(disk)], check=True)
        full = train(corpus, disk / "run", overrides)
        wrong = amiss(full, disk / "run")
        print(f"{room / 1024:.0f} KiB: {full.stderr.strip().splitlines()[-1]}", flush=True)
        if number == sizes // 2:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            wrong += [f"read-only: {one}" for one in amiss(train(corpus, disk / "run", overrides), disk / "run")]
        subprocess.run(["mount", "-o", f"remount,rw,size={2 * needed + 2**24}", str(disk)], check=True)
        after = train(corpus, disk / "run", overrides)
        wrong += [f"with room: {after.stderr[-300:]}"] if after.returncode else differences(whole, disk / "run")
        found += [f"{room / 1024:.0f} KiB: {one}" for one in wrong]
        subprocess.run(["umount", str(disk)], check=True)
    return found


def main() -> None:
    """Check, and say what is amiss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--sizes", type=int, default=20)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_intermixed_args()
    if not chosen.inside:
        os.execvp(NAMESPACE[0], [*NAMESPACE, sys.executable, "-m", "tests.faults.full_disk", "--inside", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        found = check(chosen.corpus, Path(folder), chosen.sizes, chosen.overrides)
    if found:
        raise SystemExit("\n".join(found))
    print("nothing amiss: with room each ended with the weights of the one that always had it")


if __name__ == "__main__":
    main()
