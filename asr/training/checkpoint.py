"""The state of a training run on disk: written beside, synced, renamed; read without running code."""

import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from asr.errors import InputError

LAST = "last.pt"


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write tensors, numbers, strings and containers of them to ``path``; an older file there stays whole until the end."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        with suppress(OSError):
            partial.unlink()
        raise InputError(f"{path}: cannot be written ({error}), expected a folder with room") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote."""
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected the checkpoint of an earlier run")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected a whole checkpoint") from error
