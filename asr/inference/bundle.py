"""One trained model on disk: weights, configuration, phones, statistics and a card, written whole or not at all.

    config.yaml           front end, model, inventory and scoring convention
    model.safetensors     weights
    phones.txt            a symbol a line, line i is symbol id i, the blank first
    statistics.safetensors  mean and standard deviation of each feature, where the normalization is global
    README.md             the model card: data, command, score
    checksums.txt         SHA-256 of the files above but the card
    aligner.safetensors   where phones begin and end (`asr.inference.forced_alignment`), put there after training
    confidence.yaml       the temperature for confidences (`asr.scoring.calibration`), put there after training

A bundle loads without the training data, without pickle, and on another device than it was trained on.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import save
from torch import Tensor

from asr.config import FeatureConfig, ModelConfig, from_mapping
from asr.corpus.phones import BLANK, INVENTORIES, PhoneInventory, inventory
from asr.errors import InputError
from asr.features.filterbanks import feature_dim
from asr.features.normalization import FeatureStatistics
from asr.inference.weights import read_weights
from asr.nn.acoustic_model import AcousticModel
from asr.system.files import read_text
from asr.system.plain_yaml import read_yaml
from asr.system.processor import choose_precision

log = logging.getLogger("asr")

FORMAT = 1
"""Raised when a bundle of an earlier version could no longer be read."""

PRECISIONS = ("auto", "float32", "bfloat16", "int8")
FILES = ("config.yaml", "model.safetensors", "phones.txt", "README.md")
STATISTICS_FILE, CHECKSUMS_FILE = "statistics.safetensors", "checksums.txt"
CHECKED = ("config.yaml", "model.safetensors", "phones.txt", STATISTICS_FILE)


@dataclass
class Bundle:
    """A model with all that it takes to use it. ``statistics`` is as `asr.features.normalization.normalize` wants it."""

    model: AcousticModel
    model_config: ModelConfig
    features: FeatureConfig
    inventory: PhoneInventory
    convention: str
    statistics: Mapping[str, FeatureStatistics] = field(default_factory=dict)
    precision: str = "float32"

    def log_probs(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What `AcousticModel.forward` gives, in the bundle's precision.

        Raises:
            InputError: weights so large that they give no numbers, which no decoder could use.
        """
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            log_probs, out_lengths = self.model(features, lengths)
        if not log_probs.isfinite().all():
            raise InputError("model: its log-probabilities are not finite, expected the weights of a trained model")
        return log_probs, out_lengths


def build_model(model: ModelConfig, features: FeatureConfig, phones: PhoneInventory) -> AcousticModel:
    """A model with fresh weights for this front end and these phones."""
    return AcousticModel(model, feature_dim(features), len(phones.symbols))


