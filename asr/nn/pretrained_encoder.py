"""A pretrained encoder as the first part of the acoustic model: layers that stay as they are, then layers that are trained.

In:  the encoder's input (batch, frames, dim) and lengths (batch,).
Out: hidden states (batch, frames', width) and lengths (batch,): those of the last layer, or a learned mixture of all.
What the frozen layers compute of an utterance never changes, so training computes it once (`asr.features.dataset`) and
continues from there.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.config import FeatureConfig
from asr.errors import InputError
from asr.nn.ragged import length_mask
from asr.nn.waveform_encoder import FAMILIES as WAVEFORM_FAMILIES
from asr.nn.waveform_encoder import WaveformEncoder, waveform_weights, window_and_shift
from asr.nn.whisper_encoder import FRAMES_PER_OUTPUT, WhisperEncoder, whisper_weights

FAMILIES = ("whisper", *WAVEFORM_FAMILIES)
"""The values of ``model_type`` that can be used."""
WHOLE = -1
"""``trained_layers`` of an encoder that is trained as a whole."""
MAX_LAYERS = 200
"""More than any published encoder has."""
SAMPLE_RATE_HZ = 16000
"""All of these encoders were trained on audio at this rate."""


@dataclass(frozen=True)
class EncoderSpec:
    """What an encoder is: the ``config.json`` of its checkpoint, its last layers that are trained, and their mixture."""

    architecture: Mapping[str, Any]
    trained_layers: int
    mix_layers: bool


class PretrainedEncoder(nn.Module):
    """A Whisper or waveform encoder, split into `frozen` and `trained` layers."""

    def __init__(self, spec: EncoderSpec) -> None:
        """Build the network with new weights.

        Raises:
            InputError: unknown family, more trained layers than there are, or a setting of the architecture is missing.
        """
        super().__init__()
        self.network = build_network(spec.architecture)
        layers = len(self.network.layers)
        if spec.trained_layers > layers:
            raise InputError(f"encoder.trained_layers is {spec.trained_layers}, expected at most its {layers} layers")
        self.whole = spec.trained_layers == WHOLE
        self.first_trained = 0 if self.whole else layers - spec.trained_layers
        self.mixture = nn.Parameter(torch.zeros(layers + 1)) if spec.mix_layers else None
        self.output_size = self.network.width
        self.frozen_size = self.output_size * (self.first_trained + 1 if spec.mix_layers else 1)
        self.time_reduction, self.max_frames = self.network.time_reduction, self.network.max_frames
        self.network.requires_grad_(self.whole)
        for layer in self.network.layers[self.first_trained :]:
            layer.requires_grad_(True)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (batch, frames', width) of an input (batch, frames, dim), and their lengths."""
        states, lengths = self.frozen(features, lengths)
        return self.trained_part(states, lengths), lengths

    def frozen(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The output of the frozen layers, and its lengths.

        (batch, frames', frozen_size): the last hidden state, or all of them side by side if they are to be mixed.
        """
        if self.max_frames and features.shape[1] > self.max_frames:
            limit = f"expected at most {self.max_frames}, the positions that the encoder knows"
            raise InputError(f"encoder: an utterance has {features.shape[1]} frames, {limit}")
        with torch.set_grad_enabled(self.whole and torch.is_grad_enabled()):
            hidden, lengths = self.network.embed(features, lengths)
            inside, states = _attended(lengths, hidden), [hidden]
            for index in range(self.first_trained):
                hidden = self._layer(index, hidden, inside)
                states.append(hidden)
        return torch.cat(states, dim=2) if self.mixture is not None else hidden, lengths

    def trained_part(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states (batch, frames', width), zero beyond each length, from the output of `frozen`."""
        known = list(states.split(self.output_size, dim=2))
        attended = _attended(lengths, states)
        for index in range(self.first_trained, len(self.network.layers)):
            known.append(self._layer(index, known[-1], attended))
        hidden = known[-1]
        if self.mixture is not None:
            weights = self.mixture.softmax(0)
            normalized = [functional.layer_norm(state, state.shape[2:]) for state in known]
            hidden = torch.stack([w * state for w, state in zip(weights, normalized, strict=True)]).sum(0)
        return hidden * length_mask(lengths, states.shape[1])[..., None]

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """Switch the trained layers to training or evaluation; the frozen ones never use dropout."""
        super().train(mode)
        if not self.whole:
            self.network.eval()
            for layer in self.network.layers[self.first_trained :]:
                layer.train(mode)
        return self

    def quantize(self) -> None:
        """Use 8-bit weights in the linear layers from now on, on CPU; their inputs are quantized dynamically."""
        with warnings.catch_warnings():
            # torch recommends another package, which we do not need
            warnings.simplefilter("ignore", DeprecationWarning)
            for module in self.network.quantizable():
                torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, inplace=True)

    def _layer(self, index: int, hidden: Tensor, inside: Tensor) -> Tensor:
        hidden = self.network.layer(index, hidden, inside)
        return self.network.finish(hidden) if index == len(self.network.layers) - 1 else hidden


def _attended(lengths: Tensor, hidden: Tensor) -> Tensor:
    """The frames (batch, frames) that attention sees: at least one, since an average over none is not a number."""
    return length_mask(lengths.clamp_min(1), hidden.shape[1])


def build_network(architecture: Mapping[str, Any]) -> WhisperEncoder | WaveformEncoder:
    """Build the network of a checkpoint's ``config.json``, with new weights.

    Raises:
        InputError: an unknown family, or a setting is missing or impossible.
    """
    family = family_of(architecture)
    layers = architecture.get("encoder_layers" if family == "whisper" else "num_hidden_layers")
    if not isinstance(layers, int) or not 1 <= layers <= MAX_LAYERS:
        raise InputError(f"encoder: {family} with {layers} layers, expected 1 to {MAX_LAYERS}")
    try:
        return WhisperEncoder(architecture) if family == "whisper" else WaveformEncoder(architecture)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"encoder: settings of {family} cannot be used ({error}), expected those of a checkpoint"
        ) from error


