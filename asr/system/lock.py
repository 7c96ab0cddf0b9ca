"""A lock that admits one process at a time to a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import InputError
from asr.system.files import make_folder

try:
    import fcntl
except ImportError:  # Windows, where folders are not locked
    fcntl = None  # type: ignore[assignment]


@contextmanager
def open_run_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that call this. The system releases the lock however the process ends.

    Raises:
        InputError: another process holds the lock, or the folder cannot be written.
    """
    make_folder(folder)
    try:
        file = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}), expected a folder with room") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise InputError(
                    f"{folder}: in use by process {file.read().strip()}, expected that process to end first"
                ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
