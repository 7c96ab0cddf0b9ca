"""What 10 to 1,000,000 hours of speech take: time, storage, network, memory, files, money. The tables of docs/scale.md.

    python -m benchmarks.scale [--set NAME=VALUE ...] [--hours H ...] [--write docs/scale.md]

Every figure follows from the constants in `scale_constants.tsv`: measured by `python -m benchmarks.scale_constants`, or
assumed. ``--set`` changes a constant, such as a price. ``--write`` puts the tables into a page, between the comments that
name them.
"""

import argparse
import csv
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

CONSTANTS = Path(__file__).with_name("scale_constants.tsv")
HOURS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
MACHINES, TRAINING_HOURS, WEEK_H = (1, 8, 64, 512), 1_000_000, 168.0
KINDS = ("measured", "assumed", "setting")


class Constant(NamedTuple):
    """A constant of the arithmetic: its value, unit, kind (one of `KINDS`), and where it comes from."""

    value: float
    unit: str
    kind: str
    source: str


class Row(NamedTuple):
    """A row of a table: a quantity, its label, and how it is printed (a key of `FORMATS`)."""

    key: str
    label: str
    style: str


def read_constants(path: Path = CONSTANTS) -> dict[str, Constant]:
    """Read the constants: a tab-separated line each, with name, value, unit, kind and source."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {name: Constant(float(value), *others) for name, value, *others in rows[1:]}


def epochs(hours: float, c: Mapping[str, float]) -> float:
    """Epochs of a whole run: the recipe's up to ``full_run_h`` hours, then falling with the square root, at least 2."""
    return max(2.0, round(c["epochs"] * min(1.0, math.sqrt(c["full_run_h"] / hours))))


def quantities(hours: float, c: Mapping[str, float]) -> dict[str, float]:
    """All figures for so many hours of speech: sizes in bytes, times in hours of a core or GPU, money in US dollars."""
    seconds = 3600.0 * hours
    utterances = seconds / c["utterance_s"]
    shards = math.ceil(utterances / c["shard_utterances"])
    q = {"utterances": utterances, "shards": float(shards), "epochs": epochs(hours, c)}
    for name in ("wav", "flac", "opus", "features"):
        q[f"storage_{name}"] = seconds * c[f"{name}_bytes_per_s"]
    q["manifest"] = utterances * c["cut_bytes"]
    q["index"] = shards * c["index_bytes_per_shard"]
    q["files_loose"], q["files_shards"] = utterances, 2.0 * shards + 1
    q["shard_bytes"] = min(c["shard_utterances"], utterances) * c["utterance_s"] * c["flac_bytes_per_s"]

    q["prepare_core_h"] = (utterances * c["prepare_core_s_per_utterance"] + hours * c["check_core_s_per_h"]) / 3600
    q["prepare_memory"] = c["prepare_memory_bytes"] + utterances * c["prepare_memory_bytes_per_utterance"]
    q["shard_core_h"] = hours * c["shard_core_s_per_h"] / 3600
    q["index_memory"] = shards * c["index_memory_bytes_per_shard"]

    for device in ("core", "gpu"):
        q[f"epoch_{device}_h"] = hours * c[f"train_{device}_s_per_h"] / 3600
        q[f"run_{device}_h"] = q[f"epoch_{device}_h"] * q["epochs"]
        q[f"transcribe_{device}_h"] = hours * c[f"transcribe_{device}_s_per_h"] / 3600
    q["english_core_h"] = hours * c["transcribe_english_core_s_per_h"] / 3600
    q["plan_core_h"] = utterances * c["plan_core_s_per_utterance"] / 3600
    q["checksum_core_h"] = q["storage_flac"] * c["checksum_core_s_per_gb"] / 1e9 / 3600
    for stage in ("train", "transcribe", "transcribe_english"):
        q[f"{stage}_memory"] = c[f"{stage}_memory_bytes"]
    q["transcripts"] = utterances * c["result_bytes_per_utterance"]
    q["done_bytes"] = shards * c["done_bytes_per_unit"]
    q["driver_core_h"] = shards * c["driver_core_s_per_unit"] / 3600
    q["driver_memory"] = c["driver_memory_bytes"] + shards * c["driver_memory_bytes_per_unit"]

    core, gpu, reads = c["core_hour_usd"], c["gpu_hour_usd"], 2 * shards * c["get_1000_usd"] / 1000
    q["storage_usd"] = q["storage_flac"] / 1e9 * c["store_gb_month_usd"]
    q["prepare_usd"] = (q["prepare_core_h"] + q["shard_core_h"]) * core + q["files_shards"] * c["put_1000_usd"] / 1000
    q["run_core_usd"] = q["run_core_h"] * core + q["epochs"] * reads
    q["run_gpu_usd"] = q["run_gpu_h"] * gpu + q["epochs"] * reads
    q["transcribe_core_usd"] = q["transcribe_core_h"] * core + reads
    q["transcribe_gpu_usd"] = q["transcribe_gpu_h"] * gpu + reads
    q["loose_reads_usd"] = utterances * c["get_1000_usd"] / 1000
    q["egress_usd"] = q["storage_flac"] / 1e9 * c["egress_gb_usd"]
    q["run_machines"] = math.ceil(q["run_core_h"] / (c["cores_per_machine"] * WEEK_H))
    q["transcribe_bits_per_s"] = 8 * q["storage_flac"] / (WEEK_H * 3600)
    return q


