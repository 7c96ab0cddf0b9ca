"""Folders, and files that are written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from asr.errors import InputError


def make_folder(path: Path) -> None:
    """Make a folder, and those it lies in, where it is not there yet.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}), expected a folder with room") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; one that is there stays whole until the end.

    Raises:
        InputError: it cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; one that is there stays whole until the end.

    Raises:
        InputError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), expected a file in a folder with room"
        ) from error


def read_text(path: Path, expected: str) -> str:
    """The text of a file in UTF-8; ``expected`` says in the error what it should be.

    Raises:
        InputError: it is not there, not readable, or not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}), expected {expected}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8, expected {expected}") from error