def save_bundle(bundle: Bundle, path: Path, card: str) -> None:
    """Write a bundle to the folder ``path``, in place of one that is there; ``card`` is its README.

    Raises:
        InputError: the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    config = {
        "format": FORMAT,
        "inventory": bundle.inventory.name,
        "convention": bundle.convention,
        "features": asdict(bundle.features),
        "model": asdict(bundle.model_config),
    }
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
        (partial / "phones.txt").write_text("\n".join(bundle.inventory.symbols) + "\n", encoding="utf-8")
        (partial / "README.md").write_text(card, encoding="utf-8")
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in bundle.model.state_dict().items()}
        (partial / "model.safetensors").write_bytes(save(weights))
        if "" in bundle.statistics:
            known = bundle.statistics[""]
            (partial / STATISTICS_FILE).write_bytes(save({"mean": known.mean, "std": known.std}))
        names = sorted(file.name for file in partial.iterdir() if file.name != "README.md")
        lines = [f"{_sha256(partial / name)}  {name}\n" for name in names]
        (partial / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")
        for file in partial.iterdir():
            _sync(file)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"{path}: cannot be written ({error.strerror}), expected a folder with room") from error


def load_bundle(path: Path, device: torch.device | str = "cpu", precision: str = "float32") -> Bundle:
    """The model in a bundle folder, ready for inference on ``device``.

    ``precision`` is one of `PRECISIONS`: float32 is exact; bfloat16 is faster where the device computes in it; auto is the
    one or the other (`asr.system.processor`); int8 makes the recurrent weights 8-bit numbers, on CPU alone.

    Raises:
        InputError: not a bundle, or its parts do not fit together.
    """
    device = checked_device(device)
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision}, expected one of {', '.join(PRECISIONS)}")
    if precision == "int8" and device.type != "cpu":
        raise InputError(f"precision is int8 on {device}, expected cpu")
    precision, _, warning = choose_precision(precision, device)
    if warning:
        log.warning(warning)
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path}: no {missing[0]}, expected a model folder as `asr train` leaves it in RUN_DIR/model")
    for file in path.iterdir():
        if not file.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{file}: a link to {file.resolve()}, expected a file in the model's folder")
    check_checksums(path)
    found = read_yaml(path / "config.yaml")
    symbols = tuple(read_text(path / "phones.txt", "a phone a line").split())
    if found.get("format") != FORMAT:
        raise InputError(f"{path}/config.yaml: format {found.get('format')!r}, expected {FORMAT}")
    features = from_mapping(FeatureConfig, found.get("features", {}), f"{path}/config.yaml: features")
    model_config = from_mapping(ModelConfig, found.get("model", {}), f"{path}/config.yaml: model")
    phones = _inventory(path, str(found.get("inventory")), symbols)
    with torch.device("meta"):  # sizes alone: settings must not ask for memory that the weights do not fill
        expected = build_model(model_config, features, phones).state_dict()
    weights = read_weights(path / "model.safetensors", expected)
    model = build_model(model_config, features, phones)
    model.load_state_dict(weights)
    known = {}
    if features.normalization == "global":
        size = torch.empty(feature_dim(features))
        known[""] = FeatureStatistics(**read_weights(path / STATISTICS_FILE, {"mean": size, "std": size}))
    model = model.to(device).eval()
    if precision == "int8":
        model.recurrent.quantize()
    return Bundle(model, model_config, features, phones, str(found.get("convention")), known, precision)


def check_checksums(path: Path) -> None:
    """Refuse a bundle of which a file is not as it was written; one without checksums is taken as it is.

    Raises:
        InputError: it names the file.
    """
    if not (path / CHECKSUMS_FILE).exists():
        return
    for line in read_text(path / CHECKSUMS_FILE, "a checksum and a name a line").splitlines():
        digest, _, name = line.partition("  ")
        if name not in CHECKED or not (path / name).is_file():
            raise InputError(
                f"{path}/{CHECKSUMS_FILE}: {line[:100]!r}, expected a checksum and one of {', '.join(CHECKED)}"
            )
        if _sha256(path / name) != digest:
            raise InputError(
                f"{path}/{name}: does not agree with its checksum, expected it as written, or no {CHECKSUMS_FILE}"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    """Have the disk write a file, which Windows does only for one that is open for writing."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def initialize_from(model: AcousticModel, phones: PhoneInventory, path: Path) -> list[str]:
    """Copy into a model the weights of a bundle that fit it by name and shape; what stays as it was, in words.

    The output layer fits only where the bundle has the same phones.

    Raises:
        InputError: not a bundle, or nothing of it fits.
    """
    there = load_bundle(path)
    theirs, ours = there.model.state_dict(), model.state_dict()
    other_phones = there.inventory.symbols != phones.symbols

    def difference(key: str) -> str:
        if key not in theirs:
            return "not there"
        if theirs[key].shape != ours[key].shape:
            return f"there {list(theirs[key].shape)}"
        return "there of other phones" if other_phones and key.startswith("output.") else ""

    fresh = {key: difference(key) for key in ours if difference(key)}
    if len(fresh) == len(ours):
        raise InputError(f"{path}: no weight fits the model to train, expected one of the same kind and width")
    model.load_state_dict({key: value if key in fresh else theirs[key] for key, value in ours.items()})
    return [f"{key} {list(ours[key].shape)}, {what}" for key, what in fresh.items()]


def checked_device(name: torch.device | str) -> torch.device:
    """The device of that name, which must be at hand."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device is {name}, expected cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device is {name}, expected cpu: no CUDA device is at hand")
    return device


def _inventory(path: Path, name: str, symbols: tuple[str, ...]) -> PhoneInventory:
    """The named inventory, which must have the bundle's symbols; of an unknown name, those symbols alone."""
    if not symbols or symbols[0] != BLANK or len(set(symbols)) != len(symbols):
        raise InputError(f"{path}/phones.txt: starts with {symbols[:1]}, expected {BLANK} and then each phone once")
    if name not in INVENTORIES:
        return PhoneInventory(name, symbols, {phone: phone for phone in symbols[1:]})
    known = inventory(name)
    if known.symbols != symbols:
        raise InputError(f"{path}/phones.txt: {len(symbols)} symbols, expected the {len(known.symbols)} of {name}")
    return known
