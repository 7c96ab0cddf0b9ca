"""Train in two processes: the losses must be those of one, the death of one must end the other, and one or two go on.

    python -m tests.faults.processes CORPUS_DIR [--updates 50] [OVERRIDE...]

Processes are started by torchrun and talk through gloo on the CPU. Exits with 1 where something is not as it must be.
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
"""Small, and nothing that each process draws by itself; batches that two processes cannot share evenly."""

TOLERANCE = 1e-5
LONGEST_S = 60.0
"""In which the others must end."""


def command(processes: int, module: str, arguments: Sequence[str]) -> list[str]:
    """So many processes of a module."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"] if processes > 1 else []
    return [sys.executable, "-m", *launcher, module, *arguments]


def train_arguments(corpus: Path, run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """A training that starts or goes on."""
    return ["train", *SETTINGS, *overrides, f"corpus.dir={corpus}", f"run_dir={run_dir}", "resume=true"]


def losses(corpus: Path, run_dir: Path, processes: int, updates: int, overrides: Sequence[str]) -> list[float]:
    """The loss of each of the first updates."""
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
    found: list[float] = json.loads(out.read_text(encoding="utf-8"))
    return found


def record(out: Path, updates: int, arguments: Sequence[str]) -> None:
    """Train in this process, keep the losses of the first updates and end."""
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
    """Kill one of two processes in the midst of a training; seconds until all are gone, and what was said."""
    said = run_dir.with_suffix(".said")
    with said.open("w", encoding="utf-8") as output:
        call = command(2, "asr", train_arguments(corpus, run_dir, overrides))
        launcher = subprocess.Popen(call, stdout=output, stderr=output)
        while not resumable(run_dir):
            if launcher.poll() is not None:
                raise SystemExit(f"the training ended with {launcher.returncode}: {said.read_text()[-2000:]}")
            time.sleep(0.1)
        ranks = ranks_of(launcher.pid)
        os.kill(ranks[rank], signal.SIGKILL)
        started = time.monotonic()
        launcher.wait(LONGEST_S)
        while any(Path(f"/proc/{process}").exists() for process in ranks.values()):
            time.sleep(0.1)
    return time.monotonic() - started, "; ".join(re.findall("^asr: .*$", said.read_text(), re.MULTILINE))


def ranks_of(launcher: int) -> dict[int, int]:
    """The process ids of a launcher's ranks."""
    found = {}
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found.update({int(one.removeprefix(b"RANK=")): int(child) for one in variables if one.startswith(b"RANK=")})
    return found


def losses_apart(corpus: Path, folder: Path, updates: int, overrides: Sequence[str] = ()) -> float:
    """The largest relative difference of the losses of one process and of two."""
    alone, both = (losses(corpus, folder / f"losses_{n}", n, updates, overrides) for n in (1, 2))
    apart = max(abs(a - b) / abs(a) for a, b in zip(alone, both, strict=True))
    print(
        f"{updates} updates, loss {alone[0]:.4f} to {alone[-1]:.4f}: two processes are at most {apart:.1e} apart from one"
    )
    return apart


def death(corpus: Path, folder: Path, rank: int, processes: int, overrides: Sequence[str] = ()) -> list[str]:
    """Kill a process of two, go on with so many; what is not as it must be."""
    wrong, run_dir = [], folder / f"killed_{rank}"
    took_s, said = kill_one(corpus, run_dir, rank, overrides)
    print(f"process {rank} killed: all gone after {took_s:.1f} s; said: {said}")
    if f"process {1 - rank} of 2 has lost the others" not in said or (run_dir / "model").exists():
        wrong.append(f"the end after process {rank}")
    call = command(processes, "asr", train_arguments(corpus, run_dir, overrides))
    done = subprocess.run(call, capture_output=True, text=True)
    resumed = re.findall("resumed after .*", done.stderr)
    print(f"taken up by {processes}: exit status {done.returncode}, {', '.join(resumed)}")
    if done.returncode or not resumed or not (run_dir / "model").exists():
        wrong.append(f"going on with {processes}")
    return wrong


def main() -> None:
    """Check, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_intermixed_args()
    if chosen.record:
        record(chosen.record, chosen.updates, chosen.overrides)
        return
    with tempfile.TemporaryDirectory() as folder:
        apart = losses_apart(chosen.corpus, Path(folder), chosen.updates, chosen.overrides)
        wrong = ["losses"] if apart > TOLERANCE else []
        for rank, processes in ((1, 1), (0, 2)):
            wrong += death(chosen.corpus, Path(folder), rank, processes, chosen.overrides)
    if wrong:
        raise SystemExit(f"not as it must be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
