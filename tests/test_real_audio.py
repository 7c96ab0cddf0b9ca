"""Real speech in every audio format, through every command that takes audio."""

import json
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

from asr.cli.app import app
from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from tests.test_audio import sphere

RATE = 16000
MODEL = "english"


def written(name: str, rate: int = RATE, **options: str) -> Callable[[Path, np.ndarray], Path]:
    def write(folder: Path, samples: np.ndarray) -> Path:
        soundfile.write(folder / name, soxr.resample(samples, RATE, rate), rate, **options)
        return folder / name

    return write


def sphere_by_hand(folder: Path, samples: np.ndarray) -> Path:
    return sphere(folder / "hand.sph", len(samples), signal=samples)


def stereo(folder: Path, samples: np.ndarray) -> Path:
    soundfile.write(folder / "stereo.flac", np.stack([samples, 0.5 * samples], axis=1), RATE)
    return folder / "stereo.flac"


EXACT = [
    written("a.flac"),
    written("a.wav", subtype="PCM_24"),
    written("float.wav", subtype="FLOAT"),
    written("a.WAV", format="NIST", subtype="PCM_16"),
    stereo,
    sphere_by_hand,
    written("high.wav", 48000),
]
LOSSY = [written("a.mp3"), written("a.ogg"), written("telephone.wav", 8000)]


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def speech(real_utterances: list[Utterance]) -> np.ndarray:
    return read_audio(real_utterances[25].audio_path)


@pytest.fixture(scope="module")
def phones(speech: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = written("plain.wav")(tmp_path_factory.mktemp("plain"), speech)
    return call("transcribe", path).split("\t")[1].split()


@pytest.mark.parametrize("write", [*EXACT, *LOSSY])
def test_every_format_is_transcribed_and_aligned(
    write: Callable[[Path, np.ndarray], Path], speech: np.ndarray, phones: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path, speech)
    transcript = json.loads(call("transcribe", "--model", MODEL, path, "--format", "json"))
    hypothesis = [phone["symbol"] for phone in transcript["phones"]]
    error_rate = jiwer.wer(" ".join(phones), " ".join(hypothesis))
    assert error_rate <= (0.1 if write in EXACT else 0.5)  # one phone in fifteen may depend on rounding
    assert transcript["duration_s"] == pytest.approx(len(speech) / RATE, abs=0.1)
    aligned = call("align", MODEL, path, "--phones", " ".join(phones)).splitlines()
    assert [line.split()[4] for line in aligned] == phones


@pytest.mark.slow
def test_a_report_of_two_channels(speech: np.ndarray, tmp_path: Path) -> None:
    report = Path(call("explain", MODEL, stereo(tmp_path, speech), "--out", tmp_path / "report").strip())
    assert report.stat().st_size > 100_000


@pytest.mark.slow
def test_an_hour(speech: np.ndarray, phones: list[str], tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    times = 3600 * RATE // len(speech)
    soundfile.write(path, np.tile(speech, times), RATE)
    lines = call("transcribe", path, "--format", "ctm").splitlines()
    assert 0.9 * times < len(lines) / len(phones) < 1.1 * times
    ends = [float(line.split()[2]) + float(line.split()[3]) for line in lines]
    assert ends == sorted(ends)
    assert ends[-1] <= times * len(speech) / RATE + 0.01
    aligned = call("align", MODEL, path, "--phones", " ".join(phones * 3)).splitlines()
    assert len(aligned) == 3 * len(phones)
