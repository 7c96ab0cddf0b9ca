"""What all benchmarks share: contenders timed by turns in one process, a table, and ratios as JSON."""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

from asr.system.process import KEPT_IN_TRAINING, SPINS, tune_process
from asr.system.processor import bfloat16_source, choose_precision, describe_processor

CPU = torch.device("cpu")


def interleave(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each contender over ``rounds``, all by turns in each round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            if number > 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}


class Apart:
    """A contender in a process of its own, with its own threads and memory, as a user would run it."""

    def __init__(self, make: Callable[[], Callable[[], object]], tuned: bool = True) -> None:
        """``make``, a function of a module, is called there once for what every call of this runs.

        A process of ours is tuned as the ``asr`` command is; another's is left as it comes.
        """
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(make, theirs, tuned), daemon=True)
        with patch.dict(os.environ, {"GOMP_SPINCOUNT": SPINS} if tuned else {}):
            self.process.start()
        theirs.close()
        self.pipe.recv()

    def __call__(self) -> object:
        """Run it once and wait; what it returns."""
        self.pipe.send(None)
        return self.pipe.recv()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def _serve(make: Callable[[], Callable[[], object]], pipe: Connection, tuned: bool) -> None:
    if tuned:
        tune_process(KEPT_IN_TRAINING)
    contender = make()
    pipe.send(None)
    while True:
        pipe.recv()
        pipe.send(contender())


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    return "\n".join(lines)


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with the options that every benchmark has."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument(
        "--json", type=Path, help="also write the figures to this file; its key `ratios` has ours over theirs"
    )
    result.add_argument("--rounds", type=int, default=5, help="times each contender is timed")
    return result


def machine() -> str:
    """The processor, its instruction sets and what precision `auto` is on it, in a line."""
    choice = choose_precision("auto", CPU)
    return f"{describe_processor()}; precision auto is {choice.name}: {choice.why}"


def computed(precisions: Sequence[str]) -> list[str]:
    """Those of some precisions that this processor computes in; what it only emulates is named and left out."""
    if "bfloat16" in precisions and not bfloat16_source(CPU):
        print("bfloat16 is left out: this processor only emulates it")
        return [name for name in precisions if name != "bfloat16"]
    return list(precisions)


def finish(ratios: Mapping[str, float], details: Mapping[str, object], path: Path | None) -> None:
    """Print the machine and the ratios (above 1 is better), and write them with the details."""
    print(f"\n{machine()}")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    if path is not None:
        path.write_text(
            json.dumps({"machine": machine(), "ratios": ratios, **details}, indent=1) + "\n", encoding="utf-8"
        )
