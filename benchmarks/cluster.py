"""Overhead of `asr transcribe --cluster local` against the same command without a cluster, on hours of audio.

    python -m benchmarks.cluster CUTS [--model speechocean762-small] [--hours 10] [--rounds 1] [--json FILE]

The manifest is repeated up to the hours wanted. Both commands have a worker a processor: threads of one process, or Ray's
actors. Their results must agree byte for byte. Processor seconds are those of all processes of the command, Ray's own
included; they say more than wall seconds where other programs run.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.timing import build_parser, format_table, report_results

SAMPLE_S = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Wall and processor seconds, and the largest sum of resident memory in GiB, of the processes of a command."""

    wall_s: float
    processor_s: float
    memory_gib: float


def repeat_manifest(cuts: Path, target: Path, hours: float) -> float:
    """Write the cuts of a manifest again and again, with ids of their own; return the hours."""
    with gzip.open(cuts, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    seconds, number = 0.0, 0
    with target.open("w", encoding="utf-8") as file:
        while seconds < hours * 3600:
            for line in lines:
                cut = json.loads(line)
                cut["id"] = f"{cut['id']}-{number}"
                seconds += cut["duration"]
                file.write(json.dumps(cut) + "\n")
                if seconds >= hours * 3600:
                    break
            number += 1
    return seconds / 3600


def measure(command: Sequence[str]) -> Usage:
    """Run a command in a session of its own and add up the processes of the session."""
    started, ticks, peak = time.monotonic(), dict[str, int](), 0
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        pages = 0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            if int(fields[3]) == process.pid:
                ticks[entry.name] = int(fields[11]) + int(fields[12])
                pages += int(fields[21])
        peak = max(peak, pages)
        time.sleep(SAMPLE_S)
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}: {errors[-500:]}")
    return Usage(time.monotonic() - started, sum(ticks.values()) / TICKS, peak * os.sysconf("SC_PAGE_SIZE") / 2**30)


def contents(folder: Path) -> dict[str, bytes]:
    """The result files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "done.jsonl"}


def main() -> None:
    """Time the commands in turn and compare their results."""
    parser = build_parser(__doc__)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("--model", default="speechocean762-small")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.set_defaults(rounds=1)
    args = parser.parse_args()
    usages: dict[str, list[Usage]] = {"threads": [], "cluster": []}
    with tempfile.TemporaryDirectory() as temporary:
        manifest = Path(temporary, "repeated.jsonl")
        hours = repeat_manifest(args.cuts, manifest, args.hours)
        for number in range(args.rounds):
            for name, more in (("threads", []), ("cluster", ["--cluster", "local"])):
                out = Path(temporary, f"{name}{number}")
                command = [
                    sys.executable,
                    "-m",
                    "asr",
                    "transcribe",
                    str(manifest),
                    "--model",
                    args.model,
                    "--format",
                    "json",
                ]
                usages[name].append(measure([*command, "--out", str(out), *more]))
                print(f"{name}: {usages[name][-1]}", flush=True)
            if contents(Path(temporary, f"threads{number}")) != contents(Path(temporary, f"cluster{number}")):
                raise SystemExit("the results differ, expected the same bytes")
    rows = {
        name: [median(getattr(usage, field) for usage in found) for field in ("wall_s", "processor_s", "memory_gib")]
        for name, found in usages.items()
    }
    table = [
        [name, f"{wall:.0f}", f"{cpu:.0f}", f"{gib:.2f}", f"{hours * 3600 / wall:.0f}"]
        for name, (wall, cpu, gib) in rows.items()
    ]
    print(f"{hours:.2f} hours of audio, the same results")
    print(format_table(["", "seconds", "processor seconds", "GiB", "times real time"], table))
    threads, cluster = rows["threads"], rows["cluster"]
    ratios = {
        "processor seconds, threads over cluster": threads[1] / cluster[1],
        "wall seconds, threads over cluster": threads[0] / cluster[0],
    }
    report_results(ratios, {"hours": hours, "usages": rows}, args.json)


if __name__ == "__main__":
    main()
