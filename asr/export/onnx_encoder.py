"""`asr.nn.pretrained_encoder.PretrainedEncoder` as an ONNX graph.

The convolutions of Whisper's encoder are here, those of waveform encoders in `asr.export.onnx_waveform`. Transformer layers
are the same for all, except their order of normalization and WavLM's position bias.
"""

from typing import Any, NamedTuple

import numpy as np
from torch import nn

from asr.export.onnx_graph import Graph
from asr.export.onnx_layers import (
    attend,
    convolution,
    gelu,
    key_mask,
    layer_norm,
    linear,
    reduced_lengths,
    to_numpy,
)
from asr.export.onnx_waveform import add_waveform_input, gated_position_bias, position_bias
from asr.nn.pretrained_encoder import PretrainedEncoder
from asr.nn.waveform_encoder import WaveformEncoder
from asr.nn.whisper_encoder import FRAMES_PER_OUTPUT, WhisperEncoder

NORM_EPSILON = 1e-5
"""Torch's default for layer normalization, with which states are mixed."""


class TransformerLayer(NamedTuple):
    """The parts of a layer. ``norm_first``: the norms stand before attention and network, not after the residual sums."""

    attention: Any
    heads: int
    attention_norm: nn.LayerNorm
    inner: nn.Linear
    outer: nn.Linear
    network_norm: nn.LayerNorm
    norm_first: bool


def add_encoder(g: Graph, encoder: PretrainedEncoder, features: str, lengths: str) -> tuple[str, str]:
    """Add `PretrainedEncoder.forward`.

    (batch, frames, dim), zero beyond each length, and (batch,) lengths -> hidden states (batch, frames', width), zero
    beyond each length, and (batch,) lengths.

    Raises:
        InputError: a waveform encoder with parts that have no form here.
    """
    network, offsets = encoder.network, ""
    if isinstance(network, WhisperEncoder):
        hidden, lengths = _add_whisper_input(g, network, features, lengths)
        final: nn.LayerNorm | None = network.layer_norm
    else:
        hidden = add_waveform_input(g, network, features, lengths)
        final = network.network.encoder.layer_norm if network.stable else None
        offsets = position_bias(g, network, g.size(hidden, 1)) if network.is_wavlm else ""
    frames = g.size(hidden, 1)
    mask, states = key_mask(g, lengths, frames), [hidden]
    for layer in _layers(network):
        states.append(_add_layer(g, layer, states[-1], mask, offsets))
    if final:
        states[-1] = layer_norm(g, final, states[-1])
    hidden = states[-1]
    if encoder.mixture is not None:
        scales = [np.full(network.width, weight, np.float32) for weight in encoder.mixture.softmax(0).tolist()]
        normalized = zip(states, scales, strict=True)
        hidden = g("Sum", *(g("LayerNormalization", *one, axis=-1, epsilon=NORM_EPSILON) for one in normalized))
    return g.apply_mask(hidden, g.length_mask(lengths, frames), 2), lengths


def _add_whisper_input(g: Graph, network: WhisperEncoder, features: str, lengths: str) -> tuple[str, str]:
    """`WhisperEncoder.embed`: convolutions, the second of which must see zeros beyond each length, and positions."""
    maps = gelu(g, convolution(g, network.conv1, g("Transpose", features, perm=[0, 2, 1])))
    maps = g.apply_mask(maps, g.length_mask(lengths, g.size(maps, 2)), 1)
    hidden = g("Transpose", gelu(g, convolution(g, network.conv2, maps)), perm=[0, 2, 1])
    positions = g("Slice", to_numpy(network.embed_positions.weight), np.array([0]), g.size(hidden, 1), np.array([0]))
    hidden = g("Add", hidden, positions)
    g.rename(f"takes_at_most_{network.max_frames}_frames")  # there are no more positions: the runtime stops here
    return hidden, reduced_lengths(g, lengths, FRAMES_PER_OUTPUT)


def _layers(network: WhisperEncoder | WaveformEncoder) -> list[TransformerLayer]:
    layers: list[Any] = list(network.layers)
    if isinstance(network, WhisperEncoder):
        return [
            TransformerLayer(
                layer.self_attn,
                layer.self_attn.heads,
                layer.self_attn_layer_norm,
                layer.fc1,
                layer.fc2,
                layer.final_layer_norm,
                norm_first=True,
            )
            for layer in layers
        ]
    return [
        TransformerLayer(
            layer.attention,
            layer.attention.num_heads,
            layer.layer_norm,
            layer.feed_forward.intermediate_dense,
            layer.feed_forward.output_dense,
            layer.final_layer_norm,
            norm_first=network.stable,
        )
        for layer in layers
    ]


def _add_layer(g: Graph, layer: TransformerLayer, hidden: str, mask: str, offsets: str) -> str:
    """Self-attention and a feed-forward network, with a norm and a residual connection each."""

    def network(values: str) -> str:
        return linear(g, layer.outer, gelu(g, linear(g, layer.inner, values)))

    def attention(values: str) -> str:
        return _attention(g, layer, values, mask, offsets)

    for part, norm in ((attention, layer.attention_norm), (network, layer.network_norm)):
        if layer.norm_first:
            hidden = g("Add", hidden, part(layer_norm(g, norm, hidden)))
        else:
            hidden = layer_norm(g, norm, g("Add", hidden, part(hidden)))
    return hidden


def _attention(g: Graph, layer: TransformerLayer, values: str, mask: str, offsets: str) -> str:
    """Multi-head self-attention. Query, key and value are one product; keys without a bias get zeros."""
    projections = (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj)
    width = layer.attention.out_proj.in_features
    biases = [np.zeros(width, np.float32) if one.bias is None else to_numpy(one.bias) for one in projections]
    weight = np.concatenate([to_numpy(one.weight) for one in projections])
    projected = g.linear(values, weight, np.concatenate(biases))
    added = [mask, gated_position_bias(g, layer.attention, values, offsets)] if offsets else [mask]
    return linear(g, layer.attention.out_proj, attend(g, projected, layer.heads, width, *added))
