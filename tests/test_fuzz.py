"""Short runs of fuzz.py, fuzz_guided.py and soak.py in tests/faults; the long runs are separate commands."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.fuzz import fuzz
from tests.faults.soak import Usage, is_constant, transcribe_files

READERS = ["audio", "cuts", "phn", "transcripts", "lexicon", "arpa", "evaluation", "yaml", "overrides"]


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_end_in_success_or_one_line(name: str, tmp_path: Path) -> None:
    outcomes, findings = fuzz(name, 40, 7, tmp_path)
    assert findings == []
    assert sum(outcomes.values()) == 40
    assert outcomes["refused"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", [*READERS, "bundle"])
def test_more_damaged_files(name: str, tmp_path: Path) -> None:
    outcomes, findings = fuzz(name, 60, 8, tmp_path)
    assert findings == []
    assert outcomes["refused"] > 10


def test_inputs_that_coverage_leads_to_new_code_end_the_same(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="FUZZING IS NOT GUIDED BY COVERAGE: pip install atheris")
    call = [
        sys.executable,
        "-m",
        "tests.faults.fuzz_guided",
        "--seconds",
        "5",
        "--only",
        "phn",
        "--keep",
        str(tmp_path),
    ]
    done = subprocess.run(call, capture_output=True, text=True)
    assert (done.returncode, "no finding" in done.stdout) == (0, True), done.stdout


@pytest.mark.slow
def test_a_recognizer_holds_no_more_after_many_files(tmp_path: Path) -> None:
    samples = transcribe_files(tmp_path, 900, every=50)
    assert [sample.done for sample in samples] == list(range(0, 901, 50))
    settled = samples[len(samples) // 3]
    assert (samples[-1].files, samples[-1].threads) == (settled.files, settled.threads)
    assert samples[-1].memory - settled.memory < 2**20


def test_what_stays_is_not_flat(capsys: pytest.CaptureFixture[str]) -> None:
    constant = [Usage(done, 10**9, 8, 2) for done in range(0, 9000, 1000)]
    assert is_constant(constant, "file")
    for what, slope in (
        ({"memory": 1000}, "memory: +1e+06 bytes"),
        ({"files": 0.001}, "files: +1"),
        ({"threads": 0.001}, "threads: +1"),
    ):
        grown = [
            Usage(
                **(
                    vars(sample)
                    | {name: int(getattr(sample, name) + each * sample.done) for name, each in what.items()}
                )
            )
            for sample in constant
        ]
        assert not is_constant(grown, "file")
        assert f"{slope} per 1,000 files" in capsys.readouterr().out
