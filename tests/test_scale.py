"""docs/scale.md: its arithmetic against values worked by hand, and its tables against the command that prints them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import scale, scheduler
from benchmarks.scale import Constant, markdown, parse_setting, quantities, read_constants, tables, training, write_page

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/scale.md"

BY_HAND = {
    "utterance_s": 10.0,
    "wav_bytes_per_s": 32000.0,
    "flac_bytes_per_s": 20000.0,
    "opus_bytes_per_s": 3000.0,
    "features_bytes_per_s": 4000.0,
    "cut_bytes": 100.0,
    "shard_utterances": 3600.0,
    "index_bytes_per_shard": 500.0,
    "index_memory_bytes_per_shard": 1000.0,
    "prepare_core_s_per_utterance": 0.0001,
    "check_core_s_per_h": 2.0,
    "prepare_memory_bytes": 5e7,
    "prepare_memory_bytes_per_utterance": 20.0,
    "shard_core_s_per_h": 4.0,
    "train_core_s_per_h": 36.0,
    "train_gpu_s_per_h": 1.8,
    "plan_core_s_per_utterance": 0.00005,
    "checksum_core_s_per_gb": 0.5,
    "train_memory_bytes": 1.5e9,
    "parameters": 5e6,
    "batch_s": 80.0,
    "epochs": 20.0,
    "full_run_h": 10000.0,
    "transcribe_core_s_per_h": 18.0,
    "transcribe_english_core_s_per_h": 90.0,
    "transcribe_memory_bytes": 8e8,
    "transcribe_english_memory_bytes": 1e9,
    "transcribe_gpu_s_per_h": 0.9,
    "result_bytes_per_utterance": 700.0,
    "done_bytes_per_unit": 200.0,
    "driver_core_s_per_unit": 0.036,
    "driver_memory_bytes": 1e8,
    "driver_memory_bytes_per_unit": 1000.0,
    "cores_per_machine": 32.0,
    "core_hour_usd": 0.05,
    "gpu_hour_usd": 2.0,
    "store_gb_month_usd": 0.02,
    "get_1000_usd": 0.0004,
    "put_1000_usd": 0.005,
    "egress_gb_usd": 0.1,
}
"""Round numbers, so that the expected values can be worked on paper."""


def test_a_thousand_hours_by_hand() -> None:
    """3,600,000 s: 360,000 utterances of 10 s in 100 shards of ten hours."""
    q = quantities(1000, BY_HAND)
    expected = {
        "utterances": 360_000,
        "shards": 100,
        "epochs": 20,  # below full_run_h
        "storage_wav": 115.2e9,  # 3.6e6 s of 32,000 bytes
        "storage_flac": 72e9,
        "storage_opus": 10.8e9,
        "storage_features": 14.4e9,
        "manifest": 36e6,
        "index": 50_000,
        "files_loose": 360_000,
        "files_shards": 201,  # cuts and audio of each shard, and the index
        "shard_bytes": 720e6,  # 36,000 s of 20,000 bytes
        "prepare_core_h": (36 + 2000) / 3600,
        "prepare_memory": 57.2e6,  # 50 MB and 360,000 times 20
        "shard_core_h": 4000 / 3600,
        "index_memory": 100_000,
        "epoch_core_h": 10,
        "run_core_h": 200,
        "epoch_gpu_h": 0.5,
        "run_gpu_h": 10,
        "plan_core_h": 0.005,  # 18 s
        "checksum_core_h": 0.01,  # 36 s for 72 GB
        "train_memory": 1.5e9,
        "transcribe_memory": 8e8,
        "transcribe_core_h": 5,
        "english_core_h": 25,
        "transcribe_gpu_h": 0.25,
        "transcripts": 252e6,
        "done_bytes": 20_000,
        "driver_core_h": 0.001,  # 3.6 s
        "driver_memory": 100.1e6,
        "storage_usd": 1.44,  # 72 GB
        "prepare_usd": (36 + 2000 + 4000) / 3600 * 0.05 + 201 * 0.000005,
        "run_core_usd": 10 + 20 * 200 * 0.0000004,
        "run_gpu_usd": 20 + 20 * 200 * 0.0000004,
        "transcribe_core_usd": 0.25 + 200 * 0.0000004,
        "transcribe_gpu_usd": 0.5 + 200 * 0.0000004,
        "loose_reads_usd": 0.144,
        "egress_usd": 7.2,
        "run_machines": 1,
        "transcribe_bits_per_s": 576e9 / 604_800,
    }
    assert {name: q[name] for name in expected} == pytest.approx(expected)


def test_machines_of_a_week_are_rounded_up() -> None:
    """A million hours in 2 epochs of 10,000 core hours, on machines that have 5,376 core hours a week."""
    q = quantities(1_000_000, BY_HAND)
    assert q["epochs"] == 2  # 20 times the square root of a hundredth
    assert q["run_core_h"] == pytest.approx(20_000)
    assert q["run_machines"] == 4


def test_a_small_corpus_is_one_small_shard() -> None:
    q = quantities(1, BY_HAND)
    assert (q["shards"], q["files_shards"], q["shard_bytes"]) == (1, 3, 72e6)


def test_training_on_two_machines_by_hand() -> None:
    """A thousand hours on two GPUs: a quarter of an hour of computing, 22,500 updates of 160 s."""
    run = training(2, 1000, BY_HAND)
    assert run["computing_h"] == pytest.approx(0.25)
    assert run["planning_h"] == pytest.approx(0.005)
    assert run["checksum_h"] == pytest.approx(0.01)
    assert run["every_bits"] == pytest.approx(576e9 / 900)
    assert run["store_bits"] == pytest.approx(2 * 576e9 / 900)
    assert run["split_bits"] == pytest.approx(288e9 / 900)
    assert run["split_store_bits"] == run["every_bits"]
    assert run["split_planning_h"] * run["machines"] == run["planning_h"]
    assert run["split_checksum_h"] * run["machines"] == run["checksum_h"]
    assert run["gradient_bits"] == pytest.approx(8 * 20e6 * 22_500 / 900)  # each sends 20 MB an update
    assert run["batch_h"] == pytest.approx(160 / 3600)
    assert training(1, 1000, BY_HAND)["gradient_bits"] == 0


@pytest.mark.parametrize(
    ("style", "value", "printed"),
    [
        ("count", 3, "3"),
        ("count", 1234, "1,200"),
        ("money", 0, "0"),
        ("money", 0.0123, "0.012"),
        ("money", 9.96, "10"),
        ("time", 0.005, "18 s"),
        ("time", 0.5, "30 min"),
        ("time", 99.4 / 60, "99 min"),
        ("time", 1234, "1,200 h"),
        ("count", 3.6e8, "360,000,000"),
        ("exact", 1234, "1,234"),
        ("bytes", 72e9, "72 GB"),
        ("bytes", 999e6, "1.0 GB"),
        ("bytes", 115.2e12, "120 TB"),
        ("bytes", 2.5e18, "2,500 PB"),
        ("rate", 5.6e9, "5.6 Gbit/s"),
    ],
)
def test_numbers_as_printed(style: str, value: float, printed: str) -> None:
    assert scale.FORMATS[style](value) == printed


def test_every_constant_says_where_it_comes_from() -> None:
    constants = read_constants()
    assert set(constants) == set(BY_HAND)
    for name, constant in constants.items():
        assert constant.kind in scale.KINDS, name
        assert constant.value > 0, f"{name} was not measured"
        assert constant.source, name
        assert constant.kind != "measured" or re.search(r"(python -m|asr) .*; 20\d\d-\d\d-\d\d", constant.source), name


def test_the_page_has_the_tables_that_the_command_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    contents = tables(read_constants())
    for name, table in contents.items():
        assert f"<!-- table: {name} -->\n{table}\n<!-- end of table -->" in page, (
            f"{name}: run python -m benchmarks.scale --write docs/scale.md"
        )
    assert page.count("<!-- table: ") == len(contents)


def test_the_command_takes_other_prices_and_sizes() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--hours", "1000", "--set", "core_hour_usd=1", "--set"]
    done = subprocess.run([*command, "train_core_s_per_h=3600"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| a training run on processors | 26,000 |" in done.stdout  # 26 epochs of 1,000 core hours at a dollar
    refused = subprocess.run([*command, "gpu_hour=2"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "--set gpu_hour=2: expected NAME=VALUE" in refused.stderr


@pytest.mark.parametrize(
    "text", ["utterance_s", "utterance_s=", "utterance_s=-1", "utterance_s=nan", "utterance_s=inf"]
)
def test_a_setting_that_is_no_number_above_0_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="expected a number above 0"):
        parse_setting(text, {"utterance_s": Constant(10.0, "s", "assumed", "x")})


def test_only_marked_tables_of_a_page_are_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: one -->\nold\n<!-- end of table -->\nold\n", encoding="utf-8")
    write_page(page, {"one": markdown(["x"], [["1"]])})
    assert page.read_text(encoding="utf-8") == (
        "a\n<!-- table: one -->\n| x |\n|---|\n| 1 |\n<!-- end of table -->\nold\n"
    )
    with pytest.raises(SystemExit, match="table two occurs 0 times, expected once"):
        write_page(page, {"two": ""})


# --- the engine of bulk work on simulated clusters --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "units", "commands"),
    [
        ("10 machines of 10 workers", 3000, 1),
        ("the same, 1 % of the units fail once", 8000, 1),  # once it ended after 4,565
        ("the same, the store is away for ten minutes", 8000, 2),
        ("the same, the disk of one machine is full", 8000, 1),
        ("100 machines of 10 workers, 1 % fail once", 8000, 1),
    ],
)
def test_each_unit_is_done_once_whatever_fails(scenario: str, units: int, commands: int) -> None:
    result = scheduler.simulate(units, scenario)  # it exits if a unit has two outcomes
    assert (result["outcomes"], result["end"]) == (units, "")
    assert result["commands"] <= commands
    assert result["deaths"] > 0
    assert result["failures"] < units / 2  # once a full disk failed nearly all, after its machine was left out


def test_a_store_that_is_away_for_good_ends_each_command() -> None:
    result = scheduler.simulate(8000, "the same, the store is away from the first hour on")
    assert 5000 < result["outcomes"] < 7000  # 100 workers, a unit a minute, one hour
    assert (result["commands"], result["end"][:12]) == (scheduler.MAX_COMMANDS, "s3://bucket/")
