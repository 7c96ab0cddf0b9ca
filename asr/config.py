"""Every setting: a dataclass for each Hydra group, checked before any work starts, and where ``conf/`` is found.

Values live in ``conf/*.yaml`` alone: no dataclass here has a default. A misspelt key, a missing one, a wrong type and a
value out of range are each an InputError that names the key.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.errors import InputError

T = TypeVar("T")

INVENTORIES = ("timit61", "timit48", "timit39", "arpabet39")
"""Names of the phone inventories that come with the package."""


def _any() -> Any:
    """No rule beyond the type."""
    return field()


def _within(low: float, high: float = float("inf")) -> Any:
    """A number (or list of numbers) from ``low`` to ``high``, both included."""
    return field(metadata={"low": low, "high": high})


def _one_of(*choices: str) -> Any:
    """A string out of a fixed set."""
    return field(metadata={"choices": choices})


@dataclass
class CorpusConfig:
    """Where the manifests are and how the corpus is scored."""

    name: str
    dir: str
    train: str
    dev: str
    test: str
    inventory: str = _one_of(*INVENTORIES)
    convention: str = _one_of("plain", "kaldi", "optional-sil", "merged-sil", "no-sil", "61")


@dataclass
class FeatureConfig:
    """The front end. ``bins`` mel bins from ``low_hz`` to ``high_hz`` (0 or less: below the Nyquist rate by that much)."""

    name: str = _one_of("fbank", "mfcc", "librosa_mel")
    sample_rate_hz: int = _within(4000, 48000)
    bins: int = _within(4, 256)
    cepstra: int = _within(1, 256)
    frame_length_ms: float = _within(5, 200)
    frame_shift_ms: float = _within(1, 100)
    low_hz: float = _within(0, 24000)
    high_hz: float = _within(-24000, 24000)
    preemphasis: float = _within(0, 1)
    energy: bool = _any()
    delta_order: int = _within(0, 2)
    normalization: str = _one_of("none", "utterance", "speaker", "global")


@dataclass
class AugmentConfig:
    """What training does to audio (``speeds``) and features (``frequency_warp``, SpecAugment's masks)."""

    speeds: list[float] = _within(0.5, 2.0)
    frequency_warp: float = _within(0, 0.5)
    time_masks: int = _within(0, 20)
    time_mask_frames: int = _within(0, 1000)
    time_mask_fraction: float = _within(0, 1)
    frequency_masks: int = _within(0, 20)
    frequency_mask_bins: int = _within(0, 256)


@dataclass
class ModelConfig:
    """The acoustic model: optional convolutional front end, recurrent stack, optional self-attention, output layer."""

    name: str
    convolution_channels: list[int] = _within(1, 1024)
    time_reduction: int = _within(1, 8)
    cell: str = _one_of("lstm", "gru")
    bidirectional: bool = _any()
    layers: int = _within(1, 20)
    hidden: int = _within(1, 4096)
    projection: int = _within(0, 4096)
    layer_norm: bool = _any()
    dropout: float = _within(0, 0.95)
    attention_layers: int = _within(0, 20)
    attention_heads: int = _within(1, 64)
    initial_uniform: float = _within(0, 10)


@dataclass
class AdamWConfig:
    """Loshchilov and Hutter, "Decoupled weight decay regularization", 2019."""

    name: str
    learning_rate: float = _within(0, 10)
    weight_decay: float = _within(0, 1)
    betas: list[float] = _within(0, 1)
    epsilon: float = _within(0, 1)


@dataclass
class AdadeltaConfig:
    """Zeiler, "ADADELTA: an adaptive learning rate method", 2012."""

    name: str
    learning_rate: float = _within(0, 10)
    weight_decay: float = _within(0, 1)
    rho: float = _within(0, 1)
    epsilon: float = _within(0, 1)


@dataclass
class SgdConfig:
    """Stochastic gradient descent with classical momentum."""

    name: str
    learning_rate: float = _within(0, 10)
    weight_decay: float = _within(0, 1)
    momentum: float = _within(0, 1)


@dataclass
class ProgressScheduleConfig:
    """Learning rate as a function of training progress alone (``one_cycle``, ``warmup_cosine``, ``constant``)."""

    name: str
    warmup_fraction: float = _within(0, 1)
    start_factor: float = _within(0, 1)
    final_factor: float = _within(0, 1)


@dataclass
class DevScheduleConfig:
    """Learning rate lowered by ``factor`` when the dev PER stops improving (``plateau``, ``newbob``)."""

    name: str
    factor: float = _within(0, 1)
    patience: int = _within(0, 1000)
    threshold: float = _within(0, 100)


@dataclass
class TrainerConfig:
    """The training loop: how long, in what batches, at what precision, what is kept."""

    epochs: int = _within(1, 10000)
    flat_start_epochs: int = _within(0, 1000)
    batch_seconds: float = _within(0.1, 100000)
    batch_utterances: int = _within(1, 100000)
    accumulation: int = _within(1, 10000)
    precision: str = _one_of("auto", "float32", "bfloat16")
    loss_reduction: str = _one_of("sum", "utterance", "token")
    consistency: float = _within(0, 100)
    teachers: list[str] = _any()
    distillation: float = _within(0, 1)
    gradient_clip: float = _within(0)
    weight_noise: float = _within(0, 10)
    average: str = _one_of("none", "best", "last", "ema")
    average_count: int = _within(1, 1000)
    ema_decay: float = _within(0, 1)
    keep_best: int = _within(1, 1000)
    checkpoint_minutes: float = _within(0, 100000)
    early_stopping_epochs: int = _within(0, 10000)
    aligner_epochs: int = _within(0, 1000)
    frozen: list[str] = _any()
    feature_cache_gib: float = _within(0, 10000)
    device: str = _one_of("auto", "cpu", "cuda")
    threads: int = _within(0, 1024)
    trackers: list[str] = _one_of("tensorboard", "wandb", "mlflow")


@dataclass
class DecoderConfig:
    """How phones come out of log-probabilities."""

    name: str = _one_of("best_path")


@dataclass
class BeamConfig:
    """Prefix beam search with the n-gram that lies beside it (see `asr.decoding.beam_search`)."""

    beam: int = _within(1, 10000)
    weight: float = _within(0, 100)
    bonus: float = _within(-100, 100)


OptimizerConfig = AdamWConfig | AdadeltaConfig | SgdConfig
ScheduleConfig = ProgressScheduleConfig | DevScheduleConfig


@dataclass
class TrainConfig:
    """A whole training run."""

    corpus: CorpusConfig
    features: FeatureConfig
    augment: AugmentConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    trainer: TrainerConfig
    decoder: DecoderConfig
    run_dir: str
    seed: int
    resume: bool
    init_from: str


VARIANTS: dict[str, dict[str, type]] = {
    "optimizer": {"adamw": AdamWConfig, "adadelta": AdadeltaConfig, "sgd": SgdConfig},
    "schedule": {
        "one_cycle": ProgressScheduleConfig,
        "warmup_cosine": ProgressScheduleConfig,
        "constant": ProgressScheduleConfig,
        "plateau": DevScheduleConfig,
        "newbob": DevScheduleConfig,
    },
}
"""Groups whose ``name`` decides which settings there are."""


def config_dir() -> Path:
    """The folder of YAML files: the one in the installed package, or the repository's."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "conf"


def from_mapping(schema: type[T], mapping: Mapping[str, Any] | DictConfig, where: str) -> T:
    """A dataclass from a mapping that must have each of its fields and no other; ``where`` is named in errors."""
    if not isinstance(mapping, Mapping | DictConfig):
        raise InputError(f"configuration: {where} is {mapping!r}, expected a group of settings")
    try:
        result = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), mapping))
    except OmegaConfBaseException as error:
        key = f"{where}.{error.full_key}" if getattr(error, "full_key", None) else where
        raise InputError(f"configuration: {key}: {one_line(error)}") from error
    assert isinstance(result, schema)
    for setting in fields(schema):  # type: ignore[arg-type]
        _check_value(f"{where}.{setting.name}", getattr(result, setting.name), setting.metadata)
    return result


def to_yaml(config: Any) -> str:
    """A dataclass of settings as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def one_line(error: Exception) -> str:
    """The message of a Hydra or OmegaConf error on one line, without the part that describes objects."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("object_type=", "reference_type=", "full_key:")))


def variant(group: str, mapping: Any) -> type:
    """The dataclass of a group of `VARIANTS` that the mapping's ``name`` chooses."""
    name = mapping.get("name") if isinstance(mapping, DictConfig) else mapping
    if name not in VARIANTS[group]:
        raise InputError(f"configuration: {group}.name is {name!r}, expected one of {', '.join(VARIANTS[group])}")
    return VARIANTS[group][name]


def _check_value(key: str, value: Any, rule: Mapping[str, Any]) -> None:
    for item in value if isinstance(value, list) else [value]:
        if "choices" in rule and item not in rule["choices"]:
            raise InputError(f"configuration: {key} is {item!r}, expected one of {', '.join(rule['choices'])}")
        if "low" in rule and not rule["low"] <= item <= rule["high"]:
            raise InputError(f"configuration: {key} is {item}, expected {rule['low']} to {rule['high']}")
