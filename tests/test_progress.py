"""Where standard error is no terminal: a line a minute says how far work is."""

import pytest

from asr.system import progress


def test_a_line_a_minute_says_how_far_and_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([100.0, 100.0, 125.0, 159.0, 160.0, 200.0, 225.0])
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    assert list(progress.progress("abcdef", "reading", 6)) == list("abcdef")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["asr: reading: 3 of 6, 0:01:00 left", "asr: reading: 5 of 6, 0:00:25 left"]


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.progress(range(1000), "counting", 1000)) == list(range(1000))
    assert capsys.readouterr().err == ""