def training(machines: int, hours: float, c: Mapping[str, float]) -> dict[str, float]:
    """Where training on many machines of one GPU each breaks: an epoch's hours, and what its parts ask of the network.

    By default every process plans the whole epoch, and every machine reads every shard, so that a batch does not depend on
    the number of machines. What is called ``split_`` is with ``sources.split``. Rates are in bits per second.
    """
    q = quantities(hours, c)
    computing_h = q["epoch_gpu_h"] / machines
    epoch_s = 3600 * computing_h
    batch_s = c["batch_s"] * machines
    gradient_bytes = (
        2 * 4 * c["parameters"] * (machines - 1) / machines
    )  # a ring: each byte is sent twice, less one share
    return {
        "machines": float(machines),
        "computing_h": computing_h,
        "planning_h": q["plan_core_h"],
        "checksum_h": q["checksum_core_h"],
        "every_bits": 8 * q["storage_flac"] / epoch_s,
        "store_bits": 8 * q["storage_flac"] * machines / epoch_s,
        "split_planning_h": q["plan_core_h"] / machines,
        "split_checksum_h": q["checksum_core_h"] / machines,
        "split_bits": 8 * q["storage_flac"] / machines / epoch_s,
        "split_store_bits": 8 * q["storage_flac"] / epoch_s,
        "gradient_bits": 8 * gradient_bytes * (3600 * hours / batch_s) / epoch_s,
        "batch_h": batch_s / 3600,
    }


def _significant(value: float) -> str:
    """Two significant digits, with thousands separated."""
    if value == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, 1 - math.floor(math.log10(abs(rounded))))}f}"


def _scaled(value: float, units: Sequence[str], step: float = 1000.0) -> str:
    """A value with the largest unit that leaves at least 1."""
    power = 0
    while power < len(units) - 1 and value >= step * 0.995:
        value, power = value / step, power + 1
    return f"{_significant(value)} {units[power]}"


def _time(hours: float) -> str:
    """A time in seconds, minutes or hours."""
    for seconds, unit in ((1, "s"), (60, "min")):
        if hours * 3600 / seconds < 99.5:
            return f"{_significant(hours * 3600 / seconds)} {unit}"
    return f"{_significant(hours)} h"


