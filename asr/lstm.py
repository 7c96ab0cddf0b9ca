"""The stacked bidirectional LSTM (or GRU): exact under padding, fast on CPU and GPU.

`torch.nn.LSTM` on a PackedSequence is exact, but on CPU it misses oneDNN. Here each direction is a pass of its own over
the padded batch, the backward one over every sequence reversed within its own length: padding then comes after all real
frames in both directions and cannot reach them. On CUDA cuDNN works on the packed batch.

Parameters are named, shaped and ordered as `torch.nn.LSTM` and `torch.nn.GRU` have them, so that state dicts go both ways.
Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997, with forget gates (Gers et al., 2000), no peepholes.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

GATES = {"lstm": 4, "gru": 3}


class RecurrentStack(nn.Module):
    """Layers of recurrent cells, each optionally followed by a projection and a layer normalization.

    Without projection and layer normalization the state dict is that of the `torch.nn` module of the same shape.
    """

    def __init__(
        self,
        input_size: int,
        hidden: int,
        layers: int,
        *,
        cell: str = "lstm",
        bidirectional: bool = True,
        dropout: float = 0.0,
        projection: int = 0,
        layer_norm: bool = False,
    ) -> None:
        """``projection`` is the size each layer's output is projected to, 0 for none; dropout is between layers."""
        super().__init__()
        self.cell, self.hidden, self.layers = cell, hidden, layers
        self.suffixes = ("", "_reverse") if bidirectional else ("",)
        self.dropout = dropout
        width = hidden * len(self.suffixes)
        self.output_size = projection or width
        for layer in range(layers):
            self._add_layer(layer, input_size if layer == 0 else self.output_size)
        self.projections = nn.ModuleList([nn.Linear(width, projection) for _ in range(layers)] if projection else [])
        self.norms = nn.ModuleList([nn.LayerNorm(self.output_size) for _ in range(layers)] if layer_norm else [])

    def _add_layer(self, layer: int, input_size: int) -> None:
        bound = 1 / math.sqrt(self.hidden)  # torch's own initial range
        rows = GATES[self.cell] * self.hidden
        for suffix in self.suffixes:
            shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, self.hidden)}
            for name, shape in {**shapes, "bias_ih": (rows,), "bias_hh": (rows,)}.items():
                weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                self.register_parameter(f"{name}_l{layer}{suffix}", weight)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, input_size) with (batch,) lengths in frames -> (batch, frames, output_size), zero padded."""
        if inputs.is_cuda:
            return self.forward_packed(inputs, lengths)
        reverse = _reversal(lengths, inputs.shape[1])
        # One mask a layer, utterance and value, the same at every frame.
        dropped = self.dropout_masks(inputs)[:, :, None]
        hidden = inputs
        for layer in range(self.layers):
            outputs = [self._run(hidden, layer, "")]
            if len(self.suffixes) == 2:
                flipped = self._run(_Permute.apply(hidden, reverse), layer, "_reverse")
                outputs.append(_Permute.apply(flipped, reverse))
            hidden = self._after(torch.cat(outputs, dim=2), layer, dropped)
        return hidden * length_mask(lengths, hidden.shape[1])[..., None]

    def forward_packed(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The same through a PackedSequence, for cuDNN. Utterances of no frames count as one frame and end as zeros."""
        packed = pack_padded_sequence(inputs, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
        sequences = torch.arange(len(lengths), device=inputs.device)[:, None].expand(inputs.shape[:2])
        owner = pack_padded_sequence(sequences, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False).data
        dropped = self.dropout_masks(inputs)[:, owner]
        hidden = packed.data
        for layer in range(self.layers):
            weights = [weight for suffix in self.suffixes for weight in self.layer_weights(layer, suffix)]
            state = hidden.new_zeros(len(self.suffixes), len(lengths), self.hidden)
            call: Callable[..., Any] = torch.lstm if self.cell == "lstm" else torch.gru
            states = (state, state) if self.cell == "lstm" else state
            bidirectional = len(self.suffixes) == 2
            output = call(hidden, packed.batch_sizes, states, weights, True, 1, 0.0, self.training, bidirectional)[0]
            hidden = self._after(output, layer, dropped)
        unpacked = PackedSequence(hidden, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        padded, _ = pad_packed_sequence(unpacked, batch_first=True, total_length=inputs.shape[1])
        return padded * length_mask(lengths, inputs.shape[1])[..., None]

    def layer_weights(self, layer: int, suffix: str) -> list[Tensor]:
        """Input weights, recurrent weights and both biases of one layer and direction ("" or "_reverse")."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [self.get_parameter(f"{name}_l{layer}{suffix}") for name in names]

    def _run(self, inputs: Tensor, layer: int, suffix: str) -> Tensor:
        """One direction of one layer over the padded batch: oneDNN's kernel where torch has it."""
        state = inputs.new_zeros(1, inputs.shape[0], self.hidden)
        weights = self.layer_weights(layer, suffix)
        if self.cell == "lstm":
            return torch.lstm(inputs, (state, state), weights, True, 1, 0.0, self.training, False, True)[0]
        return torch.gru(inputs, state, weights, True, 1, 0.0, self.training, False, True)[0]

    def dropout_masks(self, inputs: Tensor) -> Tensor:
        """Factors on what goes from layer to layer, (layers - 1, batch, output_size), all 1 outside training.

        An utterance has one mask for all its frames (Gal and Ghahramani, "A theoretically grounded application of
        dropout in recurrent neural networks", 2016), which is also much faster to draw than one for each.
        """
        shape = (self.layers - 1, inputs.shape[0], self.output_size)
        return locked_dropout_mask(shape, self.dropout if self.training else 0.0, inputs)

    def _after(self, hidden: Tensor, layer: int, dropped: Tensor) -> Tensor:
        """What stands between two layers: projection, normalization, and dropout but for the last."""
        if self.projections:
            hidden = self.projections[layer](hidden)
        if self.norms:
            hidden = self.norms[layer](hidden)
        return hidden * dropped[layer].to(hidden.dtype) if layer < self.layers - 1 else hidden


def locked_dropout_mask(shape: tuple[int, ...], probability: float, like: Tensor) -> Tensor:
    """Factors of that shape: 0 with ``probability``, else 1 / (1 - probability), so that the mean is 1."""
    mask = torch.empty(shape, device=like.device)
    return mask.bernoulli_(1 - probability).div_(1 - probability) if probability else mask.fill_(1.0)


def length_mask(lengths: Tensor, frames: int) -> Tensor:
    """(batch,) lengths -> (batch, frames) bool, true inside each sequence."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def _reversal(lengths: Tensor, frames: int) -> Tensor:
    """Row order that reverses each sequence of a (batch, frames) batch within its own length: (batch * frames,) int64."""
    position = torch.arange(frames, device=lengths.device)
    within = torch.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)
    return (within + frames * torch.arange(len(lengths), device=lengths.device)[:, None]).flatten()


class _Permute(torch.autograd.Function):
    """Reorder the frames of (batch, frames, dim) by a permutation that undoes itself, so the gradient is a gather too."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return inputs.flatten(0, 1).index_select(0, order).view_as(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return gradients[0].flatten(0, 1).index_select(0, order).view_as(gradients[0]), None


class Gates(NamedTuple):
    """What an LSTM layer does at each frame, (frames, hidden) each."""

    input: Tensor
    forget: Tensor
    output: Tensor
    cell: Tensor
    hidden: Tensor


def lstm_by_hand(inputs: Tensor, weights: list[Tensor]) -> Gates:
    """One LSTM layer over one sequence (frames, input_size), written out gate by gate.

    The oracle of the tests, and the way to look inside a model; ``weights`` as `RecurrentStack.layer_weights` gives them.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    hidden = cell = inputs.new_zeros(weight_hh.shape[1])
    steps = []
    for frame in inputs:
        drive = weight_ih @ frame + bias_ih + weight_hh @ hidden + bias_hh
        to_input, to_forget, to_cell, to_output = drive.chunk(4)
        input_gate, forget_gate, output_gate = to_input.sigmoid(), to_forget.sigmoid(), to_output.sigmoid()
        cell = forget_gate * cell + input_gate * to_cell.tanh()
        hidden = output_gate * cell.tanh()
        steps.append((input_gate, forget_gate, output_gate, cell, hidden))
    return Gates(*(torch.stack(values) for values in zip(*steps, strict=True)))
