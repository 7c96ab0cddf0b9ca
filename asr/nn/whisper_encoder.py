"""Whisper's encoder: two convolutions, sinusoidal positions and pre-norm transformer layers, on ragged batches.

Parameters have the names and shapes of Transformers' ``WhisperEncoder``. Unlike it, this one needs no padding to 30 s: an
utterance is encoded as if it were alone, whatever its length, up to the number of positions.
Source: Radford et al., "Robust speech recognition via large-scale weak supervision", 2023.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.nn.ragged import length_mask

FRAMES_PER_OUTPUT = 2
"""The second convolution halves the frame rate, to one output in 20 ms."""


class WhisperEncoder(nn.Module):
    """Log-mel features (batch, frames, bins) -> hidden states (batch, ceil(frames / 2), width), one layer at a time."""

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        """``architecture`` is the ``config.json`` of a checkpoint."""
        super().__init__()
        width, heads = int(architecture["d_model"]), int(architecture["encoder_attention_heads"])
        inner, bins = int(architecture["encoder_ffn_dim"]), int(architecture["num_mel_bins"])
        self.width, self.time_reduction = width, FRAMES_PER_OUTPUT
        self.max_frames: int | None = FRAMES_PER_OUTPUT * int(architecture["max_source_positions"])
        self.conv1 = nn.Conv1d(bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=FRAMES_PER_OUTPUT, padding=1)
        self.embed_positions = Positions(int(architecture["max_source_positions"]), width)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, inner) for _ in range(int(architecture["encoder_layers"]))
        )
        self.layer_norm = nn.LayerNorm(width)

    def embed(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the first layer, (batch, frames', width), and its lengths."""
        maps = functional.gelu(self.conv1(features.transpose(1, 2)))
        # Beyond its end, the second convolution must see the zeros that it would see if the utterance were alone.
        maps = maps * length_mask(lengths, maps.shape[2])[:, None]
        hidden = functional.gelu(self.conv2(maps)).transpose(1, 2)
        return hidden + self.embed_positions.weight[: hidden.shape[1]], -(-lengths // FRAMES_PER_OUTPUT)

    def layer(self, index: int, hidden: Tensor, inside: Tensor) -> Tensor:
        """Apply one layer to (batch, frames, width); ``inside`` (batch, frames) bool is true inside each utterance."""
        return self.layers[index](hidden, inside[:, None, None])

    def finish(self, hidden: Tensor) -> Tensor:
        """Normalize the output of the last layer."""
        return self.layer_norm(hidden)

    def quantizable(self) -> list[nn.Module]:
        """The modules whose linear layers may have 8-bit weights."""
        return [self]


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a layer norm before and a residual connection around it."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, frames, width) -> the same shape; the mask broadcasts to (batch, heads, frames, frames)."""
        hidden = hidden + self.self_attn(self.self_attn_layer_norm(hidden), mask)
        return hidden + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(hidden))))


class Attention(nn.Module):
    """Multi-head self-attention; the keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, frames, width) -> the same shape."""
        query, key, value = (
            projection(hidden).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(attend(query, key, value, mask).transpose(1, 2).flatten(2))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention, (batch, heads, frames, size) each, with a mask (batch, 1, 1, frames) of the keys."""
    slow_gradient = query.dtype == torch.bfloat16 and not query.is_cuda and torch.is_grad_enabled()
    if not slow_gradient:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # In bfloat16 on CPU, torch's fused gradient takes two to four times as long as three plain products.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    return scores.masked_fill(~mask, -torch.inf).softmax(3).to(value.dtype) @ value


def whisper_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights out of those of a whole Whisper model, by the names of `WhisperEncoder`."""
    prefixes = ("model.encoder.", "encoder.")
    prefix = next((prefix for prefix in prefixes if f"{prefix}conv1.weight" in tensors), "")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class Positions(nn.Module):
    """Sinusoidal position embeddings, ``weight`` (frames, width): a buffer, since no training changes them."""

    weight: Tensor

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        # In numpy: torch's arithmetic on the meta device, where models are built to be checked, imports for two seconds.
        steps = np.exp(-np.arange(width // 2) * (math.log(10000) / (width // 2 - 1)))
        angles = np.arange(frames)[:, None] * steps
        table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
        self.register_buffer("weight", torch.from_numpy(table))