def family_of(architecture: Mapping[str, Any]) -> str:
    """The family of an encoder.

    Raises:
        InputError: not one of `FAMILIES`.
    """
    family = str(architecture.get("model_type"))
    if family not in FAMILIES:
        raise InputError(f"encoder: model_type is {family}, expected one of {', '.join(FAMILIES)}")
    return family


def select_weights(architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights, by the names of `build_network`, out of all tensors of a checkpoint."""
    return (whisper_weights if family_of(architecture) == "whisper" else waveform_weights)(tensors)


def positions(architecture: Mapping[str, Any]) -> int | None:
    """The most feature frames that an encoder sees at once, None without a limit."""
    whisper = family_of(architecture) == "whisper"
    return FRAMES_PER_OUTPUT * int(architecture["max_source_positions"]) if whisper else None


def input_features(architecture: Mapping[str, Any], padding_ms: float = 0.0) -> FeatureConfig:
    """The features that an encoder takes, of padded recordings."""
    whisper = family_of(architecture) == "whisper"
    window, shift = (400, 160) if whisper else window_and_shift(architecture)
    return FeatureConfig(
        name="whisper_mel" if whisper else "waveform",
        sample_rate_hz=SAMPLE_RATE_HZ,
        bins=int(architecture["num_mel_bins"]) if whisper else 80,
        cepstra=13,
        frame_length_ms=1000 * window / SAMPLE_RATE_HZ,
        frame_shift_ms=1000 * shift / SAMPLE_RATE_HZ,
        padding_ms=padding_ms,
        low_hz=0.0,
        high_hz=0.0,
        preemphasis=0.0,
        energy=False,
        delta_order=0,
        normalization="whisper" if whisper else "waveform",
    )
