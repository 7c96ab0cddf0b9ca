"""The work of `benchmarks.scheduler`: units that read from a failing store, write a result, or take their worker along."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from asr.corpus.stores import open_store
from asr.inference.result_files import UnitResult, write_result

DEATHS, FAILURES = 0.001, 0.01
"""Shares of the units that end their worker, and of the requests that the store does not answer."""
UTTERANCES, HOURS = 3600, 10.0
"""Of a unit."""
RESULT = b"sil HH AH L OW sil\n" * 40


class FailingStore(MemoryFileSystem):
    """A store in memory that does not answer now and then."""

    protocol = "failing"

    def cat_file(self, path: str, *arguments: Any, **options: Any) -> bytes:
        """Read a file, or fail."""
        if random.random() < FAILURES:
            raise OSError("connection reset")
        return bytes(super().cat_file(path, *arguments, **options))


def result_of(files: dict[str, int]) -> UnitResult:
    """What a unit returns that has written these files."""
    return UnitResult(UTTERANCES, seconds=3600 * HOURS, files=files)


def make_work(out: Path) -> Callable[[int], UnitResult]:
    """Open the store; return the work."""
    fsspec.register_implementation("failing", FailingStore, clobber=True)
    store = open_store("failing://bucket/shards")
    store.write_bytes("cuts.000000.jsonl.gz", RESULT)

    def work(number: int) -> UnitResult:
        if random.random() < DEATHS:
            os._exit(1)
        name, content = f"{number:06}.txt", store.read_bytes("cuts.000000.jsonl.gz")
        return result_of({name: write_result(out / name, content)})

    return work
