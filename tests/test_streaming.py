"""Streams: whatever the pieces, the log-probabilities and phones are those of the whole recording at once."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from asr.corpus.phones import inventory
from asr.decoding import streamed_search
from asr.decoding.beam_search import BeamSearch
from asr.decoding.best_path import best_path
from asr.decoding.ngram import compile_ngram, estimate
from asr.decoding.streamed_search import MAX_PENDING, StreamedSearch
from asr.errors import InputError
from asr.features.filterbanks import extract
from asr.features.normalization import FORGETTING, PRIOR_FRAMES, QUIET, FeatureStatistics, RunningNormalizer, normalize
from asr.inference.bundle import Bundle, build_model
from asr.inference.recognizer import Recognizer
from asr.inference.streaming import Stream
from asr.inference.transcript_formats import Phone
from asr.scoring.alignment import count_errors
from tests.conftest import settings

RATE_HZ = 16000
STREAMING = [
    "features=fbank_running",
    "model.layers=2",
    "model.hidden=12",
    "model.chunk_frames=4",
    "model.look_ahead_frames=[3,-1]",
]
SPLITS = [(1600,), (37,), (5000, 1, 399, 2), (100000,)]


def bundle_of(*overrides: str) -> Bundle:
    """A model with random weights that are large enough to recognize many phones."""
    torch.manual_seed(1)
    config = settings(*STREAMING, *overrides)
    phones = inventory("arpabet39")
    model = build_model(config.model, config.features, phones).eval()
    with torch.no_grad():
        model.output.weight.mul_(30)
    dim = config.features.bins
    statistics = {"": FeatureStatistics(torch.full((dim,), 8.0), torch.full((dim,), 3.0))}
    return Bundle(model, config.model, config.features, phones, "plain", statistics)


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose level and colour change, with a stretch of digital silence."""
    generator = np.random.default_rng(seed)
    samples = generator.normal(size=round(seconds * RATE_HZ)).cumsum() % 1 - 0.5
    samples *= np.repeat(generator.uniform(0.01, 0.9, len(samples) // 800 + 1), 800)[: len(samples)]
    samples[4000:7000] = 0
    return samples.astype(np.float32)


def pieces(samples: np.ndarray, sizes: tuple[int, ...]) -> Iterator[np.ndarray]:
    start = turn = 0
    while start < len(samples):
        yield samples[start : start + sizes[turn % len(sizes)]]
        start, turn = start + sizes[turn % len(sizes)], turn + 1


def whole(bundle: Bundle, samples: np.ndarray) -> torch.Tensor:
    """The log-probabilities (frames', symbols) of a recording in one pass."""
    features = normalize(extract(samples, bundle.features), bundle.features, "", bundle.statistics)
    return bundle.log_probs(features[None], torch.tensor([len(features)]))[0][0]


def streamed(bundle: Bundle, samples: np.ndarray, sizes: tuple[int, ...]) -> torch.Tensor:
    stream = Stream(Recognizer(bundle))
    features, model = stream._features, stream._model
    parts = [model.accept(features.accept(piece)) for piece in pieces(samples, sizes)]
    return torch.cat([*parts, model.accept(features.accept(samples[:0]), ended=True)])


@pytest.mark.parametrize("sizes", SPLITS)
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.time_reduction=4"],
        ["model.convolution_channels=[]"],
        ["model.cell=gru", "model.projection=7", "model.layer_norm=true"],
        ["model.bidirectional=false"],
        ["model.bidirectional=false", "model.chunk_frames=0"],
        ["model.look_ahead_frames=[0]"],
    ],
)
@torch.inference_mode()
def test_log_probs_are_those_of_one_pass(sizes: tuple[int, ...], overrides: list[str]) -> None:
    bundle, samples = bundle_of(*overrides), speech(2.3)
    assert torch.allclose(streamed(bundle, samples, sizes), whole(bundle, samples), atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 399, 400, 560, 561, 2000, 5121])
