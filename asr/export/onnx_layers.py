"""Layers of torch as ONNX operators, for the acoustic model and its pretrained encoder."""

import math

import numpy as np
from torch import Tensor, nn

from asr.export.onnx_graph import Graph, single


def linear(g: Graph, layer: nn.Linear, values: str) -> str:
    """A linear layer over the last axis."""
    return g.linear(values, to_numpy(layer.weight), to_numpy(layer.bias))


def layer_norm(g: Graph, layer: nn.LayerNorm, values: str) -> str:
    """Layer normalization over the last axis."""
    weights = (to_numpy(layer.weight), to_numpy(layer.bias))
    return g("LayerNormalization", values, *weights, axis=-1, epsilon=layer.eps)


def convolution(g: Graph, layer: nn.Conv1d | nn.Conv2d, values: str) -> str:
    """A convolution over the axes after the first two, with zeros around them."""
    assert not isinstance(layer.padding, str)
    weights = [to_numpy(parameter) for parameter in (layer.weight, layer.bias) if parameter is not None]
    pads = [*layer.padding, *layer.padding]
    return g("Conv", values, *weights, strides=list(layer.stride), pads=pads, group=layer.groups)


def gelu(g: Graph, values: str) -> str:
    """The exact GELU: each value times the normal distribution function of it."""
    erf = g("Erf", g("Div", values, single(math.sqrt(2))))
    return g("Mul", g("Mul", values, g("Add", erf, single(1.0))), single(0.5))


def attend(g: Graph, projected: str, heads: int, width: int, *biases: str) -> str:
    """Scaled dot-product attention: (batch, frames, 3 * width), query, key and value -> (batch, frames, width).

    ``biases`` are added to the scores (batch, heads, frames, frames), among them that of `key_mask`.
    """
    parts = g("Reshape", projected, np.array([0, 0, 3, heads, width // heads]))
    parts = g("Transpose", parts, perm=[2, 0, 3, 1, 4])  # (3, batch, heads, frames, size)
    query, key, value = (g("Gather", parts, np.array(index), axis=0) for index in range(3))
    scale = single(1 / math.sqrt(width // heads))
    scores = g("Mul", g("MatMul", query, g("Transpose", key, perm=[0, 1, 3, 2])), scale)
    for bias in biases:
        scores = g("Add", scores, bias)
    mixed = g("Transpose", g("MatMul", g("Softmax", scores, axis=3), value), perm=[0, 2, 1, 3])
    return g("Reshape", mixed, np.array([0, 0, width]))


def key_mask(g: Graph, lengths: str, frames: str) -> str:
    """A bias for `attend`, (batch, 1, 1, frames) float32: minus infinity beyond each length, but 0 at the first frame."""
    inside = g("Unsqueeze", g.length_mask(g("Max", lengths, np.array([1])), frames), np.array([1, 2]))
    return g("Where", inside, single(0.0), single(-np.inf))


def reduced_lengths(g: Graph, lengths: str, reduction: int) -> str:
    """Lengths at a frame rate that is ``reduction`` times lower, rounded up."""
    return g("Div", g("Add", lengths, np.array([reduction - 1])), np.array([reduction]))


def to_numpy(parameter: Tensor) -> np.ndarray:
    """The values of a parameter as contiguous float32."""
    return np.ascontiguousarray(parameter.detach().cpu().float().numpy())
