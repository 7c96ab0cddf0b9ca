"""Train on disks that fill up or turn read-only: one error line each, an intact last checkpoint, and a run that resumes.

    python -m tests.faults.full_disk CORPUS_DIR [--sizes 20] [OVERRIDE...]

Each disk is a file system in memory, in its own mount namespace (Linux, `unshare`; no privileges needed). After each
failure, the disk gets enough space; the resumed training must end with the weights of one that always had space. Exits with
1 if a check fails.
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
    """Start or resume a training."""
    arguments = [*SETTINGS, *overrides, f"corpus.dir={corpus}", f"run_dir={run_dir}", "resume=true"]
    return subprocess.run([sys.executable, "-m", "asr", "train", *arguments], capture_output=True, text=True)


def problems_after_failure(done: subprocess.CompletedProcess[str], run_dir: Path) -> list[str]:
    """List what is wrong after a training that ran out of space."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("asr: ")]
    problems = [] if done.returncode == 2 else [f"exit status {done.returncode}"]
    problems += [] if len(errors) == 1 and "expected" in errors[0] else [f"{len(errors)} lines: {errors}"]
    problems += ["a traceback"] if "Traceback" in done.stderr else []
    problems += ["a partial file"] if list(run_dir.rglob("*.partial")) else []
    if resumable(run_dir):
        load_last(run_dir / "checkpoints")
    return problems


def check(corpus: Path, folder: Path, sizes: int, overrides: Sequence[str]) -> list[str]:
    """Train on ``sizes`` disks of different sizes; return the problems."""
    undisturbed, disk, all_problems = folder / "whole", folder / "disk", []
    run_dir = disk / "run"
    train(corpus, undisturbed, overrides).check_returncode()
    disk.mkdir()
    needed = sum(path.stat().st_blocks * 512 for path in undisturbed.rglob("*"))
    for number in range(sizes):
        size = max(4096, needed * number // sizes)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)], check=True)
        failed = train(corpus, run_dir, overrides)
        problems = problems_after_failure(failed, run_dir)
        print(f"{size / 1024:.0f} KiB: {failed.stderr.strip().splitlines()[-1]}", flush=True)
        if number == sizes // 2:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            read_only = train(corpus, run_dir, overrides)
            problems += [f"read-only: {problem}" for problem in problems_after_failure(read_only, run_dir)]
        subprocess.run(["mount", "-o", f"remount,rw,size={2 * needed + 2**24}", str(disk)], check=True)
        resumed = train(corpus, run_dir, overrides)
        problems += (
            [f"with space: {resumed.stderr[-300:]}"] if resumed.returncode else differences(undisturbed, run_dir)
        )
        all_problems += [f"{size / 1024:.0f} KiB: {problem}" for problem in problems]
        subprocess.run(["umount", str(disk)], check=True)
    return all_problems


def main() -> None:
    """Run the checks and print the problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--sizes", type=int, default=20)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args()
    if not args.inside:
        os.execvp(NAMESPACE[0], [*NAMESPACE, sys.executable, "-m", "tests.faults.full_disk", "--inside", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        problems = check(args.corpus, Path(folder), args.sizes, args.overrides)
    if problems:
        raise SystemExit("\n".join(problems))
    print("no problems: with space again, each run ended with the weights of the undisturbed one")


if __name__ == "__main__":
    main()
