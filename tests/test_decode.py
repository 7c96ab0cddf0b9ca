import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.config import BeamConfig
from asr.corpus.phones import make_inventory
from asr.decoding.beam_search import BeamSearch, load_decoder, save_decoder
from asr.decoding.best_path import best_path
from asr.decoding.ngram import compile_ngram, estimate
from asr.errors import InputError

ABC = make_inventory("abc", {"a": "a", "b": "b", "c": "c"})
NGRAM = compile_ngram(estimate([("a", "b"), ("a", "b", "c"), ("c", "a", "b"), ("b", "b")], 3, ["a", "b", "c"]), ABC)


def random_log_probs(frames: int, symbols: int, seed: int, sharpness: float = 1.0) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((frames, symbols)) * sharpness
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), dtype=np.float32)


def all_hypotheses(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """ln p of every label sequence, summed over all its paths."""
    totals: dict[tuple[int, ...], float] = {}
    frames, symbols = log_probs.shape
    for path in itertools.product(range(symbols), repeat=frames):
        labels = tuple(key for key, _ in itertools.groupby(path) if key)
        probability = math.exp(sum(float(log_probs[frame, symbol]) for frame, symbol in enumerate(path)))
        totals[labels] = totals.get(labels, 0.0) + probability
    return {labels: math.log(probability) for labels, probability in totals.items()}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("frames", [1, 3, 6])
def test_all_paths_of_a_hypothesis_add_up(frames: int, seed: int) -> None:
    log_probs = random_log_probs(frames, 4, seed)
    expected = sorted(all_hypotheses(log_probs).items(), key=lambda item: -item[1])
    found = BeamSearch(beam=2000).decode(log_probs, count=len(expected) + 1)
    assert len(found) == len(expected)
    for hypothesis, (labels, score) in zip(found[:20], expected, strict=False):
        assert (tuple(hypothesis.tokens), hypothesis.score) == (labels, pytest.approx(score, abs=1e-5))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("weight", "bonus"), [(0.5, 0.0), (1.0, 1.0), (0.0, -2.0), (2.0, 3.0)])
def test_the_ngram_and_the_bonus_count(weight: float, bonus: float, seed: int) -> None:
    log_probs = random_log_probs(5, 4, seed)
    scores = {
        labels: score + weight * NGRAM.score(labels) + bonus * len(labels)
        for labels, score in all_hypotheses(log_probs).items()
    }
    best = max(scores, key=scores.__getitem__)
    (found,) = BeamSearch(2000, NGRAM, weight, bonus).decode(log_probs)
    assert tuple(found.tokens) == best
    assert found.score == pytest.approx(scores[best], abs=1e-4)


def test_the_most_probable_phones_are_not_those_of_the_best_path() -> None:
    # Best path: blank, blank (0.36). But "a" has three paths: 0.16 + 0.24 + 0.24.
    log_probs = np.log(np.array([[0.6, 0.4], [0.6, 0.4]], dtype=np.float32))
    assert best_path(torch.from_numpy(log_probs)[None], torch.tensor([2])) == [[]]
    (found,) = BeamSearch(beam=10).decode(log_probs)
    assert found.tokens == [1]
    assert math.exp(found.score) == pytest.approx(0.64)


def test_a_repeated_phone_needs_a_blank() -> None:
    confident = np.log(np.array([[0.01, 0.99], [0.99, 0.01], [0.01, 0.99]], dtype=np.float32))
    assert BeamSearch(beam=10).decode(confident)[0].tokens == [1, 1]
    assert BeamSearch(beam=10).decode(confident[[0, 2]])[0].tokens == [1]


@pytest.mark.parametrize("beam", [1, 2, 7, 50])
def test_a_beam_gives_at_most_its_size_of_distinct_hypotheses(beam: int) -> None:
    found = BeamSearch(beam, NGRAM, 0.5, 0.5).decode(random_log_probs(60, 4, 1), count=1000)
    assert 1 <= len(found) <= beam
    assert len({tuple(hypothesis.tokens) for hypothesis in found}) == len(found)
    scores = [hypothesis.score for hypothesis in found]
    assert scores == sorted(scores, reverse=True)


def test_a_prefix_that_left_the_beam_and_came_back_is_one_hypothesis() -> None:
    for seed in range(200):
        found = BeamSearch(beam=3).decode(random_log_probs(12, 3, seed, sharpness=0.3), count=3)
        assert len({tuple(hypothesis.tokens) for hypothesis in found}) == len(found)


def test_no_frames_are_no_phones() -> None:
    (found,) = BeamSearch(10, NGRAM, 1.0, 1.0).decode(np.zeros((0, 4), dtype=np.float32))
    assert found.tokens == []
    assert found.score == pytest.approx(NGRAM.score([]), abs=1e-5)


def test_impossible_symbols_are_never_chosen() -> None:
    log_probs = np.full((3, 4), -np.inf, dtype=np.float32)
    log_probs[:, 2] = 0
    (found,) = BeamSearch(10, NGRAM, 0.3, 0.0).decode(log_probs)
    assert found.tokens == [2]


def test_a_batch_is_decoded_as_its_utterances_are() -> None:
    log_probs = torch.stack([torch.from_numpy(random_log_probs(40, 4, seed, 2.0)) for seed in range(6)])
    lengths = torch.tensor([40, 1, 30, 0, 12, 40])
    search = BeamSearch(20, NGRAM, 0.5, 0.5)
    alone = [search.decode(row[:length].numpy()) for row, length in zip(log_probs, lengths.tolist(), strict=True)]
    assert search(log_probs, lengths) == [hypotheses[0].tokens for hypotheses in alone]


def test_a_decoder_comes_back_from_a_models_folder(tmp_path: Path) -> None:
    ngram = estimate([("a", "b"), ("a", "b", "c")], 3, ["a", "b", "c"])
    save_decoder(BeamConfig(20, 0.5, -0.25), ngram, tmp_path)
    search = BeamSearch(20, compile_ngram(ngram, ABC), 0.5, -0.25)
    loaded = load_decoder(tmp_path, ABC)
    for seed in range(20):
        log_probs = random_log_probs(30, 4, seed)
        (expected,), (actual,) = search.decode(log_probs), loaded.decode(log_probs)
        assert (actual.tokens, actual.score) == (expected.tokens, pytest.approx(expected.score, abs=1e-3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected a decoder written by `asr tune-decoder`"),
        ("beam: 0\nweight: 1\nbonus: 0\n", "beam is 0"),
        ("beam: 5\nweight: 1\n", "bonus"),
        ("- 5\n", "expected settings with a value each"),
        ("beam: [", "expected YAML"),
        ("beam: 5\nweight: 1\nbonus: 0\n", r"ngram.arpa: not readable"),
    ],
)
def test_a_decoder_that_cannot_be_used_is_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "decoder.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_decoder(tmp_path, ABC)
    assert "\n" not in str(caught.value)
