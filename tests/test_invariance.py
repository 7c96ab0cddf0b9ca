"""The output for an utterance does not depend on the batch, its order, its padding, its other utterances or the threads.

Tested with the bundled models, and with a random model of each option of `model`.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import Phase, example, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from torch import Tensor

from asr.config import config_dir
from asr.corpus.audio import read_audio, read_blocks
from asr.corpus.manifest import Utterance
from asr.corpus.phones import inventory
from asr.features.filterbanks import extract, extract_blocks
from asr.features.frames import frame_count
from asr.features.normalization import normalize
from asr.inference.bundle import Bundle, build_model
from asr.inference.catalog import DEFAULT_MODEL, bundled_models, find_model
from asr.inference.recognizer import load
from asr.inference.windows import compute_log_probs
from tests.conftest import settings


def bounded(examples: int) -> bounds:
    """Settings for a fixed set of examples. A failing example is not shrunk, because that takes minutes."""
    return bounds(max_examples=examples, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])


ZOO = sorted(path.stem for path in (config_dir() / "model").glob("*.yaml"))
BUNDLED = sorted(bundled_models())
MODELS = [*BUNDLED, *ZOO]
LARGEST_IS_SLOW = [pytest.param(name, marks=pytest.mark.slow) if name == DEFAULT_MODEL else name for name in MODELS]
"""The same models, the largest behind the marker."""
TOLERANCE = 1e-4
"""In natural-log probabilities: the rounding of float32 sums in another order."""
POOL = 64
SPREAD = 2.0
"""Standard deviation of a symbol's log-probability over frames, in nats: that of a trained model, set for random ones."""


@cache
def bundle_of(name: str) -> Bundle:
    """A bundled model, or a model of the zoo with random weights."""
    if name in BUNDLED:
        return load(find_model(name), precision="float32").bundle
    return random_bundle(f"model={name}", "model.hidden=24")


@cache
def random_bundle(*overrides: str) -> Bundle:
    """A model with random weights whose log-probabilities vary as much as those of a trained model."""
    torch.manual_seed(1)
    config, phones = settings("features.normalization=none", *overrides), inventory("arpabet39")
    model = build_model(config.model, config.features, phones).eval()
    bundle = Bundle(model, config.model, config.features, phones, "plain")
    with threads(1):
        (log_probs,) = forward(bundle, [features_of(speechlike(3, 0), bundle)])
    model.output.weight.data *= SPREAD / log_probs.std(dim=0).mean()
    return bundle


