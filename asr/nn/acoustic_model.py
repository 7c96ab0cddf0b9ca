"""The acoustic model: pretrained encoder if there is one, front end, recurrent stack, self-attention and output layer.

In:  features (batch, frames, dim) and lengths (batch,).
Out: log-probabilities (batch, frames', symbols) and lengths (batch,).
Every layer sees zeros beyond the end of an utterance, as if the utterance were alone. The output therefore does not depend
on padding or on other utterances in the batch. For the same reason there is no batch normalization.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.config import ModelConfig
from asr.errors import InputError
from asr.nn.lstm import RecurrentStack, locked_dropout_mask
from asr.nn.pretrained_encoder import EncoderSpec, PretrainedEncoder
from asr.nn.ragged import length_mask

Frames = TypeVar("Frames", int, Tensor)


class AcousticModel(nn.Module):
    """CTC acoustic model: convolutions or frame stacking, recurrent layers, optional self-attention, output layer.

    A pretrained encoder comes first, if there is one. ``time_reduction`` is the number of feature frames per output frame;
    ``max_frames`` the most feature frames that the encoder can see at once, None without such a limit.
    """

    def __init__(self, config: ModelConfig, feature_dim: int, symbols: int, encoder: EncoderSpec | None = None) -> None:
        """``symbols`` is the number of output symbols, blank included."""
        super().__init__()
        self.encoder = PretrainedEncoder(encoder) if encoder else None
        self.time_reduction, self.max_frames = config.time_reduction, None
        if self.encoder:
            feature_dim = self.encoder.output_size
            self.time_reduction, self.max_frames = (
                config.time_reduction * self.encoder.time_reduction,
                self.encoder.max_frames,
            )
        self.front_end: ConvolutionFrontEnd | FrameStacking
        if config.convolution_channels:
            self.front_end = ConvolutionFrontEnd(feature_dim, config.convolution_channels, config.time_reduction)
            size = self.front_end.output_size
        else:
            self.front_end = FrameStacking(config.time_reduction)
            size = feature_dim * config.time_reduction
        self.recurrent = RecurrentStack(
            size,
            config.hidden,
            config.layers,
            cell=config.cell,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            projection=config.projection,
            layer_norm=config.layer_norm,
            chunk=config.chunk_frames,
            look_ahead=config.look_ahead_frames,
        )
        if config.chunk_frames and (self.encoder or config.attention_layers or not config.look_ahead_frames):
            chunks = f"configuration: model.chunk_frames is {config.chunk_frames}"
            raise InputError(f"{chunks}, expected 0 with an encoder, with attention or without look_ahead_frames")
        width = self.recurrent.output_size
        self.attention = nn.ModuleList(
            SelfAttention(width, config.attention_heads, config.dropout) for _ in range(config.attention_layers)
        )
        self.dropout = config.dropout
        self.output = nn.Linear(width, symbols)
        if config.initial_uniform:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -config.initial_uniform, config.initial_uniform)

    def forward(self, features: Tensor, lengths: Tensor, encoded: bool = False) -> tuple[Tensor, Tensor]:
        """Compute the log-probability of every symbol at every output frame.

        Args:
            features: (batch, frames, dim) float32, zero beyond each length.
            lengths: (batch,) int64, in frames.
            encoded: the features are the output of the pretrained encoder's frozen layers already.

        Returns:
            (batch, frames', symbols) float32 natural-log probabilities and (batch,) int64 lengths in output frames, where
            frames' = ceil(frames / time_reduction).
        """
        if features.numel() == 0:  # no utterances, or no frames
            shape = (len(features), self.output_frames(features.shape[1], encoded), self.output.out_features)
            return features.new_zeros(shape), self.output_frames(lengths, encoded)
        hidden, lengths = self.front_end(*self._encode(features, lengths, encoded))
        hidden = self.recurrent(hidden, lengths)
        for layer in self.attention:
            hidden = layer(hidden, lengths)
        if self.training:
            hidden = hidden * locked_dropout_mask((len(hidden), 1, hidden.shape[2]), self.dropout, hidden).to(
                hidden.dtype
            )
        return self.output(hidden).float().log_softmax(dim=-1), lengths

    def output_frames(self, frames: Frames, encoded: bool = False) -> Frames:
        """Number of output frames for a number of feature frames, or of outputs of the encoder's frozen layers."""
        return reduced_length(frames, self.front_end.reduction if encoded else self.time_reduction)

    def quantize(self) -> None:
        """Use 8-bit weights in the encoder and the recurrent layers from now on, on CPU; no more training."""
        self.recurrent.quantize()
        if self.encoder:
            self.encoder.quantize()

    def _encode(self, features: Tensor, lengths: Tensor, encoded: bool) -> tuple[Tensor, Tensor]:
        """The input of the front end, and its lengths."""
        if self.encoder is None:
            return features, lengths
        return (self.encoder.trained_part(features, lengths), lengths) if encoded else self.encoder(features, lengths)


def reduced_length(frames: Frames, time_reduction: int) -> Frames:
    """Number of output frames for a number of input frames: the quotient, rounded up."""
    return (frames + time_reduction - 1) // time_reduction


class FrameStacking(nn.Module):
    """Stack every ``reduction`` frames into one: (batch, frames, dim) -> (batch, ceil(frames / r), dim * r).

    Output frame i sees no feature frame further than ``reach`` from frame i * r.
    """

    def __init__(self, reduction: int) -> None:
        super().__init__()
        self.reduction, self.reach = reduction, reduction - 1

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Stacked features and their lengths."""
        missing = -features.shape[1] % self.reduction
        padded = functional.pad(features, (0, 0, 0, missing))
        stacked = padded.reshape(len(features), -1, features.shape[2] * self.reduction)
        return stacked, reduced_length(lengths, self.reduction)


class ConvolutionFrontEnd(nn.Module):
    """3 x 3 convolutions over time and frequency; each halves the frequency axis, the last one also reduces time.

    Output frame i sees no feature frame further than ``reach`` from frame i * reduction.
    """

    def __init__(self, feature_dim: int, channels: list[int], reduction: int) -> None:
        super().__init__()
        self.reduction, self.reach = reduction, 0
        self.layers = nn.ModuleList()
        height = feature_dim
        for index, (in_channels, out_channels) in enumerate(zip([1, *channels], channels, strict=False)):
            step = reduction if index == len(channels) - 1 else 1
            kernel = max(3, 2 * (step - 1 - index) + 1)  # wide enough to cover every frame
            padding = (kernel // 2, 1)
            layer = nn.Conv2d(in_channels, out_channels, (kernel, 3), stride=(step, 2), padding=padding)
            # Convolutions are fastest in the channels-last layout, on CPU and GPU; outputs take the layout of the weights.
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
            self.layers.append(layer)
            height = (height + 1) // 2
            self.reach += padding[0]
        self.output_size = height * channels[-1]
        self.norm = nn.LayerNorm(self.output_size)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, dim) -> (batch, ceil(frames / reduction), output_size), and the new lengths."""
        maps = features[..., None].permute(0, 3, 1, 2)  # (batch, 1, frames, dim), channels last in memory
        for index, layer in enumerate(self.layers):
            maps = functional.silu(layer(maps))
            if index == len(self.layers) - 1:
                lengths = reduced_length(lengths, self.reduction)
            maps = maps * length_mask(lengths, maps.shape[2])[:, None, :, None]
        flat = maps.permute(0, 2, 1, 3).flatten(2)  # (batch, frames', channels * height)
        return self.norm(flat), lengths


class SelfAttention(nn.Module):
    """Multi-head self-attention with a residual connection and pre-normalization (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise InputError(
                f"configuration: model.attention_heads is {heads}, expected a divisor of the width {width}"
            )
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, width) -> the same shape; no frame attends to frames beyond its utterance's length."""
        batch, frames, width = hidden.shape
        shape = (batch, frames, 3, self.heads, width // self.heads)
        query, key, value = self.into(self.norm(hidden)).view(shape).permute(2, 0, 3, 1, 4)
        mask = length_mask(lengths.clamp_min(1), frames)[:, None, None]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return hidden + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, frames, width)))


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
