"""CTC compared with brute force over all paths of small cases, and with a second implementation on larger ones."""

import math
from collections import defaultdict
from functools import partial
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from torch import Tensor

from asr.corpus.manifest import Utterance, write_corpus
from asr.decoding.best_path import best_path
from asr.nn.ctc import ReproducibleCtc, ctc_loss, required_frames
from asr.training.losses import (
    consistency_loss,
    distillation_loss,
    expected_error_loss,
    flat_start_loss,
    flat_start_targets,
)
from tests.faults import ctc_numbers
from tests.faults.ctc_reference import loss_and_gradient


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in groupby(path) if symbol != 0)


def label_probabilities(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """Probability of every label sequence of one utterance (frames, symbols), summed over all its paths."""
    total: dict[tuple[int, ...], float] = defaultdict(float)
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        total[collapse(path)] += math.exp(sum(float(log_probs[t, symbol]) for t, symbol in enumerate(path)))
    return total


def pad(labels: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    width = max(1, *(len(label) for label in labels))
    tokens = torch.tensor([[*label, *[0] * (width - len(label))] for label in labels])
    return tokens, torch.tensor([len(label) for label in labels])


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_loss_is_brute_force_over_all_paths(frames: int) -> None:
    log_probs = torch.randn(1, frames, 3, dtype=torch.float64).log_softmax(-1)
    probabilities = label_probabilities(log_probs[0])
    assert sum(probabilities.values()) == pytest.approx(1)
    for labels, probability in probabilities.items():
        tokens, lengths = pad([labels])
        loss, feasible = ctc_loss(log_probs, torch.tensor([frames]), tokens, lengths)
        assert feasible.all()
        assert float(loss) == pytest.approx(-math.log(probability), abs=1e-9)


def brute_force(log_probs: Tensor, labels: tuple[int, ...]) -> tuple[float, np.ndarray]:
    """Loss of one utterance (frames, symbols) and its gradient by log-probabilities, by listing all paths.

    The gradient is minus the fraction of the labels' probability that goes through a symbol at a frame.
    """
    probabilities, through = log_probs.exp().numpy(), np.zeros(tuple(log_probs.shape))
    total = 0.0
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if collapse(path) == labels:
            probability = probabilities[range(len(path)), path].prod()
            total += probability
            through[range(len(path)), path] += probability
    return (-math.log(total), -through / total) if total else (math.inf, through)


@st.composite
def small_cases(draw: st.DrawFn) -> tuple[Tensor, tuple[int, ...]]:
    """Logits (frames, symbols) float64 of 1 to 4 frames and 2 to 4 symbols, and up to 5 labels, whether they fit or not."""
    frames, symbols = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    noise = np.random.default_rng(draw(st.integers(0, 2**32))).standard_normal((frames, symbols))
    labels = draw(st.lists(st.integers(1, symbols - 1), max_size=frames + 1))
    return torch.from_numpy(draw(st.sampled_from([0.0, 1.0, 5.0])) * noise), tuple(labels)


@bounds(max_examples=60, deadline=None, derandomize=True)
@given(case=small_cases())
@example(case=(torch.zeros(4, 2, dtype=torch.float64), ()))  # blanks only
@example(case=(torch.zeros(4, 3, dtype=torch.float64), (1, 1)))  # a repeated phone
@example(case=(torch.zeros(2, 3, dtype=torch.float64), (1, 1)))  # which needs a third frame
@example(case=(torch.zeros(3, 3, dtype=torch.float64), (1, 2, 1, 2)))
def test_losses_and_gradients_are_brute_force_over_all_paths(case: tuple[Tensor, tuple[int, ...]]) -> None:
    drawn, labels = case
    log_probs = drawn.log_softmax(-1)
    loss, gradient = brute_force(log_probs, labels)
    second_loss, second_gradient = loss_and_gradient(log_probs.numpy(), np.array(labels, dtype=np.int64))
    assert second_loss == pytest.approx(loss, abs=1e-9)
    np.testing.assert_allclose(second_gradient, gradient, atol=1e-9)
    for kind, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        # Its neighbours in the batch are longer, have other labels, and one has no path.
        batch = torch.randn(4, len(drawn) + 2, drawn.shape[1], dtype=torch.float64)
        batch[1, : len(drawn)] = drawn
        logits = batch.to(kind).requires_grad_()
        tokens, token_lengths = pad([(1,), labels, (1,) * 9, ()])
        lengths = torch.tensor([len(drawn) + 2, len(drawn), 1, 0])
        losses, feasible = ctc_loss(logits.log_softmax(-1), lengths, tokens, token_lengths)
        losses.sum().backward()
        assert logits.grad is not None
        assert feasible.tolist() == [True, math.isfinite(loss), False, True]
        assert float(losses[1].detach()) == pytest.approx(loss if math.isfinite(loss) else 0, abs=tolerance)
        # The softmax adds each probability. A frame's gradients sum to -1, or to 0 if the labels have no path.
        expected = gradient + log_probs.exp().numpy() if math.isfinite(loss) else gradient
        np.testing.assert_allclose(logits.grad[1, : len(drawn)].numpy(), expected, atol=tolerance)
        assert logits.grad[1, len(drawn) :].abs().sum() == 0
        assert logits.grad[2:].abs().sum() == 0


@bounds(max_examples=60, deadline=None, derandomize=True)
@given(
    best=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    labels=st.lists(st.integers(1, 3), max_size=8),
    kind=st.sampled_from([torch.float32, torch.float64]),
)
def test_impossible_looking_labels_have_finite_losses_and_gradients(
    best: list[int], labels: list[int], kind: torch.dtype
) -> None:
    """One symbol of each frame is certain, the others have a log-probability of -10,000."""
    frames = len(best)
    logits = torch.full((1, frames, 4), -1e4, dtype=kind)
    logits[0, range(frames), best] = 0
    logits.requires_grad_()
    losses, feasible = ctc_loss(logits.log_softmax(-1), torch.tensor([frames]), *pad([tuple(labels)]))
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    certain = torch.where(torch.arange(4) == torch.tensor(best)[:, None], 0.0, -1e4)
    loss, gradient = loss_and_gradient(certain.numpy(), np.array(labels, dtype=np.int64))
    assert bool(feasible) == math.isfinite(loss)
    if feasible:
        # A float32 of 100,000 is accurate to 0.008, and posteriors are exponentials of differences of such numbers.
        assert float(losses.detach()) == pytest.approx(loss, rel=1e-6, abs=1e-3)
        expected = gradient + certain.double().exp().numpy()
        np.testing.assert_allclose(logits.grad[0].numpy(), expected, atol=0.05 if kind == torch.float32 else 1e-6)


def test_real_batches_agree_with_the_second_implementation(real_utterances: list[Utterance], tmp_path: Path) -> None:
    write_corpus(tmp_path, {"train": real_utterances[::2]}, {})
    found = ctc_numbers.check(tmp_path, "speechocean762-small", 2)
    assert (found.batches, found.utterances, found.infeasible) == (2, 20, 0)
    assert found.agree, found


def test_batches_of_tones_agree_with_the_second_implementation(tone_corpus: Path) -> None:
    found = ctc_numbers.check(tone_corpus, "speechocean762-small", 4, ["trainer.batch_utterances=4"])
    assert (found.batches, found.utterances) == (4, 16)
    assert found.agree, found


def test_a_batch_gives_each_utterance_its_own_loss() -> None:
    log_probs = torch.randn(3, 4, 3).log_softmax(-1)
    labels, lengths = [(1, 2), (), (2,)], torch.tensor([4, 3, 2])
    losses, _ = ctc_loss(log_probs, lengths, *pad(labels))
    for row, label in enumerate(labels):
        probability = label_probabilities(log_probs[row, : lengths[row]])[label]
        assert float(losses[row]) == pytest.approx(-math.log(probability), abs=1e-5)


def test_required_frames_by_hand() -> None:
    tokens, lengths = pad([(1, 2, 3), (1, 1, 2), (4, 4, 4), (), (5,)])
    assert required_frames(tokens, lengths).tolist() == [3, 4, 5, 0, 1]


@pytest.mark.parametrize("all_of_them", [False, True])
def test_labels_that_cannot_fit_are_told_apart_and_leave_no_trace(all_of_them: bool) -> None:
    labels = [(1, 1), (1, 2, 1)] if all_of_them else [(1, 1), (1, 2), (1, 2, 1)]
    lengths = torch.tensor([2] * len(labels))
    logits = torch.randn(len(labels), 2, 3, requires_grad=True)
    losses, feasible = ctc_loss(logits.log_softmax(-1), lengths, *pad(labels))
    assert feasible.tolist() == ([False, False] if all_of_them else [False, True, False])
    losses.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()
    assert (losses[~feasible] == 0).all()
    assert logits.grad[~feasible].abs().sum() == 0
    if not all_of_them:
        assert float(losses[1].detach()) == pytest.approx(
            -math.log(label_probabilities(logits[1].detach().log_softmax(-1))[1, 2])
        )


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_best_path_is_the_best_of_all_paths(frames: int) -> None:
    log_probs = torch.randn(5, frames, 3).log_softmax(-1)
    for row, found in enumerate(best_path(log_probs, torch.tensor([frames] * 5))):

        def value(path: tuple[int, ...], row: int = row) -> float:
            return sum(float(log_probs[row, t, symbol]) for t, symbol in enumerate(path))

        assert tuple(found) == collapse(max(product(range(3), repeat=frames), key=value))


def test_best_path_stops_at_the_length() -> None:
    log_probs = torch.full((2, 5, 3), -9.0)
    for frame, symbol in enumerate([1, 1, 0, 1, 2]):
        log_probs[:, frame, symbol] = 0
    assert best_path(log_probs, torch.tensor([5, 3])) == [[1, 1, 2], [1]]
    assert best_path(log_probs, torch.tensor([0, 1])) == [[], [1]]


def test_flat_start_spreads_phones_over_what_is_loud() -> None:
    loud = [0, 0, 1, 1, 1, 1, 0, 1, 1, 0]
    features = torch.tensor(loud)[None, :, None].float().repeat(2, 1, 4)
    features[1, 4:] = 0
    targets = flat_start_targets(
        features,
        torch.tensor([10, 4]),
        torch.tensor([10, 4]),
        torch.tensor([[7, 8, 9], [5, 0, 0]]),
        torch.tensor([3, 1]),
    )
    assert targets[0].tolist() == [0, 0, 7, 7, 8, 8, 0, 9, 9, 0]
    assert targets[1].tolist() == [0, 0, 5, 5, *[-100] * 6]


def test_flat_start_with_more_phones_than_loud_frames_uses_all_frames() -> None:
    features = torch.tensor([0.0, 0, 0, 1, 0, 0])[None, :, None]
    targets = flat_start_targets(
        features, torch.tensor([6]), torch.tensor([3]), torch.tensor([[4, 5, 6]]), torch.tensor([3])
    )
    assert targets.tolist() == [[4, 5, 6]]
    empty = flat_start_targets(
        features, torch.tensor([6]), torch.tensor([3]), torch.zeros(1, 1).long(), torch.tensor([0])
    )
    assert empty.tolist() == [[0, 0, 0]]


def test_flat_start_loss_by_hand() -> None:
    log_probs = torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]]).log()
    assert float(flat_start_loss(log_probs, torch.tensor([[0, 1, -100]]))) == pytest.approx(-math.log(0.5 * 0.75))


