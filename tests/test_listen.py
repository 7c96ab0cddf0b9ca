"""`asr listen`, `asr transcribe --stream -`, and the utterances of a stream."""

import io
import json
import math
import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr.cli import listen as listen_module
from asr.cli.app import app
from asr.corpus.manifest import Utterance
from asr.errors import InputError
from asr.inference import utterances
from asr.inference.recognizer import Recognizer
from asr.inference.streaming import Stream, Update
from asr.inference.utterances import BEFORE_S, BLOCK, PAUSE_S, UtteranceStream
from tests.test_streaming import bundle_of, pieces, speech

RATE_HZ = 16000


class Loudness:
    """Takes the place of the voice activity detector: loud blocks are speech."""

    def __call__(self, block: np.ndarray) -> float:
        assert block.shape == (BLOCK,)
        return float(np.abs(block).max() > 0.005)


@pytest.fixture
def loudness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utterances, "VoiceActivity", Loudness)


def two_utterances() -> np.ndarray:
    """Two seconds of silence, two of sound, two of silence, one of sound."""
    hush = np.random.default_rng(0).normal(size=2 * RATE_HZ).astype(np.float32) / 1000
    sound = speech(3.0, 4)
    sound[4000:7000] = 0.01  # no digital silence here
    return np.concatenate([hush, sound[: 2 * RATE_HZ], hush, sound[2 * RATE_HZ :]])


def all_updates(stream: UtteranceStream, samples: np.ndarray, sizes: tuple[int, ...]) -> list[Update]:
    updates = [update for piece in pieces(samples, sizes) for update in stream.accept(piece)]
    return [*updates, *stream.accept(samples[:0], ended=True)]


@pytest.mark.parametrize("sizes", [(1600,), (511, 3), (200_000,)])
def test_silence_separates_utterances_and_is_not_recognized(loudness: None, sizes: tuple[int, ...]) -> None:
    recognizer, samples = Recognizer(bundle_of()), two_utterances()
    updates = all_updates(UtteranceStream(recognizer), samples, sizes)
    ends = [index for index, update in enumerate(updates) if update.ended]
    assert len(ends) == 2
    assert ends[-1] == len(updates) - 1
    loud = [index for index in range(len(samples) // BLOCK) if Loudness()(samples[index * BLOCK : (index + 1) * BLOCK])]
    last = next(before for before, after in pairwise(loud) if after - before > PAUSE_S * RATE_HZ / BLOCK)
    resumed = next(index for index in loud if index > last)
    quiet_blocks = math.ceil(PAUSE_S * RATE_HZ / BLOCK)
    parts = ((updates[: ends[0] + 1], loud[0], last + 1 + quiet_blocks), (updates[ends[0] + 1 :], resumed, 10**6))
    for own, begin, stop in parts:
        start = begin * BLOCK - round(BEFORE_S * RATE_HZ)
        expected = Stream(recognizer).accept(samples[start : stop * BLOCK], ended=True).final
        found = [phone for update in own for phone in update.final]
        assert [phone.symbol for phone in found] == [phone.symbol for phone in expected]
        assert len(found) > 5
        assert [phone.start_s - start / RATE_HZ for phone in found] == pytest.approx(
            [phone.start_s for phone in expected], abs=0.15
        )


def test_silence_alone_gives_nothing(loudness: None) -> None:
    stream = UtteranceStream(Recognizer(bundle_of()))
    assert all_updates(stream, np.zeros(5 * RATE_HZ, np.float32), (1600,)) == []


def test_models_of_other_rates_and_whole_recordings_are_refused() -> None:
    with pytest.raises(InputError, match="8000 Hz, expected 16000"):
        UtteranceStream(Recognizer(bundle_of("features.sample_rate_hz=8000")))
    with pytest.raises(InputError, match="needs the whole recording"):
        UtteranceStream(Recognizer(bundle_of("model.chunk_frames=0")))


def test_the_detector_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utterances, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="silero-vad: not installed"):
        UtteranceStream(Recognizer(bundle_of()))


def test_real_speech_is_cut_at_pauses(real_utterances: list[Utterance]) -> None:
    pytest.importorskip("silero_vad", reason="no silero-vad: FINDING UTTERANCES IS NOT TESTED")
    from asr.inference.catalog import find_model
    from asr.inference.recognizer import load

    parts: list[np.ndarray] = []
    for utterance in real_utterances[:3]:
        parts += [soundfile.read(utterance.audio_path, dtype="float32")[0], np.zeros(3 * RATE_HZ, np.float32)]
    updates = all_updates(UtteranceStream(load(find_model("streaming"))), np.concatenate(parts), (1600,))
    assert sum(update.ended for update in updates) == 3
    phones = [phone for update in updates for phone in update.final]
    edges_s = np.cumsum([len(part) / RATE_HZ for part in parts])
    assert [sum(phone.start_s < edge for phone in phones) > 3 for edge in edges_s[::2]] == [True] * 3
    silent = list(zip(edges_s[::2] + PAUSE_S, edges_s[1::2] - BEFORE_S, strict=True))
    assert not any(start < phone.start_s < end for phone in phones for start, end in silent)


# The commands.


@pytest.fixture
def recognizer(monkeypatch: pytest.MonkeyPatch, loudness: None) -> Recognizer:
    """Takes the place of the bundled streaming model."""
    made = Recognizer(bundle_of())
    monkeypatch.setattr("asr.inference.recognizer.load", lambda *arguments, **options: made)
    return made


def run(monkeypatch: pytest.MonkeyPatch, content: bytes, *arguments: str) -> Any:
    """Run `asr transcribe --stream -` with these bytes on standard input."""
    return CliRunner().invoke(app, ["transcribe", "--stream", "-", *arguments], input=content)


def content_of(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def test_phones_are_printed_as_they_are_spoken(monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer) -> None:
    result = run(monkeypatch, content_of(two_utterances()))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    as_ctm = run(monkeypatch, content_of(two_utterances()), "--format", "ctm").stdout.splitlines()
    assert [line.split()[4] for line in as_ctm] == " ".join(lines).split()
    starts = [float(line.split()[2]) for line in as_ctm]
    assert starts == sorted(starts)
    as_json = [
        json.loads(line)
        for line in run(monkeypatch, content_of(two_utterances()), "--format", "json").stdout.splitlines()
    ]
    assert [phone["symbol"] for update in as_json for phone in update["final"]] == " ".join(lines).split()
    assert sum(update["ended"] for update in as_json) == 2
    assert any(update["pending"] for update in as_json)


def test_samples_arrive_in_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_of(two_utterances()[:5000])
    source = io.BytesIO(content)
    arrivals = SimpleNamespace(buffer=SimpleNamespace(read1=lambda size: source.read(min(size, 777))))
    monkeypatch.setattr(listen_module.sys, "stdin", arrivals)
    samples = np.concatenate(list(listen_module.read_standard_input(RATE_HZ)))
    assert np.array_equal(samples, np.frombuffer(content, "<i2").astype(np.float32) / 32768)


def test_other_rates_are_resampled(monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer) -> None:
    import soxr

    slow = soxr.resample(two_utterances(), RATE_HZ, 22050)
    lines = run(monkeypatch, content_of(slow), "--sample-rate", "22050", "--format", "ctm").stdout.splitlines()
    starts = [float(line.split()[2]) for line in lines]
    assert 1.5 < starts[0] < 2.6
    assert 6.0 < starts[-1] < 7.1


@pytest.mark.parametrize(("arguments", "model"), [([], "streaming"), (["--model", "english"], "english")])
def test_the_model_that_is_named_recognizes_a_stream(
    monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer, arguments: list[str], model: str
) -> None:
    assert f"model {model}, at most" in run(monkeypatch, b"", *arguments).stderr


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"\0\0\0", [], "an odd number of bytes, expected 16-bit samples"),
        (b"", ["--format", "textgrid"], "format textgrid of a stream, expected one of text, ctm, json"),
        (b"", ["--out", "folder"], "--stream with other arguments"),
        (b"", ["more.wav"], "--stream with other arguments"),
    ],
)
def test_bad_input_is_one_line(
    monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer, content: bytes, arguments: list[str], message: str
) -> None:
    error = run(monkeypatch, content, *arguments).exception
    assert isinstance(error, InputError)
    assert message in str(error)
    assert "\n" not in str(error)


