"""`asr.nn.acoustic_model.AcousticModel` as an ONNX graph, layer by layer."""

import numpy as np
from torch import nn

from asr.export.onnx_encoder import add_encoder
from asr.export.onnx_graph import Graph
from asr.export.onnx_layers import attend, convolution, key_mask, layer_norm, linear, reduced_lengths
from asr.nn.acoustic_model import AcousticModel, ConvolutionFrontEnd, SelfAttention
from asr.nn.lstm import GATES, RecurrentStack

GATE_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}
"""The index in torch's weights of each gate in ONNX's order: input, output, forget, cell (torch: input, forget, cell,
output), and update, reset, new (torch: reset, update, new).
"""


def add_acoustic_model(g: Graph, model: AcousticModel, features: str, lengths: str) -> tuple[str, str]:
    """Add `AcousticModel.forward`.

    (batch, frames, dim), zero beyond each length, and (batch,) lengths -> (batch, frames', symbols) log-probabilities and
    (batch,) lengths.
    """
    if model.encoder:
        features, lengths = add_encoder(g, model.encoder, features, lengths)
    if isinstance(model.front_end, ConvolutionFrontEnd):
        hidden, lengths = _convolutions(g, model.front_end, features, lengths)
    else:
        hidden, lengths = _stack_frames(g, model.front_end.reduction, features, lengths)
    hidden = _recurrent(g, model.recurrent, hidden, lengths)
    for layer in model.attention:
        assert isinstance(layer, SelfAttention)
        hidden = _attention(g, layer, hidden, lengths)
    return g("LogSoftmax", linear(g, model.output, hidden), axis=2), lengths


def _stack_frames(g: Graph, reduction: int, features: str, lengths: str) -> tuple[str, str]:
    """Concatenate groups of ``reduction`` frames, padded with zeros at the end."""
    missing = g("Mod", g("Neg", g.size(features, 1)), np.array([reduction]))
    padding = g("Concat", np.zeros(4, np.int64), missing, np.zeros(1, np.int64), axis=0)
    dim = g("Mul", g.size(features, 2), np.array([reduction]))
    shape = g("Concat", np.array([0, -1]), dim, axis=0)
    return g("Reshape", g("Pad", features, padding), shape), reduced_lengths(g, lengths, reduction)


def _convolutions(g: Graph, front_end: ConvolutionFrontEnd, features: str, lengths: str) -> tuple[str, str]:
    """Convolutions over time and frequency, masked after each layer, then layer normalization."""
    maps = g("Unsqueeze", features, np.array([1]))
    for index, layer in enumerate(front_end.layers):
        assert isinstance(layer, nn.Conv2d)
        maps = convolution(g, layer, maps)
        maps = g("Mul", maps, g("Sigmoid", maps))
        if index == len(front_end.layers) - 1:
            lengths = reduced_lengths(g, lengths, front_end.reduction)
        maps = g.apply_mask(maps, g.length_mask(lengths, g.size(maps, 2)), 1, 3)
    flat = g("Reshape", g("Transpose", maps, perm=[0, 2, 1, 3]), np.array([0, 0, -1]))
    return layer_norm(g, front_end.norm, flat), lengths


def _recurrent(g: Graph, stack: RecurrentStack, hidden: str, lengths: str) -> str:
    """Recurrent layers with ONNX's own cells, which take lengths and run backward from the end of each sequence."""
    steps = g("Cast", g("Max", lengths, np.array([1])), to=6)
    direction = "bidirectional" if len(stack.suffixes) == 2 else "forward"
    options: dict[str, int | str] = {"hidden_size": stack.hidden, "direction": direction}
    if stack.cell == "gru":
        options["linear_before_reset"] = 1
    for layer in range(stack.layers):
        weights = [_cell_weights(stack, layer, kind) for kind in ("weight_ih", "weight_hh", "bias")]
        by_time = g("Transpose", hidden, perm=[1, 0, 2])
        output = g(stack.cell.upper(), by_time, *weights, steps, **options)  # (frames, directions, batch, hidden)
        hidden = g("Reshape", g("Transpose", output, perm=[2, 0, 1, 3]), np.array([0, 0, -1]))
        if stack.projections:
            projection = stack.projections[layer]
            assert isinstance(projection, nn.Linear)
            hidden = linear(g, projection, hidden)
        if stack.norms:
            norm = stack.norms[layer]
            assert isinstance(norm, nn.LayerNorm)
            hidden = layer_norm(g, norm, hidden)
    return g.apply_mask(hidden, g.length_mask(lengths, g.size(hidden, 1)), 2)


def _cell_weights(stack: RecurrentStack, layer: int, kind: str) -> np.ndarray:
    """Weights of all directions in ONNX's gate order, (directions, gates * hidden, ...); both biases concatenated."""
    directions = []
    for suffix in stack.suffixes:
        weight_ih, weight_hh, bias_ih, bias_hh = stack.layer_weights(layer, suffix)
        tensors = {"weight_ih": [weight_ih], "weight_hh": [weight_hh], "bias": [bias_ih, bias_hh]}[kind]
        gates = [tensor.detach().cpu().float().chunk(GATES[stack.cell]) for tensor in tensors]
        ordered = [chunks[index].numpy() for chunks in gates for index in GATE_ORDER[stack.cell]]
        directions.append(np.concatenate(ordered))
    return np.stack(directions)


def _attention(g: Graph, layer: SelfAttention, hidden: str, lengths: str) -> str:
    """Multi-head self-attention over the frames of each sequence, with layer normalization before and a residual."""
    width = layer.out.in_features
    mask = key_mask(g, lengths, g.size(hidden, 1))
    projected = linear(g, layer.into, layer_norm(g, layer.norm, hidden))
    return g("Add", hidden, linear(g, layer.out, attend(g, projected, layer.heads, width, mask)))
