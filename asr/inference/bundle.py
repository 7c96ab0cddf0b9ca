"""A bundle: one trained model in a folder, written whole or not at all.

    config.yaml             features, model, inventory and scoring convention
    model.safetensors       weights
    phones.txt              one symbol per line; line i is symbol id i, the blank first
    statistics.safetensors  mean and standard deviation of each feature, if the normalization needs them
    README.md               the model card: data, command, score
    checksums.txt           SHA-256 of the files above except the card
    aligner.safetensors     the aligner (`asr.inference.forced_alignment`), added after training
    confidence.yaml         the calibration of confidences (`asr.scoring.calibration`), added after training
    encoder.json            the architecture of the pretrained encoder, if there is one
    phone_map.tsv           the phones of a corpus that phones.txt folds or drops, if there are any (`asr.corpus.phones`)

A bundle loads without the training data, without pickle, and on another device than it was trained on.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save
from torch import Tensor

from asr.config import FeatureConfig, ModelConfig, from_mapping
from asr.corpus.phones import BLANK, INVENTORIES, PhoneInventory, format_folding, inventory, read_folding
from asr.errors import InputError
from asr.features.filterbanks import feature_dim
from asr.features.normalization import NEEDS_STATISTICS, FeatureStatistics
from asr.inference.weights import read_weights
from asr.nn.acoustic_model import AcousticModel
from asr.nn.pretrained_encoder import EncoderSpec
from asr.system.files import read_json_object, read_text
from asr.system.plain_yaml import read_yaml
from asr.system.processor import choose_precision, require_device

log = logging.getLogger("asr")

FORMAT = 1
"""Increase it when bundles of earlier versions can no longer be read."""

PRECISIONS = ("auto", "float32", "bfloat16", "int8")
REQUIRED_FILES = ("config.yaml", "model.safetensors", "phones.txt", "README.md")
STATISTICS_FILE, CHECKSUMS_FILE, ENCODER_FILE = "statistics.safetensors", "checksums.txt", "encoder.json"
FOLDING_FILE = "phone_map.tsv"
LATER_SETTINGS: dict[str, dict[str, Any]] = {
    "features": {"padding_ms": 0.0},
    "model": {"chunk_frames": 0, "look_ahead_frames": [0]},
}
"""Settings that bundles of earlier releases lack, and what they did."""
ENCODER_SETTINGS = {"trained_layers": int, "mix_layers": bool}
CHECKSUMMED_FILES = ("config.yaml", "model.safetensors", "phones.txt", STATISTICS_FILE, ENCODER_FILE, FOLDING_FILE)


@dataclass
class Bundle:
    """A model with everything needed to use it. ``statistics`` are as `asr.features.normalization.normalize` takes them."""

    model: AcousticModel
    model_config: ModelConfig
    features: FeatureConfig
    inventory: PhoneInventory
    convention: str
    statistics: Mapping[str, FeatureStatistics] = field(default_factory=dict)
    precision: str = "float32"
    encoder: EncoderSpec | None = None

    def log_probs(self, features: Tensor, lengths: Tensor, encoded: bool = False) -> tuple[Tensor, Tensor]:
        """Run `AcousticModel.forward` in the bundle's precision.

        Raises:
            InputError: the weights are so large that the log-probabilities are not finite.
        """
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            log_probs, out_lengths = self.model(features, lengths, encoded)
        if not log_probs.isfinite().all():
            raise InputError("model: its log-probabilities are not finite, expected the weights of a trained model")
        return log_probs, out_lengths


def build_model(
    model: ModelConfig, features: FeatureConfig, phones: PhoneInventory, encoder: EncoderSpec | None = None
) -> AcousticModel:
    """Build a model with new weights for these features and phones."""
    return AcousticModel(model, feature_dim(features), len(phones.symbols), encoder)


def save_bundle(bundle: Bundle, path: Path, card: str) -> None:
    """Write a bundle to the folder ``path``, replacing an existing one. ``card`` is its README.

    Raises:
        InputError: the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    phones = bundle.inventory
    config = {
        "format": FORMAT,
        "inventory": phones.name,
        "convention": bundle.convention,
        "features": asdict(bundle.features),
        "model": asdict(bundle.model_config),
    }
    if phones.notation and not phones.ships:
        config["notation"] = phones.notation
    if bundle.encoder:
        config["encoder"] = {key: getattr(bundle.encoder, key) for key in ENCODER_SETTINGS}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
        (partial / "phones.txt").write_text("\n".join(phones.symbols) + "\n", encoding="utf-8")
        if not phones.ships and any(phone != modelled for phone, modelled in phones.mapping.items()):
            (partial / FOLDING_FILE).write_text(format_folding(phones.mapping), encoding="utf-8")
        (partial / "README.md").write_text(card, encoding="utf-8")
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in bundle.model.state_dict().items()}
        (partial / "model.safetensors").write_bytes(save(weights))
        if bundle.encoder:
            text = json.dumps(bundle.encoder.architecture, indent=1, sort_keys=True)
            (partial / ENCODER_FILE).write_text(text + "\n", encoding="utf-8")
        if "" in bundle.statistics:
            statistics = bundle.statistics[""]
            (partial / STATISTICS_FILE).write_bytes(save({"mean": statistics.mean, "std": statistics.std}))
        names = sorted(file.name for file in partial.iterdir() if file.name != "README.md")
        lines = [f"{_sha256(partial / name)}  {name}\n" for name in names]
        (partial / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")
        for file in partial.iterdir():
            _flush_to_disk(file)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"{path}: cannot be written ({error.strerror}), expected a folder with room") from error


