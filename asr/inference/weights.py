"""Weights in safetensors files, checked against the model that they are for."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from asr.errors import InputError


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or an InputError that names it."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        if is_pickle(path):
            raise InputError(
                f"{path}: a pickle, which runs any code that is in it, expected safetensors: where it was made, "
                f"safetensors.torch.save_file(torch.load('{path.name}', weights_only=True), '{path.stem}.safetensors')"
            ) from error
        raise InputError(f"{path}: not readable ({str(error)[:100]}), expected a safetensors file") from error


def is_pickle(path: Path) -> bool:
    """Whether a file is what `torch.save` writes, now or before it wrote zip archives."""
    try:
        with path.open("rb") as file:
            return file.read(2)[:1] == b"\x80" or zipfile.is_zipfile(file)
    except OSError:
        return False


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the weights of a safetensors file into a network, which `read_weights` checks."""
    model.load_state_dict(read_weights(path, model.state_dict()))


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in float32, which must have the names and shapes expected.

    Raises:
        InputError: not readable, or it does not fit: every key and shape that differs is named; or a value is not finite.
    """
    weights = read_tensors(path)
    wrong = [f"{key} is missing" for key in expected.keys() - weights.keys()]
    wrong += [f"{key} is unknown" for key in weights.keys() - expected.keys()]
    wrong += [
        f"{key} is {list(weights[key].shape)}, expected {list(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    if wrong:
        raise InputError(f"{path}: weights do not fit the model: {'; '.join(sorted(wrong))}")
    weights = {key: tensor.float() for key, tensor in weights.items()}
    if wrong := [key for key, tensor in weights.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path}: {wrong[0]} has a value that is not finite, expected numbers")
    return weights
