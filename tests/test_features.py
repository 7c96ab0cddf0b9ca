"""The front ends against kaldi-native-fbank, torchaudio and librosa, on real or realistic signals."""

import math
from dataclasses import replace

import kaldi_native_fbank
import librosa
import numpy as np
import pytest
import torch
import torchaudio

import asr
from asr.config import FeatureConfig
from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from asr.errors import InputError
from asr.features.filterbanks import FRAMES_AT_ONCE, deltas, extract, extract_blocks, feature_dim
from asr.features.frames import frame_count
from asr.features.normalization import compute_statistics, normalize
from asr.scoring.alignment import count_errors
from tests.conftest import settings


def config(*overrides: str) -> FeatureConfig:
    return settings(*overrides).features


def signal(seconds: float, seed: int = 0) -> np.ndarray:
    """Coloured noise of changing level, like speech."""
    generator = np.random.default_rng(seed)
    count = int(seconds * 16000)
    noise = np.convolve(generator.standard_normal(count), [1, -0.9, 0.4], mode="same")
    return (0.05 * noise * (1.1 + np.sin(np.arange(count) / 3000))).astype(np.float32)


def kaldi_fbank(samples: np.ndarray, features: FeatureConfig) -> np.ndarray:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = features.sample_rate_hz
    options.mel_opts.num_bins = features.bins
    options.mel_opts.high_freq = features.high_hz
    options.use_energy, options.raw_energy, options.energy_floor = features.energy, True, 0.0
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(features.sample_rate_hz, (samples * 32768).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)])


@pytest.mark.parametrize("overrides", [[], ["features.bins=80"], ["features.high_hz=-400"]])
@pytest.mark.parametrize("energy", [False, True])
def test_fbank_agrees_with_kaldi(overrides: list[str], energy: bool) -> None:
    features = config(*overrides, f"features.energy={energy}")
    samples = signal(3.3)
    ours = extract(samples, features)
    assert ours.shape == (328, features.bins + energy)
    np.testing.assert_allclose(ours.numpy(), kaldi_fbank(samples, features), atol=1e-3)


@pytest.mark.parametrize(
    "override", ["features=fbank", "features=mfcc", "features=librosa_mel", "features.energy=true"]
)
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_digital_silence_becomes_a_quiet_frame(override: str, offset: float) -> None:
    features, sounding = config(override, "features.delta_order=0"), signal(1.0)
    before, after = (np.full(size, offset, np.float32) for size in (8000, 16000))
    found = extract(np.concatenate([before, sounding, after]), features)
    frames = np.lib.stride_tricks.sliding_window_view(np.concatenate([before, sounding, after]), 400)[::160]
    ranges = np.ptp(frames, axis=1)
    with_signal = [index for index, size in enumerate(ranges) if size * 32768 >= 1]
    assert with_signal == list(range(48, 150))  # those that overlap samples 8,000 to 23,999
    quiet = sorted(with_signal, key=lambda index: ranges[index])[10]
    alone = extract(sounding, features)
    np.testing.assert_allclose(found[50:148].numpy(), alone.numpy(), atol=2e-2)
    assert 50 <= quiet < 148
    for index in [*range(48), *range(150, len(found))]:
        assert torch.equal(found[index], found[quiet])


def test_an_utterance_of_digital_silence_alone_is_unchanged() -> None:
    found = extract(np.zeros(16000, np.float32), config())
    assert torch.equal(found, torch.full((98, 40), math.log(2**-23)))


def test_digital_silence_is_the_same_in_blocks() -> None:
    samples = np.concatenate([np.zeros(3000, np.float32), signal(1.0), np.zeros(9000, np.float32)])
    for size in (700, 4000, 20000):
        blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
        found, count = extract_blocks(blocks, len(samples), config())
        assert count == len(samples)
        torch.testing.assert_close(found, extract(samples, config()), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_appended_digital_silence_hardly_changes_the_phones(real_utterances: list[Utterance]) -> None:
    recognizer = asr.load("speechocean762-small")
    changed = phones = 0
    for utterance in real_utterances:
        samples = read_audio(utterance.audio_path)
        alone = recognizer.transcribe(samples, 16000).symbols
        longer = recognizer.transcribe(np.concatenate([samples, np.zeros(8000, np.float32)]), 16000).symbols
        changed, phones = changed + count_errors(alone, longer).errors, phones + len(alone)
    # As much as noise at the level of the recording's noise floor changes. Without replacement it was 45 %.
    assert changed < 0.15 * phones


def test_fbank_agrees_with_kaldi_on_real_speech(real_utterances: list[Utterance]) -> None:
    signals = [read_audio(utterance.audio_path) for utterance in real_utterances[::4]]
    differences = [
        np.abs(extract(samples, config()).numpy() - kaldi_fbank(samples, config())).ravel() for samples in signals
    ]
    # In nearly empty bins the rounding errors of both FFTs show: 14 values in 1.1 million, by at most 0.003.
    assert np.mean(np.concatenate(differences) > 1e-3) < 1e-4
    assert np.concatenate(differences).max() < 5e-3


@pytest.mark.parametrize("energy", [False, True])
def test_fbank_agrees_with_torchaudio(energy: bool) -> None:
    samples = signal(2.0)
    expected = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(samples)[None] * 32768, num_mel_bins=40, use_energy=energy, energy_floor=0.0
    )
    torch.testing.assert_close(extract(samples, config(f"features.energy={energy}")), expected, atol=1e-3, rtol=0)


