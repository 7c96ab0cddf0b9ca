"""Write shards as `asr.corpus.shards` describes them: in several processes, resumable, the same bytes every time.

The index comes last. Until then, the lines of complete shards are in ``cuts.unfinished``, and the same request goes on
after them. In a local folder, what is being written is in ``cuts.lock``; complete files are renamed.
"""

import json
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import active_children, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asr.corpus.shard_encoding import StoredFeatures
from asr.corpus.shard_files import ShardWriter, Task
from asr.corpus.shard_source import ManifestSource, ShardsSource, SourceCut, open_source
from asr.corpus.shards import CONTENTS, FORMAT, INDEX, Shards, file_names, open_shards, parse_index
from asr.corpus.store_lock import LOCK, StoreLock, open_store_lock
from asr.corpus.stores import RETRY_S, LocalStore, Store, open_store
from asr.errors import InputError, Interrupted
from asr.system.progress import progress
from asr.system.signals import catch_stop_signals, end_with_parent

UNFINISHED = "cuts.unfinished"
OWN_FILES = ("cuts.", "recording.", "features.")
"""How the names of all files begin. Others may be hidden ones alone, such as ``.DS_Store``."""

DATA_SUFFIXES = (".jsonl.gz", ".tar")
"""How the names of the files of shards end."""

SAVE_S = 10.0
"""How often the lines of complete shards are saved."""

TO_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True)
class ShardOptions:
    """How to write shards.

    ``content`` is one of `CONTENTS`; ``features`` is needed for features alone. With ``skip_bad``, utterances whose audio
    cannot be used are named and left out. A store that does not answer is asked again for ``retry_s`` seconds.
    """

    content: str = "flac"
    shard_utterances: int = 500
    skip_bad: bool = False
    features: StoredFeatures | None = None
    retry_s: float = RETRY_S


def write_shards(source: str | Path, out: str | Path, options: ShardOptions | None = None, jobs: int = 1) -> Shards:
    """Write the utterances of a manifest, or of other shards, as shards into a local folder or an object store.

    Complete shards are not written again; if all are, nothing is.

    Raises:
        InputError: the source, an utterance or a setting cannot be used; ``out`` has other shards or another writer; the
            disk is full; a store does not answer.
        Interrupted: Ctrl-C or SIGTERM; complete shards stay.
    """
    options = options or ShardOptions()
    _check_options(options, jobs)
    with ExitStack() as stack:
        store = open_store(out, options.retry_s)
        corpus = open_source(source, options.retry_s, stack)
        request = _describe_request(options, corpus)
        lock = stack.enter_context(open_store_lock(store))
        if not _is_complete(store, request):
            folder = stack.enter_context(_work_folder(store))
            lines = _read_unfinished(store, request)
            if lines:
                print(f"{store.location}: {len(lines)} shards are there already, going on", file=sys.stderr)
            writer = ShardWriter(str(out), folder, options.content, options.features, options.skip_bad, options.retry_s)
            _write_missing(store, corpus, request, lines, writer, jobs, lock)
            _write_index(store, request, lines)
        return open_shards(store.location, options.retry_s)


def _check_options(options: ShardOptions, jobs: int) -> None:
    for name, value in (("jobs", jobs), ("shard_utterances", options.shard_utterances)):
        if value < 1:
            raise InputError(f"{name}: {value}, expected at least 1")
    if options.content not in CONTENTS:
        raise InputError(f"format: {options.content!r}, expected one of {', '.join(CONTENTS)}")
    if (options.content == "features") != (options.features is not None):
        raise InputError(f"format: {options.content}, expected settings of features for features alone")


def _describe_request(options: ShardOptions, corpus: ManifestSource | ShardsSource) -> dict[str, Any]:
    """What the shards are made of. Shards of the same request have the same bytes."""
    return {
        "format": FORMAT,
        "content": options.content,
        "features": options.features.settings if options.features else None,
        "shard_utterances": options.shard_utterances,
        "source": corpus.digest,
    }


def _is_complete(store: Store, request: dict[str, Any]) -> bool:
    """Whether the shards of a request are complete. InputError if there are others."""
    return store.has(INDEX) and _read_lines(store, INDEX, request) is not None


