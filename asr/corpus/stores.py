"""Stores of files: a local folder, or an object store that fsspec knows, such as ``s3://bucket/folder``.

Every request to an object store is repeated after growing pauses until it is answered or ``retry_s`` are over; then the
error is one line. A file appears when it is complete: objects do so by themselves (S3, Google Cloud Storage, Azure), local
files are renamed. Addresses and keys of S3 come from the environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...).
"""

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from asr.errors import InputError
from asr.system.files import make_folder, write_bytes

T = TypeVar("T")

URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
"""A URL, also one whose slashes `pathlib.Path` has made one. A drive of Windows has one letter."""

RETRY_S = 60.0
"""How long a store that does not answer is asked again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0

BLOCK_BYTES = 2**24
"""A download is made of requests of this size, so that a failure does not repeat the whole."""

LOCAL_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of the local disk, which do not pass by waiting."""


class MissingFileError(InputError):
    """A store answers that it does not have a file."""


def is_url(location: str | Path) -> bool:
    """Whether a location is in an object store. ``file://`` is a local folder."""
    match = URL.fullmatch(str(location))
    return match is not None and match[1] != "file"


class LocalStore:
    """A local folder of files. Every method raises InputError if it cannot be used."""

    def __init__(self, location: str | Path) -> None:
        match = URL.fullmatch(str(location))
        self.folder = Path(f"/{match[2]}" if match else location)
        self.location = str(self.folder)

    def where(self, name: str) -> str:
        """The path or URL of a file, for messages."""
        return f"{self.location}/{name}"

    def sizes(self) -> dict[str, int]:
        """The name of each file, and its bytes."""
        try:
            with os.scandir(self.folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(f"{self.folder}: not readable ({error.strerror}), expected a folder") from error

    def read_bytes(self, name: str) -> bytes:
        """Read a file, or raise MissingFileError."""
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingFileError(f"{self.where(name)}: no such file, expected one") from error
        except OSError as error:
            raise InputError(f"{self.where(name)}: not readable ({error.strerror}), expected a file") from error

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / name).is_file()

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file or replace it."""
        make_folder(self.folder)
        write_bytes(self.folder / name, content)

    def put(self, path: Path, name: str) -> None:
        """Move a file of the same disk here. An existing file is replaced."""
        try:
            os.replace(path, self.folder / name)
        except OSError as error:
            raise InputError(f"{self.where(name)}: cannot be written ({error.strerror}), expected room") from error

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are passed over."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


class ObjectStore:
    """A folder of an object store, with the methods of `LocalStore`. Several threads may use it at once."""

    def __init__(self, location: str | Path, retry_s: float = RETRY_S) -> None:
        match = URL.fullmatch(str(location))
        assert match is not None
        self.location, self.retry_s = f"{match[1]}://{match[2].rstrip('/')}", retry_s
        self._files, self._root = _open_filesystem(self.location)

    def where(self, name: str) -> str:
        """The path or URL of a file, for messages."""
        return f"{self.location}/{name}"

    def sizes(self) -> dict[str, int]:
        """The name of each file, and its bytes."""
        try:
            found = self._ask("", self._files.ls, self._root, detail=True, refresh=True)
        except MissingFileError:
            return {}
        return {one["name"].rpartition("/")[2]: int(one["size"]) for one in found if one["type"] == "file"}

    def read_bytes(self, name: str) -> bytes:
        """Read a file, or raise MissingFileError."""
        return bytes(self._ask(name, self._files.cat_file, self._path(name)))

    def read_blocks(self, name: str, size_bytes: int) -> Iterator[bytes]:
        """Yield the bytes of a file of this size in blocks of up to `BLOCK_BYTES`; one that is shorter ends early."""
        for start in range(0, size_bytes, BLOCK_BYTES):
            end = min(start + BLOCK_BYTES, size_bytes)
            block = self._ask(name, self._read_range, self._path(name), start, end)
            yield block
            if len(block) < end - start:
                return

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        with suppress(MissingFileError):
            return bool(self._ask(name, self._files.info, self._path(name)))
        return False

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file or replace it."""
        self._ask(name, self._files.pipe_file, self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless it exists; whether it did not. Not every store makes this one step: read it back."""
        try:
            self._ask(name, self._files.pipe_file, self._path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def put(self, path: Path, name: str) -> None:
        """Move a local file here. An existing file is replaced."""
        self._ask(name, self._files.put_file, str(path), self._path(name))
        path.unlink()

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are passed over."""
        for name in names:
            with suppress(MissingFileError):
                self._ask(name, self._files.rm_file, self._path(name))

    def _read_range(self, path: str, start: int, end: int) -> bytes:
        try:
            return bytes(self._files.cat_file(path, start=start, end=end))
        except OSError as error:
            if "not satisfiable" in str(error):  # S3's answer if the file ends before ``start``
                return b""
            raise

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _ask(self, name: str, request: Callable[..., T], *arguments: object, **options: object) -> T:
        where = self.where(name) if name else self.location
        return ask(where, partial(request, *arguments, **options), self.retry_s)


Store = LocalStore | ObjectStore


def open_store(location: str | Path, retry_s: float = RETRY_S) -> Store:
    """Open the store at a location; nothing is read or made.

    Raises:
        InputError: fsspec does not know this kind of store, or a package for it is not installed.
    """
    return ObjectStore(location, retry_s) if is_url(location) else LocalStore(location)


def ask(where: str, request: Callable[[], T], retry_s: float) -> T:
    """Repeat a request to a store until it is answered or ``retry_s`` are over. Pauses double and are random by a half.

    Raises:
        MissingFileError: the store does not have the file.
        InputError: it refuses, it does not answer, or the local disk is full.
        FileExistsError: the request was to create a file, and it exists.
    """
    begin_s, pause_s, tries = time.monotonic(), FIRST_PAUSE_S, 0
    while True:
        tries += 1
        try:
            return request()
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            raise MissingFileError(f"{where}: no such file or bucket, expected one") from error
        except NotImplementedError as error:
            raise InputError(f"{where}: such a store cannot do this, expected one that is read and written") from error
        except Exception as error:  # each kind of store has exceptions of its own
            if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":  # botocore's
                raise InputError(f"{where}: refused ({_reason(error)}), expected keys that may use it") from error
            if isinstance(error, OSError) and error.errno in LOCAL_FAILURES:
                raise InputError(f"{error.filename or where}: {error.strerror}, expected a disk with room") from error
            waited_s = time.monotonic() - begin_s
            if waited_s >= retry_s:
                raise InputError(
                    f"{where}: no answer in {waited_s:.0f} s and {tries} tries ({_reason(error)}), expected a store that "
                    "answers; what is done is kept, and the same command, or resume=true, goes on"
                ) from error
            time.sleep(min(pause_s * random.uniform(0.5, 1.0), retry_s - waited_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _open_filesystem(location: str) -> tuple[Any, str]:
    import fsspec

    protocol, options = location.partition("://")[0], {}
    if protocol in ("s3", "s3a"):  # one try each: pauses are made here, not in three libraries on top of one another
        given = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
        options = {"config_kwargs": given | {"retries": {"total_max_attempts": 1, "mode": "standard"}}}
    try:
        files, root = fsspec.core.url_to_fs(location, **options)
    except ImportError as error:
        raise InputError(
            f"{location}: {error}, expected the packages for it, such as pip install 'asr-phones[shards]'"
        ) from error
    except ValueError as error:
        raise InputError(f"{location}: {error}, expected a folder, or a URL such as s3://bucket/folder") from error
    if protocol in ("s3", "s3a"):
        files.retries = 1
    return files, root.rstrip("/")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