class Microphone:
    """What sounddevice's input stream does: it hears `two_utterances`, then Ctrl-C is pressed."""

    def __init__(self, rate_hz: int, device: int | str | None, channels: int, dtype: str) -> None:
        assert (rate_hz, channels, dtype) == (RATE_HZ, 1, "float32")
        if device == "none":
            raise sys.modules["sounddevice"].PortAudioError("Error querying\ndevice")
        self.device, self.samples = device, two_utterances()

    def __enter__(self) -> "Microphone":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, frames: int) -> tuple[np.ndarray, bool]:
        if len(self.samples) == 0:
            raise KeyboardInterrupt
        heard, self.samples = self.samples[:frames], self.samples[frames:]
        return heard[:, None], False


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("sounddevice")
    module.InputStream, module.PortAudioError = Microphone, type("PortAudioError", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_the_microphone_is_recognized_until_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer, sounddevice: ModuleType
) -> None:
    result = CliRunner().invoke(app, ["listen", "--decoder", "best_path"])
    assert result.exit_code == 0, result.output
    expected = run(monkeypatch, content_of(two_utterances())).stdout
    assert len(result.stdout.split()) > 10
    assert abs(len(result.stdout.split()) - len(expected.split())) <= 2


def test_a_missing_microphone_is_one_line(
    monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer, sounddevice: ModuleType
) -> None:
    error = CliRunner().invoke(app, ["listen", "--device", "none"]).exception
    assert isinstance(error, InputError)
    assert str(error) == "microphone none: Error querying device, expected one that records 16 kHz"
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    error = CliRunner().invoke(app, ["listen"]).exception
    assert isinstance(error, InputError)
    assert "sounddevice: not installed" in str(error)