def _read_unfinished(store: Store, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of complete shards of an interrupted run, as far as their files are there."""
    sizes = store.sizes()
    for name in sorted(sizes):
        if not name.startswith((*OWN_FILES, ".")):
            raise InputError(f"{store.location}: has {name}, expected a folder for shards alone")
    if UNFINISHED not in sizes:
        if other := next((name for name in sorted(sizes) if name.endswith(DATA_SUFFIXES)), ""):
            raise InputError(f"{store.location}: has {other} of other shards, expected an empty folder")
        _write_lines(store, UNFINISHED, request, [])
        return []
    complete = []
    for number, line in enumerate(_read_lines(store, UNFINISHED, request)):
        names = file_names(number, request["content"])
        if [sizes.get(name) for name in names] != [line["cuts"][0], line["data"][0]]:
            break
        complete.append(line)
    return complete


def _read_lines(store: Store, name: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    head, lines = parse_index(store.where(name), store.read_bytes(name))
    for key, value in request.items():
        if head.get(key) != value:
            found = f"shards of another request ({key} {str(head.get(key))[:80]}, not {str(value)[:80]})"
            raise InputError(f"{store.where(name)}: {found}, expected an empty folder or the same request")
    return list(lines)


def _write_missing(
    store: Store,
    corpus: ManifestSource | ShardsSource,
    request: dict[str, Any],
    lines: list[dict[str, Any]],
    writer: ShardWriter,
    jobs: int,
    lock: StoreLock | None,
) -> None:
    """Write the shards after those of ``lines``, and add a line for each."""
    size = request["shard_utterances"]
    total = -(-corpus.utterances // size)
    tasks = _split(corpus.cuts(len(lines) * size), len(lines), size)
    written = map(writer.write, tasks) if jobs == 1 else _in_processes(tasks, writer, min(jobs, total))
    saved_s = time.monotonic()
    try:
        with catch_stop_signals() as stop:
            for line in progress(written, "writing shards", total - len(lines)):
                lines.append(line)
                if lock:
                    lock.check()
                if stop.signal:
                    complete = f"{len(lines)} of {total} shards are complete"
                    raise Interrupted(f"interrupted, {complete}; the same command goes on with the others", stop.signal)
                if time.monotonic() - saved_s > SAVE_S:
                    _write_lines(store, UNFINISHED, request, lines)
                    saved_s = time.monotonic()
    except BaseException:
        with suppress(InputError):  # the first error is the one to report
            _write_lines(store, UNFINISHED, request, lines)
        raise


def _split(cuts: Iterable[SourceCut], first: int, size: int) -> Iterator[Task]:
    """The tasks of shard ``first`` and those after it."""
    cuts = iter(cuts)
    while items := list(islice(cuts, size)):
        yield Task(first, items)
        first += 1


def _in_processes(tasks: Iterator[Task], writer: ShardWriter, jobs: int) -> Iterator[dict[str, Any]]:
    """Write shards in processes and yield their lines in order. At most two tasks for each process are in memory."""
    others = set(active_children())
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker)
    waiting: deque[tuple[Task, Future[dict[str, Any]]]] = deque()  # a task keeps the local files of its source in place
    try:
        for task in tasks:
            waiting.append((task, pool.submit(writer.write, task)))
            if len(waiting) == 2 * jobs:
                yield waiting.popleft()[1].result()
        while waiting:
            yield waiting.popleft()[1].result()
        pool.shutdown()
    except BrokenProcessPool as error:
        found = f"one of {jobs} processes has ended, expected memory for all"
        raise InputError(f"jobs: {found}; with fewer the command goes on") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - others:  # after an error or an interruption
            process.terminate()
            process.join()


def _start_worker() -> None:
    """Get a worker process ready. It ignores Ctrl-C, which its parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _write_index(store: Store, request: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    """Check that all files are there, and write the index."""
    sizes = store.sizes()
    for number, line in enumerate(lines):
        for name, (size, _) in zip(file_names(number, request["content"]), (line["cuts"], line["data"]), strict=True):
            if sizes.get(name) != size:
                raise InputError(f"{store.where(name)}: {sizes.get(name)} bytes, expected the {size} that were written")
    totals = {
        "shards": len(lines),
        "utterances": sum(line["utterances"] for line in lines),
        "without_phones": sum(line.get("without_phones", 0) for line in lines),
        "left_out": sum(len(line.get("left_out", ())) for line in lines),
    }
    if totals["utterances"] == 0:
        raise InputError(
            f"{store.location}: all {totals['left_out']} utterances are left out, expected at least 1 to stay"
        )
    _write_lines(store, INDEX, request | totals, lines)
    store.remove([UNFINISHED])


def _write_lines(store: Store, name: str, head: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    store.write_bytes(name, "".join(TO_JSON(line) + "\n" for line in (head, *lines)).encode())


@contextmanager
def _work_folder(store: Store) -> Iterator[Path]:
    """A folder for files that are not complete, on the disk of a local store. What is left in it is removed."""
    if not isinstance(store, LocalStore):
        with TemporaryDirectory(prefix="asr-shard-") as name:
            yield Path(name)
        return
    folder = store.folder / LOCK
    _remove_incomplete(folder)
    try:
        yield folder
    finally:
        _remove_incomplete(folder)


def _remove_incomplete(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink(missing_ok=True)
