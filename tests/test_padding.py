"""Models that put faint noise around each recording."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.config import FeatureConfig
from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from asr.errors import InputError
from asr.features.encoder_inputs import join_frames
from asr.features.filterbanks import extract, extract_blocks
from asr.features.frames import frame_count, frame_edge_s, frames_within, pad
from asr.features.normalization import FeatureStatistics
from asr.features.streamed import StreamedFeatures
from asr.inference.align_recordings import LONG_S, align_recordings
from asr.inference.align_utterance import Item, UtteranceAligner
from asr.inference.catalog import find_model
from asr.inference.recognizer import Recognizer
from asr.scoring.alignment import count_errors
from tests.conftest import settings

RATE_HZ, PADDING_MS = 16000, 250.0
PADDING = 4000
"""The same in samples."""
DIGITS = Path(__file__).parents[2] / "shared" / "corpora" / "digits"
PHONES = dict(
    enumerate(
        ["Z IH R OW", "W AH N", "T UW", "TH R IY", "F AO R", "F AY V", "S IH K S", "S EH V AH N", "EY T", "N AY N"]
    )
)


def features(*overrides: str) -> FeatureConfig:
    return settings(f"features.padding_ms={PADDING_MS}", *overrides).features


def speech(count: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    return (0.1 * generator.standard_normal(count) * (1 + np.sin(np.arange(count) / 2000))).astype(np.float32)


def test_the_noise_is_faint_and_around_the_whole_recording() -> None:
    samples = speech(5000)
    padded = pad(samples, features())
    np.testing.assert_array_equal(padded[PADDING:-PADDING], samples)
    for noise in (padded[:PADDING], padded[-PADDING:]):
        assert 20 * np.log10(noise.std()) == pytest.approx(-60, abs=0.5)
    assert not np.array_equal(padded[:PADDING], padded[-PADDING:])


@pytest.mark.parametrize("name", ["fbank", "mfcc", "librosa_mel"])
def test_features_are_those_of_the_padded_recording(name: str) -> None:
    config, samples = features(f"features={name}"), speech(5000)
    expected = extract(pad(samples, config), replace(config, padding_ms=0.0))
    torch.testing.assert_close(extract(samples, config), expected, rtol=0, atol=0)
    assert len(expected) == frame_count(5000, config)


def test_the_waveform_of_an_encoder_is_padded_too() -> None:
    config = replace(features(), name="waveform", normalization="waveform", frame_length_ms=25.0, frame_shift_ms=20.0)
    samples = speech(8000)
    signal = join_frames(extract(samples, config), 320).numpy()
    np.testing.assert_allclose(signal, pad(samples, config)[: len(signal)], atol=1e-7)


@pytest.mark.parametrize("size", [1, 150, 399, 400, 401, 4999, 5000])
def test_blocks_give_the_same_features(size: int) -> None:
    config, samples = features(), speech(5000)
    found, count = extract_blocks((samples[at : at + size] for at in range(0, 5000, size)), 5000, config)
    assert count == 5000
    torch.testing.assert_close(found, extract(samples, config))


@pytest.mark.parametrize("count", [0, 1, 399])
def test_less_than_a_frame_stays_nothing(count: int) -> None:
    config, samples = features(), speech(count)
    assert len(extract(samples, config)) == frame_count(count, config) == 0
    assert len(extract_blocks(iter([samples] if count else []), count, config)[0]) == 0


def test_times_count_from_the_start_of_the_recording() -> None:
    padded, plain = features(), features("features.padding_ms=0")
    frames = round(PADDING_MS / 10)
    for frame in (1, 7, 50):
        assert frame_edge_s(frame + frames, padded) == pytest.approx(frame_edge_s(frame, plain))
    assert frame_edge_s(3, padded) == 0.0
    first, stop = frames_within(0.1, 0.2, plain, 100)
    assert frames_within(0.1, 0.2, padded, 150) == (first + frames, stop + frames)


def test_a_stream_cannot_be_padded() -> None:
    config = features("features=fbank_running")
    with pytest.raises(InputError, match="padding 250 ms, expected running, 0 and 0 for a stream"):
        StreamedFeatures(config, FeatureStatistics(torch.zeros(40), torch.ones(40)))


@pytest.fixture(scope="module", params=["with an aligner", "without"])
def recognizers(request: pytest.FixtureRequest) -> tuple[Recognizer, Recognizer]:
    """The same model with and without padding."""
    padded = asr.load(find_model("english"), precision="float32")
    if request.param == "without":
        padded = replace(padded, aligner=None)
    assert padded.bundle.features.padding_ms == PADDING_MS
    plain = padded.without_padding()
    assert plain.bundle.features.padding_ms == 0
    return padded, plain


def test_phones_have_the_times_that_they_have_without_padding(
    real_utterances: list[Utterance], recognizers: tuple[Recognizer, Recognizer]
) -> None:
    padded, plain = recognizers
    utterance = real_utterances[0]
    samples = read_audio(utterance.audio_path, RATE_HZ)
    found = padded.align(samples, utterance.phones, RATE_HZ).phones
    expected = plain.align(samples, utterance.phones, RATE_HZ).phones
    differences = [abs(one.start_s - other.start_s) for one, other in zip(found, expected, strict=True)]
    assert np.median(differences) <= 0.02
    assert found[-1].end_s <= len(samples) / RATE_HZ


def test_the_pieces_of_a_long_recording_have_no_noise_around_them(
    real_utterances: list[Utterance], recognizers: tuple[Recognizer, Recognizer], tmp_path: Path
) -> None:
    """They begin and end within speech."""
    count = next(n for n in range(60) if sum(one.duration_s for one in real_utterances[:n]) > LONG_S + 1)
    utterances, path = real_utterances[:count], tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([read_audio(one.audio_path, RATE_HZ) for one in utterances]), RATE_HZ)
    item = Item("long", path, (), (), tuple(phone for one in utterances for phone in one.phones))
    symbols = len(recognizers[0].bundle.inventory.symbols)
    weights = np.array([0.0, *[1 / (symbols - 1)] * (symbols - 1)])
    padded, plain = (align_recordings(UtteranceAligner(one, weights), [item], {path}).texts for one in recognizers)
    assert padded[path] == plain[path]


@pytest.mark.parametrize("duration_s", [0.03, 0.06, 0.1, 0.5])
def test_phones_are_in_the_recording_and_not_in_the_noise(duration_s: float) -> None:
    """Five phones in noise that is cut tightly: each has a duration, also where there are fewer frames than phones."""
    recognizer, expected = asr.load("english"), ["F", "AY", "V", "T", "UW"]
    samples = 0.1 * np.random.default_rng(1).standard_normal(int(16000 * duration_s)).astype(np.float32)
    phones = recognizer.align(samples, expected, 16000).phones
    assert [phone.symbol for phone in phones] == expected
    edges = [edge for phone in phones for edge in (phone.start_s, phone.end_s)]
    assert 0 <= edges[0] <= edges[-1] <= duration_s
    assert edges == sorted(edges)
    assert all(phone.end_s - phone.start_s > 1e-3 for phone in phones)


def test_it_deletes_fewer_phones_of_words_that_are_cut_tightly() -> None:
    if not DIGITS.is_dir():
        pytest.skip(f"NO RECORDINGS OF DIGITS IN {DIGITS}: PADDING IS NOT TESTED ON THEM")
    padded = asr.load(find_model("english"), precision="float32")
    plain = padded.without_padding()
    files = [DIGITS / f"{digit}_{speaker}_0.wav" for digit in PHONES for speaker in ("george", "jackson", "lucas")]
    deleted = []
    for model in (padded, plain):
        found = [one.symbols for one in model.transcribe_batch(files)]
        references = [PHONES[int(file.name[0])].split() for file in files]
        deleted.append(sum(count_errors(*pair).deletions for pair in zip(references, found, strict=True)))
    assert deleted[0] < 0.7 * deleted[1]
