"""The state of a training run on disk: written beside, synced, read back, renamed; read without running code.

A file is what `torch.save` writes and, after it, the SHA-256 of that.
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
    """Write tensors, numbers, strings and containers of them to ``path``; an older file there stays whole until the end.

    Raises:
        InputError: it cannot be written, or is not what was written when it is read back.
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
            raise OSError("it reads back as something else")
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(f"{path}: cannot be written ({error}), expected a folder with room") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote.

    Raises:
        InputError: not there, or not as it was written.
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
    """Write the state of a run; the one before is kept beside it."""
    if (folder / LAST).exists():
        with suppress(OSError):
            (folder / BEFORE).unlink(missing_ok=True)
            os.link(folder / LAST, folder / BEFORE)
    save_checkpoint(state, folder / LAST)


def load_last(folder: Path) -> dict[str, Any]:
    """The state that a run is taken up from: the last one, or where that is damaged the one before.

    Raises:
        InputError: neither can be used.
    """
    try:
        return load_checkpoint(folder / LAST)
    except InputError as error:
        if not (folder / BEFORE).exists():
            raise
        log.warning("%s; the one before is used", error)
        return load_checkpoint(folder / BEFORE)
