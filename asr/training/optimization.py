"""Optimizers, learning-rate schedules, weight averages and gradient norms."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from asr.config import (
    AdadeltaConfig,
    AdamWConfig,
    DevScheduleConfig,
    OptimizerConfig,
    ProgressScheduleConfig,
    ScheduleConfig,
)

Weights = dict[str, Tensor]

PRETRAINED = "encoder.network."
"""How the names of a pretrained encoder's own weights begin."""


def make_optimizer(
    model: nn.Module, config: OptimizerConfig, encoder_learning_rate_factor: float = 1.0
) -> torch.optim.Optimizer:
    """The configured optimizer. Weight decay does not apply to vectors (biases and norms).

    ``factor`` of each group of parameters is what the learning rate is multiplied by: that of a pretrained encoder's own
    weights, or 1.
    """
    groups: list[dict[str, Any]] = []
    for pretrained, factor in ((False, 1.0), (True, encoder_learning_rate_factor)):
        chosen = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name.startswith(PRETRAINED) == pretrained
        ]
        matrices, vectors = [p for p in chosen if p.ndim > 1], [p for p in chosen if p.ndim <= 1]
        groups.append({"params": matrices, "weight_decay": config.weight_decay, "factor": factor})
        groups.append({"params": vectors, "weight_decay": 0.0, "factor": factor})
    groups = [group for group in groups if group["params"]]
    if isinstance(config, AdamWConfig):
        first, second = config.betas
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(first, second), eps=config.epsilon, fused=True)
    if isinstance(config, AdadeltaConfig):
        return torch.optim.Adadelta(groups, lr=config.learning_rate, rho=config.rho, eps=config.epsilon)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)


class Schedule:
    """A factor on the optimizer's learning rate, from training progress or from the dev PER.

    ``one_cycle`` (cosine up, cosine down), ``warmup_cosine`` (linear up, cosine down) and ``constant`` follow progress.
    ``plateau`` multiplies by ``factor`` after more than ``patience`` consecutive epochs that gain less than ``threshold``
    points; ``newbob`` multiplies after the first such epoch and after every epoch that follows.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self.state: dict[str, float] = {"factor": 1.0, "best": math.inf, "bad_epochs": 0, "started": 0}

    def factor(self, progress: float) -> float:
        """The factor after this fraction of all updates, 0 to 1."""
        config = self.config
        if isinstance(config, DevScheduleConfig):
            return self.state["factor"]
        if config.name == "constant":
            return 1.0
        if progress < config.warmup_fraction:
            rise = progress / config.warmup_fraction
            if config.name == "one_cycle":
                rise = (1 - math.cos(math.pi * rise)) / 2
            return config.start_factor + (1 - config.start_factor) * rise
        rest = (progress - config.warmup_fraction) / max(1e-9, 1 - config.warmup_fraction)
        return config.final_factor + (1 - config.final_factor) * (1 + math.cos(math.pi * min(1.0, rest))) / 2

    def epoch_done(self, dev_per: float) -> None:
        """Report an epoch's dev PER (a fraction) to the schedule."""
        config, state = self.config, self.state
        if isinstance(config, ProgressScheduleConfig):
            return
        gained = 100 * (state["best"] - dev_per) >= config.threshold
        state["best"] = min(state["best"], dev_per)
        state["bad_epochs"] = 0 if gained else state["bad_epochs"] + 1
        if config.name == "newbob":
            state["started"] = float(bool(state["started"]) or not gained)
            if state["started"]:
                state["factor"] *= config.factor
        elif state["bad_epochs"] > config.patience:
            state["factor"] *= config.factor
            state["bad_epochs"] = 0


class MovingAverage:
    """Exponential moving average of weights; the decay rises to its value as (1 + n) / (10 + n) over the updates."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.weights = copy_weights(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Include the weights after one more update."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            if name in self.weights:
                self.weights[name].lerp_(value, 1 - decay)


def copy_weights(model: nn.Module) -> Weights:
    """A copy of all weights, by name, on their device, except those of a pretrained encoder that are not trained."""
    fixed = _fixed_weights(model)
    return {name: value.detach().clone() for name, value in model.state_dict().items() if name not in fixed}


def restore_weights(model: nn.Module, weights: Weights) -> None:
    """Copy weights from `copy_weights` back into the model."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) == _fixed_weights(model)


def _fixed_weights(model: nn.Module) -> set[str]:
    """The names of a pretrained encoder's weights that are not trained."""
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    return {name for name in model.state_dict() if name.startswith(PRETRAINED) and name not in trained}


def average_weights(sets: Sequence[Weights]) -> Weights:
    """The mean of sets of weights, summed in float64."""
    return {
        name: torch.stack([weights[name].double() for weights in sets]).mean(0).to(value.dtype)
        for name, value in sets[0].items()
    }


def gradient_norms(model: nn.Module) -> Mapping[str, float]:
    """The gradient norm of each module with parameters of its own, and of each layer of a recurrent stack.

    They show gradients that vanish towards the input or explode.
    """
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        owner, _, leaf = name.rpartition(".")
        layer = leaf[leaf.index("_l") :].removesuffix("_reverse") if "_l" in leaf else ""
        key = owner + layer
        squares[key] = squares.get(key, 0.0) + float(parameter.grad.double().square().sum())
    return {key: math.sqrt(value) for key, value in squares.items()}


@contextmanager
def weight_noise(model: nn.Module, std: float) -> Iterator[None]:
    """Gaussian noise on the weights while a gradient is computed (Graves, "Practical variational inference", 2011)."""
    if not std:
        yield
        return
    noisy = [parameter for parameter in model.parameters() if parameter.requires_grad]
    clean = [parameter.detach().clone() for parameter in noisy]
    with torch.no_grad():
        for parameter in noisy:
            parameter.add_(torch.randn_like(parameter), alpha=std)
    try:
        yield
    finally:  # after an error, too: audio that cannot be read ends a run whose state is then saved
        with torch.no_grad():
            for parameter, value in zip(noisy, clean, strict=True):
                parameter.copy_(value)
