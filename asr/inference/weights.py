"""Weights in safetensors files, checked against the names and shapes that the model expects."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from asr.errors import InputError


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the weights of a safetensors file into a network. Errors as in `read_weights`."""
    model.load_state_dict(read_weights(path, model.state_dict()))


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file as float32. They must have the expected names and shapes.

    Raises:
        InputError: not readable; names or shapes differ, each of which is named; or a value is not finite.
    """
    return check_weights(path, read_tensors(path), expected)


def check_weights(path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors read from ``path`` as float32. Errors as in `read_weights`."""
    wrong = [f"{key} is missing" for key in expected.keys() - weights.keys()]
    wrong += [f"{key} is unknown" for key in weights.keys() - expected.keys()]
    wrong += [
        f"{key} is {list(weights[key].shape)}, expected {list(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    if wrong:
        raise InputError(f"{path}: weights do not fit the model: {'; '.join(sorted(wrong))}")
    # Copied, or float32 tensors would stay in the mapped file, which may be cut while the model is in use.
    numbers = {key: tensor.to(torch.float32, copy=True) for key, tensor in weights.items()}
    if wrong := [key for key, tensor in numbers.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path}: {wrong[0]} has a value that is not finite, expected numbers")
    return numbers


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file.

    Raises:
        InputError: not readable; for a pickle, the message says how to convert it.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        if is_pickle(path):
            raise InputError(
                f"{path}: a pickle, which can run any code, expected safetensors: on the machine that wrote it, "
                f"safetensors.torch.save_file(torch.load('{path.name}', weights_only=True), '{path.stem}.safetensors')"
            ) from error
        raise InputError(f"{path}: not readable ({str(error)[:100]}), expected a safetensors file") from error


def is_pickle(path: Path) -> bool:
    """Whether a file is in a format of `torch.save`: a zip archive, or a bare pickle as older versions wrote it."""
    try:
        with path.open("rb") as file:
            return file.read(2)[:1] == b"\x80" or zipfile.is_zipfile(file)
    except OSError:
        return False