def test_consistency_by_hand() -> None:
    one = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]).log()[None].repeat(2, 1, 1)
    other = torch.tensor([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2]]).log()[None].repeat(2, 1, 1)
    first = 0.25 * math.log(2)  # (0.5 ln 2 - 0.25 ln 2), the same in both directions
    third = 0.4 * math.log(3)
    found = consistency_loss(one, other, torch.tensor([3, 2]))
    assert found.tolist() == pytest.approx([first + third, first])
    assert consistency_loss(one, one, torch.tensor([3, 2])).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def edit_distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """By its recursive definition."""
    if not one or not other:
        return len(one) + len(other)
    replaced = edit_distance(one[1:], other[1:]) + (one[0] != other[0])
    return min(replaced, edit_distance(one[1:], other) + 1, edit_distance(one, other[1:]) + 1)


def test_expected_errors_are_the_sum_over_all_paths() -> None:
    torch.manual_seed(3)
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    references, frames = [(1, 2), (2,)], [4, 3]
    expected = torch.zeros(2, dtype=torch.float64)
    for index, (reference, count) in enumerate(zip(references, frames, strict=True)):
        log_probs = logits[index, :count].log_softmax(-1)
        for path in product(range(3), repeat=count):
            probability = torch.stack([log_probs[t, symbol] for t, symbol in enumerate(path)]).sum().exp()
            expected[index] = expected[index] + probability * edit_distance(collapse(path), reference)
    (gradient,) = torch.autograd.grad(expected.sum(), logits)
    found = expected_error_loss(logits.log_softmax(-1), torch.tensor(frames), *pad(references), samples=200_000)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
    found.sum().backward()
    torch.testing.assert_close(logits.grad, gradient, atol=0.01, rtol=0)
    assert gradient.abs().max() > 0.1
    assert logits.grad is not None
    assert logits.grad[1, 3].abs().sum() == 0


