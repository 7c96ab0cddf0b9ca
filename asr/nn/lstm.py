"""The stacked bidirectional LSTM (or GRU): independent of padding, fast on CPU and GPU.

`torch.nn.LSTM` on a PackedSequence is exact, but does not use oneDNN on CPU. Here `PackedLayout` packs a batch, longest
utterance first, into a few dense segments. oneDNN runs them one after the other and carries the state over; the backward
direction runs over each utterance reversed within its own length. The padding that remains follows all real frames in both
directions, so it cannot affect them. The two directions run in parallel, each on half of the cores. On CUDA,
`asr.nn.lstm_cuda` computes in bfloat16, and cuDNN in float32, GRUs, and layers of many cells; float32 training on CPUs
without AVX-512 uses `asr.nn.lstm_matmul`. With chunks, `asr.nn.chunks` packs the batch.

Parameters have the names, shapes and order of `torch.nn.LSTM` and `torch.nn.GRU`: state dicts load in both directions.
Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997, with forget gates (Gers et al., 2000), no peepholes.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from asr.nn.chunks import ChunkLayout, run_forward
from asr.nn.kernels import uses_fused
from asr.nn.parallel_directions import MIN_PARALLEL_THREADS, ParallelDirections, run_in_parallel
from asr.nn.ragged import Cell, PackedLayout, length_mask
from asr.nn.reference_lstm import Gates, reference_lstm
from asr.system.processor import uses_avx512

# Each weight is a parameter of its own. For each batch cuDNN copies those of a layer together, which is cheap.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk of memory")

GATES = {"lstm": 4, "gru": 3}
"""Gates of each kind of cell, the LSTM's cell input included."""

MIN_MATMUL_UTTERANCES = 8
"""Fewest parallel utterances for which `asr.nn.lstm_matmul` trains without AVX-512; with two it is slower than oneDNN."""