def test_mfcc_agrees_with_torchaudio() -> None:
    samples = signal(2.0)
    features = config("features=mfcc", "features.delta_order=0")
    expected = torchaudio.compliance.kaldi.mfcc(torch.from_numpy(samples)[None] * 32768, num_mel_bins=23, num_ceps=13)
    torch.testing.assert_close(extract(samples, features), expected, atol=2e-3, rtol=0)


def test_librosa_mel_is_librosas() -> None:
    samples = signal(1.0)
    mel = librosa.feature.melspectrogram(
        y=samples * 32768, sr=16000, n_fft=400, hop_length=160, center=False, n_mels=40, fmin=0, fmax=8000
    )
    ours = extract(samples, config("features=librosa_mel"))
    np.testing.assert_allclose(ours.numpy(), np.log(np.maximum(mel, np.finfo(np.float32).eps)).T, atol=1e-4)
    with_energy = extract(samples, config("features=librosa_mel", "features.energy=true"))
    torch.testing.assert_close(with_energy[:, 1:], ours)


def test_deltas_agree_with_torchaudio_and_a_ramp() -> None:
    features = torch.randn(50, 7)
    torch.testing.assert_close(deltas(features), torchaudio.functional.compute_deltas(features.T[None])[0].T)
    ramp = 3.0 * torch.arange(20.0)[:, None]
    torch.testing.assert_close(deltas(ramp)[2:-2], torch.full((16, 1), 3.0))


def test_graves_input_has_123_values() -> None:
    features = config("features=fbank_delta")
    assert feature_dim(features) == 123
    static_first = extract(signal(1.0), features)
    assert static_first.shape == (98, 123)
    torch.testing.assert_close(static_first[:, 41:82], deltas(static_first[:, :41]))


@pytest.mark.parametrize("name", ["fbank", "mfcc", "librosa_mel"])
@pytest.mark.parametrize("samples", [0, 1, 399, 400, 559, 560, 16000])
def test_frame_count_says_how_many_frames_there_are(name: str, samples: int) -> None:
    features = config(f"features={name}")
    assert extract(signal(2.0)[:samples], features).shape == (frame_count(samples, features), feature_dim(features))


def test_long_signals_are_transformed_in_pieces_without_a_seam() -> None:
    samples = signal((FRAMES_AT_ONCE + 300) / 100)
    whole, part = extract(samples, config()), extract(samples[(FRAMES_AT_ONCE - 50) * 160 :], config())
    torch.testing.assert_close(whole[FRAMES_AT_ONCE - 50 :], part)


def test_a_tone_lands_in_its_mel_bin() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    edges = np.linspace(1127 * math.log1p(20 / 700), 1127 * math.log1p(8000 / 700), 42)
    nearest = int(np.abs(edges[1:-1] - 1127 * math.log1p(1000 / 700)).argmin())
    assert int(extract(tone, config()).mean(0).argmax()) == nearest


def test_silence_is_finite() -> None:
    assert torch.isfinite(extract(np.zeros(16000, np.float32), config("features.energy=true"))).all()


def test_utterance_normalization_gives_zero_mean_and_unit_variance() -> None:
    normal = normalize(extract(signal(2.0), config()), config())
    torch.testing.assert_close(normal.mean(0), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.std(0, unbiased=False), torch.ones(40), atol=1e-4, rtol=0)


def test_constant_features_stay_finite() -> None:
    assert normalize(torch.ones(10, 3), config()).abs().max() == 0


def test_speaker_and_global_normalization_use_their_statistics() -> None:
    utterances = [torch.randn(30, 4) * 3 + 5, torch.randn(50, 4) - 2]
    both = compute_statistics(utterances)
    torch.testing.assert_close(both.mean, torch.cat(utterances).mean(0))
    torch.testing.assert_close(both.std, torch.cat(utterances).std(0, unbiased=False))
    speaker, everyone = replace(config(), normalization="speaker"), replace(config(), normalization="global")
    torch.testing.assert_close(normalize(utterances[0], speaker, "s", {"s": both}), both.apply(utterances[0]))
    torch.testing.assert_close(normalize(utterances[0], everyone, "s", {"": both}), both.apply(utterances[0]))
    alone = normalize(utterances[0], speaker, "unknown", {"s": both})
    torch.testing.assert_close(alone, normalize(utterances[0], config()))
    torch.testing.assert_close(normalize(utterances[0], replace(config(), normalization="none")), utterances[0])
    with pytest.raises(InputError, match="global without statistics"):
        normalize(utterances[0], everyone)
    with pytest.raises(InputError, match="0 frames"):
        compute_statistics([])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features.low_hz=7000", "features.high_hz=6000"], "features from 7000 to 6000 Hz"),
        (["features.high_hz=9000"], "expected within 0 to 8000 Hz"),
        (["features.bins=200"], "mel bins contain no FFT bin"),
        (["features=mfcc", "features.cepstra=30"], "features.cepstra is 30, expected at most features.bins, 23"),
    ],
)
def test_impossible_front_ends_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        extract(signal(0.5), config(*overrides))
