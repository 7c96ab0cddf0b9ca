"""One writer at a time in a place of shards.

A local folder is locked by the system. In an object store, the lock is an object that names its owner and that the owner
keeps rewriting. Another writer watches it: if it changes, its owner is at work and the newcomer is refused; if it does not
change for `STALE_S` by the newcomer's own clock, its owner has died and it is taken over. No two clocks are compared. An
owner that has lost its lock, because it did not reach the store for so long, sees that at the next `StoreLock.check`.
"""

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from asr.corpus.stores import LocalStore, MissingFileError, ObjectStore, Store
from asr.errors import InputError
from asr.system.lock import open_run_lock

LOCK = "cuts.lock"

RENEW_S, STALE_S = 10.0, 60.0
"""An owner rewrites its lock every so often; a lock that has not changed for so long has no owner."""

SETTLE_S = 2.0
"""After it has written the lock, a writer waits and reads it: of two that wrote at once, the second has won."""


class StoreLock:
    """The lock of a store, held while its thread renews it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._impatient = ObjectStore(store.location, min(store.retry_s, RENEW_S))  # for what is tried again anyway
        self._own: dict[str, Any] = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "process": os.getpid()}
        self._ended, self._taken_by = threading.Event(), ""
        self._thread = threading.Thread(target=self._renew, daemon=True, name="store-lock")

    def check(self) -> None:
        """Raise InputError if another writer has taken the lock over."""
        if self._taken_by:
            raise InputError(
                f"{self._store.where(LOCK)}: taken over by {self._taken_by}, expected one writer; this one stops"
            )

    def acquire(self) -> None:
        """Take the lock; watch it first if there is one.

        Raises:
            InputError: another writer has it.
        """
        while not self._store.create(LOCK, self._content(0)):
            self._wait_until_stale()
        time.sleep(SETTLE_S)
        if (owner := self._read()) is None or owner["id"] != self._own["id"]:
            raise self._in_use(owner)
        self._thread.start()

    def release(self) -> None:
        """Remove the lock, if it is still this writer's."""
        self._ended.set()
        self._thread.join()
        with suppress(InputError):
            owner = self._read(self._impatient)
            if owner is not None and owner["id"] == self._own["id"]:
                self._impatient.remove([LOCK])

    def _wait_until_stale(self) -> None:
        """Return when the lock is gone or has not changed for so long that it is removed."""
        seen, begin_s = self._read(), time.monotonic()
        while seen is not None and time.monotonic() - begin_s < STALE_S:
            time.sleep(min(RENEW_S / 4, STALE_S))
            if (now := self._read()) is None:
                return
            if now != seen:
                raise self._in_use(now)
        if seen is not None and self._read() == seen:
            print(f"asr: {self._store.where(LOCK)}: left by {_describe(seen)}, taken over", file=sys.stderr)
            self._store.remove([LOCK])

    def _renew(self) -> None:
        """Rewrite the lock again and again. A store that does not answer for a while is asked again at the next turn."""
        turn, renewed_s = 0, time.monotonic()
        while not self._ended.wait(RENEW_S):
            turn += 1
            try:
                owner = self._read(self._impatient)
                if owner is None or owner["id"] != self._own["id"]:
                    self._taken_by = _describe(owner)
                    return
                self._impatient.write_bytes(LOCK, self._content(turn))
                renewed_s = time.monotonic()
            except InputError:
                if time.monotonic() - renewed_s > STALE_S:
                    self._taken_by = "nobody, but not renewed for too long"
                    return

    def _read(self, store: ObjectStore | None = None) -> dict[str, Any] | None:
        try:
            content = (store or self._store).read_bytes(LOCK)
        except MissingFileError:
            return None
        with suppress(ValueError):
            owner = json.loads(content)
            if isinstance(owner, dict) and "id" in owner:
                return owner
        return {"id": content.hex()}

    def _content(self, turn: int) -> bytes:
        return json.dumps(self._own | {"turn": turn}).encode()

    def _in_use(self, owner: dict[str, Any] | None) -> InputError:
        return InputError(f"{self._store.location}: in use by {_describe(owner)}, expected one writer at a time")


@contextmanager
def open_store_lock(store: Store) -> Iterator[StoreLock | None]:
    """Hold the lock of a store; that of a local folder needs no `StoreLock.check`, the system ends it with its process.

    Raises:
        InputError: another writer has it, or the store cannot be used.
    """
    if isinstance(store, LocalStore):
        with open_run_lock(store.folder / LOCK):
            yield None
        return
    lock = StoreLock(store)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


def _describe(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return "another writer"
    return f"process {owner.get('process', '?')} on {owner.get('host', '?')}"
