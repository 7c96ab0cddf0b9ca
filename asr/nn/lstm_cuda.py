"""A bidirectional LSTM layer on CUDA, in two kernels: one runs all frames forward in time, one carries the gradient back.

cuDNN launches several kernels for each frame. In models of this size launching them takes longer than computing. Here each
program runs one direction of `ROWS` utterances from end to end, each within its own length, so nothing is packed. The
products that do not depend on the frame before are large ones over all frames, left to torch. No sum depends on the order
of threads: the same input gives the same bits.

Sizes in comments: B utterances, T frames, D directions, H cells. Gates are in torch's order: input, forget, cell, output.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

ROWS = tl.constexpr(16)
"""Utterances of a program, the fewest rows of a product on tensor cores."""

SHARED_BYTES = 168 * 1024
LARGE, SMALL = (16384, 8), (8192, 4)
"""Weights of each gate that a program loads at once, and its warps, with so much shared memory and with less."""

LARGEST_ERROR = 0.02
"""Of outputs and gradients in bfloat16, relative to torch's layer in float32; 0.003 to 0.006 on an H100."""


@triton.jit
def _tanh(values):
    return 2 * tl.sigmoid(2 * values) - 1


@triton.jit
def _load(pointer, stride, mask):
    """Load four tiles, one for each gate."""
    return (
        tl.load(pointer, mask=mask, other=0.0),
        tl.load(pointer + stride, mask=mask, other=0.0),
        tl.load(pointer + 2 * stride, mask=mask, other=0.0),
        tl.load(pointer + 3 * stride, mask=mask, other=0.0),
    )


@triton.jit
def _load_weights(weights, k, k_stride, n, n_stride, hidden):
    """Load tiles [k, n] of the recurrent weights of each gate; a stride is the distance of neighbours in memory."""
    real = (k < hidden)[:, None] & (n < hidden)
    return _load(weights + k[:, None] * k_stride + n * n_stride, hidden * hidden, real)


@triton.jit
def _store(pointer, stride, mask, i, f, g, o):
    """Store four tiles, one for each gate."""
    tl.store(pointer, i, mask=mask)
    tl.store(pointer + stride, f, mask=mask)
    tl.store(pointer + 2 * stride, g, mask=mask)
    tl.store(pointer + 3 * stride, o, mask=mask)


@triton.jit
def _frames(step, length, direction):
    """The frame of a step, which the backward direction counts from the end of the utterance."""
    return tl.where(direction == 0, step, length - 1 - step)


@triton.jit(do_not_specialize=["batch", "frames"])
def _forward(
    gates,  # (B, T, D, 4, H): from the inputs alone; replaced by the activated gates
    weights,  # (D, 4, H, H)
    lengths,  # (B,)
    outputs,  # (B, T, D, H), zeros
    cells,  # (B, T, D, H) float32
    batch,  # B
    frames,  # T
    directions: tl.constexpr,
    hidden: tl.constexpr,
    width: tl.constexpr,  # the power of 2 from `hidden` on
    block: tl.constexpr,
):
    rows, direction = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None], tl.program_id(1)
    length = tl.load(lengths + rows, mask=rows < batch, other=0)
    k = tl.arange(0, width)
    first = rows.to(tl.int64) * frames
    step = 0
    while step < frames:
        active, continued = step < length, (step < length) & (step > 0)
        here = (first + _frames(step, length, direction)) * directions + direction
        before = (first + _frames(step - 1, length, direction)) * directions + direction
        known = continued & (k < hidden)[None, :]
        state = tl.load(outputs + before * hidden + k[None, :], mask=known, other=0.0)
        for start in range(0, hidden, block):
            n = (start + tl.arange(0, block))[None, :]
            inside = active & (n < hidden)
            gate = gates + here * (4 * hidden) + n
            w_i, w_f, w_g, w_o = _load_weights(weights + direction * 4 * hidden * hidden, k, 1, n, hidden, hidden)
            x_i, x_f, x_g, x_o = _load(gate, hidden, inside)
            i, f = tl.sigmoid(tl.dot(state, w_i) + x_i), tl.sigmoid(tl.dot(state, w_f) + x_f)
            g, o = _tanh(tl.dot(state, w_g) + x_g), tl.sigmoid(tl.dot(state, w_o) + x_o)
            cell_before = tl.load(cells + before * hidden + n, mask=inside & continued, other=0.0)
            cell = f * cell_before + i * g
            tl.store(cells + here * hidden + n, cell, mask=inside)
            tl.store(outputs + here * hidden + n, o * _tanh(cell), mask=inside)
            _store(gate, hidden, inside, i, f, g, o)
        tl.debug_barrier()  # the next step reads what other threads have written
        step += 1


