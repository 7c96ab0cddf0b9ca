"""An LSTM layer for float32 training on CPU: matrix products and two compiled loops over a dense segment of a batch.

Products that do not depend on an earlier frame (input projections; in the backward pass the gradients of inputs and
weights) are one large product each over all frames. Each frame adds one product with the recurrent weights and one pass
over its gates, compiled by numba. With oneDNN limited to AVX2 this took a tenth less time than oneDNN's LSTM; with AVX-512
the same or a little more (`benchmarks/README.md`).
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# tanh(x) = x p(x^2) / q(x^2) up to TANH_LIMIT; beyond it tanh is 1 to rounding. The coefficients minimize the largest
# error, 2e-8 before rounding. numba vectorizes this, but not a call of tanh.
TANH_LIMIT = np.float32(9.0)
P = tuple(np.float32(c) for c in (1.0, 0.13373175263404846, 0.0034865529742, 2.04713051e-05, 1.31834303e-08))
Q = tuple(np.float32(c) for c in (1.0, 0.4670647084712982, 0.0258418731391, 3.27133573e-04, 7.70235089e-07))
HALF, ONE = np.float32(0.5), np.float32(1.0)

# Without "nnan": NaN must propagate, so that training can stop and name it.
compiled = numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")


@compiled
def tanh(x: Any) -> Any:
    """Tanh of a float32, to 4e-7; NaN of NaN."""
    x = TANH_LIMIT if x > TANH_LIMIT else x  # false for NaN, which therefore propagates
    x = -TANH_LIMIT if x < -TANH_LIMIT else x
    u = x * x
    numerator = (((P[4] * u + P[3]) * u + P[2]) * u + P[1]) * u + P[0]
    denominator = (((Q[4] * u + Q[3]) * u + Q[2]) * u + Q[1]) * u + Q[0]
    return x * numerator / denominator


@compiled
def gates_forward(frame: int, gates: Any, hiddens: Any, cells: Any) -> None:
    """Replace a frame's preactivations by its gates, and compute its hidden and cell states.

    ``gates`` is (frames, utterances, 4 hidden); the states are (frames + 1, utterances, hidden), the initial ones first.
    """
    size = cells.shape[2]
    for utterance in range(cells.shape[1]):
        own = gates[frame, utterance]
        previous, new, hidden = cells[frame, utterance], cells[frame + 1, utterance], hiddens[frame + 1, utterance]
        input_gates, forget_gates = own[:size], own[size : 2 * size]
        candidates, output_gates = own[2 * size : 3 * size], own[3 * size :]
        for unit in range(size):
            input_gate = HALF + HALF * tanh(HALF * input_gates[unit])
            forget_gate = HALF + HALF * tanh(HALF * forget_gates[unit])
            candidate = tanh(candidates[unit])
            output_gate = HALF + HALF * tanh(HALF * output_gates[unit])
            cell = forget_gate * previous[unit] + input_gate * candidate
            input_gates[unit], forget_gates[unit] = input_gate, forget_gate
            candidates[unit], output_gates[unit] = candidate, output_gate
            new[unit] = cell
            hidden[unit] = output_gate * tanh(cell)


@compiled
def gates_backward(frame: int, gates: Any, cells: Any, grad_hiddens: Any, grad_cell: Any, grad_gates: Any) -> None:
    """Compute the gradients of a frame's preactivations; replace the gradient of its cell by that of the previous one."""
    size = cells.shape[2]
    for utterance in range(cells.shape[1]):
        own, grad_own = gates[frame, utterance], grad_gates[frame, utterance]
        previous, new = cells[frame, utterance], cells[frame + 1, utterance]
        grad_hidden, grad_state = grad_hiddens[frame, utterance], grad_cell[utterance]
        input_gates, forget_gates = own[:size], own[size : 2 * size]
        candidates, output_gates = own[2 * size : 3 * size], own[3 * size :]
        grad_input, grad_forget = grad_own[:size], grad_own[size : 2 * size]
        grad_candidate, grad_output = grad_own[2 * size : 3 * size], grad_own[3 * size :]
        for unit in range(size):
            input_gate, forget_gate = input_gates[unit], forget_gates[unit]
            candidate, output_gate = candidates[unit], output_gates[unit]
            squashed = tanh(new[unit])
            grad = grad_state[unit] + grad_hidden[unit] * output_gate * (ONE - squashed * squashed)
            grad_input[unit] = grad * candidate * input_gate * (ONE - input_gate)
            grad_forget[unit] = grad * previous[unit] * forget_gate * (ONE - forget_gate)
            grad_candidate[unit] = grad * input_gate * (ONE - candidate * candidate)
            grad_output[unit] = grad_hidden[unit] * squashed * output_gate * (ONE - output_gate)
            grad_state[unit] = grad * forget_gate


def lstm_matmul(inputs: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Compute one direction of one layer as `torch.lstm` does, up to rounding.

    Args:
        inputs: (frames, utterances, input_size) float32, at least one frame.
        states: initial hidden and cell state, (1, utterances, hidden) each.
        weights: ``weight_ih`` (4 hidden, input_size), ``weight_hh`` (4 hidden, hidden), and both biases (4 hidden,).

    Returns:
        (frames, utterances, hidden), and the final hidden and cell state in the shape of ``states``.
    """
    weight_ih, weight_hh, *biases = weights
    hidden, cell = _LSTM.apply(inputs, *(state[0] for state in states), weight_ih, weight_hh, biases[0] + biases[1])
    return [hidden, hidden[-1:], cell]


class _LSTM(torch.autograd.Function):
    """Gates are in torch's order: input, forget, cell input (candidate), output."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, cell: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        frames, utterances, _ = inputs.shape
        size = weight_hh.shape[1]
        gates = torch.addmm(bias, inputs.flatten(0, 1), weight_ih.t()).view(frames, utterances, 4 * size)
        hiddens, cells = (inputs.new_empty(frames + 1, utterances, size) for _ in range(2))
        hiddens[0], cells[0] = hidden, cell
        arrays, recurrent = (gates.numpy(), hiddens.numpy(), cells.numpy()), weight_hh.t().contiguous()
        for frame, (preactivations, previous) in enumerate(zip(gates, hiddens, strict=False)):
            preactivations.addmm_(previous, recurrent)
            gates_forward(frame, *arrays)
        ctx.save_for_backward(inputs, weight_ih, weight_hh, gates, hiddens, cells)
        return hiddens[1:], cells[-1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight_ih, weight_hh, gates, hiddens, cells = ctx.saved_tensors
        frames = len(inputs)
        grad_hiddens = torch.cat([torch.zeros_like(hiddens[:1]), gradients[0]])  # the initial state first
        grad_cell, grad_gates = gradients[1][0].clone(), torch.empty_like(gates)
        arrays = (gates.numpy(), cells.numpy(), grad_hiddens[1:].numpy(), grad_cell.numpy(), grad_gates.numpy())
        for frame, grad_frame, grad_previous in zip(
            reversed(range(frames)), reversed(grad_gates.unbind()), reversed(grad_hiddens[:-1].unbind()), strict=True
        ):
            gates_backward(frame, *arrays)
            grad_previous.addmm_(grad_frame, weight_hh)
        flat, required = grad_gates.flatten(0, 1), ctx.needs_input_grad
        return (
            (flat @ weight_ih).view_as(inputs) if required[0] else None,
            grad_hiddens[0],
            grad_cell,
            flat.t() @ inputs.flatten(0, 1) if required[3] else None,
            flat.t() @ hiddens[:-1].flatten(0, 1) if required[4] else None,
            flat.sum(dim=0) if required[5] else None,
        )
