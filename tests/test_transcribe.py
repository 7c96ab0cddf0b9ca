"""Recordings longer than a window, and precisions other than float32."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.cli.app import main
from asr.errors import InputError
from asr.inference import transcribe, windows
from asr.inference.bundle import Bundle, load_bundle, save_bundle
from asr.inference.recognizer import load
from asr.inference.transcript_formats import Transcript
from asr.inference.windows import join_windows, split_into_windows
from asr.nn.ctc import BLANK_ID
from tests.test_bundle import make_bundle


@pytest.mark.parametrize("time_reduction", [1, 3, 4])
@pytest.mark.parametrize("frames", [1, 31_000, 31_001, 31_999, 61_000, 61_001, 100_003])
def test_windows_cover_every_frame_and_share_enough(frames: int, time_reduction: int) -> None:
    pieces = split_into_windows(5, frames, time_reduction, windows.WINDOW_FRAMES, windows.OVERLAP_FRAMES)
    assert (pieces[0].start, pieces[-1].stop) == (0, frames)
    assert {piece.file for piece in pieces} == {5}
    assert all(piece.start % time_reduction == 0 for piece in pieces)
    for before, after in pairwise(pieces):
        assert before.stop - after.start == windows.OVERLAP_FRAMES
        assert after.stop > before.stop


def test_windows_are_joined_at_a_blank_and_lose_nothing() -> None:
    log_probs = torch.randn(500, 4, generator=torch.Generator().manual_seed(1)).log_softmax(dim=1)
    parts = [(0, log_probs[:220]), (180, log_probs[180:400]), (360, log_probs[360:])]
    assert torch.equal(join_windows(parts, 500, 4), log_probs)
    first = log_probs.clone()
    first[200] = -50.0
    first[200, BLANK_ID] = 0.0
    second = log_probs.clone()
    second[200, BLANK_ID] = 0.0
    whole = join_windows([(0, first[:220]), (180, second[180:])], 500, 4)
    assert torch.equal(whole[:200], first[:200])
    assert torch.equal(whole[200:], second[200:])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_bundle(make_bundle("model.time_reduction=4", "model.convolution_channels=[4]"), tmp_path / "model", "")
    return tmp_path / "model"


def phones_of(model: Path, path: Path) -> list[str]:
    ((_, transcript),) = transcribe.transcribe(load(model), [path])
    assert isinstance(transcript, Transcript)
    assert all(phone.start_s <= phone.end_s for phone in transcript.phones)
    assert all(before.end_s <= after.start_s + 1e-9 for before, after in pairwise(transcript.phones))
    return transcript.symbols


def test_a_long_file_in_windows_is_what_it_is_in_one_piece(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    loudness = np.repeat(generator.uniform(0, 0.3, 400), 1600)  # 40 s
    soundfile.write(tmp_path / "long.wav", loudness * generator.standard_normal(len(loudness)), 16000)
    in_one = phones_of(model, tmp_path / "long.wav")
    monkeypatch.setattr(windows, "WINDOW_FRAMES", 700)
    monkeypatch.setattr(windows, "OVERLAP_FRAMES", 200)
    assert len(in_one) > 20
    assert phones_of(model, tmp_path / "long.wav") == in_one


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_other_arithmetic_is_near(tmp_path: Path, cell: str, precision: str) -> None:
    save_bundle(make_bundle(f"model.cell={cell}", "model.layers=2"), tmp_path / "model", "")
    features, lengths = torch.randn(3, 90, 40), torch.tensor([90, 33, 71])
    exact = load_bundle(tmp_path / "model").log_probs(features, lengths)[0]
    with torch.inference_mode():
        approximate = load_bundle(tmp_path / "model", precision=precision).log_probs(features, lengths)[0]
    assert 0 < (exact - approximate).abs().max() < 0.05


def test_precisions_that_cannot_be_had(model: Path) -> None:
    with pytest.raises(InputError, match="precision is half, expected one of auto, float32, bfloat16, int8"):
        load_bundle(model, precision="half")


@pytest.mark.parametrize("command", ["transcribe", "evaluate"])
def test_the_commands_hand_the_precision_on(
    command: str, model: Path, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[str] = []

    def refuse(_path: Path, _device: str, precision: str) -> Bundle:
        requested.append(precision)
        raise InputError("enough")

    monkeypatch.setattr("asr.inference.recognizer.load_bundle", refuse)
    monkeypatch.setattr("asr.inference.evaluate_corpus.load_bundle", refuse)
    (tmp_path / "a.wav").write_bytes(b"")
    cuts = str(tone_corpus / "cuts_dev.jsonl.gz")
    given = ["--model", str(model), str(tmp_path)] if command == "transcribe" else [str(model), cuts]
    monkeypatch.setattr("sys.argv", ["asr", command, *given, "--precision", "int8"])
    with pytest.raises(SystemExit):
        main()
    assert requested == ["int8"]
