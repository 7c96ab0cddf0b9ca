"""Rules that scale an optimizer's settings with the size of the batch, as the resolver ``${scaled:RULE,VALUE,SECONDS}``.

    linear         the learning rate of SGD: in proportion (Goyal et al., "Accurate, large minibatch SGD", 2017)
    square_root    the learning rate of Adam: with the square root (Malladi et al., "On the SDEs and scaling rules for
                   adaptive gradient algorithms", 2022)
    decay          a decay rate of Adam, beta: 1 - beta in proportion (the same)
    inverse_root   epsilon of Adam: with the inverse square root (the same)

The value is the one that was found with batches of SECONDS; the seconds of an update are ``trainer.batch_seconds`` times
``trainer.accumulation``, whatever the number of processes, since these share each batch.
"""

import math
from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

RULES: dict[str, Callable[[float, float], float]] = {
    "linear": lambda value, factor: value * factor,
    "square_root": lambda value, factor: value * math.sqrt(factor),
    "decay": lambda value, factor: max(0.0, 1 - factor * (1 - value)),
    "inverse_root": lambda value, factor: value / math.sqrt(factor),
}


def scale(rule: str, value: float, seconds: float, *, _root_: DictConfig) -> float:
    """Scale a value that suits updates on ``seconds`` of speech to the updates of a configuration."""
    return RULES[rule](value, _root_.trainer.batch_seconds * _root_.trainer.accumulation / seconds)


def register() -> None:
    """Make the resolver known to OmegaConf."""
    OmegaConf.register_new_resolver("scaled", scale, replace=True)
