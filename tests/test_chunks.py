"""Latency-controlled recurrent layers against torch's own LSTM, run block by block."""

import pytest
import torch
from torch import Tensor, nn

from asr.nn.lstm import RecurrentStack

LENGTHS = [23, 8, 1, 17, 16, 5]


def inputs_of(lengths: list[int], size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    padded = torch.randn(len(lengths), max(lengths), size, generator=generator)
    for row, length in enumerate(lengths):
        padded[row, length:] = 1e3  # what is beyond the end must not matter
    return padded


def reference(stack: RecurrentStack, utterance: Tensor, chunk: int, look_ahead: int) -> Tensor:
    """Every layer's blocks of one utterance (frames, size) with `torch.nn` modules of one direction."""
    starts = range(0, len(utterance), chunk)
    blocks = [utterance[start : start + chunk + look_ahead] for start in starts]
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[stack.cell]
    for layer in range(stack.layers):
        directions = []
        for suffix in stack.suffixes:
            weights = stack.layer_weights(layer, suffix)
            module = kind(weights[0].shape[1], stack.hidden)
            module.load_state_dict(dict(zip(module.state_dict(), weights, strict=True)))
            outputs, state = [], None
            for block in blocks:
                if suffix:
                    outputs.append(module(block.flip(0))[0].flip(0))
                else:
                    main, end = module(block[:chunk], state)
                    outputs.append(torch.cat([main, module(block[chunk:], end)[0]]) if len(block) > chunk else main)
                    state = end
            directions.append(outputs)
        blocks = [torch.cat(parts, dim=1) for parts in zip(*directions, strict=True)]
    return torch.cat([block[:chunk] for block in blocks])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("chunk", "look_ahead"), [(8, 4), (8, 16), (4, 0), (5, 3), (1, 1), (40, 2)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_chunks_are_those_of_torch(cell: str, chunk: int, look_ahead: int, bidirectional: bool) -> None:
    torch.manual_seed(1)
    stack = RecurrentStack(6, 7, 3, cell=cell, bidirectional=bidirectional, chunk=chunk, look_ahead=[look_ahead]).eval()
    padded = inputs_of(LENGTHS, 6)
    with torch.no_grad():
        output = stack(padded, torch.tensor(LENGTHS))
        for row, length in enumerate(LENGTHS):
            expected = reference(stack, padded[row, :length], chunk, look_ahead)
            assert torch.allclose(output[row, :length], expected, atol=1e-6)
            assert not output[row, length:].any()


def test_gradients_are_those_of_torch() -> None:
    torch.manual_seed(2)
    stack = RecurrentStack(6, 7, 2, chunk=4, look_ahead=[3])
    padded = inputs_of(LENGTHS, 6).clamp_max(5).requires_grad_()
    factors = torch.randn(len(LENGTHS), max(LENGTHS), 14)
    (stack(padded, torch.tensor(LENGTHS)) * factors).sum().backward()
    found = [parameter.grad for parameter in stack.parameters()]
    assert padded.grad is not None
    on_inputs = padded.grad.clone()
    stack.zero_grad()
    again = padded.detach().requires_grad_()
    modules = reference_loss(stack, again, factors)
    expected = torch.autograd.grad(modules, [again, *stack.parameters()])
    assert torch.allclose(on_inputs, expected[0], atol=1e-5)
    for ours, theirs in zip(found, expected[1:], strict=True):
        assert ours is not None
        assert torch.allclose(ours, theirs, atol=1e-5)


def reference_loss(stack: RecurrentStack, padded: Tensor, factors: Tensor) -> Tensor:
    """The same loss with each frame's cell written out, so that gradients reach the stack's own parameters."""
    total = padded.new_zeros(())
    for row, length in enumerate(LENGTHS):
        blocks = [padded[row, start : min(length, start + 7)] for start in range(0, length, 4)]
        for layer in range(stack.layers):
            forward, backward = (stack.layer_weights(layer, suffix) for suffix in ("", "_reverse"))
            state = (padded.new_zeros(stack.hidden), padded.new_zeros(stack.hidden))
            outputs = []
            for block in blocks:
                ahead, steps = state, []
                for frame, values in enumerate(block):
                    ahead = step(values, ahead, forward)
                    steps.append(ahead[0])
                    state = ahead if frame < 4 else state
                back, reverse = (padded.new_zeros(stack.hidden), padded.new_zeros(stack.hidden)), []
                for values in block.flip(0):
                    back = step(values, back, backward)
                    reverse.append(back[0])
                outputs.append(torch.cat([torch.stack(steps), torch.stack(reverse[::-1])], dim=1))
            blocks = outputs
        total = total + (torch.cat([block[:4] for block in blocks]) * factors[row, :length]).sum()
    return total


def step(values: Tensor, state: tuple[Tensor, Tensor], weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    hidden, cell = state
    gates = weights[0] @ values + weights[2] + weights[1] @ hidden + weights[3]
    to_input, to_forget, to_cell, to_output = gates.chunk(4)
    cell = to_forget.sigmoid() * cell + to_input.sigmoid() * to_cell.tanh()
    return to_output.sigmoid() * cell.tanh(), cell
