"""One process at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import InputError
from asr.system.files import make_folder

try:
    import fcntl
except ImportError:  # Windows, where a folder is not guarded
    fcntl = None  # type: ignore[assignment]


@contextmanager
def open_run_lock(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it out of a folder; the system lifts this when the process ends, however it does.

    Raises:
        InputError: another process is there, or the folder cannot be written.
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
                    f"{folder}: process {file.read().strip()} works in it, expected it to end first"
                ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
