"""One LSTM layer written out gate by gate: the definition that tests hold the fast paths against."""

from typing import NamedTuple

import torch
from torch import Tensor


class Gates(NamedTuple):
    """Gates and states of an LSTM layer at each frame, (frames, hidden) each."""

    input: Tensor
    forget: Tensor
    output: Tensor
    cell: Tensor
    hidden: Tensor


def reference_lstm(inputs: Tensor, weights: list[Tensor]) -> Gates:
    """One LSTM layer over one utterance (frames, input_size), written out gate by gate.

    Tests compare the fast paths with it, and `RecurrentStack.gates` looks inside a model with it. ``weights`` are those of
    `RecurrentStack.layer_weights`.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    hidden = cell = inputs.new_zeros(weight_hh.shape[1])
    steps = []
    for frame in inputs:
        preactivations = weight_ih @ frame + bias_ih + weight_hh @ hidden + bias_hh
        to_input, to_forget, to_cell, to_output = preactivations.chunk(4)
        input_gate, forget_gate, output_gate = to_input.sigmoid(), to_forget.sigmoid(), to_output.sigmoid()
        cell = forget_gate * cell + input_gate * to_cell.tanh()
        hidden = output_gate * cell.tanh()
        steps.append((input_gate, forget_gate, output_gate, cell, hidden))
    return Gates(*(torch.stack(values) for values in zip(*steps, strict=True)))
