"""100,000 shards through the engine of bulk work, with workers that die and a store that fails: where does it break first?

    python -m benchmarks.scheduler [--units 1000 10000 100000] [--only simulated|ray|list] [--json FILE]

Three parts, each with its own table. The engine and the list of what is done are those of `asr transcribe --cluster`.

- simulated: the engine on clusters that do not exist (`benchmarks.simulated_ray`), of 10 to 10,000 workers;
- ray: the engine on Ray on this machine. A unit reads from a store that fails, writes a result, or takes its worker along;
- list: the list of what is done, and its output folder, with a result file for each unit.

Every part checks that each unit has one outcome. Each run has a process of its own. Times are processor time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from asr.cluster import engine
from asr.cluster.connection import connect
from asr.errors import InputError
from asr.inference.result_files import DoneList, lock_output
from benchmarks.scheduler_work import DEATHS, FAILURES, RESULT, make_work, result_of
from benchmarks.simulated_ray import Cluster, Events, Scenario, simulated_ray
from benchmarks.timing import build_parser, format_table, report_results

MAX_COMMANDS = 10
SCENARIOS = {
    "10 machines of 10 workers": Scenario(10, 10, DEATHS),
    "the same, 1 % of the units fail once": Scenario(10, 10, DEATHS, FAILURES),
    "the same, the store is away for ten minutes": Scenario(10, 10, DEATHS, outage_s=(3600, 4200)),
    "the same, the disk of one machine is full": Scenario(10, 10, DEATHS, broken=1),
    "the same, the store is away from the first hour on": Scenario(10, 10, DEATHS, outage_s=(3600, 1e9)),
    "100 machines of 10 workers, 1 % fail once": Scenario(100, 10, DEATHS, FAILURES),
    "1,000 machines of 10 workers, 1 % fail once": Scenario(1000, 10, DEATHS, FAILURES),
}
"""Units take a minute on average: ten hours of speech at 600 times real time."""


def simulate(units: int, name: str) -> dict[str, Any]:
    """Run the engine on a simulated cluster, as a command that ends at the first unit that has failed everywhere.

    The command is started again for the units that are missing, ten times at most.
    """
    cluster, seen, commands, end = Cluster(SCENARIOS[name]), bytearray(units), 0, ""
    memory, started = peak_bytes(), time.process_time()
    while sum(seen) < units and commands < MAX_COMMANDS:
        commands += 1
        missing = [("s3://bucket/shards", number) for number in range(units) if not seen[number]]
        with simulated_ray(cluster):
            run = engine._Run(lambda: lambda unit: unit, missing, len(missing), engine.Resources())
            run.events = Events(cluster)  # type: ignore[assignment]
            try:
                for outcome in run:
                    if outcome.error is not None:
                        raise outcome.error
                    count(seen, outcome.unit[1])
            except InputError as error:
                end = str(error)
    return {
        "outcomes": sum(seen),
        "microseconds": 1e6 * (time.process_time() - started) / max(1, sum(seen)),
        "commands": commands,
        "hours": cluster.now_s / 3600,
        "deaths": cluster.deaths,
        "failures": cluster.failures,
        "bytes": peak_bytes() - memory,
        "end": "" if sum(seen) == units else end,
    }


def count(seen: bytearray, number: int) -> None:
    """Note an outcome; exit if its unit has one already."""
    if seen[number]:
        raise SystemExit(f"unit {number} has two outcomes, expected one")
    seen[number] = 1


def on_ray(units: int, out: str) -> dict[str, Any]:
    """Run the engine on Ray, then look at what it left."""
    folder, seen, errors = Path(out), bytearray(units), 0
    memory, wall = peak_bytes(), time.monotonic()
    with lock_output(folder), connect("local"):
        done = DoneList(folder, {"request": "benchmark"})
        started = time.process_time()
        for outcome in engine.run_on_cluster(partial(make_work, folder), range(units), units):
            count(seen, outcome.number)
            errors += outcome.error is not None
            if outcome.result is not None:
                done.add(outcome.number, outcome.result)
        seconds, ray_bytes = time.process_time() - started, children_bytes()
        done.close()
    return {
        "outcomes": sum(seen),
        "errors": errors,
        "microseconds": 1e6 * seconds / units,
        "wall": time.monotonic() - wall,
        "bytes": peak_bytes() - memory,
        "ray_bytes": ray_bytes,
        "left": sum(1 for path in folder.iterdir() if path.suffix != ".txt"),
        "files": sum(1 for path in folder.iterdir() if path.suffix == ".txt"),
    }


def list_done(units: int, out: str) -> dict[str, Any]:
    """Fill the list of what is done, then open it again as a command that goes on does."""
    folder = Path(out)
    for number in range(units):
        (folder / f"{number:06}.txt").write_bytes(RESULT)
    before, started = peak_bytes(), time.process_time()
    done = DoneList(folder, {"request": "benchmark"})
    for number in range(units):
        done.add(number, result_of({f"{number:06}.txt": len(RESULT)}))
    done.close()
    added, memory = time.process_time(), peak_bytes() - before
    opened = DoneList(folder, {"request": "benchmark"})
    missing = sum(number not in opened for number in range(units))
    reopened = time.process_time()
    with lock_output(folder):
        listed = time.process_time()
    return {
        "outcomes": units - missing,
        "microseconds": 1e6 * (added - started) / units,
        "bytes": memory,
        "list_bytes": (folder / "done.jsonl").stat().st_size,
        "reopen": reopened - added,
        "listing": listed - reopened,
    }


def peak_bytes() -> int:
    """The peak memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss begins with the parent's
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def children_bytes() -> int:
    """The memory of the processes that this one has started: Ray's servers here, without the workers."""
    total = 0
    for process in _children():
        with (process / "status").open(encoding="utf-8") as file:
            total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
    return total