def speechlike(seconds: float, seed: int) -> np.ndarray:
    """(samples,) float32 at 16 kHz: a tone that changes pitch and loudness about every 80 ms, with a little noise."""
    generator = np.random.default_rng(seed)
    count = round(seconds * 16000)
    pieces = max(1, count // 1280)
    edges = np.sort(generator.integers(0, max(1, count), pieces - 1))
    piece = np.searchsorted(edges, np.arange(count), side="right")
    pitch, loudness = generator.uniform(150, 4000, pieces), generator.uniform(0, 0.4, pieces) ** 2
    tone = loudness[piece] * np.sin(2 * np.pi * np.cumsum(pitch[piece]) / 16000)
    return (tone + 0.001 * generator.standard_normal(count)).astype(np.float32)


def features_of(samples: np.ndarray, bundle: Bundle) -> Tensor:
    """Input features of the model; if it does not normalize, at a similar scale."""
    raw = normalize(extract(samples, bundle.features), bundle.features, "", bundle.statistics)
    return raw if bundle.features.normalization in ("utterance", "whisper") else (raw - 8) / 4


@cache
def pool(name: str) -> list[Tensor]:
    """Features (frames, dim) of utterances from one frame to 4 s, most of them short."""
    seconds = [0.025, 0.035, 0.045, 0.055, *np.random.default_rng(0).exponential(0.6, POOL - 4).clip(0.06, 4)]
    return [features_of(speechlike(length, seed), bundle_of(name)) for seed, length in enumerate(seconds)]


def forward(bundle: Bundle, chosen: list[Tensor], padding: int = 0) -> list[Tensor]:
    """Log-probabilities of each utterance in one batch, padded with zeros to the longest plus ``padding`` frames."""
    lengths = torch.tensor([len(utterance) for utterance in chosen], dtype=torch.int64)
    features = torch.zeros(len(chosen), int(lengths.max()) + padding, chosen[0].shape[1])
    for index, utterance in enumerate(chosen):
        features[index, : len(utterance)] = utterance
    with torch.inference_mode():
        log_probs, out_lengths = bundle.log_probs(features, lengths)
    reduction = bundle.model.time_reduction
    assert out_lengths.tolist() == [-(-len(utterance) // reduction) for utterance in chosen]
    return [padded[:length] for padded, length in zip(log_probs, out_lengths.tolist(), strict=True)]


@cache
def alone(name: str, number: int) -> Tensor:
    """Log-probabilities of an utterance of the pool in a batch of its own, without padding, on one thread."""
    with threads(1):
        return forward(bundle_of(name), [pool(name)[number]])[0]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets the number of torch's threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Log-probabilities of the same shape that agree within the tolerance."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


BATCHES = st.lists(st.integers(0, POOL - 1), min_size=1, max_size=64)
"""Utterances of the pool in any order, with repetitions."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_tells_its_utterances_apart(name: str) -> None:
    """Otherwise the tests below would pass for a model with constant output."""
    assert torch.cat([alone(name, number) for number in range(POOL)]).std(dim=0).mean() > 1


@pytest.mark.parametrize("name", LARGEST_IS_SLOW)
def test_batch_order_padding_neighbours_and_threads_change_nothing(name: str) -> None:
    bundle = bundle_of(name)

    @bounded(8)
    @given(chosen=BATCHES, padding=st.sampled_from([0, 1, 2, 3, 17, 600]), count=st.sampled_from([1, 2]))
    @example(chosen=list(range(POOL)), padding=3, count=2)
    @example(chosen=list(reversed(range(POOL))), padding=0, count=1)
    @example(chosen=[0], padding=600, count=2)
    @example(chosen=[5] * 64, padding=1, count=2)
    def holds(chosen: list[int], padding: int, count: int) -> None:
        with threads(count):
            found = forward(bundle, [pool(name)[number] for number in chosen], padding)
        for number, log_probs in zip(chosen, found, strict=True):
            assert_same(log_probs, alone(name, number))

    holds()


@pytest.mark.parametrize("name", MODELS)
def test_recognition_in_batches_is_that_of_single_utterances(name: str) -> None:
    bundle = bundle_of(name)

    @bounded(4)
    @given(chosen=BATCHES, empty=st.integers(0, 64), frames=st.integers(1, 3000))
    def holds(chosen: list[int], empty: int, frames: int) -> None:
        features = [pool(name)[number] for number in chosen]
        features.insert(empty, features[0][:0])  # a recording shorter than a frame
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("asr.inference.windows.BATCH_FRAMES", frames)
            found = compute_log_probs(bundle, features)
        assert found.pop(min(empty, len(chosen))).shape == (0, 40)
        for number, log_probs in zip(chosen, found, strict=True):
            assert_same(log_probs, alone(name, number))

    holds()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(0, 10), (0, 0), (2, 0)])
def test_no_utterances_or_no_frames_give_no_log_probabilities(name: str, shape: tuple[int, int]) -> None:
    bundle = bundle_of(name)
    log_probs, lengths = bundle.model(torch.zeros(*shape, 40), torch.zeros(shape[0], dtype=torch.int64))
    assert log_probs.shape == (shape[0], -(-shape[1] // bundle.model.time_reduction), 40)
    assert lengths.tolist() == [0] * shape[0]


def test_no_recordings_give_no_transcripts() -> None:
    assert load(find_model(DEFAULT_MODEL)).transcribe_batch([]) == []


def test_real_speech_is_recognized_the_same_in_any_batch(real_utterances: list[Utterance]) -> None:
    bundle = bundle_of(DEFAULT_MODEL)
    features = [features_of(read_audio(utterance.audio_path), bundle) for utterance in real_utterances[:16]]
    expected = [forward(bundle, [utterance])[0] for utterance in features]

    @bounded(5)
    @given(chosen=st.permutations(range(16)), size=st.integers(1, 16), padding=st.integers(0, 50))
    def holds(chosen: list[int], size: int, padding: int) -> None:
        for number, log_probs in zip(
            chosen[:size], forward(bundle, [features[number] for number in chosen[:size]], padding), strict=True
        ):
            assert_same(log_probs, expected[number])

    holds()


@pytest.mark.parametrize("rate", [16000, pytest.param(44100, marks=pytest.mark.slow)])
def test_a_file_read_in_blocks_of_any_size_is_recognized_as_a_whole(rate: int, tmp_path: Path) -> None:
    recognizer, path = load(find_model(DEFAULT_MODEL)), tmp_path / "a.wav"
    samples = np.interp(np.arange(9.3 * rate) / rate, np.arange(9.3 * 16000) / 16000, speechlike(9.3, 7))
    soundfile.write(path, samples, rate, subtype="FLOAT")
    whole = torch.from_numpy(recognizer.log_probs(path))  # half a minute at once

    @bounded(10)
    @given(block_s=st.integers(1, 10), cuts=st.lists(st.integers(0, 148800), max_size=12))
    @example(block_s=1, cuts=[1, 399, 400, 559, 560, 148799])
    def holds(block_s: int, cuts: list[int]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("asr.corpus.audio.BLOCK_S", block_s)
            assert_same(torch.from_numpy(recognizer.log_probs(path)), whole)
            read = np.concatenate(list(read_blocks(path)))
        config = recognizer.bundle.features
        raw, count = extract_blocks(np.split(read, sorted(cuts)), len(read), config)
        assert count == len(read)
        found = compute_log_probs(recognizer.bundle, [normalize(raw, config, "", recognizer.bundle.statistics)])[0]
        assert_same(found, whole)

    holds()


@bounded(10)
@given(
    seconds=st.floats(0.1, 3),
    silence_s=st.floats(0, 2),
    noise=st.sampled_from([0.0, 1e-4, 1e-2]),
    reduction=st.integers(1, 4),
)
def test_silence_after_an_utterance_changes_nothing_before_it_without_lookahead(
    seconds: float, silence_s: float, noise: float, reduction: int
) -> None:
    """With a unidirectional model on features that are not normalized by utterance."""
    bundle = random_bundle("model=lstm", "model.hidden=16", "model.layers=2", f"model.time_reduction={reduction}")
    samples = speechlike(seconds, 3)
    silence = noise * np.random.default_rng(4).standard_normal(round(silence_s * 16000))
    longer = np.concatenate([samples, silence]).astype(np.float32)
    with threads(1):
        before, after = (forward(bundle, [features_of(audio, bundle)])[0] for audio in (samples, longer))
    # The silence completes an output frame that is incomplete at the end of the utterance.
    complete = frame_count(len(samples), bundle.features) // reduction
    assert_same(after[:complete], before[:complete])


def test_every_minute_of_a_repeating_hour_is_recognized_alike() -> None:
    """Windows of 200 s do not begin at full minutes, and their joins agree only approximately.

    Each window starts from a fresh state, which still has a small effect where the window takes over.
    """
    bundle = random_bundle("model=cnn_blstm", "model.hidden=16", "model.layers=1", "model.time_reduction=4")
    minute = features_of(np.tile(speechlike(60, 5), 2), bundle)[:6000]  # the last frames reach into the next minute
    (hour,) = compute_log_probs(bundle, [minute.repeat(60, 1)])
    assert hour.shape == (90_000, 40)
    second = hour[1500:3000]  # far from the joins
    for other in hour.split(1500)[1:-1]:
        assert_same(other, second, 0.01)


HOUR = """
import re, sys
from pathlib import Path
import numpy as np
from asr.inference.catalog import find_model
from asr.inference.recognizer import load
log_probs = load(find_model("speechocean762-small")).log_probs(sys.argv[1])
assert np.allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-4)
peak_kib = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(len(log_probs), int(peak_kib) // 1024)  # ru_maxrss begins with the memory of the parent
"""


@pytest.mark.slow
def test_an_hour_is_recognized_in_little_memory(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "hour.wav", "w", 16000, 1) as file:
        for number in range(60):
            file.write(speechlike(60, number))
    done = subprocess.run([sys.executable, "-c", HOUR, tmp_path / "hour.wav"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    frames, mib = (int(word) for word in done.stdout.split())
    assert frames == -(-(359_998 + 50) // 4)  # a quarter of a second of padding on each side
    assert mib < 1024