FORMATS = {
    "count": lambda value: f"{float(f'{value:.2g}'):,.0f}",
    "exact": lambda value: f"{value:,.0f}",
    "time": _time,
    "bytes": lambda value: _scaled(value, ("B", "kB", "MB", "GB", "TB", "PB")),
    "rate": lambda value: _scaled(value, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")),
    "money": _significant,
}

TABLES: dict[str, list[Row]] = {
    "corpus": [
        Row("utterances", "utterances", "count"),
        Row("storage_wav", "WAV, 16 bits", "bytes"),
        Row("storage_flac", "shards of FLAC", "bytes"),
        Row("storage_opus", "shards of Opus", "bytes"),
        Row("storage_features", "shards of features", "bytes"),
        Row("manifest", "manifests", "bytes"),
        Row("index", "index of the shards", "bytes"),
        Row("files_loose", "loose files", "count"),
        Row("files_shards", "files of shards", "count"),
        Row("shard_bytes", "one shard of FLAC", "bytes"),
    ],
    "preparation": [
        Row("prepare_core_h", "`asr prepare`, on one core", "time"),
        Row("prepare_memory", "its memory, one machine", "bytes"),
        Row("shard_core_h", "`asr shard`, on one core", "time"),
        Row("storage_flac", "read once by each, as FLAC", "bytes"),
    ],
    "training": [
        Row("epochs", "epochs of a run", "exact"),
        Row("epoch_core_h", "an epoch, on one core", "time"),
        Row("run_core_h", "a run, on one core", "time"),
        Row("epoch_gpu_h", "an epoch, on one H100", "time"),
        Row("run_gpu_h", "a run, on one H100", "time"),
        Row("storage_flac", "read an epoch, by each machine", "bytes"),
        Row("plan_core_h", "planning an epoch, each process", "time"),
        Row("checksum_core_h", "checksums of an epoch, each machine", "time"),
        Row("train_memory", "memory of a process", "bytes"),
        Row("index_memory", "the index in each process", "bytes"),
        Row("run_machines", "machines for a run in a week, without GPUs", "exact"),
    ],
    "transcription": [
        Row("transcribe_core_h", "`speechocean762-small`, on one core", "time"),
        Row("english_core_h", "`english`, on one core", "time"),
        Row("transcribe_gpu_h", "`english`, on one H100 with 16 cores", "time"),
        Row("transcripts", "transcripts", "bytes"),
        Row("shards", "units of work, a result file each", "count"),
        Row("done_bytes", "list of what is done", "bytes"),
        Row("driver_core_h", "driver, on one core", "time"),
        Row("driver_memory", "driver, memory beside its libraries", "bytes"),
        Row("transcribe_memory", "memory of a worker, `speechocean762-small`", "bytes"),
        Row("transcribe_english_memory", "memory of a worker, `english`", "bytes"),
        Row("transcribe_bits_per_s", "read from the store, if it takes a week", "rate"),
    ],
    "money": [
        Row("storage_usd", "FLAC in a store, a month", "money"),
        Row("prepare_usd", "preparation and sharding", "money"),
        Row("run_core_usd", "a training run on processors", "money"),
        Row("run_gpu_usd", "a training run on H100s", "money"),
        Row("transcribe_core_usd", "transcription on processors", "money"),
        Row("transcribe_gpu_usd", "transcription by `english` on H100s", "money"),
        Row("loose_reads_usd", "requests alone, if files were loose: an epoch", "money"),
        Row("egress_usd", "an epoch that leaves the provider's region, for each machine", "money"),
    ],
}

TRAINING_ROWS = [
    Row("computing_h", "an epoch, computing", "time"),
    Row("planning_h", "planning, each process", "time"),
    Row("checksum_h", "checksums, each machine", "time"),
    Row("every_bits", "a machine reads every shard", "rate"),
    Row("store_bits", "the store sends all machines", "rate"),
    Row("split_planning_h", "with `sources.split`: planning, each process", "time"),
    Row("split_checksum_h", "with `sources.split`: checksums, each machine", "time"),
    Row("split_bits", "with `sources.split`: a machine reads its part", "rate"),
    Row("split_store_bits", "with `sources.split`: the store sends all machines", "rate"),
    Row("gradient_bits", "a machine sends gradients", "rate"),
    Row("batch_h", "speech in a batch", "time"),
]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in [header, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def tables(constants: Mapping[str, Constant], hours: Sequence[float] = HOURS) -> dict[str, str]:
    """All tables of the page by name: the constants, the stages for each size, and training over many machines."""
    c = {name: constant.value for name, constant in constants.items()}
    columns = [quantities(h, c) for h in hours]
    header = ["hours of speech", *(f"{h:,.0f}" for h in hours)]
    result = {
        name: markdown(header, [[row.label, *(FORMATS[row.style](q[row.key]) for q in columns)] for row in rows])
        for name, rows in TABLES.items()
    }
    runs = [training(machines, TRAINING_HOURS, c) for machines in MACHINES]
    header = ["machines with one GPU", *(f"{machines}" for machines in MACHINES)]
    lines = [[row.label, *(FORMATS[row.style](run[row.key]) for run in runs)] for row in TRAINING_ROWS]
    result["machines"] = markdown(header, lines)
    for kind in KINDS:
        own = [(name, k) for name, k in constants.items() if k.kind == kind]
        result[f"constants {kind}"] = markdown(
            ["constant", "value", "unit", "from"], [[f"`{name}`", f"{k.value:g}", k.unit, k.source] for name, k in own]
        )
    return result


def write_page(page: Path, contents: Mapping[str, str]) -> None:
    """Replace each table of a page: what stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``."""
    text = page.read_text(encoding="utf-8")
    for name, table in contents.items():
        pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n)(?:.*?\n)??(<!-- end of table -->)", re.DOTALL)
        text, count = pattern.subn(partial("{1[1]}{0}\n{1[2]}".format, table), text)
        if count != 1:
            raise SystemExit(f"{page}: table {name} occurs {count} times, expected once")
    page.write_text(text, encoding="utf-8")


def parse_setting(text: str, constants: Mapping[str, Constant]) -> tuple[str, Constant]:
    """Read ``NAME=VALUE``; exit if there is no such constant or the value is not a number above 0."""
    name, _, value = text.partition("=")
    if name not in constants:
        raise SystemExit(f"--set {text}: expected NAME=VALUE with a name of {CONSTANTS}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise SystemExit(f"--set {text}: value {value!r}, expected a number above 0")
    return name, constants[name]._replace(value=number, source="--set")


def main() -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a constant; may be repeated"
    )
    parser.add_argument("--hours", type=float, nargs="+", default=list(HOURS), help="sizes of the corpus")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    args = parser.parse_args()
    constants = read_constants()
    constants |= dict(parse_setting(text, constants) for text in args.set)
    contents = tables(constants, args.hours)
    if args.write:
        write_page(args.write, contents)
        return
    for name, table in contents.items():
        print(f"{name}\n\n{table}\n")


if __name__ == "__main__":
    main()
