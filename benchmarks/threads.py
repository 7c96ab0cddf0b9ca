"""More cores: the directions of a layer at once or one after the other, and one process or several.

    python -m benchmarks.threads [CORPUS] [--threads 1 2 4 8] [--json FILE]

First a training step of the default model's recurrent layers (20 utterances of 75 to 100 frames) with 1, 2, 4 ... threads
up to the cores: the two directions at once, on half of the threads each (what `asr train` does), or one after the other,
each on all of them. Then, with a CORPUS that `asr prepare speechocean762` has left, an epoch of `asr train` in 1, 2, 4 ...
processes that share all the threads. A ratio is the seconds of the other way over those of ours, above 1 is better.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

from asr.nn.lstm import RecurrentStack
from asr.system.processor import choose_precision
from benchmarks.timing import CPU, Apart, finish, interleave, parser, table

UTTERANCES, FRAMES, INPUTS, HIDDEN, LAYERS = 20, 100, 640, 320, 3
EPOCH = ["experiment=speechocean762", "trainer.epochs=1", "trainer.flat_start_epochs=0", "trainer.aligner_epochs=0"]


def step_of(threads: int, at_once: bool) -> Callable[[], object]:
    """A training step with so many threads, for a process of its own."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(FRAMES * 3 // 4, FRAMES + 1, (UTTERANCES,), generator=generator)
    inputs = torch.randn(UTTERANCES, FRAMES, INPUTS, generator=generator)
    stack = RecurrentStack(INPUTS, HIDDEN, LAYERS)
    half = choose_precision("auto", CPU).name == "bfloat16"

    def run() -> None:
        with patch("asr.nn.lstm.FEWEST_THREADS", 2 if at_once else sys.maxsize):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                outputs = stack(inputs, lengths)
            stack.zero_grad()
            outputs.float().square().mean().backward()

    return run


def epoch_seconds(corpus: Path, processes: int, threads: int) -> float:
    """An epoch of `asr train` and its dev set, in processes of so many threads each."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "-m"] if processes > 1 else ["-m"]
    with tempfile.TemporaryDirectory() as folder:
        settings = [*EPOCH, f"corpus.dir={corpus}", f"run_dir={folder}/run", f"trainer.threads={threads}"]
        command = [sys.executable, *launcher, "asr", "train", *settings, "trainer.device=cpu", "trainer.trackers=[]"]
        subprocess.run(command, check=True, capture_output=True)
        (record,) = json.loads(Path(folder, "run", "history.json").read_text(encoding="utf-8"))
    return 60 * float(record["minutes"])


def main() -> None:
    """Time both ways at every number of threads, then the processes."""
    options = parser(__doc__)
    options.add_argument("corpus", type=Path, nargs="?")
    options.add_argument("--threads", type=int, nargs="+")
    chosen = options.parse_args()
    cores = torch.get_num_threads()
    counts = chosen.threads or [count for count in (1, 2, 4, 8, 16, 32) if count <= cores]
    rows, ratios = [], {}
    for count in counts:
        ways = {
            "at once": Apart(partial(step_of, count, True)),
            "one after the other": Apart(partial(step_of, count, False)),
        }
        seconds = interleave(ways, chosen.rounds)
        for process in ways.values():
            process.close()
        rows.append([f"{count} threads", *(f"{1000 * seconds[way]:.0f}" for way in ways)])
        ratios[f"{count} threads: directions one after the other over at once"] = (
            seconds["one after the other"] / seconds["at once"]
        )
    print(table(["a step, ms", "at once", "one after the other"], rows))
    details = {}
    if chosen.corpus:
        layouts = [(count, cores // count) for count in (1, 2, 4, 8, 16) if cores % count == 0]
        details = {f"{count} x {threads}": epoch_seconds(chosen.corpus, count, threads) for count, threads in layouts}
        print(
            table(["processes x threads", "an epoch, s"], [[name, f"{value:.1f}"] for name, value in details.items()])
        )
        ours = details[f"1 x {cores}"]
        ratios |= {f"{name} processes over one": value / ours for name, value in details.items()}
    finish(ratios, {"epoch seconds": details}, chosen.json)


if __name__ == "__main__":
    main()
