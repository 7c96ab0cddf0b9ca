"""What a model takes in, as the reports show it: a picture of its features, and its pretrained encoder in words."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.config import FeatureConfig
from asr.features.filterbanks import extract
from asr.features.normalization import normalize
from asr.inference.bundle import Bundle
from asr.nn.acoustic_model import AcousticModel
from asr.nn.pretrained_encoder import PretrainedEncoder

FAMILY_NAMES = {"whisper": "Whisper", "wav2vec2": "wav2vec 2.0", "hubert": "HuBERT", "wavlm": "WavLM"}
"""A name for people, by ``model_type``."""
BINS, FRAME_LENGTH_MS, FRAME_SHIFT_MS = 80, 25.0, 10.0
"""Whisper's spectrogram, the picture of a waveform."""


class Picture(NamedTuple):
    """What to draw of a recording, (frames, bins) float32; its name, and what one of its values is called."""

    values: np.ndarray
    name: str = "features"
    value: str = "feature"


def draw_features(samples: np.ndarray, config: FeatureConfig) -> Picture:
    """The picture of a model's features: (samples,) float32 in [-1, 1] -> the features themselves, not normalized.

    An encoder's log-mel features are normalized, because that limits their range. In place of a waveform, it is Whisper's
    log-mel spectrogram of the same samples.
    """
    if config.name == "whisper_mel":
        return Picture(normalize(extract(samples, config), config).numpy())
    if config.name != "waveform":
        return Picture(extract(samples, config).numpy())
    mel = replace(
        config,
        name="whisper_mel",
        bins=BINS,
        frame_length_ms=FRAME_LENGTH_MS,
        frame_shift_ms=FRAME_SHIFT_MS,
        normalization="whisper",
    )
    missing = round(FRAME_LENGTH_MS * config.sample_rate_hz / 1000) - len(samples)
    values = normalize(extract(np.pad(samples, (0, max(0, missing))), mel), mel).numpy()
    return Picture(values, "spectrogram", "mel bin")


def front_end_input(model: AcousticModel, features: Tensor) -> tuple[Tensor, Tensor]:
    """What goes into a model's front end, (1, frames', dim), and its length (1,): normalized features (frames, dim), or
    what the pretrained encoder makes of them.
    """
    inputs = features[None], torch.tensor([len(features)])
    return model.encoder(*inputs) if model.encoder else inputs


def encoder_facts(bundle: Bundle) -> list[str]:
    """The pretrained encoder in one line; an empty list if there is none."""
    encoder = bundle.model.encoder
    if encoder is None:
        return []
    layers = len(encoder.network.layers)
    trained = "all" if encoder.whole else f"{layers - encoder.first_trained}"
    return [f"pretrained encoder: {encoder_name(bundle)}, {layers} layers, {trained} of them trained"]


def encoder_text(bundle: Bundle, encoder: PretrainedEncoder) -> list[str]:
    """The pretrained encoder in plain words, a paragraph each."""
    shift_ms = bundle.features.frame_shift_ms * encoder.time_reduction
    text = [
        f"A pretrained encoder comes before the recurrent layers: that of {encoder_name(bundle)}. It had learned from much "
        f"other speech before this model was trained. Its {len(encoder.network.layers)} layers make "
        f"{encoder.output_size} values of every {shift_ms:g} ms. Through self-attention, each value can depend on the "
        "whole recording. The recurrent layers take these values in place of the features.",
        _trained_text(encoder),
    ]
    if encoder.mixture is not None:
        weights = [f"{weight:.2f}" for weight in encoder.mixture.detach().softmax(0).tolist()]
        shares = [f"layer {number}: {weight}" for number, weight in enumerate(weights[1:], 1)]
        text.append(
            "The values are a mixture of the input of the first layer and the outputs of all layers. Training has learned "
            f"their weights. Input: {weights[0]}, {', '.join(shares)}."
        )
    return text


def encoder_name(bundle: Bundle) -> str:
    """The name of the pretrained encoder's family."""
    family = str(bundle.encoder.architecture["model_type"]) if bundle.encoder else ""
    return FAMILY_NAMES.get(family, family)


def _trained_text(encoder: PretrainedEncoder) -> str:
    if encoder.whole:
        return "The training of this model continued that of the whole encoder."
    count = len(encoder.network.layers) - encoder.first_trained
    if count == 0:
        return "The training of this model left the encoder's layers as they were."
    which = "last layer" if count == 1 else f"last {count} layers"
    return f"The training of this model continued that of its {which} and left the others as they were."
