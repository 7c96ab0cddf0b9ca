"""The figure of docs/scale.md: hours of an epoch over a million hours of speech, on more and more machines.

python -m benchmarks.scale_figure docs/assets/scale_training.svg
"""

import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from asr.reports.figures import BLUE, GREY, RED, STYLE
from benchmarks.scale import TRAINING_HOURS, read_constants, training

MACHINES = [2**power for power in range(11)]
NETWORK_BITS = 10e9
"""The network of a machine, in bits per second."""
OFFSETS = {
    "computing": 4,
    "gradients": -4,
    "every machine checks every shard": 7,
    "every machine reads every shard": -1,
    "every process plans the epoch": -5,
}
"""Of names that would touch, in points."""


def main() -> None:
    """Draw the figure."""
    constants = {name: constant.value for name, constant in read_constants().items()}
    runs = [training(machines, TRAINING_HOURS, constants) for machines in MACHINES]
    computing = [run["computing_h"] for run in runs]

    def hours(rate: str) -> list[float]:
        """How long the network takes for what it carries while the GPUs compute."""
        return [run["computing_h"] * run[rate] / NETWORK_BITS for run in runs]

    lines = {
        "computing": (computing, BLUE, "-"),
        "every machine reads every shard": (hours("every_bits"), RED, "-"),
        "every process plans the epoch": ([run["planning_h"] for run in runs], RED, "--"),
        "every machine checks every shard": ([run["checksum_h"] for run in runs], RED, ":"),
        "gradients": (hours("gradient_bits"), GREY, ":"),
        "every machine reads its part (sources.split)": (hours("split_bits"), BLUE, ":"),
    }
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for name, (values, colour, style) in lines.items():
            points = [point for point in zip(MACHINES, values, strict=True) if point[1] > 0]
            axes.plot(*zip(*points, strict=True), style, color=colour)
            axes.annotate(
                name, points[-1], (4, OFFSETS.get(name, 0)), textcoords="offset points", va="center", color=colour
            )
        axes.set(xscale="log", yscale="log", xlabel="machines with one GPU each", ylabel="hours of an epoch")
        axes.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
        axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1,024"])
        axes.minorticks_off()
        figure.savefig(Path(sys.argv[1]), format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