class RecurrentStack(nn.Module):
    """Recurrent layers, each optionally followed by a projection and a layer normalization.

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
        chunk: int = 0,
        look_ahead: Sequence[int] = (0,),
    ) -> None:
        """``projection`` is the output size of each layer's projection, 0 for none; dropout acts between layers.

        With ``chunk`` frames, the backward direction sees the chunk and the frames of look-ahead, -1 for the whole
        utterance. Each batch in training draws one of ``look_ahead``; otherwise it is the first.
        """
        super().__init__()
        self.chunk, self.look_ahead = chunk, tuple(look_ahead)
        self.cell, self.hidden, self.layers = cell, hidden, layers
        self.input_size, self.suffixes = input_size, ("", "_reverse") if bidirectional else ("",)
        self.dropout = dropout
        width = hidden * len(self.suffixes)
        self.output_size = projection or width
        for layer in range(layers):
            self._add_layer(layer, input_size if layer == 0 else self.output_size)
        self._quantized: dict[tuple[int, str], Cell] = {}
        self.projections = nn.ModuleList([nn.Linear(width, projection) for _ in range(layers)] if projection else [])
        self.norms = nn.ModuleList([nn.LayerNorm(self.output_size) for _ in range(layers)] if layer_norm else [])

    def _add_layer(self, layer: int, input_size: int) -> None:
        bound = 1 / math.sqrt(self.hidden)  # torch's initial range
        size = GATES[self.cell] * self.hidden
        for suffix in self.suffixes:
            shapes = {"weight_ih": (size, input_size), "weight_hh": (size, self.hidden)}
            for name, shape in {**shapes, "bias_ih": (size,), "bias_hh": (size,)}.items():
                weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                self.register_parameter(f"{name}_l{layer}{suffix}", weight)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, input_size) with (batch,) lengths in frames -> (batch, frames, output_size), zero padded."""
        look_ahead = self._choose_look_ahead()
        layout: PackedLayout | ChunkLayout
        if look_ahead >= 0:
            layout = ChunkLayout.from_lengths(lengths, inputs.shape[1], self.chunk, look_ahead)
        elif inputs.is_cuda:
            fused = self.cell == "lstm" and uses_fused(inputs.device, self.hidden, len(self.suffixes))
            return self.forward_fused(inputs, lengths) if fused else self.forward_packed(inputs, lengths)
        else:
            layout = PackedLayout.from_lengths(lengths, inputs.shape[1])
        masks = self.dropout_masks(inputs)
        hidden = layout.pack(inputs)
        for layer in range(self.layers):
            hidden = self._finish_layer(self._run_layer(hidden, layer, layout), layer, masks, layout.utterance_index)
        return layout.unpack(hidden, len(lengths))

    def _choose_look_ahead(self) -> int:
        """Frames of look-ahead for a batch, -1 for whole utterances."""
        if not self.chunk:
            return -1
        return self.look_ahead[int(torch.randint(len(self.look_ahead), ())) if self.training else 0]

    def forward_packed(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The same with a PackedSequence, for cuDNN. Empty utterances run as one frame and return zeros."""
        packed = pack_padded_sequence(inputs, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
        indices = torch.arange(len(lengths), device=inputs.device)[:, None].expand(inputs.shape[:2])
        utterance_index = pack_padded_sequence(
            indices, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False
        ).data
        masks = self.dropout_masks(inputs)
        hidden = packed.data
        for layer in range(self.layers):
            weights = [weight for suffix in self.suffixes for weight in self.layer_weights(layer, suffix)]
            state = hidden.new_zeros(len(self.suffixes), len(lengths), self.hidden)
            run: Callable[..., Any] = torch.lstm if self.cell == "lstm" else torch.gru
            states = (state, state) if self.cell == "lstm" else state
            bidirectional = len(self.suffixes) == 2
            output = run(hidden, packed.batch_sizes, states, weights, True, 1, 0.0, self.training, bidirectional)[0]
            hidden = self._finish_layer(output, layer, masks, utterance_index)
        sequence = PackedSequence(hidden, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        padded, _ = pad_packed_sequence(sequence, batch_first=True, total_length=inputs.shape[1])
        return padded * length_mask(lengths, inputs.shape[1])[..., None]

    def forward_fused(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The same in bfloat16 with `asr.nn.lstm_cuda`."""
        from asr.nn.lstm_cuda import lstm_layer

        batch, frames, _ = inputs.shape
        utterance_index = torch.arange(batch, device=inputs.device).repeat_interleave(frames)
        masks = self.dropout_masks(inputs)
        hidden = inputs
        for layer in range(self.layers):
            weights = [self.layer_weights(layer, suffix) for suffix in self.suffixes]
            output = lstm_layer(hidden.bfloat16(), lengths, weights).flatten(0, 1)
            hidden = self._finish_layer(output, layer, masks, utterance_index).unflatten(0, (batch, frames))
        return hidden * length_mask(lengths, frames)[..., None]

    def layer_weights(self, layer: int, suffix: str) -> list[Tensor]:
        """Input weights, recurrent weights and both biases of one layer and direction ("" or "_reverse")."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [self.get_parameter(f"{name}_l{layer}{suffix}") for name in names]

    def _run_layer(self, hidden: Tensor, layer: int, layout: PackedLayout | ChunkLayout) -> Tensor:
        """All directions of one layer: (packed, input_size) -> (packed, hidden * directions)."""
        autocast = torch.is_autocast_enabled("cpu") and hidden.dtype == torch.float32
        hidden = hidden.to(torch.get_autocast_dtype("cpu")) if autocast else hidden
        weights = [self.layer_weights(layer, suffix) for suffix in self.suffixes]
        directions = [partial(layout.run, self._cell_of(layer, suffix), bool(suffix)) for suffix in self.suffixes]
        parallel = len(directions) == 2 and torch.get_num_threads() >= MIN_PARALLEL_THREADS and not hidden.is_cuda
        if parallel and torch.is_grad_enabled():
            return ParallelDirections.apply(directions, hidden, *weights[0], *weights[1])
        calls = [partial(run, hidden, *own) for run, own in zip(directions, weights, strict=True)]
        return torch.cat(run_in_parallel(calls) if parallel else [call() for call in calls], dim=1)

    def _cell_of(self, layer: int, suffix: str) -> Cell:
        return self._quantized.get((layer, suffix)) or partial(_run_cell, self.cell)

    def run_block(
        self, block: Tensor, chunk: int, states: Sequence[Sequence[Tensor]]
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Run the next ``chunk`` frames of a stream, and those of its look-ahead that follow in ``block``.

        Args:
            block: (frames, input_size), the last ones of the stream if there are no more.
            chunk: frames to advance by.
            states: of each layer's forward direction, (1, 1, hidden) each; none at the start of the stream.

        Returns:
            (chunk, output_size), and the states for the next block.
        """
        hidden, after = block, []
        for layer in range(self.layers):
            frames, weights = hidden[:, None], self.layer_weights(layer, "")
            zeros = [hidden.new_zeros(1, 1, self.hidden)] * 2
            initial = states[layer] if states else zeros
            output, end = run_forward(self._cell_of(layer, ""), frames, chunk, [1], initial, weights)
            after.append(end)
            outputs = [output]
            if len(self.suffixes) == 2:
                weights = self.layer_weights(layer, "_reverse")
                outputs.append(self._cell_of(layer, "_reverse")(frames.flip(0), zeros, weights)[0].flip(0))
            hidden = self._finish_layer(torch.cat(outputs, dim=2)[:, 0], layer, hidden, hidden)
        return hidden[:chunk], after

    def quantize(self) -> None:
        """Use 8-bit weights from now on, on CPU. Parameters keep their values; the stack can no longer be trained."""
        for layer in range(self.layers):
            for suffix in self.suffixes:
                self._quantized[layer, suffix] = _make_quantized_cell(self.cell, self.layer_weights(layer, suffix))

    @torch.no_grad()
    def gates(self, inputs: Tensor) -> tuple[dict[tuple[int, str], Gates], Tensor]:
        """Run an LSTM stack over one utterance (frames, input_size) with `reference_lstm`.

        Returns the gates of each layer and direction ("" or "_reverse"), frames in time order, and the output
        (frames, output_size).
        """
        hidden, gates = inputs, {}
        for layer in range(self.layers):
            for suffix in self.suffixes:
                directed = hidden.flip(0) if suffix else hidden
                computed = reference_lstm(directed, self.layer_weights(layer, suffix))
                gates[layer, suffix] = Gates(*(values.flip(0) for values in computed)) if suffix else computed
            hidden = torch.cat([gates[layer, suffix].hidden for suffix in self.suffixes], dim=1)
            hidden = self._finish_layer(hidden, layer, hidden, hidden)
        return gates, hidden

    def dropout_masks(self, inputs: Tensor) -> Tensor:
        """Dropout factors between layers, (layers - 1, batch, output_size); all 1 outside training.

        An utterance has one mask for all its frames (Gal and Ghahramani, "A theoretically grounded application of
        dropout in recurrent neural networks", 2016), which is also much faster to draw than a mask per frame.
        """
        shape = (self.layers - 1, inputs.shape[0], self.output_size)
        return locked_dropout_mask(shape, self.dropout if self.training else 0.0, inputs)

    def _finish_layer(self, hidden: Tensor, layer: int, masks: Tensor, utterance_index: Tensor) -> Tensor:
        """Projection and normalization of a layer's output (packed, width), and dropout except after the last layer."""
        if self.projections:
            hidden = self.projections[layer](hidden)
        if self.norms:
            hidden = self.norms[layer](hidden)
        if layer == self.layers - 1 or not (self.training and self.dropout):
            return hidden
        return hidden * masks[layer].to(hidden.dtype).index_select(0, utterance_index)


def locked_dropout_mask(shape: tuple[int, ...], probability: float, like: Tensor) -> Tensor:
    """Dropout factors: 0 with ``probability``, else 1 / (1 - probability), so that their mean is 1."""
    mask = torch.empty(shape, device=like.device)
    return mask.bernoulli_(1 - probability).div_(1 - probability) if probability else mask.fill_(1.0)


def _run_cell(name: str, inputs: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Run torch's "lstm" or "gru" over a segment."""
    # Cast for every segment, so that the segments' gradients add up in the precision of the parameters.
    cast = [weight.to(inputs.dtype) for weight in weights]
    if name == "lstm":
        if uses_matmul(inputs):
            from asr.nn.lstm_matmul import lstm_matmul  # inference does not need numba

            return lstm_matmul(inputs, states, cast)
        return list(torch.lstm(inputs, list(states), cast, True, 1, 0.0, True, False, False))
    return list(torch.gru(inputs, states[0], cast, True, 1, 0.0, True, False, False))


def uses_matmul(inputs: Tensor) -> bool:
    """Whether `asr.nn.lstm_matmul`, not oneDNN, trains a segment (frames, utterances, input_size)."""
    training = torch.is_grad_enabled() and inputs.dtype == torch.float32 and not inputs.is_cuda
    return training and inputs.shape[1] >= MIN_MATMUL_UTTERANCES and not uses_avx512()


def _make_quantized_cell(name: str, weights: Sequence[Tensor]) -> Cell:
    """A cell with these weights in 8 bits; its inputs are quantized dynamically."""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[name]
    module = kind(weights[0].shape[1], weights[1].shape[1])
    module.load_state_dict(dict(zip(module.state_dict(), weights, strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch recommends another package, which we do not need
        (quantized,) = torch.ao.quantization.quantize_dynamic(nn.ModuleList([module]), {kind})

    def run(inputs: Tensor, states: Sequence[Tensor], _: Sequence[Tensor]) -> list[Tensor]:
        output, final = quantized(inputs, tuple(states) if name == "lstm" else states[0])
        return [output, *final] if name == "lstm" else [output, final]

    return run
