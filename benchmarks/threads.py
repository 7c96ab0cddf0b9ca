"""More cores: both directions of a layer in parallel or in sequence, one or more processes.

    python -m benchmarks.threads [CORPUS] [--threads 1 2 4 8] [--json FILE]

The first part times a training step of the default model's recurrent layers (20 utterances of 75 to 100 frames) with 1, 2,
4 ... threads up to the number of cores: the two directions in parallel, on half of the threads each (as `asr train` does),
or in sequence, each on all threads. The second part needs a CORPUS prepared by `asr prepare speechocean762` and times an
epoch of `asr train` in 1, 2, 4 ... processes that share all threads. A ratio is the baseline's seconds over ours; above 1
is better.
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
from benchmarks.timing import CPU, SeparateProcess, build_parser, format_table, report_results, time_interleaved

UTTERANCES, FRAMES, INPUTS, HIDDEN, LAYERS = 20, 100, 640, 320, 3
EPOCH = ["experiment=speechocean762", "trainer.epochs=1", "trainer.flat_start_epochs=0", "trainer.aligner_epochs=0"]


def make_step(threads: int, parallel: bool) -> Callable[[], object]:
    """Return a training step that uses ``threads`` threads; to be called in its own process."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(FRAMES * 3 // 4, FRAMES + 1, (UTTERANCES,), generator=generator)
    inputs = torch.randn(UTTERANCES, FRAMES, INPUTS, generator=generator)
    stack = RecurrentStack(INPUTS, HIDDEN, LAYERS)
    use_bfloat16 = choose_precision("auto", CPU).name == "bfloat16"

    def run() -> None:
        with patch("asr.nn.lstm.MIN_PARALLEL_THREADS", 2 if parallel else sys.maxsize):
            with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16):
                outputs = stack(inputs, lengths)
            stack.zero_grad()
            outputs.float().square().mean().backward()

    return run


def epoch_seconds(corpus: Path, processes: int, threads: int) -> float:
    """Measure an epoch of `asr train`, dev set included, in processes with ``threads`` threads each."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "-m"] if processes > 1 else ["-m"]
    with tempfile.TemporaryDirectory() as folder:
        settings = [*EPOCH, f"corpus.dir={corpus}", f"run_dir={folder}/run", f"trainer.threads={threads}"]
        command = [sys.executable, *launcher, "asr", "train", *settings, "trainer.device=cpu", "trainer.trackers=[]"]
        subprocess.run(command, check=True, capture_output=True)
        (record,) = json.loads(Path(folder, "run", "history.json").read_text(encoding="utf-8"))
    return 60 * float(record["minutes"])


def main() -> None:
    """Time both modes at every number of threads, then the processes."""
    parser = build_parser(__doc__)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, nargs="+")
    args = parser.parse_args()
    cores = torch.get_num_threads()
    counts = args.threads or [count for count in (1, 2, 4, 8, 16, 32) if count <= cores]
    rows, ratios = [], {}
    for count in counts:
        modes = {
            "parallel": SeparateProcess(partial(make_step, count, True)),
            "sequential": SeparateProcess(partial(make_step, count, False)),
        }
        seconds = time_interleaved(modes, args.rounds)
        for process in modes.values():
            process.close()
        rows.append([f"{count} threads", *(f"{1000 * seconds[mode]:.0f}" for mode in modes)])
        ratios[f"{count} threads: directions sequential over parallel"] = seconds["sequential"] / seconds["parallel"]
    print(format_table(["step, ms", "parallel", "sequential"], rows))
    details = {}
    if args.corpus:
        layouts = [(count, cores // count) for count in (1, 2, 4, 8, 16) if cores % count == 0]
        details = {f"{count} x {threads}": epoch_seconds(args.corpus, count, threads) for count, threads in layouts}
        print(
            format_table(
                ["processes x threads", "epoch, s"], [[name, f"{value:.1f}"] for name, value in details.items()]
            )
        )
        ours = details[f"1 x {cores}"]
        ratios |= {f"{name} processes over one": value / ours for name, value in details.items()}
    report_results(ratios, {"epoch seconds": details}, args.json)


if __name__ == "__main__":
    main()
