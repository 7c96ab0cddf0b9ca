"""An LSTM layer over a dense piece of a batch, for training in float32 on CPU: matrix products and two compiled loops.

The products that do not wait for an earlier frame (input projections, and in the backward pass the gradients of inputs and
weights) are one large product each, over all frames. What a frame adds is one product with the recurrent weights and one
pass over its gates, compiled by numba. Where oneDNN was limited to AVX2 this took a tenth less time than its LSTM, with
AVX-512 as much or a little more (`benchmarks/README.md`).
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# tanh(x) = x p(x^2) / q(x^2) up to LARGEST, beyond which it is 1 to rounding. The coefficients were fitted to the least
# largest error, 2e-8 before rounding; numba makes vector instructions of this, but not of a call of tanh.
LARGEST = np.float32(9.0)
P = tuple(np.float32(c) for c in (1.0, 0.13373175263404846, 0.0034865529742, 2.04713051e-05, 1.31834303e-08))
Q = tuple(np.float32(c) for c in (1.0, 0.4670647084712982, 0.0258418731391, 3.27133573e-04, 7.70235089e-07))
HALF, ONE = np.float32(0.5), np.float32(1.0)

# Not "nnan": a value that is not a number must come out as one, so that training can stop and name it.
compiled = numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")


@compiled
def tanh(x: Any) -> Any:
    """Tanh of a float32, to 4e-7; NaN of NaN."""
    x = LARGEST if x > LARGEST else x  # a comparison that NaN fails, so that it stays
    x = -LARGEST if x < -LARGEST else x
    u = x * x
    above = (((P[4] * u + P[3]) * u + P[2]) * u + P[1]) * u + P[0]
    below = (((Q[4] * u + Q[3]) * u + Q[2]) * u + Q[1]) * u + Q[0]
    return x * above / below


@compiled
def gates_forward(frame: int, drive: Any, hiddens: Any, cells: Any) -> None:
    """A frame's drive to the gates becomes what they let through; its hidden and cell states follow."""
    size = cells.shape[2]
    for row in range(cells.shape[1]):
        gates, old, new, hidden = drive[frame, row], cells[frame, row], cells[frame + 1, row], hiddens[frame + 1, row]
        to_input, to_forget = gates[:size], gates[size : 2 * size]
        to_cell, to_output = gates[2 * size : 3 * size], gates[3 * size :]
        for unit in range(size):
            one = HALF + HALF * tanh(HALF * to_input[unit])
            two = HALF + HALF * tanh(HALF * to_forget[unit])
            three = tanh(to_cell[unit])
            four = HALF + HALF * tanh(HALF * to_output[unit])
            cell = two * old[unit] + one * three
            to_input[unit], to_forget[unit], to_cell[unit], to_output[unit] = one, two, three, four
            new[unit] = cell
            hidden[unit] = four * tanh(cell)


@compiled
def gates_backward(frame: int, drive: Any, cells: Any, of_hiddens: Any, of_cell: Any, of_drive: Any) -> None:
    """Gradients of a frame's drive to the gates, and of the cell before it in place of that after it."""
    size = cells.shape[2]
    for row in range(cells.shape[1]):
        gates, of_gates = drive[frame, row], of_drive[frame, row]
        old, new, of_hidden, of_state = cells[frame, row], cells[frame + 1, row], of_hiddens[frame, row], of_cell[row]
        to_input, to_forget = gates[:size], gates[size : 2 * size]
        to_cell, to_output = gates[2 * size : 3 * size], gates[3 * size :]
        of_input, of_forget = of_gates[:size], of_gates[size : 2 * size]
        of_new, of_output = of_gates[2 * size : 3 * size], of_gates[3 * size :]
        for unit in range(size):
            one, two, three, four = to_input[unit], to_forget[unit], to_cell[unit], to_output[unit]
            out = tanh(new[unit])
            grad = of_state[unit] + of_hidden[unit] * four * (ONE - out * out)
            of_input[unit] = grad * three * one * (ONE - one)
            of_forget[unit] = grad * old[unit] * two * (ONE - two)
            of_new[unit] = grad * one * (ONE - three * three)
            of_output[unit] = of_hidden[unit] * out * four * (ONE - four)
            of_state[unit] = grad * two


def lstm_matmul(inputs: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """What `torch.lstm` computes in one direction of one layer, to rounding.

    Args:
        inputs: (frames, utterances, input_size) float32, at least one frame.
        states: hidden and cell before the first frame, (1, utterances, hidden) each.
        weights: ``weight_ih`` (4 hidden, input_size), ``weight_hh`` (4 hidden, hidden), and both biases (4 hidden,).

    Returns:
        (frames, utterances, hidden), and hidden and cell after the last frame as ``states`` has them.
    """
    weight_ih, weight_hh, *biases = weights
    hidden, cell = _Steps.apply(inputs, *(state[0] for state in states), weight_ih, weight_hh, biases[0] + biases[1])
    return [hidden, hidden[-1:], cell]


class _Steps(torch.autograd.Function):
    """Gates stand in torch's order: input, forget, cell, output."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, cell: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        frames, utterances, _ = inputs.shape
        size = weight_hh.shape[1]
        drive = torch.addmm(bias, inputs.flatten(0, 1), weight_ih.t()).view(frames, utterances, 4 * size)
        hiddens, cells = (inputs.new_empty(frames + 1, utterances, size) for _ in range(2))
        hiddens[0], cells[0] = hidden, cell
        arrays, recurrent = (drive.numpy(), hiddens.numpy(), cells.numpy()), weight_hh.t().contiguous()
        for frame, (gates, before) in enumerate(zip(drive, hiddens, strict=False)):
            gates.addmm_(before, recurrent)
            gates_forward(frame, *arrays)
        ctx.save_for_backward(inputs, weight_ih, weight_hh, drive, hiddens, cells)
        return hiddens[1:], cells[-1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight_ih, weight_hh, drive, hiddens, cells = ctx.saved_tensors
        frames = len(inputs)
        of_hiddens = torch.cat([torch.zeros_like(hiddens[:1]), gradients[0]])  # the first is of the state before
        of_cell, of_drive = gradients[1][0].clone(), torch.empty_like(drive)
        arrays = (drive.numpy(), cells.numpy(), of_hiddens[1:].numpy(), of_cell.numpy(), of_drive.numpy())
        for frame, of_gates, of_before in zip(
            reversed(range(frames)), reversed(of_drive.unbind()), reversed(of_hiddens[:-1].unbind()), strict=True
        ):
            gates_backward(frame, *arrays)
            of_before.addmm_(of_gates, weight_hh)
        flat, wanted = of_drive.flatten(0, 1), ctx.needs_input_grad
        return (
            (flat @ weight_ih).view_as(inputs) if wanted[0] else None,
            of_hiddens[0],
            of_cell,
            flat.t() @ inputs.flatten(0, 1) if wanted[3] else None,
            flat.t() @ hiddens[:-1].flatten(0, 1) if wanted[4] else None,
            flat.sum(dim=0) if wanted[5] else None,
        )
