"""The LSTM of matrix products and compiled loops compared with torch's, and its tanh."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from asr.nn import lstm
from asr.nn.lstm import RecurrentStack
from asr.nn.lstm_matmul import lstm_matmul, tanh
from tests.test_lstm import threads  # noqa: F401


def test_tanh_is_the_c_librarys_to_4e_7_and_odd() -> None:
    values = np.concatenate([np.linspace(-30, 30, 20001), [-1e-30, 0, 1e-30, np.inf, -np.inf]]).astype(np.float32)
    worst = max(abs(float(tanh(value)) - math.tanh(float(value))) for value in values)
    assert worst < 4e-7
    assert all(tanh(-value) == -tanh(value) for value in values[::100])
    assert tanh(np.float32(1e-4)) == pytest.approx(math.tanh(1e-4), rel=1e-6)


@pytest.mark.parametrize(("frames", "utterances", "inputs", "hidden"), [(1, 1, 3, 5), (40, 9, 13, 24), (7, 32, 8, 65)])
def test_outputs_states_and_gradients_are_torchs(frames: int, utterances: int, inputs: int, hidden: int) -> None:
    given = [
        torch.randn(frames, utterances, inputs),
        torch.randn(1, utterances, hidden),
        torch.randn(1, utterances, hidden),
        *(
            torch.randn(shape) / 4
            for shape in [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
        ),
    ]
    computed = []
    for function in (lstm_matmul, lambda x, states, w: torch.lstm(x, states, w, True, 1, 0.0, True, False, False)):
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        results = function(leaves[0], leaves[1:3], leaves[3:])
        torch.manual_seed(1)
        torch.stack([(result * torch.randn_like(result)).sum() for result in results]).sum().backward()
        computed.append([*(result.detach() for result in results), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*computed, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * max(1.0, float(theirs.abs().max())), rtol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["inputs", "cell", "weight_hh"])
def test_nan_and_infinity_are_not_hidden(place: str, bad: float) -> None:
    inputs, states = torch.randn(6, 9, 5), [torch.zeros(1, 9, 8), torch.zeros(1, 9, 8)]
    weights = [torch.randn(32, 5), torch.randn(32, 8), torch.zeros(32), torch.zeros(32)]
    {"inputs": inputs, "cell": states[1], "weight_hh": weights[1]}[place].view(-1)[3] = bad
    theirs = torch.lstm(inputs, states, weights, True, 1, 0.0, True, False, False)
    for ours, reference in zip(lstm_matmul(inputs, states, weights), theirs, strict=True):
        assert torch.equal(ours.isnan(), reference.isnan())
    leaf = inputs.requires_grad_()
    (gradient,) = torch.autograd.grad(lstm_matmul(leaf, states, weights)[0].sum(), leaf)
    assert math.isinf(bad) or not gradient.isfinite().all()


@pytest.mark.parametrize("avx512", [False, True])
def test_without_avx512_float32_training_uses_it(
    avx512: bool,
    monkeypatch: pytest.MonkeyPatch,
    threads: Callable[[int], None],  # noqa: F811
) -> None:
    calls = []

    def record(inputs: torch.Tensor, *others: object) -> list[torch.Tensor]:
        calls.append(inputs.shape)
        return lstm_matmul(inputs, *others)  # type: ignore[arg-type]

    monkeypatch.setattr("asr.nn.lstm_matmul.lstm_matmul", record)
    monkeypatch.setattr(lstm, "uses_avx512", lambda: avx512)
    threads(2)
    stack, lengths = RecurrentStack(5, 8, 2), torch.full((lstm.MIN_MATMUL_UTTERANCES,), 20)
    stack(torch.randn(lstm.MIN_MATMUL_UTTERANCES, 20, 5), lengths).sum().backward()
    assert len(calls) == (0 if avx512 else 4)
    calls.clear()
    with torch.no_grad():
        stack(torch.randn(lstm.MIN_MATMUL_UTTERANCES, 20, 5), lengths)
    with torch.autocast("cpu", torch.bfloat16):
        stack(torch.randn(lstm.MIN_MATMUL_UTTERANCES, 20, 5), lengths)
    stack(torch.randn(lstm.MIN_MATMUL_UTTERANCES - 1, 20, 5), lengths[:-1])
    stack.double()(torch.randn(lstm.MIN_MATMUL_UTTERANCES, 20, 5).double(), lengths)
    assert calls == []
