"""Effective context of a model: the norm of the gradient of its outputs with respect to each input frame, by lag.

The gradient through a recurrent layer is a product of one factor per frame. In a plain RNN most factors are below one and
the gradient vanishes (Bengio et al., "Learning long-term dependencies with gradient descent is difficult", 1994).

The attention of a pretrained encoder reaches every frame at once. With an encoder, the recurrent layers are therefore
measured alone, with respect to the encoder's outputs, and the whole model on its own.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from asr.inference.bundle import Bundle, build_model
from asr.nn.acoustic_model import AcousticModel
from asr.nn.ctc import BLANK_ID
from asr.nn.pretrained_encoder import WHOLE
from asr.reports.model_input import front_end_input

MAX_OUTPUTS = 24
"""Number of output frames to differentiate, at most."""
MAX_LAG = 100
"""Largest lag in input frames, before and after the output."""


class PlainRnn(nn.Module):
    """A stack of tanh RNN layers that replaces a model's recurrent stack. It takes one utterance at a time."""

    def __init__(self, input_size: int, hidden: int, layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.layers = nn.RNN(input_size, hidden, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(1, frames, input_size) -> (1, frames, hidden * directions)."""
        output: Tensor = self.layers(inputs)[0]
        return output


def compare_gradient_norms(bundle: Bundle, features: Tensor, log_probs: Tensor) -> Mapping[str, np.ndarray]:
    """`gradient_norm_by_lag` on one utterance for the model, its untrained copy, and an untrained tanh RNN of its size.

    If the model has a pretrained encoder, all three begin behind it, and the input frames are its outputs.
    """
    config, symbols = bundle.model_config, len(bundle.inventory.symbols)
    model = behind_encoder(bundle)
    with torch.no_grad():
        inputs = front_end_input(bundle.model, features)[0][0]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        untrained = AcousticModel(config, inputs.shape[1], symbols)
        plain = AcousticModel(config, inputs.shape[1], symbols)
        input_size = model.recurrent.layer_weights(0, "")[0].shape[1]
        rnn = PlainRnn(input_size, config.hidden, config.layers, config.bidirectional)
        plain.recurrent = rnn  # type: ignore[assignment]
        if config.projection:
            plain.output = nn.Linear(config.hidden * (1 + config.bidirectional), symbols)
            plain.attention = nn.ModuleList()
    size = f"{config.layers} x {config.hidden}"
    models = {"this model": model, f"untrained LSTM, {size}": untrained, f"untrained tanh RNN, {size}": plain}
    return {name: gradient_norm_by_lag(network.eval(), inputs, log_probs) for name, network in models.items()}


def behind_encoder(bundle: Bundle) -> AcousticModel:
    """The part of a model that takes the outputs of its pretrained encoder; the model itself if it has none."""
    encoder = bundle.model.encoder
    if encoder is None:
        return bundle.model
    part = AcousticModel(bundle.model_config, encoder.output_size, len(bundle.inventory.symbols))
    weights = bundle.model.state_dict()
    part.load_state_dict({name: weights[name] for name in part.state_dict()})
    return part.eval()


def gradient_norm_through_encoder(bundle: Bundle, features: Tensor, log_probs: Tensor) -> np.ndarray:
    """`gradient_norm_by_lag` of a model with a pretrained encoder, with respect to the encoder's input."""
    assert bundle.encoder is not None
    # A frozen layer computes no gradient, so every layer is one that is trained. The weights are the model's.
    spec = replace(bundle.encoder, trained_layers=WHOLE)
    model = build_model(bundle.model_config, bundle.features, bundle.inventory, spec)
    model.load_state_dict(bundle.model.state_dict())
    return gradient_norm_by_lag(model.eval().requires_grad_(False), features, log_probs, at_once=1)


def gradient_norm_by_lag(
    model: AcousticModel, features: Tensor, log_probs: Tensor, at_once: int = MAX_OUTPUTS
) -> np.ndarray:
    """Mean gradient norm by lag, (2 * MAX_LAG + 1,) float64, from MAX_LAG input frames before an output to MAX_LAG after.

    The gradient is that of an output's most probable phone, as a log-probability. The outputs are those where
    ``log_probs`` (frames', symbols) has a phone, or all if it has none. A lag that no output reaches is NaN.
    ``at_once`` outputs are differentiated together, which takes memory for as many copies of the utterance.
    """
    best = log_probs.argmax(dim=1)
    candidates = (best != BLANK_ID).nonzero()[:, 0].tolist() or list(range(len(best)))
    spread = np.linspace(0, len(candidates) - 1, min(MAX_OUTPUTS, len(candidates)))
    outputs = [candidates[round(index)] for index in spread]
    phones = log_probs[:, 1:].argmax(dim=1) + 1
    total, count = np.zeros(2 * MAX_LAG + 1), np.zeros(2 * MAX_LAG + 1)
    for first in range(0, len(outputs), at_once):
        piece = outputs[first : first + at_once]
        for output, norms in zip(piece, _gradient_norms(model, features, piece, phones), strict=True):
            lags = np.arange(len(norms)) - (output * model.time_reduction + model.time_reduction // 2)
            near = np.abs(lags) <= MAX_LAG
            total[lags[near] + MAX_LAG] += norms[near]
            count[lags[near] + MAX_LAG] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _gradient_norms(model: AcousticModel, features: Tensor, outputs: list[int], phones: Tensor) -> np.ndarray:
    """Norm of the gradient of each output's log-probability of its phone by each input frame: (outputs, frames) float64."""
    # One copy of the utterance for each output: a single backward pass then gives all gradients.
    inputs = features.expand(len(outputs), -1, -1).clone().requires_grad_()
    predicted, _ = model(inputs, torch.full((len(outputs),), len(features)))
    selected = predicted[torch.arange(len(outputs)), outputs, phones[outputs]]
    (gradients,) = torch.autograd.grad(selected.sum(), inputs)
    return np.asarray(gradients.double().norm(dim=2).numpy())