def load_bundle(path: Path, device: torch.device | str = "cpu", precision: str = "float32") -> Bundle:
    """Load the model in a bundle folder, ready for inference on ``device``.

    ``precision`` is one of `PRECISIONS`. float32 is exact. bfloat16 is faster if the device computes in it. auto is one of
    these two (`asr.system.processor`). int8 stores the recurrent weights as 8-bit numbers, on CPU only.

    Raises:
        InputError: not a bundle, or its parts do not fit together.
    """
    device = require_device(device)
    precision = _resolve_precision(precision, device)
    _check_files(path)
    config = read_yaml(path / "config.yaml")
    symbols = tuple(read_text(path / "phones.txt", "one phone per line").split())
    if config.get("format") != FORMAT:
        raise InputError(f"{path}/config.yaml: format {config.get('format')!r}, expected {FORMAT}")
    groups = {name: _with_later_settings(config.get(name, {}), later) for name, later in LATER_SETTINGS.items()}
    features = from_mapping(FeatureConfig, groups["features"], f"{path}/config.yaml: features")
    model_config = from_mapping(ModelConfig, groups["model"], f"{path}/config.yaml: model")
    phones = _load_inventory(path, str(config.get("inventory")), symbols, str(config.get("notation", "")))
    encoder = _load_encoder(path, config.get("encoder"))
    with torch.device("meta"):  # no memory for damaged settings, and no time for weights that are replaced
        model = build_model(model_config, features, phones, encoder)
    model.load_state_dict(read_weights(path / "model.safetensors", model.state_dict()), assign=True)
    statistics = {}
    if features.normalization in NEEDS_STATISTICS:
        size = torch.empty(feature_dim(features))
        statistics[""] = FeatureStatistics(**read_weights(path / STATISTICS_FILE, {"mean": size, "std": size}))
    model = model.to(device).eval()
    if precision == "int8":
        model.quantize()
    convention = str(config.get("convention"))
    return Bundle(model, model_config, features, phones, convention, statistics, precision, encoder)


def _with_later_settings(settings: Any, later: Mapping[str, Any]) -> Any:
    """A group of settings, with those that releases before them did not write."""
    return {**later, **settings} if isinstance(settings, Mapping) else settings