def _children() -> Iterator[Path]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if parent == os.getpid():
            yield stat.parent


PARTS: dict[str, Callable[..., dict[str, Any]]] = {"simulated": simulate, "ray": on_ray, "list": list_done}


def in_own_process(part: str, units: int, argument: str) -> dict[str, Any]:
    """Run a part in a process of its own; its figures."""
    command = [sys.executable, "-m", "benchmarks.scheduler", "--one", part, str(units), argument]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(part: str, results: dict[str, dict[str, Any]]) -> str:
    """The figures of a part as a table."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "outcomes": lambda r: f"{r['outcomes']:,}",
        "us per unit": lambda r: f"{r['microseconds']:.0f}",
        "MiB": lambda r: f"{r['bytes'] / 2**20:.0f}",
    }
    own: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
        "simulated": {
            "commands": lambda r: f"{r['commands']}",
            "workers that died": lambda r: f"{r['deaths']:,}",
            "failures": lambda r: f"{r['failures']:,}",
            "simulated hours": lambda r: f"{r['hours']:.1f}",
        },
        "ray": {
            "errors": lambda r: f"{r['errors']:,}",
            "files": lambda r: f"{r['files']:,}",
            "seconds": lambda r: f"{r['wall']:.0f}",
            "Ray's servers, MiB": lambda r: f"{r['ray_bytes'] / 2**20:.0f}",
        },
        "list": {
            "list, MiB": lambda r: f"{r['list_bytes'] / 2**20:.1f}",
            "opened again, s": lambda r: f"{r['reopen']:.2f}",
            "folder cleared, s": lambda r: f"{r['listing']:.2f}",
        },
    }
    columns |= own[part]
    rows = [[name, *(column(result) for column in columns.values())] for name, result in results.items()]
    return format_table([part, *columns], rows)


def main() -> None:
    """Run the parts and print their tables."""
    parser = build_parser(__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        part, units, argument = args.one
        print(json.dumps(PARTS[part](int(units), argument)))
        return
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for part in args.only:
        if part == "simulated":
            results[part] = {name: in_own_process(part, args.units[-1], name) for name in SCENARIOS}
        else:
            results[part] = {}
            for units in args.units:
                with tempfile.TemporaryDirectory() as out:
                    results[part][f"{units:,} units"] = in_own_process(part, units, out)
        print(table(part, results[part]), flush=True)
    report_results({}, results, args.json)


if __name__ == "__main__":
    main()