def test_distillation_by_hand() -> None:
    student = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]).log()[None].repeat(2, 1, 1)
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2]])[None].repeat(2, 1, 1)
    third = 0.6 * math.log(3) - 0.2 * math.log(3)
    found = distillation_loss(student, teacher, torch.tensor([3, 2]))
    assert found.tolist() == pytest.approx([math.log(2) + third, math.log(2)])


def test_consistency_pulls_each_view_to_the_other_held_fixed() -> None:
    one = torch.randn(1, 4, 5, dtype=torch.float64, requires_grad=True)
    other = torch.randn(1, 4, 5, dtype=torch.float64, requires_grad=True)
    consistency_loss(one.log_softmax(2), other.log_softmax(2), torch.tensor([3])).sum().backward()
    assert one.grad is not None
    expected = (one.softmax(2) - other.softmax(2)).detach() / 2
    torch.testing.assert_close(one.grad[:, :3], expected[:, :3])
    assert one.grad[:, 3].abs().sum() == 0


@pytest.mark.parametrize(
    ("lengths", "labels", "width"),
    [
        ((12, 9, 6), ((1, 2, 3), (4, 4), (1,)), 3),
        ((12, 9, 6), ((1, 2, 2, 1), (), (3,)), 7),  # padded wider than the longest, and one without labels
        ((5, 4), ((), ()), 2),
        ((1,), ((2,),), 1),
    ],
)
def test_the_gradient_for_gpus_is_torchs(
    lengths: tuple[int, ...], labels: tuple[tuple[int, ...], ...], width: int
) -> None:
    scores = torch.randn(len(lengths), max(lengths), 5, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([[*label, *[0] * (width - len(label))] for label in labels])
    counts = torch.tensor(lengths), torch.tensor([len(label) for label in labels])
    slope = torch.rand(len(lengths), dtype=torch.float64)
    results = []
    for compute in (ReproducibleCtc.apply, partial(torch.nn.functional.ctc_loss, reduction="none")):
        losses = compute(scores.log_softmax(2).transpose(0, 1), tokens, *counts)
        results.append((losses, *torch.autograd.grad((losses * slope).sum(), scores)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_labels_that_do_not_fit_are_left_out_of_the_gradient_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.nn.ctc._on_gpu", lambda _: True)
    scores = torch.randn(2, 6, 5, requires_grad=True)
    tokens, token_lengths = pad([(1, 2, 3, 4, 1, 2, 3, 4), (1, 2)])
    losses, feasible = ctc_loss(scores.log_softmax(2), torch.tensor([6, 6]), tokens, token_lengths)
    losses.sum().backward()
    assert feasible.tolist() == [False, True]
    assert scores.grad is not None
    assert scores.grad[0].abs().sum() == 0
    assert scores.grad[1].abs().sum() > 0
