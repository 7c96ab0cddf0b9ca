"""What only waveform encoders have, as an ONNX graph: convolutions over samples, and WavLM's position bias.

The modules are Transformers' (`asr.nn.waveform_encoder`). Only their names and weights are used here.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from asr.errors import InputError
from asr.export.onnx_features import sample_mask
from asr.export.onnx_graph import Graph, single
from asr.export.onnx_layers import convolution, gelu, layer_norm, linear, to_numpy
from asr.nn.waveform_encoder import WaveformEncoder, window_and_shift

EXPECTED = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "adapter_attn_dim": None,
    "conv_pos_batch_norm": False,
}
"""The only values of these settings that can be exported; few checkpoints have others."""


def add_waveform_input(g: Graph, encoder: WaveformEncoder, features: str, lengths: str) -> str:
    """Add `WaveformEncoder.embed`: frames of samples (batch, frames, window) -> (batch, frames, width).

    Raises:
        InputError: a setting other than the `EXPECTED` one.
    """
    network = encoder.network
    for name, value in EXPECTED.items():
        if getattr(network.config, name, value) != value:
            raise InputError(f"encoder: {name} is {getattr(network.config, name)}, expected {value} for an export")
    hidden = _convolutions(g, encoder, features, lengths)
    if hasattr(network.feature_projection, "layer_norm"):
        hidden = layer_norm(g, network.feature_projection.layer_norm, hidden)
    hidden = linear(g, network.feature_projection.projection, hidden)
    hidden = g.apply_mask(hidden, g.length_mask(lengths, g.size(hidden, 1)), 2)
    positions = network.encoder.pos_conv_embed.conv
    maps = convolution(g, positions, g("Transpose", hidden, perm=[0, 2, 1]))
    if positions.kernel_size[0] % 2 == 0:  # such a kernel with this padding has one output too many
        maps = g("Slice", maps, np.array([0]), np.array([-1]), np.array([2]))
    hidden = g("Add", hidden, g("Transpose", gelu(g, maps), perm=[0, 2, 1]))
    return hidden if encoder.stable else layer_norm(g, network.encoder.layer_norm, hidden)


def position_bias(g: Graph, encoder: WaveformEncoder, frames: str) -> str:
    """WavLM's bias of attention by the distance between two frames, the same in all layers: (heads, frames, frames)."""
    layer: Any = encoder.layers[0]
    attention = layer.attention
    most = attention.max_distance  # at larger distances the bias stays the same
    with torch.no_grad():
        bias = attention.compute_bias(most + 1, most + 1)
    table = torch.cat([bias[:, 1:, 0].flip(1), bias[:, 0]], dim=1)  # (heads, distances from -most to most)
    here = g.range(frames)
    distance = g("Sub", g("Unsqueeze", here, np.array([0])), g("Unsqueeze", here, np.array([1])))
    index = g("Add", g("Min", g("Max", distance, np.array([-most])), np.array([most])), np.array([most]))
    return g("Gather", to_numpy(table), index, axis=1)


def gated_position_bias(g: Graph, attention: Any, values: str, bias: str) -> str:
    """The bias of `position_bias` times a gate for each query of a layer: (batch, heads, frames, frames)."""
    shape = np.array([0, 0, attention.num_heads, attention.head_dim])
    queries = g("Transpose", g("Reshape", values, shape), perm=[0, 2, 1, 3])
    weight, offset = attention.gru_rel_pos_linear.weight, attention.gru_rel_pos_linear.bias
    weight, offset = (to_numpy(tensor.unflatten(0, (2, 4)).sum(1)) for tensor in (weight, offset))
    gates = g("Sigmoid", g("Add", g("MatMul", queries, np.ascontiguousarray(weight.T)), offset))
    first, second = g.split_in_half(gates)
    inner = g("Sub", g("Mul", second, to_numpy(attention.gru_rel_pos_const)), single(1.0))
    return g("Mul", g("Add", g("Mul", first, inner), single(2.0)), bias)


def _convolutions(g: Graph, encoder: WaveformEncoder, features: str, lengths: str) -> str:
    """The feature extractor on the signal that the frames contain: (batch, frames, window) -> (batch, frames, width)."""
    window, shift = window_and_shift(encoder.network.config.to_dict())
    once = sample_mask(g, lengths, g.size(features, 1), window, shift)
    frames = g("Transpose", g("Where", once, features, single(0.0)), perm=[0, 2, 1])
    # Each sample is in one frame only, so that their sum at their places is the signal, (batch, 1, samples).
    maps = g("ConvTranspose", frames, np.eye(window, dtype=np.float32)[:, None], strides=[shift])
    counts = g("Add", g("Mul", lengths, np.array([shift])), np.array([window - shift]))
    for layer in encoder.network.feature_extractor.conv_layers:
        (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
        maps = convolution(g, layer.conv, maps)
        counts = g("Div", g("Add", counts, np.array([stride - kernel])), np.array([stride]))
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            maps = _norm_over_time(g, norm, maps, counts)
        elif norm is not None:
            by_time = layer_norm(g, norm, g("Transpose", maps, perm=[0, 2, 1]))
            maps = g("Transpose", by_time, perm=[0, 2, 1])
        maps = gelu(g, maps)
    return g("Transpose", maps, perm=[0, 2, 1])


def _norm_over_time(g: Graph, norm: nn.GroupNorm, maps: str, counts: str) -> str:
    """Group normalization with a group for each channel, (batch, channels, time), over the ``counts`` of each utterance."""
    inside = g("Unsqueeze", g.length_mask(counts, g.size(maps, 2)), np.array([1]))
    total = g("Unsqueeze", g("Cast", g("Max", counts, np.array([1])), to=1), np.array([1, 2]))

    def mean(values: str) -> str:
        return g("Div", g("ReduceSum", g("Where", inside, values, single(0.0)), np.array([2]), keepdims=1), total)

    centred = g("Sub", maps, mean(maps))
    scale = g("Sqrt", g("Add", mean(g("Mul", centred, centred)), single(norm.eps)))
    weight, bias = (to_numpy(parameter)[:, None] for parameter in (norm.weight, norm.bias))
    return g("Add", g("Mul", g("Div", centred, scale), weight), bias)