@triton.jit(do_not_specialize=["batch", "frames"])
def _backward(
    gradient,  # (B, T, D, H), of the outputs
    gates,  # (B, T, D, 4, H), activated
    weights,  # (D, 4, H, H)
    lengths,  # (B,)
    cells,  # (B, T, D, H) float32
    cell_gradient,  # (B, D, H) float32: of the cells of the step before
    gate_gradient,  # (B, T, D, 4, H), zeros: of the gates before activation
    batch,  # B
    frames,  # T
    directions: tl.constexpr,
    hidden: tl.constexpr,
    width: tl.constexpr,
    block: tl.constexpr,
):
    rows, direction = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None], tl.program_id(1)
    length = tl.load(lengths + rows, mask=rows < batch, other=0)
    k = tl.arange(0, width)
    first = rows.to(tl.int64) * frames
    step = frames - 1
    while step >= 0:
        active, continues, continued = step < length, step + 1 < length, (step < length) & (step > 0)
        here = (first + _frames(step, length, direction)) * directions + direction
        before = (first + _frames(step - 1, length, direction)) * directions + direction
        after = (first + _frames(step + 1, length, direction)) * directions + direction
        known = continues & (k < hidden)[None, :]
        d_i, d_f, d_g, d_o = _load(gate_gradient + after * (4 * hidden) + k[None, :], hidden, known)
        for start in range(0, hidden, block):
            n = (start + tl.arange(0, block))[None, :]
            inside = active & (n < hidden)
            w_i, w_f, w_g, w_o = _load_weights(weights + direction * 4 * hidden * hidden, k, hidden, n, 1, hidden)
            d_state = tl.dot(d_i, w_i) + tl.dot(d_f, w_f) + tl.dot(d_g, w_g) + tl.dot(d_o, w_o)
            d_state += tl.load(gradient + here * hidden + n, mask=inside, other=0.0)
            i, f, g, o = _load(gates + here * (4 * hidden) + n, hidden, inside)
            i, f, g, o = i.to(tl.float32), f.to(tl.float32), g.to(tl.float32), o.to(tl.float32)
            squashed = _tanh(tl.load(cells + here * hidden + n, mask=inside, other=0.0))
            cell_before = tl.load(cells + before * hidden + n, mask=inside & continued, other=0.0)
            carried = cell_gradient + (rows * directions + direction) * hidden + n
            d_now = tl.load(carried, mask=inside & continues, other=0.0) + d_state * o * (1 - squashed * squashed)
            tl.store(carried, d_now * f, mask=inside)
            to_i, to_f = d_now * g * i * (1 - i), d_now * cell_before * f * (1 - f)
            to_g, to_o = d_now * i * (1 - g * g), d_state * squashed * o * (1 - o)
            _store(gate_gradient + here * (4 * hidden) + n, hidden, inside, to_i, to_f, to_g, to_o)
        tl.debug_barrier()
        step -= 1


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, lengths: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> Tensor:
        """Inputs (B, T, I), lengths (B,), weights (D, 4H, I), (D, 4H, H) and biases (D, 4H) -> (B, T, D * H)."""
        batch, frames, _ = inputs.shape
        directions, _, hidden = w_hh.shape
        gates = torch.addmm(bias.flatten(), inputs.flatten(0, 1), w_ih.flatten(0, 1).t()).contiguous()
        outputs = inputs.new_zeros(batch, frames, directions, hidden)
        cells = torch.empty_like(outputs, dtype=torch.float32)
        grid, sizes, options = _launch(outputs)
        w_hh = w_hh.contiguous()
        with torch.cuda.device_of(inputs):  # Triton launches on the current device
            _forward[grid](gates, w_hh, lengths, outputs, cells, *sizes, **options)
        ctx.save_for_backward(inputs, lengths, w_ih, w_hh, gates, outputs, cells)
        return outputs.flatten(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, Tensor, Tensor]:
        inputs, lengths, w_ih, w_hh, gates, outputs, cells = ctx.saved_tensors
        batch, frames, directions, hidden = outputs.shape
        grid, sizes, options = _launch(outputs)
        cell_gradient = cells.new_empty(batch, directions, hidden)
        d_gates = torch.zeros_like(gates)
        arguments = gradient.contiguous(), gates, w_hh, lengths, cells, cell_gradient, d_gates
        with torch.cuda.device_of(inputs):
            _backward[grid](*arguments, *sizes, **options)
        d_inputs = (d_gates @ w_ih.flatten(0, 1)).view_as(inputs)
        d_w_ih = (d_gates.t() @ inputs.flatten(0, 1)).view_as(w_ih)
        by_frame = d_gates.view(batch, frames, directions, 4 * hidden)
        # A step's recurrent input is the output of the frame before, in the backward direction of the frame after.
        d_w_hh = [
            (by_frame[:, 1:, 0].flatten(0, 1).t() @ outputs[:, :-1, 0].flatten(0, 1)),
            *[by_frame[:, :-1, d].flatten(0, 1).t() @ outputs[:, 1:, d].flatten(0, 1) for d in range(1, directions)],
        ]
        d_bias = d_gates.float().sum(0).view(directions, -1).to(gates.dtype)
        return d_inputs, None, d_w_ih, torch.stack(d_w_hh), d_bias


