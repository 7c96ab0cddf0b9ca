"""How far the outputs of a model listen: the gradient of what they say by every input frame, against the lag.

The gradient through a recurrent layer is a product over the frames between. In a plain RNN its factors are mostly below
one, and it vanishes (Bengio et al., "Learning long-term dependencies with gradient descent is difficult", 1994).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from asr.inference.bundle import Bundle, build_model
from asr.nn.acoustic_model import AcousticModel
from asr.nn.ctc import BLANK_ID

OUTPUTS = 24
"""Outputs that gradients are taken of, at most."""
FARTHEST = 100
"""Input frames from the output, either way."""


class PlainRnn(nn.Module):
    """A stack of tanh RNN layers, in the place and of the size of a model's recurrent stack; one utterance at a time."""

    def __init__(self, input_size: int, hidden: int, layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.layers = nn.RNN(input_size, hidden, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(1, frames, input_size) -> (1, frames, hidden * directions)."""
        output: Tensor = self.layers(inputs)[0]
        return output


def reaches(bundle: Bundle, features: Tensor, log_probs: Tensor) -> Mapping[str, np.ndarray]:
    """For the model, one of its kind with fresh weights, and one with tanh RNN layers: `reach` on one utterance."""
    config, model = bundle.model_config, bundle.model
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        fresh = build_model(config, bundle.features, bundle.inventory)
        plain = build_model(config, bundle.features, bundle.inventory)
        first = model.recurrent.layer_weights(0, "")[0].shape[1]
        rnn = PlainRnn(first, config.hidden, config.layers, config.bidirectional)
        plain.recurrent = rnn  # type: ignore[assignment]
        if config.projection:
            plain.output = nn.Linear(config.hidden * (1 + config.bidirectional), len(bundle.inventory.symbols))
            plain.attention = nn.ModuleList()
    size = f"{config.layers} x {config.hidden}"
    models = {"this model": model, f"LSTM, {size}, fresh weights": fresh, f"tanh RNN, {size}, fresh weights": plain}
    return {name: reach(one.eval(), features, log_probs) for name, one in models.items()}


def reach(model: AcousticModel, features: Tensor, log_probs: Tensor) -> np.ndarray:
    """Mean gradient norm by lag: (2 * FARTHEST + 1,) float64, from FARTHEST frames before the output to as many after it.

    The outputs are those where ``log_probs`` (frames', symbols) has a phone, or all where it has none; what is derived is
    the log-probability of their likeliest phone. A lag that no output has is NaN.
    """
    best = log_probs.argmax(dim=1)
    places = (best != BLANK_ID).nonzero()[:, 0].tolist() or list(range(len(best)))
    chosen = [places[round(place)] for place in np.linspace(0, len(places) - 1, min(OUTPUTS, len(places)))]
    phones = log_probs[:, 1:].argmax(dim=1) + 1
    # A copy of the utterance for each output, so that one pass through the model gives all gradients.
    inputs = features.expand(len(chosen), -1, -1).clone().requires_grad_()
    found, _ = model(inputs, torch.full((len(chosen),), len(features)))
    said = found[torch.arange(len(chosen)), chosen, phones[chosen]]
    (gradients,) = torch.autograd.grad(said.sum(), inputs)
    total, count = np.zeros(2 * FARTHEST + 1), np.zeros(2 * FARTHEST + 1)
    for output, norms in zip(chosen, gradients.double().norm(dim=2).numpy(), strict=True):
        lags = np.arange(len(norms)) - (output * model.time_reduction + model.time_reduction // 2)
        near = np.abs(lags) <= FARTHEST
        total[lags[near] + FARTHEST] += norms[near]
        count[lags[near] + FARTHEST] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
