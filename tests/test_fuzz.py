"""A short run of tests/faults/fuzz.py; thousands of inputs are its own command."""

from pathlib import Path

import pytest

from tests.faults.fuzz import fuzz


@pytest.mark.parametrize(
    "name", ["audio", "cuts", "phn", "transcripts", "lexicon", "arpa", "yaml", "overrides", "bundle"]
)
def test_damaged_files_end_in_success_or_one_line(name: str, tmp_path: Path) -> None:
    outcomes, findings = fuzz(name, 60, 7, tmp_path)
    assert findings == []
    assert sum(outcomes.values()) == 60
    assert outcomes["refused"] > 10
