"""The stacked bidirectional LSTM (or GRU): exact under padding, fast on CPU and GPU.

`torch.nn.LSTM` on a PackedSequence is exact, but on CPU it misses oneDNN. Here the frames of a batch, longest utterance
first, are laid out in a few dense pieces (`RaggedBatch`) that oneDNN takes one after the other with the state handed on; the
backward direction runs over every utterance reversed within its own length. What is left of padding then comes after all
real frames in both directions and cannot reach them. The directions run at once, on half of the cores each. On CUDA cuDNN
works on the packed batch, and in float32 without AVX-512 training goes through `asr.nn.lstm_matmul`.

Parameters are named, shaped and ordered as `torch.nn.LSTM` and `torch.nn.GRU` have them, so that state dicts go both ways.
Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997, with forget gates (Gers et al., 2000), no peepholes.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from asr.nn.parallel_directions import FEWEST_THREADS, ParallelDirections, run_in_parallel
from asr.nn.ragged import RaggedBatch, length_mask
from asr.system.processor import uses_avx512

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
        self._quantized: dict[tuple[int, str], Cell] = {}
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
        rows = RaggedBatch.of(lengths, inputs.shape[1])
        masks = self.dropout_masks(inputs)
        hidden = rows.from_padded(inputs)
        for layer in range(self.layers):
            hidden = self._after(self._run(hidden, layer, rows), layer, masks, rows.owner)
        return rows.to_padded(hidden, len(lengths))

    def forward_packed(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The same through a PackedSequence, for cuDNN. Utterances of no frames count as one frame and end as zeros."""
        packed = pack_padded_sequence(inputs, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
        sequences = torch.arange(len(lengths), device=inputs.device)[:, None].expand(inputs.shape[:2])
        owner = pack_padded_sequence(sequences, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False).data
        masks = self.dropout_masks(inputs)
        hidden = packed.data
        for layer in range(self.layers):
            weights = [weight for suffix in self.suffixes for weight in self.layer_weights(layer, suffix)]
            state = hidden.new_zeros(len(self.suffixes), len(lengths), self.hidden)
            call: Callable[..., Any] = torch.lstm if self.cell == "lstm" else torch.gru
            states = (state, state) if self.cell == "lstm" else state
            bidirectional = len(self.suffixes) == 2
            output = call(hidden, packed.batch_sizes, states, weights, True, 1, 0.0, self.training, bidirectional)[0]
            hidden = self._after(output, layer, masks, owner)
        unpacked = PackedSequence(hidden, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        padded, _ = pad_packed_sequence(unpacked, batch_first=True, total_length=inputs.shape[1])
        return padded * length_mask(lengths, inputs.shape[1])[..., None]

    def layer_weights(self, layer: int, suffix: str) -> list[Tensor]:
        """Input weights, recurrent weights and both biases of one layer and direction ("" or "_reverse")."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [self.get_parameter(f"{name}_l{layer}{suffix}") for name in names]

    def _run(self, hidden: Tensor, layer: int, rows: RaggedBatch) -> Tensor:
        """All directions of one layer: (rows, input_size) -> (rows, hidden * directions)."""
        half = torch.is_autocast_enabled("cpu") and hidden.dtype == torch.float32
        hidden = hidden.to(torch.get_autocast_dtype("cpu")) if half else hidden
        weights = [self.layer_weights(layer, suffix) for suffix in self.suffixes]
        cells = [self._quantized.get((layer, suffix)) or partial(_cell, self.cell) for suffix in self.suffixes]
        runs = [
            partial(_run_direction, one, rows, bool(suffix)) for one, suffix in zip(cells, self.suffixes, strict=True)
        ]
        halves = len(runs) == 2 and torch.get_num_threads() >= FEWEST_THREADS
        if halves and torch.is_grad_enabled():
            return ParallelDirections.apply(runs, hidden, *weights[0], *weights[1])
        calls = [partial(run, hidden, *each) for run, each in zip(runs, weights, strict=True)]
        return torch.cat(run_in_parallel(calls) if halves else [call() for call in calls], dim=1)

    def quantize(self) -> None:
        """Recognize with weights of 8 bits from now on, on CPU. Parameters stay as they are, and training is over."""
        for layer in range(self.layers):
            for suffix in self.suffixes:
                self._quantized[layer, suffix] = _quantized_cell(self.cell, self.layer_weights(layer, suffix))

    @torch.no_grad()
    def gates(self, inputs: Tensor) -> tuple[dict[tuple[int, str], "Gates"], Tensor]:
        """What an LSTM stack does over one sequence (frames, input_size), computed by `lstm_by_hand`.

        Gates of each layer and direction ("" or "_reverse"), frames in their order, and the output (frames, output_size).
        """
        hidden, found = inputs, {}
        for layer in range(self.layers):
            for suffix in self.suffixes:
                turned = hidden.flip(0) if suffix else hidden
                seen = lstm_by_hand(turned, self.layer_weights(layer, suffix))
                found[layer, suffix] = Gates(*(values.flip(0) for values in seen)) if suffix else seen
            hidden = torch.cat([found[layer, suffix].hidden for suffix in self.suffixes], dim=1)
            hidden = self._after(hidden, layer, hidden, hidden)
        return found, hidden

    def dropout_masks(self, inputs: Tensor) -> Tensor:
        """Factors on what goes from layer to layer, (layers - 1, batch, output_size), all 1 outside training.

        An utterance has one mask for all its frames (Gal and Ghahramani, "A theoretically grounded application of
        dropout in recurrent neural networks", 2016), which is also much faster to draw than one for each.
        """
        shape = (self.layers - 1, inputs.shape[0], self.output_size)
        return locked_dropout_mask(shape, self.dropout if self.training else 0.0, inputs)

    def _after(self, hidden: Tensor, layer: int, masks: Tensor, owner: Tensor) -> Tensor:
        """What stands between two layers, (rows, width): projection, normalization, and dropout but for the last."""
        if self.projections:
            hidden = self.projections[layer](hidden)
        if self.norms:
            hidden = self.norms[layer](hidden)
        if layer == self.layers - 1 or not (self.training and self.dropout):
            return hidden
        return hidden * masks[layer].to(hidden.dtype).index_select(0, owner)


def locked_dropout_mask(shape: tuple[int, ...], probability: float, like: Tensor) -> Tensor:
    """Factors of that shape: 0 with ``probability``, else 1 / (1 - probability), so that the mean is 1."""
    mask = torch.empty(shape, device=like.device)
    return mask.bernoulli_(1 - probability).div_(1 - probability) if probability else mask.fill_(1.0)


Cell = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], list[Tensor]]
"""(frames, utterances, input_size), states (1, utterances, hidden), weights -> (frames, utterances, hidden), states."""


def _run_direction(cell: Cell, rows: RaggedBatch, backward: bool, hidden: Tensor, *weights: Tensor) -> Tensor:
    """One direction of one layer: (rows, input_size) -> (rows, hidden), piece after piece."""
    if backward:
        hidden = rows.reversed(hidden)
    state = hidden.new_zeros(1, rows.pieces[0][1], weights[1].shape[1])
    states, outputs = [state, state], []
    for part, shape in zip(hidden.split([frames * active for frames, active in rows.pieces]), rows.pieces, strict=True):
        states = [state[:, : shape[1]].contiguous() for state in states]
        output, *states = cell(part.view(*shape, -1), states, weights)
        outputs.append(output.flatten(0, 1))
    output = torch.cat(outputs)
    return rows.reversed(output) if backward else output


def _cell(name: str, inputs: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """A piece through torch's own cell, "lstm" or "gru"."""
    # Converted anew for every piece, so that the pieces' gradients add up in the parameters' own precision.
    cast = [weight.to(inputs.dtype) for weight in weights]
    if name == "lstm":
        if uses_matmul(inputs):
            from asr.nn.lstm_matmul import lstm_matmul  # numba is not wanted where a model is only used

            return lstm_matmul(inputs, states, cast)
        return list(torch.lstm(inputs, list(states), cast, True, 1, 0.0, True, False, False))
    return list(torch.gru(inputs, states[0], cast, True, 1, 0.0, True, False, False))


FEWEST = 8
"""Utterances side by side from which on `asr.nn.lstm_matmul` trains where there is no AVX-512: with two it is slower."""


def uses_matmul(inputs: Tensor) -> bool:
    """Whether a piece (frames, utterances, input_size) is trained by `asr.nn.lstm_matmul` instead of oneDNN."""
    training = torch.is_grad_enabled() and inputs.dtype == torch.float32
    return training and inputs.shape[1] >= FEWEST and not uses_avx512()


def _quantized_cell(name: str, weights: Sequence[Tensor]) -> Cell:
    """The same with these weights as 8-bit numbers; what they are multiplied by is quantized as it comes."""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[name]
    module = kind(weights[0].shape[1], weights[1].shape[1])
    module.load_state_dict(dict(zip(module.state_dict(), weights, strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, in favour of a package that we do without
        (quantized,) = torch.ao.quantization.quantize_dynamic(nn.ModuleList([module]), {kind})

    def cell(inputs: Tensor, states: Sequence[Tensor], _: Sequence[Tensor]) -> list[Tensor]:
        output, after = quantized(inputs, tuple(states) if name == "lstm" else states[0])
        return [output, *after] if name == "lstm" else [output, after]

    return cell


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
