"""The schema of all settings: one dataclass for each Hydra group.

All values are in ``conf/*.yaml``; no dataclass has a default. Settings are checked before any work starts. A misspelt or
missing key, a wrong type, or a value out of range is an InputError that names the key.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.errors import InputError
from asr.system.value_rules import any_value, check_value, one_of, text_or_list, within

T = TypeVar("T")

INVENTORIES, TABLES = ("timit61", "timit48", "timit39", "arpabet39"), ("*.txt", "*.tsv")
"""Phone inventories that ship with the package, and patterns of the paths of tables of phones."""


@dataclass
class CorpusConfig:
    """The manifests or shards of a corpus, its phones and its scoring convention. ``train`` may be several."""

    name: str
    dir: str
    train: Any = text_or_list()
    dev: str = any_value()
    test: str = any_value()
    inventory: str = one_of(*INVENTORIES, *TABLES)
    convention: str = one_of("plain", "kaldi", "optional-sil", "merged-sil", "no-sil", "61")


@dataclass
class SourcesConfig:
    """How the sources of training data are mixed, and how shards are read (see `asr.training.sources`)."""

    weights: list[float] = within(0, 1000)
    shards_at_once: int = within(1, 100000)
    split: bool = any_value()
    skip_bad: bool = any_value()
    spool_dir: str = any_value()
    spool_gib: float = within(0, 1000000)


@dataclass
class FeatureConfig:
    """Acoustic features. ``pretrained`` stands for what the pretrained encoder takes: ``whisper_mel`` or ``waveform``."""

    name: str = one_of("fbank", "mfcc", "librosa_mel", "pretrained", "whisper_mel", "waveform")
    sample_rate_hz: int = within(4000, 48000)
    bins: int = within(4, 256)
    cepstra: int = within(1, 256)
    frame_length_ms: float = within(5, 200)
    frame_shift_ms: float = within(1, 100)
    padding_ms: float = within(0, 1000)
    low_hz: float = within(0, 24000)
    high_hz: float = within(-24000, 24000)
    preemphasis: float = within(0, 1)
    energy: bool = any_value()
    delta_order: int = within(0, 2)
    normalization: str = one_of("none", "utterance", "speaker", "global", "running", "whisper", "waveform")


@dataclass
class EncoderConfig:
    """A pretrained encoder between the features and the recurrent layers; none if ``checkpoint`` is empty."""

    checkpoint: str
    trained_layers: int = within(-1, 1000)
    mix_layers: bool = any_value()
    learning_rate_factor: float = within(0, 100)
    cache_dir: str = any_value()
    cache_gib: float = within(0, 100000)


@dataclass
class AugmentConfig:
    """Augmentation of audio (``speeds``) and features (``frequency_warp``, SpecAugment masks) in training."""

    speeds: list[float] = within(0.5, 2.0)
    frequency_warp: float = within(0, 0.5)
    time_masks: int = within(0, 20)
    time_mask_frames: int = within(0, 1000)
    time_mask_fraction: float = within(0, 1)
    frequency_masks: int = within(0, 20)
    frequency_mask_bins: int = within(0, 256)


@dataclass
class ModelConfig:
    """The acoustic model: optional convolutional front end, recurrent layers, optional self-attention, output layer."""

    name: str
    convolution_channels: list[int] = within(1, 1024)
    time_reduction: int = within(1, 8)
    cell: str = one_of("lstm", "gru")
    bidirectional: bool = any_value()
    layers: int = within(1, 20)
    hidden: int = within(1, 4096)
    projection: int = within(0, 4096)
    layer_norm: bool = any_value()
    dropout: float = within(0, 0.95)
    attention_layers: int = within(0, 20)
    attention_heads: int = within(1, 64)
    initial_uniform: float = within(0, 10)
    chunk_frames: int = within(0, 10000)
    look_ahead_frames: list[int] = within(-1, 10000)


@dataclass
class AdamWConfig:
    """Loshchilov and Hutter, "Decoupled weight decay regularization", 2019."""

    name: str
    learning_rate: float = within(0, 10)
    weight_decay: float = within(0, 1)
    betas: list[float] = within(0, 1)
    epsilon: float = within(0, 1)


@dataclass
class AdadeltaConfig:
    """Zeiler, "ADADELTA: an adaptive learning rate method", 2012."""

    name: str
    learning_rate: float = within(0, 10)
    weight_decay: float = within(0, 1)
    rho: float = within(0, 1)
    epsilon: float = within(0, 1)


@dataclass
class SgdConfig:
    """Stochastic gradient descent with classical momentum."""

    name: str
    learning_rate: float = within(0, 10)
    weight_decay: float = within(0, 1)
    momentum: float = within(0, 1)


@dataclass
class ProgressScheduleConfig:
    """Learning rate schedules that depend on progress only (``one_cycle``, ``warmup_cosine``, ``constant``)."""

    name: str
    warmup_fraction: float = within(0, 1)
    start_factor: float = within(0, 1)
    final_factor: float = within(0, 1)


@dataclass
class DevScheduleConfig:
    """Schedules that multiply the learning rate by ``factor`` when dev PER stops improving (``plateau``, ``newbob``)."""

    name: str
    factor: float = within(0, 1)
    patience: int = within(0, 1000)
    threshold: float = within(0, 100)


@dataclass
class TrainerConfig:
    """The training loop: duration, batches, precision, regularization, averaging, checkpoints."""

    epochs: int = within(1, 10000)
    flat_start_epochs: int = within(0, 1000)
    batch_seconds: float = within(0.1, 100000)
    batch_utterances: int = within(1, 100000)
    accumulation: int = within(1, 10000)
    precision: str = one_of("auto", "float32", "bfloat16")
    loss_reduction: str = one_of("sum", "utterance", "token")
    consistency: float = within(0, 100)
    expected_errors: float = within(0, 1)
    teachers: list[str] = any_value()
    distillation: float = within(0, 1)
    gradient_clip: float = within(0)
    weight_noise: float = within(0, 10)
    average: str = one_of("none", "best", "last", "ema")
    average_count: int = within(1, 1000)
    ema_decay: float = within(0, 1)
    keep_best: int = within(1, 1000)
    checkpoint_minutes: float = within(0, 100000)
    early_stopping_epochs: int = within(0, 10000)
    aligner_epochs: int = within(0, 1000)
    frozen: list[str] = any_value()
    feature_cache_gib: float = within(0, 10000)
    device: str = one_of("auto", "cpu", "cuda")
    threads: int = within(0, 1024)
    trackers: list[str] = one_of("tensorboard", "wandb", "mlflow")


@dataclass
class DecoderConfig:
    """The decoder from log-probabilities to phones."""

    name: str = one_of("best_path")


@dataclass
class BeamConfig:
    """Prefix beam search with the n-gram in the same folder (see `asr.decoding.beam_search`)."""

    beam: int = within(1, 10000)
    weight: float = within(0, 100)
    bonus: float = within(-100, 100)


OptimizerConfig = AdamWConfig | AdadeltaConfig | SgdConfig
ScheduleConfig = ProgressScheduleConfig | DevScheduleConfig


@dataclass
class TrainConfig:
    """All settings of a training run."""

    corpus: CorpusConfig
    sources: SourcesConfig
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
        check_value(f"{where}.{setting.name}", getattr(result, setting.name), setting.metadata)
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
