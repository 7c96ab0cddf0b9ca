"""Shared by all benchmarks: interleaved timing of systems, tables, and ratios as JSON."""

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

from asr.system.process import SPIN_COUNT, TRAINING_KEPT_BYTES, tune_process
from asr.system.processor import bfloat16_source, choose_precision, describe_processor

CPU = torch.device("cpu")


def time_interleaved(systems: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each system over ``rounds`` interleaved rounds, after one untimed round."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for round_index in range(rounds + 1):
        for name, run in systems.items():
            started = time.perf_counter()
            run()
            if round_index > 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}


class SeparateProcess:
    """A system in its own process, with its own threads and memory, as a user would run it."""

    def __init__(self, make: Callable[[], Callable[[], object]], tuned: bool = True) -> None:
        """Start the process and call ``make``, a module-level function, in it once; each call runs what that returned.

        ``tuned`` applies the process settings of the ``asr`` command; baselines run with default settings.
        """
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=_serve, args=(make, child_pipe, tuned), daemon=True)
        with patch.dict(os.environ, {"GOMP_SPINCOUNT": SPIN_COUNT} if tuned else {}):
            self.process.start()
        child_pipe.close()
        self.pipe.recv()

    def __call__(self) -> object:
        """Run the system once, wait for it, and return its result."""
        self.pipe.send(None)
        return self.pipe.recv()

    def close(self) -> None:
        """Stop the process."""
        self.process.kill()
        self.process.join()


def _serve(make: Callable[[], Callable[[], object]], pipe: Connection, tuned: bool) -> None:
    if tuned:
        tune_process(TRAINING_KEPT_BYTES)
    run = make()
    pipe.send(None)
    while True:
        pipe.recv()
        pipe.send(run())


def format_table(header: list[str], rows: list[list[str]]) -> str:
    """Align the columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    return "\n".join(lines)


def build_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a command line with the options that all benchmarks share."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument(
        "--json", type=Path, help="also write the figures to this file; `ratios` above 1 mean that ours is better"
    )
    result.add_argument("--rounds", type=int, default=5, help="timed runs of each system")
    return result


def describe_machine() -> str:
    """Describe in one line the processor, its instruction sets and the precision that `auto` chooses on it."""
    choice = choose_precision("auto", CPU)
    return f"{describe_processor()}; precision auto is {choice.name}: {choice.why}"


def skip_emulated(precisions: Sequence[str]) -> list[str]:
    """Return the precisions without those that this processor only emulates; print what is skipped."""
    if "bfloat16" in precisions and not bfloat16_source(CPU):
        print("bfloat16 is skipped: this processor only emulates it")
        return [name for name in precisions if name != "bfloat16"]
    return list(precisions)


def report_results(ratios: Mapping[str, float], details: Mapping[str, object], path: Path | None) -> None:
    """Print the machine and the ratios (above 1 is better); write both and the details to ``path``."""
    print(f"\n{describe_machine()}")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    if path is not None:
        path.write_text(
            json.dumps({"machine": describe_machine(), "ratios": ratios, **details}, indent=1) + "\n", encoding="utf-8"
        )
