"""The checkpoint of a pretrained encoder: a folder in Transformers' layout, or a name on a hub. Safetensors only.

config.json            the architecture
*.safetensors          the weights, in one file or several
"""

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from asr.errors import InputError
from asr.inference.weights import check_weights, read_tensors
from asr.nn.pretrained_encoder import PretrainedEncoder, family_of, select_weights
from asr.system.files import read_json_object

FILES = ["config.json", "*.safetensors"]


def find_checkpoint(name: str) -> Path:
    """The folder of a checkpoint: ``name`` itself, or a hub's download, from its cache if it is there.

    Raises:
        InputError: no such folder, and the hub has no such name or cannot be reached.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_absolute() or name.count("/") != 1:
        raise InputError(f"encoder.checkpoint: {name} does not exist, expected a folder or a hub's OWNER/NAME")
    from huggingface_hub import snapshot_download

    for local_only in (True, False):
        try:
            return Path(snapshot_download(name, allow_patterns=FILES, local_files_only=local_only))
        except Exception as error:  # its errors have no common type, and include those of the network
            reason = (
                f"{type(error).__name__}: {str(error).splitlines()[0][:100]}" if str(error) else type(error).__name__
            )
    raise InputError(f"encoder.checkpoint: {name} cannot be downloaded ({reason}), expected a folder or a hub's name")


def read_architecture(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a checkpoint.

    Raises:
        InputError: missing, not JSON, or of another family than `asr.nn.pretrained_encoder.FAMILIES`.
    """
    architecture = read_json_object(folder / "config.json")
    try:
        family_of(architecture)
    except InputError as error:
        raise InputError(f"{folder}/config.json: {error}") from error
    return architecture


def load_encoder(encoder: PretrainedEncoder, folder: Path, architecture: dict[str, Any]) -> None:
    """Copy the weights of a checkpoint into an encoder.

    Raises:
        InputError: no safetensors, or names or shapes that do not fit the architecture.
    """
    tensors: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        tensors.update(read_tensors(path))
    weights = select_weights(architecture, tensors)
    encoder.network.load_state_dict(check_weights(folder, weights, encoder.network.state_dict()))


def digest_of(folder: Path) -> str:
    """SHA-256 of a checkpoint's files."""
    total = hashlib.sha256()
    for path in (folder / "config.json", *_weight_files(folder)):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        others = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "no weights"
        raise InputError(f"{folder}: has {others}, expected model.safetensors")
    return files
