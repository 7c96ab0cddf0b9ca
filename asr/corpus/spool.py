"""Shards on the local disk: fetched from their store ahead of time, checked, and shared by the processes of a machine.

Local shards are used where they are. Those of an object store are copied into the spool, a folder of bounded size with two
kinds of files:

    recording.000003.CHECKSUM.tar            complete; who reads it holds a shared lock, which ends with the process
    recording.000003.CHECKSUM.tar.partial    its download; who writes it holds an exclusive lock, others wait for that

When room is needed, files without a lock go, those not used for longest first. Each fetch checks the checksums, which also
brings the files into memory before they are read.
"""

import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import IO

from asr.corpus.cuts import Utterance
from asr.corpus.shards import BadShardError, LocalShard, ShardFile, Shards, check_file, read_utterances, warn_bad
from asr.corpus.stores import RETRY_S, LocalStore, MissingFileError, ObjectStore, Store, open_store
from asr.errors import InputError
from asr.system.files import make_folder

try:
    import fcntl
except ImportError:  # Windows, where a spool is for one process
    fcntl = None  # type: ignore[assignment]

LIMIT_BYTES = 50 * 2**30
THREADS = 4
WAIT_S = 0.2
"""How often to look again whether there is room."""


class NoRoomError(InputError):
    """All files of the spool are in use, and the limit leaves no room for another."""


