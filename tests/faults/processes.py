"""Train in two processes: the losses must equal those of one, killing one must end both, and the run must be resumable.

    python -m tests.faults.processes CORPUS_DIR [--updates 50] [OVERRIDE...]

torchrun starts the processes; they communicate through gloo on the CPU. Exits with 1 if a check fails.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from asr.training.run_folder import resumable

SETTINGS = (
    "model.hidden=32",
    "model.layers=2",
    "model.convolution_channels=[8,8]",
    "model.dropout=0",
    "trainer.precision=float32",
    "trainer.batch_utterances=5",
    "trainer.aligner_epochs=0",
    "trainer.trackers=[]",
    "trainer.threads=1",
)
"""A small model without dropout, which each process draws for itself; batches that two processes cannot share evenly."""

TOLERANCE = 1e-5
TIMEOUT_S = 60.0
"""Time in which the surviving processes must end."""


def command(processes: int, module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a module in ``processes`` processes."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"] if processes > 1 else []
    return [sys.executable, "-m", *launcher, module, *arguments]


def train_arguments(corpus: Path, run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """Return the arguments of a training that starts or resumes."""
    return ["train", *SETTINGS, *overrides, f"corpus.dir={corpus}", f"run_dir={run_dir}", "resume=true"]


def losses(corpus: Path, run_dir: Path, processes: int, updates: int, overrides: Sequence[str]) -> list[float]:
    """Train and return the losses of the first ``updates`` updates."""
    out = run_dir.with_suffix(".json")
    recorded = [
        "--record",
        str(out),
        "--updates",
        str(updates),
        str(corpus),
        *train_arguments(corpus, run_dir, overrides),
    ]
    subprocess.run(command(processes, "tests.faults.processes", recorded), check=True, capture_output=True)
    result: list[float] = json.loads(out.read_text(encoding="utf-8"))
    return result


def record(out: Path, updates: int, arguments: Sequence[str]) -> None:
    """Train in this process, write the losses of the first updates and exit."""
    import asr.training.loop
    from asr.cli.app import main as asr_command

    plain, kept = asr.training.loop.update_weights, []

    def update(*given: object) -> float:
        kept.append(plain(*given))  # type: ignore[arg-type]
        if len(kept) == updates:
            if os.environ.get("RANK", "0") == "0":
                out.write_text(json.dumps(kept), encoding="utf-8")
            sys.exit()
        return kept[-1]

    asr.training.loop.update_weights = update  # type: ignore[assignment]
    sys.argv[1:] = arguments
    asr_command()


def kill_one(corpus: Path, run_dir: Path, rank: int, overrides: Sequence[str]) -> tuple[float, str]:
    """Kill one of two processes during training; return the seconds until all have ended, and the error lines."""
    log = run_dir.with_suffix(".log")
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        call = command(2, "asr", train_arguments(corpus, run_dir, overrides))
        launcher = subprocess.Popen(call, stdout=output, stderr=output)
        while not resumable(run_dir):
            if launcher.poll() is not None:
                raise SystemExit(f"training: exit status {launcher.returncode}: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        ranks = ranks_of(launcher.pid)
        os.kill(ranks[rank], signal.SIGKILL)
        started = time.monotonic()
        launcher.wait(TIMEOUT_S)
        while any(Path(f"/proc/{process}").exists() for process in ranks.values()):
            time.sleep(0.1)
    return time.monotonic() - started, "; ".join(re.findall("^asr: .*$", log.read_text(), re.MULTILINE))


def ranks_of(launcher: int) -> dict[int, int]:
    """Map the ranks of a launcher to their process ids."""
    ranks = {}
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        for variable in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            if variable.startswith(b"RANK="):
                ranks[int(variable.removeprefix(b"RANK="))] = int(child)
    return ranks


def compare_losses(corpus: Path, folder: Path, updates: int, overrides: Sequence[str] = ()) -> float:
    """Return the largest relative difference between the losses of one process and of two."""
    single, double = (losses(corpus, folder / f"losses_{n}", n, updates, overrides) for n in (1, 2))
    difference = max(abs(a - b) / abs(a) for a, b in zip(single, double, strict=True))
    print(f"{updates} updates, loss {single[0]:.4f} to {single[-1]:.4f}: losses differ by at most {difference:.1e}")
    return difference


def kill_and_resume(corpus: Path, folder: Path, rank: int, processes: int, overrides: Sequence[str] = ()) -> list[str]:
    """Kill one of two processes and resume in ``processes`` processes; return the problems."""
    problems, run_dir = [], folder / f"killed_{rank}"
    seconds, errors = kill_one(corpus, run_dir, rank, overrides)
    print(f"process {rank} killed: all ended after {seconds:.1f} s; errors: {errors}")
    if f"process {1 - rank} of 2 has lost the others" not in errors or (run_dir / "model").exists():
        problems.append(f"end after killing process {rank}")
    call = command(processes, "asr", train_arguments(corpus, run_dir, overrides))
    done = subprocess.run(call, capture_output=True, text=True)
    resumed = re.findall("resumed after .*", done.stderr)
    print(f"resumed with {processes}: exit status {done.returncode}, {', '.join(resumed)}")
    if done.returncode or not resumed or not (run_dir / "model").exists():
        problems.append(f"resuming with {processes}")
    return problems


def main() -> None:
    """Run the checks and print the problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args()
    if args.record:
        record(args.record, args.updates, args.overrides)
        return
    with tempfile.TemporaryDirectory() as folder:
        difference = compare_losses(args.corpus, Path(folder), args.updates, args.overrides)
        problems = ["losses"] if difference > TOLERANCE else []
        for rank, processes in ((1, 1), (0, 2)):
            problems += kill_and_resume(args.corpus, Path(folder), rank, processes, args.overrides)
    if problems:
        raise SystemExit(f"failed: {', '.join(problems)}")


if __name__ == "__main__":
    main()