def initialize_from(model: AcousticModel, phones: PhoneInventory, path: Path) -> list[str]:
    """Copy the weights of a bundle into a model if name and shape agree. Returns the weights not copied, each with why.

    The output layer is copied only if the bundle has the same phones.

    Raises:
        InputError: not a bundle, or no weight fits.
    """
    bundle = load_bundle(path)
    theirs, ours = bundle.model.state_dict(), model.state_dict()
    same_phones = bundle.inventory.symbols == phones.symbols

    def difference(key: str) -> str:
        if key not in theirs:
            return "not in the bundle"
        if theirs[key].shape != ours[key].shape:
            return f"in the bundle {list(theirs[key].shape)}"
        return "in the bundle for other phones" if key.startswith("output.") and not same_phones else ""

    not_copied = {key: difference(key) for key in ours if difference(key)}
    if len(not_copied) == len(ours):
        raise InputError(f"{path}: no weight fits the model to train, expected one of the same kind and width")
    model.load_state_dict({key: value if key in not_copied else theirs[key] for key, value in ours.items()})
    return [f"{key} {list(ours[key].shape)}, {reason}" for key, reason in not_copied.items()]


def verify_checksums(path: Path) -> None:
    """Refuse a bundle with a changed file. A bundle without checksums is not checked.

    Raises:
        InputError: it names the file.
    """
    if not (path / CHECKSUMS_FILE).exists():
        return
    for line in read_text(path / CHECKSUMS_FILE, "a checksum and a name per line").splitlines():
        digest, _, name = line.partition("  ")
        if name not in CHECKSUMMED_FILES or not (path / name).is_file():
            names = ", ".join(CHECKSUMMED_FILES)
            raise InputError(f"{path}/{CHECKSUMS_FILE}: {line[:100]!r}, expected a checksum and one of {names}")
        if _sha256(path / name) != digest:
            raise InputError(
                f"{path}/{name}: does not agree with its checksum, expected the original file, or no {CHECKSUMS_FILE}"
            )


def _resolve_precision(precision: str, device: torch.device) -> str:
    """Check a precision and resolve auto for a device. Logs a warning if the device only emulates the precision."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision}, expected one of {', '.join(PRECISIONS)}")
    if precision == "int8" and device.type != "cpu":
        raise InputError(f"precision is int8 on {device}, expected cpu")
    resolved, _, warning = choose_precision(precision, device)
    if warning:
        log.warning(warning)
    return resolved


def _check_files(path: Path) -> None:
    """Refuse a folder with missing files, with links out of it, or with changed files."""
    missing = [name for name in REQUIRED_FILES if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path}: no {missing[0]}, expected a model folder, as `asr train` writes to RUN_DIR/model")
    for file in path.iterdir():
        if not file.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{file}: a link to {file.resolve()}, expected a file in the model's folder")
    verify_checksums(path)


def _load_inventory(path: Path, name: str, symbols: tuple[str, ...], notation: str) -> PhoneInventory:
    """Get the inventory of that name, which must have the bundle's symbols. A new name makes a new inventory of them."""
    if not symbols or symbols[0] != BLANK or len(set(symbols)) != len(symbols):
        raise InputError(f"{path}/phones.txt: starts with {symbols[:1]}, expected {BLANK} and then each phone once")
    if name not in INVENTORIES:
        file, mapping = path / FOLDING_FILE, {phone: phone for phone in symbols[1:]}
        folding: dict[str, str | None] = read_folding(file)[0] if file.exists() else {**mapping}
        if {*folding.values(), None} != {*mapping, None}:
            raise InputError(f"{file}: other modelled phones, expected the {len(mapping)} of phones.txt")
        return PhoneInventory(name, symbols, folding, notation)
    known = inventory(name)
    if known.symbols != symbols:
        raise InputError(f"{path}/phones.txt: {len(symbols)} symbols, expected the {len(known.symbols)} of {name}")
    return known


def _load_encoder(path: Path, settings: Mapping[str, Any] | None) -> EncoderSpec | None:
    """Read the pretrained encoder's settings and architecture, None if the bundle has no encoder."""
    if settings is None:
        return None
    kinds = {key: type(settings.get(key)) for key in ENCODER_SETTINGS}
    if kinds != ENCODER_SETTINGS:
        raise InputError(f"{path}/config.yaml: encoder is {settings}, expected {', '.join(ENCODER_SETTINGS)}")
    return EncoderSpec(read_json_object(path / ENCODER_FILE), settings["trained_layers"], settings["mix_layers"])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flush_to_disk(path: Path) -> None:
    """Flush a file to disk. Opened for writing, which Windows requires for that."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