def lstm_layer(inputs: Tensor, lengths: Tensor, weights: Sequence[Sequence[Tensor]]) -> Tensor:
    """One layer: (batch, frames, input_size), (batch,) lengths -> (batch, frames, directions * hidden), zero beyond them.

    ``weights`` are those of each direction: input and recurrent weights and both biases, as torch has them. The precision
    is that of the inputs; cells are float32.
    """
    w_ih, w_hh, b_ih, b_hh = (torch.stack(parts).to(inputs.dtype) for parts in zip(*weights, strict=True))
    return _Layer.apply(inputs.contiguous(), lengths, w_ih, w_hh, b_ih + b_hh)


def check(device: torch.device, hidden: int, directions: int, dtype: torch.dtype = torch.bfloat16) -> None:
    """Run a small layer of the given size in the kernels and in torch, and compare outputs and gradients.

    Raises ArithmeticError if they differ, and whatever Triton raises if it cannot compile or run the kernels.
    """
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))  # the training's own is left alone
    size = (ROWS.value + 4, 7, 16)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        lstm = nn.LSTM(16, hidden, batch_first=True, bidirectional=directions == 2, device="meta")
        lstm = lstm.to_empty(device=device)
        lengths = 1 + torch.arange(size[0]) % size[1]
        with torch.no_grad():
            for parameter in lstm.parameters():
                parameter.copy_(draw(parameter.shape) / hidden**0.5)
        inputs, slope = draw(size).to(device).requires_grad_(), draw(*size[:2], directions * hidden).to(device)
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        expected, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)
        found = lstm_layer(inputs.to(dtype), lengths.to(device), lstm.all_weights)
        variables = [inputs, *lstm.parameters()]
        gradients = [torch.autograd.grad((output * slope).sum(), variables) for output in (found, expected)]
    for ours, theirs in zip((found, *gradients[0]), (expected, *gradients[1]), strict=True):
        error = float((ours - theirs).norm() / theirs.norm())
        if not error <= LARGEST_ERROR:
            raise ArithmeticError(f"relative error {error:.3g}, at most {LARGEST_ERROR} expected")


def _launch(outputs: Tensor) -> tuple[tuple[int, int], tuple[int, ...], dict[str, int]]:
    """The grid of programs, the sizes that each kernel takes, and how Triton compiles it, for outputs (B, T, D, H)."""
    batch, frames, directions, hidden = outputs.shape
    tile, warps = LARGE if _shared_bytes(outputs.device) >= SHARED_BYTES else SMALL
    width = max(16, triton.next_power_of_2(hidden))
    sizes = (batch, frames, directions, hidden, width, min(width, max(16, tile // width)))
    return (triton.cdiv(batch, ROWS.value), directions), sizes, {"num_warps": warps, "num_stages": 2}


@cache
def _shared_bytes(device: torch.device) -> int:
    """The shared memory of a block on a GPU; on a CPU, for Triton's interpreter, 0."""
    properties = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return getattr(properties, "shared_memory_per_block_optin", 0)
