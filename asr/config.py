"""The schema of all settings: one dataclass for each Hydra group.

All values are in ``conf/*.yaml``; no dataclass has a default. Settings are checked before any work starts. A misspelt or
missing key, a wrong type, or a value out of range is an InputError that names the key.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.errors import InputError

T = TypeVar("T")

INVENTORIES, TABLES = ("timit61", "timit48", "timit39", "arpabet39"), ("*.txt", "*.tsv")
"""Phone inventories that ship with the package, and patterns of the paths of tables of phones."""


def _any() -> Any:
    """Any value of the type."""
    return field()


def _within(low: float, high: float = float("inf")) -> Any:
    """A number, or a list of numbers, from ``low`` to ``high`` inclusive."""
    return field(metadata={"low": low, "high": high})


def _one_of(*choices: str) -> Any:
    """A string, or a list of strings, from a fixed set. A choice may be a pattern: ``*.txt`` is any path that ends so."""
    return field(metadata={"choices": choices})


@dataclass
class CorpusConfig:
    """The manifests of a corpus, its phones and its scoring convention."""

    name: str
    dir: str
    train: str
    dev: str
    test: str
    inventory: str = _one_of(*INVENTORIES, *TABLES)
    convention: str = _one_of("plain", "kaldi", "optional-sil", "merged-sil", "no-sil", "61")


@dataclass
class FeatureConfig:
    """Acoustic features. ``pretrained`` stands for what the pretrained encoder takes: ``whisper_mel`` or ``waveform``."""

    name: str = _one_of("fbank", "mfcc", "librosa_mel", "pretrained", "whisper_mel", "waveform")
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
    normalization: str = _one_of("none", "utterance", "speaker", "global", "running", "whisper", "waveform")


@dataclass
class EncoderConfig:
    """A pretrained encoder between the features and the recurrent layers; none if ``checkpoint`` is empty."""

    checkpoint: str
    trained_layers: int = _within(-1, 1000)
    mix_layers: bool = _any()
    learning_rate_factor: float = _within(0, 100)
    cache_dir: str = _any()
    cache_gib: float = _within(0, 100000)


@dataclass
class AugmentConfig:
    """Augmentation of audio (``speeds``) and features (``frequency_warp``, SpecAugment masks) in training."""

    speeds: list[float] = _within(0.5, 2.0)
    frequency_warp: float = _within(0, 0.5)
    time_masks: int = _within(0, 20)
    time_mask_frames: int = _within(0, 1000)
    time_mask_fraction: float = _within(0, 1)
    frequency_masks: int = _within(0, 20)
    frequency_mask_bins: int = _within(0, 256)


@dataclass
class ModelConfig:
    """The acoustic model: optional convolutional front end, recurrent layers, optional self-attention, output layer."""

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
    chunk_frames: int = _within(0, 10000)
    look_ahead_frames: list[int] = _within(-1, 10000)


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
    """Learning rate schedules that depend on progress only (``one_cycle``, ``warmup_cosine``, ``constant``)."""

    name: str
    warmup_fraction: float = _within(0, 1)
    start_factor: float = _within(0, 1)
    final_factor: float = _within(0, 1)


@dataclass
class DevScheduleConfig:
    """Schedules that multiply the learning rate by ``factor`` when dev PER stops improving (``plateau``, ``newbob``)."""

    name: str
    factor: float = _within(0, 1)
    patience: int = _within(0, 1000)
    threshold: float = _within(0, 100)


@dataclass
class TrainerConfig:
    """The training loop: duration, batches, precision, regularization, averaging, checkpoints."""

    epochs: int = _within(1, 10000)
    flat_start_epochs: int = _within(0, 1000)
    batch_seconds: float = _within(0.1, 100000)
    batch_utterances: int = _within(1, 100000)
    accumulation: int = _within(1, 10000)
    precision: str = _one_of("auto", "float32", "bfloat16")
    loss_reduction: str = _one_of("sum", "utterance", "token")
    consistency: float = _within(0, 100)
    expected_errors: float = _within(0, 1)
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
    """The decoder from log-probabilities to phones."""

    name: str = _one_of("best_path")


@dataclass
class BeamConfig:
    """Prefix beam search with the n-gram in the same folder (see `asr.decoding.beam_search`)."""

    beam: int = _within(1, 10000)
    weight: float = _within(0, 100)
    bonus: float = _within(-100, 100)


OptimizerConfig = AdamWConfig | AdadeltaConfig | SgdConfig
ScheduleConfig = ProgressScheduleConfig | DevScheduleConfig


@dataclass
class TrainConfig:
    """All settings of a training run."""

    corpus: CorpusConfig
    features: FeatureConfig
    encoder: EncoderConfig
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


VARIANTS: dict[str, dict[str, type]] = {  # groups with several schemas, chosen by the group's ``name``
    "optimizer": {"adamw": AdamWConfig, "adadelta": AdadeltaConfig, "sgd": SgdConfig},
    "schedule": dict.fromkeys(("one_cycle", "warmup_cosine", "constant"), ProgressScheduleConfig)
    | dict.fromkeys(("plateau", "newbob"), DevScheduleConfig),
}


def config_dir() -> Path:
    """The folder of YAML files: the installed package's if it exists, else the repository's."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "conf"


def from_mapping(schema: type[T], mapping: Mapping[str, Any] | DictConfig, where: str) -> T:
    """Build a dataclass from a mapping with exactly its fields. Errors start with ``where``.

    Raises:
        InputError: no mapping, an unknown or missing key, a wrong type, or a value out of range.
    """
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
    """Write a dataclass of settings as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def one_line(error: Exception) -> str:
    """The message of a Hydra or OmegaConf error on one line, without the description of objects."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("object_type=", "reference_type=", "full_key:")))


def variant(group: str, mapping: Any) -> type:
    """Choose the schema of a group in `VARIANTS` by the mapping's ``name``.

    Raises:
        InputError: an unknown name.
    """
    name = mapping.get("name") if isinstance(mapping, DictConfig) else mapping
    if name not in VARIANTS[group]:
        raise InputError(f"configuration: {group}.name is {name!r}, expected one of {', '.join(VARIANTS[group])}")
    return VARIANTS[group][name]


def _check_value(key: str, value: Any, rule: Mapping[str, Any]) -> None:
    for item in value if isinstance(value, list) else [value]:
        if "choices" in rule and not any(fnmatchcase(item, choice) for choice in rule["choices"]):
            raise InputError(f"configuration: {key} is {item!r}, expected one of {', '.join(rule['choices'])}")
        if "low" in rule and not rule["low"] <= item <= rule["high"]:
            raise InputError(f"configuration: {key} is {item}, expected {rule['low']} to {rule['high']}")
