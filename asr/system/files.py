"""Folders, text files, and binary files. A file is written whole or not at all."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from asr.errors import InputError


def make_folder(path: Path) -> None:
    """Make a folder and its parents, unless they exist.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}), expected a folder with room") from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file. An existing file stays intact until the new one is complete.

    Raises:
        InputError: it cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, suffix: str = ".partial") -> None:
    """Write a binary file. An existing file stays intact until the new one is complete.

    ``suffix`` ends the name of the new one meanwhile. Writers that may write the same file at once need different ones.

    Raises:
        InputError: it cannot be written.
    """
    partial = path.with_name(path.name + suffix)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), expected a file in a folder with room"
        ) from error


def check_writable(*paths: Path | None) -> None:
    """Check that files can be written, before the work whose results they are for. None is no file; nothing is changed.

    Raises:
        InputError: a folder does not exist or cannot be written, or a file is a folder itself.
    """
    for path in filter(None, paths):
        if path.is_dir():
            raise InputError(f"{path}: cannot be written (a folder), expected a file in a folder with room")
        probe = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            found = f"cannot be written ({error.strerror})"
            raise InputError(f"{path}: {found}, expected a file in a folder with room") from error


def read_text(path: Path, expected: str) -> str:
    """Read a UTF-8 text file. ``expected`` describes its content in error messages.

    Raises:
        InputError: it is missing, not readable, or not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}), expected {expected}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8, expected {expected}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        InputError: it is missing, not readable, or not a JSON object.
    """
    try:
        content = json.loads(read_text(path, "a JSON object"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not readable ({error}), expected a JSON object") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}, expected a JSON object")
    return content