@torch.inference_mode()
def test_short_streams(length: int) -> None:
    bundle, samples = bundle_of(), speech(1.0, 2)[8000 : 8000 + length]
    expected = whole(bundle, samples)
    assert torch.allclose(streamed(bundle, samples, (100,)), expected, atol=1e-5)
    assert len(expected) == -(-max(0, 1 + (length - 400) // 160) // 3)


def test_running_normalization_is_the_recursion_frame_by_frame() -> None:
    features = torch.randn(1300, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2
    features[:2] = features[700:705] = torch.nan
    statistics = FeatureStatistics(torch.ones(5), torch.full((5,), 2.0))
    weight, sums = PRIOR_FRAMES, PRIOR_FRAMES * torch.tensor([[1.0], [5.0]]).double().expand(2, 5)
    expected = []
    for frame in features.double():
        if frame.isnan().any():
            expected.append(torch.full((5,), QUIET))
            continue
        weight, sums = weight * FORGETTING + 1, sums * FORGETTING + torch.stack([frame, frame.square()])
        mean, square = sums / weight
        expected.append(((frame - mean) / (square - mean.square()).sqrt()).float())
    assert torch.allclose(RunningNormalizer(statistics)(features), torch.stack(expected), atol=1e-6)


def phones_of(stream: Stream, samples: np.ndarray, sizes: tuple[int, ...]) -> list[Phone]:
    final: list[Phone] = []
    for piece in pieces(samples, sizes):
        final += stream.accept(piece).final
    update = stream.accept(samples[:0], ended=True)
    assert not update.pending
    return final + update.final


@pytest.mark.parametrize("sizes", SPLITS)
@torch.inference_mode()
def test_phones_are_those_of_one_pass(sizes: tuple[int, ...]) -> None:
    bundle, samples = bundle_of(), speech(3.0)
    log_probs = whole(bundle, samples)
    (tokens,) = best_path(log_probs[None], torch.tensor([len(log_probs)]))
    phones = phones_of(Stream(Recognizer(bundle)), samples, sizes)
    assert [phone.symbol for phone in phones] == bundle.inventory.decode(tokens)
    assert len(phones) > 10
    expected = Recognizer(bundle).transcribe(samples, RATE_HZ).phones
    assert [phone.confidence for phone in phones] == pytest.approx([phone.confidence for phone in expected], abs=1e-4)
    edges = [edge for phone in phones for edge in (phone.start_s, phone.end_s)]
    assert edges == sorted(edges)
    middles = [(phone.start_s + phone.end_s) / 2 for phone in phones]
    assert middles == pytest.approx([(phone.start_s + phone.end_s) / 2 for phone in expected], abs=0.1)


def log_probs_of(frames: int, certainty: float) -> np.ndarray:
    """(frames, symbols) log-probabilities of random phones of two frames with a blank after each, and of noise."""
    symbols = len(inventory("arpabet39").symbols)
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(frames, symbols)) * 2
    phones = certainty * np.eye(symbols)[generator.integers(1, symbols, frames // 3)]
    logits[::3] += phones
    logits[1::3] += phones
    logits[2::3, 0] += certainty
    return torch.from_numpy(logits).log_softmax(1).numpy()


def stream_beam(search: BeamSearch, log_probs: np.ndarray, step: int) -> tuple[list[int], list[int], list[int]]:
    """The final and the last pending symbol ids, and the nodes of the tree after each step."""
    stream = StreamedSearch(search, log_probs.shape[1])
    final: list[int] = []
    sizes = []
    for start in range(0, len(log_probs), step):
        final += stream.accept(log_probs[start : start + step])
        sizes.append(len(stream._search.tree.parents))
    return final, stream.pending(ended=True)[0], sizes


@pytest.mark.parametrize("step", [1, 3, 40, 1000])
@pytest.mark.parametrize("with_ngram", [False, True])
def test_streamed_beam_search_is_that_of_the_whole(
    step: int, with_ngram: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_search, "MAX_PENDING", 10**6)
    monkeypatch.setattr(streamed_search, "FINAL", 1.0)
    symbols = inventory("arpabet39").symbols
    generator = np.random.default_rng(6)
    sentences = [[symbols[i] for i in generator.integers(1, len(symbols), 30)] for _ in range(40)]
    ngram = compile_ngram(estimate(sentences, 3, symbols[1:]), inventory("arpabet39")) if with_ngram else None
    search, log_probs = BeamSearch(20, ngram, 0.6, 0.5), log_probs_of(300, 6)
    final, pending, _ = stream_beam(search, log_probs, step)
    assert final + pending == search.decode(log_probs)[0].tokens
    assert len(final) > 10
    assert len(pending) > 0


def test_a_label_that_goes_on_after_it_is_final_is_one_label() -> None:
    logits = torch.zeros(5, 6)
    logits[0, 2] = logits[1, 2] = logits[2, 2] = logits[3, 0] = logits[4, 3] = 20
    final, pending, _ = stream_beam(BeamSearch(10), logits.log_softmax(1).numpy(), 1)
    assert final + pending == [2, 3]


def test_hypotheses_that_never_agree_are_dropped_and_memory_does_not_grow() -> None:
    log_probs = log_probs_of(900, 0)
    final, pending, sizes = stream_beam(BeamSearch(20), log_probs, 1)
    assert len(pending) <= MAX_PENDING
    assert len(final) > 400
    assert max(sizes[450:]) < 1.5 * max(sizes[200:450])
    whole_result = BeamSearch(20).decode(log_probs)[0].tokens
    names = [[str(token) for token in tokens] for tokens in (whole_result, final + pending)]
    assert count_errors(*names).errors < 0.05 * len(whole_result)


@torch.inference_mode()
def test_phones_of_beam_search_are_those_of_one_pass() -> None:
    bundle, samples = bundle_of(), speech(3.0)
    recognizer = Recognizer(bundle, decode=BeamSearch(10, None, 0.0, -1.0))
    phones = phones_of(Stream(recognizer), samples, (700,))
    expected = recognizer.transcribe(samples, RATE_HZ).phones
    assert [phone.symbol for phone in phones] == [phone.symbol for phone in expected]
    edges = [edge for phone in phones for edge in (phone.start_s, phone.end_s)]
    assert edges == sorted(edges)
    middles = [(phone.start_s + phone.end_s) / 2 for phone in phones]
    assert middles == pytest.approx([(phone.start_s + phone.end_s) / 2 for phone in expected], abs=0.15)


def test_labels_that_are_not_shown_yet_are_aligned_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """AA, then nearly as probable B or nothing, then AA in the last frame: the first AA is not placed on the second."""
    bundle = bundle_of("model.time_reduction=3")
    symbols = len(bundle.inventory.symbols)
    logits = torch.zeros(12, symbols)
    logits[:, 0] = 9
    logits[1, 1] = logits[11, 1] = 20
    logits[6, 5] = 8.9
    log_probs = logits.log_softmax(1)
    stream = Stream(Recognizer(bundle, decode=BeamSearch(10)))
    parts = iter([*log_probs.split(4), log_probs[:0]])
    monkeypatch.setattr(stream._model, "accept", lambda features, ended: next(parts))
    updates = [stream.accept(np.zeros(1920, np.float32), ended=piece == 3) for piece in range(4)]
    final = [phone for update in updates for phone in update.final]
    assert [phone.symbol for phone in final if phone.symbol == final[0].symbol] == [bundle.inventory.symbols[1]] * 2
    assert final[0].start_s <= 1.5 * 0.03 <= final[0].end_s
    assert final[-1].start_s <= 11.5 * 0.03 <= final[-1].end_s + 0.015


def test_a_label_without_frames_of_its_own_is_a_phone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end, another hypothesis may be the best: with a label where the last final one was."""
    bundle = bundle_of()
    stream = Stream(Recognizer(bundle, decode=BeamSearch(10)))
    logits = torch.zeros(2, len(bundle.inventory.symbols))
    logits[1, 1] = 20
    parts = iter([logits.log_softmax(1), logits[:0]])
    monkeypatch.setattr(stream._model, "accept", lambda features, ended: next(parts))
    monkeypatch.setattr(stream._search, "accept", lambda log_probs: [1] if len(log_probs) else [])
    answers = iter([([], 0), ([2], 1)])
    monkeypatch.setattr(stream._search, "pending", lambda ended: next(answers))
    assert [phone.symbol for phone in stream.accept(speech(0.1)).final] == [bundle.inventory.symbols[1]]
    (last,) = stream.accept(speech(0.1), ended=True).final
    assert last.symbol == bundle.inventory.symbols[2]
    assert last.confidence < 0.01


def test_streams_refuse_what_recordings_refuse() -> None:
    stream = Stream(Recognizer(bundle_of()))
    for samples, message in (
        (np.zeros(10, np.int16), r"samples of a stream: int16 \(10,\), expected floating point"),
        (np.zeros((10, 1), np.float32), r"float32 \(10, 1\), expected floating point \(samples,\)"),
        (np.full(10, 1e30), "not finite or out of range"),
        (np.full(10, np.nan), "not finite or out of range"),
    ):
        with pytest.raises(InputError, match=message):
            stream.accept(samples)
    stream.accept(np.zeros(10), ended=True)
    with pytest.raises(InputError, match="after its end"):
        stream.accept(np.zeros(10))


def test_memory_does_not_grow_in_silence() -> None:
    stream = Stream(Recognizer(bundle_of()))
    stream._model.model.output.bias.data[0] = 1000
    for _ in range(60):
        assert stream.accept(speech(1.0)[8000:]).final == []
    assert len(stream._log_probs) <= 25 + 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features.frame_shift_ms=30"], "frames of 400 samples every 480"),
        (["model.chunk_frames=0"], "needs the whole recording"),
        (["model.look_ahead_frames=[-1]"], "look-ahead is -1 output frames, expected 0 to 0"),
        (["features=fbank"], "normalization utterance"),
        (["features.delta_order=1"], "1 deltas"),
    ],
)
def test_models_that_need_later_frames_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stream(Recognizer(bundle_of(*overrides)))


def test_a_look_ahead_beyond_training_is_refused() -> None:
    with pytest.raises(InputError, match="look-ahead is 300 output frames, expected 0 to 3, for which"):
        Stream(Recognizer(bundle_of()), 9.0)
    with pytest.raises(InputError, match="look-ahead is 10 output frames, expected 0 to"):
        Stream(Recognizer(bundle_of("model.bidirectional=false")), 0.3)


def test_attention_needs_the_whole_recording() -> None:
    with pytest.raises(InputError, match="model.chunk_frames is 4, expected 0 with"):
        bundle_of("model.attention_layers=1")


def test_training_draws_the_look_ahead() -> None:
    bundle, samples = bundle_of(), speech(2.0)
    features = normalize(extract(samples, bundle.features), bundle.features, "", bundle.statistics)[None]
    bundle.model.recurrent.dropout = bundle.model.dropout = 0.0
    outputs = {
        look_ahead: build_like(bundle, look_ahead).log_probs(features, torch.tensor([features.shape[1]]))[0]
        for look_ahead in (3, -1)
    }
    assert not torch.allclose(outputs[3], outputs[-1], atol=1e-3)
    bundle.model.train()
    drawn = [bundle.log_probs(features, torch.tensor([features.shape[1]]))[0] for _ in range(12)]
    counts = [sum(torch.allclose(each, expected, atol=1e-5) for each in drawn) for expected in outputs.values()]
    assert sum(counts) == 12
    assert min(counts) >= 2


def build_like(bundle: Bundle, look_ahead: int) -> Bundle:
    """The same model, used with another look-ahead."""
    other = bundle_of(f"model.look_ahead_frames=[{look_ahead}]")
    other.model.load_state_dict(bundle.model.state_dict())
    return other
