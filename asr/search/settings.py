"""The schema of a search, which the files in ``conf/sweep`` set, and of the values that it tries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class SearchConfig:
    """The group ``search``. `docs/distributed_training.md` says what each setting does."""

    study: str
    storage: str
    trials: int = field(metadata={"low": 1, "high": 1000000})
    worker: int
    sampler: str = field(metadata={"choices": ("tpe", "random")})
    pruner: str = field(metadata={"choices": ("median", "halving", "none")})
    startup_trials: int = field(metadata={"low": 0, "high": 1000000})
    warmup_epochs: int = field(metadata={"low": 0, "high": 10000})
    heartbeat_s: int = field(metadata={"low": 1, "high": 3600})
    retries: int = field(metadata={"low": 0, "high": 1000})
    params: dict[str, str]


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high`` inclusive, only whole ones if both are. ``log``: drawn on a logarithmic scale."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        """As it is written in a sweep."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        text = f"range({self.low}, {self.high + 1})" if whole else f"interval({self.low}, {self.high})"
        return f"tag(log, {text})" if self.log else text


Values = Interval | Sequence[str]
"""The values to try of one setting: an interval or a list of words."""

Space = Mapping[str, Values]
"""The values to try of each setting."""
