"""Effective context of a model: the norm of the gradient of its outputs with respect to each input frame, by lag.

The gradient through a recurrent layer is a product of one factor per frame. In a plain RNN most factors are below one and
the gradient vanishes (Bengio et al., "Learning long-term dependencies with gradient descent is difficult", 1994).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from asr.inference.bundle import Bundle, build_model
from asr.nn.acoustic_model import AcousticModel
from asr.nn.ctc import BLANK_ID

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
    """`gradient_norm_by_lag` on one utterance for the model, its untrained copy, and an untrained tanh RNN of its size."""
    config, model = bundle.model_config, bundle.model
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        untrained = build_model(config, bundle.features, bundle.inventory)
        plain = build_model(config, bundle.features, bundle.inventory)
        input_size = model.recurrent.layer_weights(0, "")[0].shape[1]
        rnn = PlainRnn(input_size, config.hidden, config.layers, config.bidirectional)
        plain.recurrent = rnn  # type: ignore[assignment]
        if config.projection:
            plain.output = nn.Linear(config.hidden * (1 + config.bidirectional), len(bundle.inventory.symbols))
            plain.attention = nn.ModuleList()
    size = f"{config.layers} x {config.hidden}"
    models = {"this model": model, f"untrained LSTM, {size}": untrained, f"untrained tanh RNN, {size}": plain}
    return {name: gradient_norm_by_lag(network.eval(), features, log_probs) for name, network in models.items()}


def gradient_norm_by_lag(model: AcousticModel, features: Tensor, log_probs: Tensor) -> np.ndarray:
    """Mean gradient norm by lag, (2 * MAX_LAG + 1,) float64, from MAX_LAG input frames before an output to MAX_LAG after.

    The gradient is that of an output's most probable phone, as a log-probability. The outputs are those where
    ``log_probs`` (frames', symbols) has a phone, or all if it has none. A lag that no output reaches is NaN.
    """
    best = log_probs.argmax(dim=1)
    candidates = (best != BLANK_ID).nonzero()[:, 0].tolist() or list(range(len(best)))
    spread = np.linspace(0, len(candidates) - 1, min(MAX_OUTPUTS, len(candidates)))
    outputs = [candidates[round(index)] for index in spread]
    phones = log_probs[:, 1:].argmax(dim=1) + 1
    # One copy of the utterance for each output: a single backward pass then gives all gradients.
    inputs = features.expand(len(outputs), -1, -1).clone().requires_grad_()
    predicted, _ = model(inputs, torch.full((len(outputs),), len(features)))
    selected = predicted[torch.arange(len(outputs)), outputs, phones[outputs]]
    (gradients,) = torch.autograd.grad(selected.sum(), inputs)
    total, count = np.zeros(2 * MAX_LAG + 1), np.zeros(2 * MAX_LAG + 1)
    for output, norms in zip(outputs, gradients.double().norm(dim=2).numpy(), strict=True):
        lags = np.arange(len(norms)) - (output * model.time_reduction + model.time_reduction // 2)
        near = np.abs(lags) <= MAX_LAG
        total[lags[near] + MAX_LAG] += norms[near]
        count[lags[near] + MAX_LAG] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
