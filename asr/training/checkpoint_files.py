"""Checkpoint files: written under another name, synced, read back, renamed; loading one cannot run code.

A file is the output of `torch.save` followed by its SHA-256.
"""

import hashlib
import io
import logging
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from asr.errors import InputError

log = logging.getLogger("asr.training")

LAST, BEFORE = "last.pt", "before_last.pt"
DIGEST_BYTES = hashlib.sha256().digest_size


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write tensors, numbers, strings and containers of them to ``path``; an older file stays intact until the end.

    Raises:
        InputError: the file cannot be written, or reads back different.
    """
    content = io.BytesIO()
    torch.save(state, content)
    whole = content.getvalue() + hashlib.sha256(content.getbuffer()).digest()
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())
        if partial.read_bytes() != whole:
            raise OSError("it reads back different")
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(f"{path}: cannot be written ({error}), expected a folder with room") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: not readable ({error.strerror}), expected the checkpoint of an earlier run"
        ) from error
    content, digest = whole[:-DIGEST_BYTES], whole[-DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise InputError(
            f"{path}: {len(whole)} bytes that do not agree with their checksum, expected a whole checkpoint"
        )
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected a whole checkpoint") from error


def save_last(state: dict[str, Any], folder: Path) -> None:
    """Write the state of a run; keep the previous one beside it."""
    if (folder / LAST).exists():
        with suppress(OSError):
            (folder / BEFORE).unlink(missing_ok=True)
            os.link(folder / LAST, folder / BEFORE)
    save_checkpoint(state, folder / LAST)


def load_last(folder: Path) -> dict[str, Any]:
    """The state to resume from: the last one, or the previous one if the last is damaged.

    Raises:
        InputError: neither can be read.
    """
    try:
        return load_checkpoint(folder / LAST)
    except InputError as error:
        if not (folder / BEFORE).exists():
            raise
        log.warning("%s; the previous checkpoint is used", error)
        return load_checkpoint(folder / BEFORE)
