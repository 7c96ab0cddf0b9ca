"""`asr.nn.acoustic_model.AcousticModel` as an ONNX graph, layer by layer."""

import math

import numpy as np
from torch import Tensor, nn

from asr.export.onnx_graph import Graph, single
from asr.nn.acoustic_model import AcousticModel, ConvolutionFrontEnd, SelfAttention
from asr.nn.lstm import GATES, RecurrentStack

GATE_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}
"""Where ONNX's gates stand in torch's weights: input, output, forget, cell (torch: input, forget, cell, output), and
update, reset, new (torch: reset, update, new).
"""


def log_probs(g: Graph, model: AcousticModel, features: str, lengths: str) -> tuple[str, str]:
    """(batch, frames, dim), zero beyond each of the lengths (batch,) -> what `AcousticModel.forward` gives of them."""
    if isinstance(model.front_end, ConvolutionFrontEnd):
        hidden, lengths = _convolutions(g, model.front_end, features, lengths)
    else:
        hidden, lengths = _stacked(g, model.time_reduction, features, lengths)
    hidden = _recurrent(g, model.recurrent, hidden, lengths)
    for layer in model.attention:
        assert isinstance(layer, SelfAttention)
        hidden = _attention(g, layer, hidden, lengths)
    return g("LogSoftmax", _linear(g, model.output, hidden), axis=2), lengths


def _reduced(g: Graph, lengths: str, reduction: int) -> str:
    return g("Div", g("Add", lengths, np.array([reduction - 1])), np.array([reduction]))


def _linear(g: Graph, layer: nn.Linear, values: str) -> str:
    return g.linear(values, _numpy(layer.weight), _numpy(layer.bias))


def _layer_norm(g: Graph, layer: nn.LayerNorm, values: str) -> str:
    weights = (_numpy(layer.weight), _numpy(layer.bias))
    return g("LayerNormalization", values, *weights, axis=-1, epsilon=layer.eps)


def _numpy(parameter: Tensor | None) -> np.ndarray:
    assert parameter is not None
    return np.ascontiguousarray(parameter.detach().cpu().float().numpy())


def _stacked(g: Graph, reduction: int, features: str, lengths: str) -> tuple[str, str]:
    missing = g("Mod", g("Neg", g.size(features, 1)), np.array([reduction]))
    pads = g("Concat", np.zeros(4, np.int64), missing, np.zeros(1, np.int64), axis=0)
    dim = g("Mul", g.size(features, 2), np.array([reduction]))
    shape = g("Concat", np.array([0, -1]), dim, axis=0)
    return g("Reshape", g("Pad", features, pads), shape), _reduced(g, lengths, reduction)


def _convolutions(g: Graph, front_end: ConvolutionFrontEnd, features: str, lengths: str) -> tuple[str, str]:
    maps = g("Unsqueeze", features, np.array([1]))
    for index, layer in enumerate(front_end.layers):
        assert isinstance(layer, nn.Conv2d)
        assert not isinstance(layer.padding, str)
        weights = (_numpy(layer.weight), _numpy(layer.bias))
        maps = g("Conv", maps, *weights, strides=list(layer.stride), pads=[*layer.padding, *layer.padding])
        maps = g("Mul", maps, g("Sigmoid", maps))
        if index == len(front_end.layers) - 1:
            lengths = _reduced(g, lengths, front_end.reduction)
        maps = g.masked(maps, g.inside(lengths, g.size(maps, 2)), 1, 3)
    flat = g("Reshape", g("Transpose", maps, perm=[0, 2, 1, 3]), np.array([0, 0, -1]))
    return _layer_norm(g, front_end.norm, flat), lengths


def _recurrent(g: Graph, stack: RecurrentStack, hidden: str, lengths: str) -> str:
    """ONNX's own cells take the sequences' lengths, and go backward from each one's end."""
    steps = g("Cast", g("Max", lengths, np.array([1])), to=6)
    both = len(stack.suffixes) == 2
    options: dict[str, int | str] = {"hidden_size": stack.hidden, "direction": "bidirectional" if both else "forward"}
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
            hidden = _linear(g, projection, hidden)
        if stack.norms:
            norm = stack.norms[layer]
            assert isinstance(norm, nn.LayerNorm)
            hidden = _layer_norm(g, norm, hidden)
    return g.masked(hidden, g.inside(lengths, g.size(hidden, 1)), 2)


def _cell_weights(stack: RecurrentStack, layer: int, kind: str) -> np.ndarray:
    """Weights of all directions, (directions, gates * hidden, ...), in ONNX's order; both biases after one another."""
    found = []
    for suffix in stack.suffixes:
        into, across, bias_into, bias_across = stack.layer_weights(layer, suffix)
        chosen = {"weight_ih": [into], "weight_hh": [across], "bias": [bias_into, bias_across]}[kind]
        gates = [one.detach().cpu().float().chunk(GATES[stack.cell]) for one in chosen]
        found.append(np.concatenate([one[place].numpy() for one in gates for place in GATE_ORDER[stack.cell]]))
    return np.stack(found)


def _attention(g: Graph, layer: SelfAttention, hidden: str, lengths: str) -> str:
    width = layer.out.in_features
    shape = np.array([0, 0, 3, layer.heads, width // layer.heads])
    parts = g("Reshape", _linear(g, layer.into, _layer_norm(g, layer.norm, hidden)), shape)
    parts = g("Transpose", parts, perm=[2, 0, 3, 1, 4])  # (3, batch, heads, frames, size)
    query, key, value = (g("Gather", parts, np.array(which), axis=0) for which in range(3))
    scale = single(1 / math.sqrt(width // layer.heads))
    scores = g("Mul", g("MatMul", query, g("Transpose", key, perm=[0, 1, 3, 2])), scale)
    seen = g("Unsqueeze", g.inside(g("Max", lengths, np.array([1])), g.size(hidden, 1)), np.array([1, 2]))
    weights = g("Softmax", g("Where", seen, scores, single(-np.inf)), axis=3)
    mixed = g("Transpose", g("MatMul", weights, value), perm=[0, 2, 1, 3])
    return g("Add", hidden, _linear(g, layer.out, g("Reshape", mixed, np.array([0, 0, width]))))