class Spool:
    """Fetches shards. Threads and processes may share a spool's folder; each process has its own limit for it."""

    def __init__(
        self,
        folder: Path | None = None,
        limit_bytes: int = LIMIT_BYTES,
        retry_s: float = RETRY_S,
        threads: int = THREADS,
    ) -> None:
        """``threads`` fetch ahead. Without a folder, the spool is ``asr/shards`` in the user's cache."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder, self.limit_bytes, self.retry_s = folder or cache / "asr/shards", limit_bytes, retry_s
        self._ahead: dict[tuple[str, int], Future[LocalShard]] = {}
        self._wanted: queue.SimpleQueue[tuple[Shards, int, Future[LocalShard]] | None] = queue.SimpleQueue()
        self._stores: dict[str, Store] = {}
        self._mutex = threading.Lock()
        self._threads, self._started = threads, 0

    def fetch(self, shards: Shards, number: int) -> LocalShard:
        """Bring a shard to the local disk and check it. Waits for its download, and for room if that is in use.

        Raises:
            BadShardError: a file of it is missing, truncated or altered.
            InputError: the store does not answer, the disk is full, or there is no room.
        """
        with self._mutex:
            future = self._ahead.pop((shards.digest, number), None)
        try:
            if future is not None and not future.cancel():  # cancelled: no thread has begun with it
                return future.result()
            return self._fetch(shards, number, 0.0)
        except NoRoomError:
            self.drop_ahead(wait=True)
        return self._fetch(shards, number, self.retry_s)

    def read_ahead(self, shards: Shards, numbers: Iterable[int]) -> None:
        """Begin to fetch shards in other threads. They keep their place until they are fetched or dropped."""
        with self._mutex:
            for number in numbers:
                if (shards.digest, number) not in self._ahead:
                    future = self._ahead[shards.digest, number] = Future()
                    self._wanted.put((shards, number, future))
            while self._started < min(self._threads, len(self._ahead)):
                threading.Thread(target=self._work, daemon=True, name=f"spool-{self._started}").start()
                self._started += 1

    def drop_ahead(self, wait: bool = False) -> None:
        """Forget the shards that were read ahead and not fetched; with ``wait``, also wait for downloads under way."""
        with self._mutex:
            futures, self._ahead = list(self._ahead.values()), {}
        for future in [one for one in futures if not one.cancel()]:
            if wait:
                _close(future)
            else:
                future.add_done_callback(_close)

    def close(self) -> None:
        """End the threads. What is in the folder stays for the next time."""
        self.drop_ahead()
        for _ in range(self._started):
            self._wanted.put(None)
        self._started = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            shards, number, future = wanted
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._fetch(shards, number, 0.0))
                except BaseException as error:  # whatever it is, `fetch` raises it
                    future.set_exception(error)

    def _fetch(self, shards: Shards, number: int, wait_s: float) -> LocalShard:
        with self._mutex:
            store = self._stores.get(shards.location) or open_store(shards.location, self.retry_s)
            self._stores[shards.location] = store
        shard = shards[number]
        local = LocalShard(f"{shards.location}: {shard.name}", shard, shards.content, Path(), Path())
        try:
            local.cuts, local.data = [self._keep(store, file, local, wait_s) for file in shard.files]
        except BaseException:
            local.close()
            raise
        return local

    def _keep(self, store: Store, file: ShardFile, local: LocalShard, wait_s: float) -> Path:
        """The path of a checked file, which ``local`` keeps in its place."""
        if isinstance(store, LocalStore):
            path = store.folder / file.name
            check_file(path, store.where(file.name), file)
            return path
        stem, number, suffix = file.name.split(".", 2)
        path = self.folder / f"{stem}.{number}.{file.sha256[:16]}.{suffix}"
        make_folder(self.folder)
        for attempt in range(2):
            while (held := _hold(path)) is None:
                self._download(store, file, path, wait_s)
            try:
                check_file(path, store.where(file.name), file)
            except BadShardError:
                held.close()
                path.unlink(missing_ok=True)
                if attempt:
                    raise
                continue
            local.held.append(held)
            return path
        raise AssertionError

    def _download(self, store: ObjectStore, file: ShardFile, path: Path, wait_s: float) -> None:
        """Download a file unless another thread or process has just done so."""
        partial = path.with_name(path.name + ".partial")
        with _write_to(partial) as target:
            _lock(target)
            if not _is_at(target, partial):  # the one who had the lock has finished
                return
            if path.exists():
                partial.unlink()
                return
            try:
                self._make_room(target, file, wait_s)
                for block in store.read_blocks(file.name, file.size_bytes):
                    target.write(block)
                target.truncate()
                target.flush()
                os.replace(partial, path)
            except BaseException as error:
                partial.unlink(missing_ok=True)
                if isinstance(error, MissingFileError):
                    raise BadShardError(str(error)) from error
                if isinstance(error, OSError):
                    raise InputError(f"{path}: {error.strerror}, expected a disk with room") from error
                raise

    def _make_room(self, target: IO[bytes], file: ShardFile, wait_s: float) -> None:
        """Remove unused files until there is room for one, and reserve that room. Waits while others use theirs."""
        begin_s = time.monotonic()
        while True:
            with _write_to(self.folder / "lock") as lock:
                _lock(lock)
                target.truncate(0)
                used = self._remove_unused(self.limit_bytes - file.size_bytes)
                if used + file.size_bytes <= self.limit_bytes:
                    target.truncate(file.size_bytes)
                    return
            if time.monotonic() - begin_s >= wait_s or file.size_bytes > self.limit_bytes:
                found = f"{used:,} of {self.limit_bytes:,} bytes in use"
                raise NoRoomError(f"{self.folder}: {found}, expected room for the {file.size_bytes:,} of {file.name}")
            time.sleep(WAIT_S)

    def _remove_unused(self, wanted_bytes: int) -> int:
        """Remove unused files, oldest first, until all together have at most ``wanted_bytes``; how many they have.

        Files that cannot be opened, locked or removed stay, and count.
        """
        entries = []
        for path in self.folder.glob(f"*.*.{16 * '[0-9a-f]'}.*"):  # whatever else is in the folder is not the spool's
            with suppress(FileNotFoundError):  # a download that has just been completed and renamed
                entries.append((path.stat(), path))
        total = sum(status.st_size for status, _ in entries)
        for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime_ns):
            if total <= wanted_bytes:
                break
            with suppress(OSError), path.open("r+b") as file:  # NFS locks what is open for writing
                if _lock(file, wait=False):
                    path.unlink()
                    total -= status.st_size
        return total


def stream_shards(
    shards: Shards,
    numbers: Iterable[int],
    spool: Spool,
    skip_bad: bool = False,
    ahead: int = 2,
    need_phones: bool = True,
) -> Iterator[tuple[int, list[Utterance]]]:
    """Yield (number, utterances) of one shard after another; their audio stays in place until the next step.

    ``ahead`` shards are fetched meanwhile. With ``skip_bad``, bad shards are named on standard error and passed over.

    Raises:
        BadShardError: a shard is bad, without ``skip_bad``.
        InputError: as `Spool.fetch`.
    """
    numbers, skipped = list(numbers), 0
    for position, number in enumerate(numbers):
        spool.read_ahead(shards, numbers[position : position + 1 + ahead])
        try:
            local = spool.fetch(shards, number)
            utterances = read_utterances(local, need_phones)
        except BadShardError as error:
            if not skip_bad:
                raise
            skipped += 1
            warn_bad(error, skipped)
            continue
        with local:
            yield number, utterances


def _hold(path: Path) -> IO[bytes] | None:
    """Open a file with a shared lock and mark it as used; None if it is not there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    _lock(file, shared=True)
    if _is_at(file, path):
        os.utime(path)
        return file
    file.close()
    return None


def _lock(file: IO[bytes], shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file until it is closed; without ``wait``, whether that was possible."""
    if fcntl is not None:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if wait:
                found = f"cannot be locked ({error.strerror})"
                raise InputError(f"{file.name}: {found}, expected a file system with locks") from error
            return False
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write_to(path: Path) -> IO[bytes]:
    """Open a file for writing without emptying it."""
    try:
        return open(path, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o644))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}), expected a folder with room") from error


def _close(future: Future[LocalShard]) -> None:
    """Let go of a fetched shard; waits for it."""
    if not future.cancelled() and future.exception() is None:
        future.result().close()
