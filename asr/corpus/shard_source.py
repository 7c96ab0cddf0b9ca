"""What shards are written from: a manifest or other shards, in a local folder or an object store."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from asr.corpus.cuts import Utterance, make_utterance
from asr.corpus.manifest import stream_cuts
from asr.corpus.shards import LocalShard, Shards, is_shards, open_shards, read_cuts
from asr.corpus.spool import Spool
from asr.corpus.stores import ObjectStore, is_url, open_store
from asr.errors import InputError
from asr.system.files import write_bytes

UNUSABLE = re.compile(r"[\0\ud800-\udfff]")
"""What the name of a file cannot have: NUL, and surrogates without their pair."""


@dataclass(frozen=True)
class SourceCut:
    """A cut as a JSON object, and its utterance. The utterance can be read as long as ``kept`` is."""

    cut: dict[str, Any]
    utterance: Utterance
    kept: LocalShard | None = field(default=None, compare=False)


class ManifestSource:
    """The cuts of a manifest. Its ids are checked at once, in eight bytes for each utterance."""

    def __init__(self, path: Path) -> None:
        self._path = path
        hashes = np.fromiter((hash(_check_id(path, cut)) for cut in stream_cuts(path)), np.int64)
        self.utterances = len(hashes)
        with path.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        values, counts = np.unique(hashes, return_counts=True)
        suspects = {int(value) for value in values[counts > 1]}
        seen: set[str] = set()
        for cut in stream_cuts(path) if suspects else ():
            if cut["id"] in seen:
                raise InputError(f"{path}: utterance id {cut['id']} occurs twice, expected once")
            if hash(cut["id"]) in suspects:
                seen.add(cut["id"])

    def cuts(self, first: int) -> Iterator[SourceCut]:
        """Yield the cuts from number ``first`` on."""
        for cut in islice(stream_cuts(self._path), first, None):
            yield SourceCut(cut, make_utterance(self._path, cut, need_phones=False))


class ShardsSource:
    """The cuts of shards."""

    def __init__(self, shards: Shards, spool: Spool) -> None:
        if shards.content == "features":
            raise InputError(f"{shards.location}: shards of features, expected a source with audio")
        self._shards, self._spool = shards, spool
        self.utterances, self.digest = shards.utterances, shards.digest

    def cuts(self, first: int) -> Iterator[SourceCut]:
        """Yield the cuts from number ``first`` on. Shards before it are not fetched."""
        ends = np.cumsum(self._shards.utterance_counts)
        for number in range(int(np.searchsorted(ends, first, side="right")), len(ends)):
            self._spool.read_ahead(self._shards, range(number, min(number + 3, len(ends))))
            local = self._spool.fetch(self._shards, number)
            begin = int(ends[number]) - local.shard.utterances
            cuts = read_cuts(local, need_phones=False)
            yield from (SourceCut(*cut, local) for cut in islice(cuts, max(0, first - begin), None))


def open_source(location: str | Path, retry_s: float, stack: ExitStack) -> ManifestSource | ShardsSource:
    """Open a manifest or shards. What is fetched from a store is kept until ``stack`` is closed.

    Raises:
        InputError: it is neither, it cannot be used, or a store does not answer.
    """
    if not is_url(location) and Path(location).is_file():
        return ManifestSource(Path(location))
    if is_shards(location, retry_s):
        return ShardsSource(open_shards(location, retry_s), stack.enter_context(Spool(retry_s=retry_s)))
    if not is_url(location):
        return ManifestSource(Path(location))  # which says what is missing
    folder, _, name = str(location).rpartition("/")
    store = open_store(folder, retry_s)
    assert isinstance(store, ObjectStore)
    path = Path(stack.enter_context(TemporaryDirectory(prefix="asr-shard-"))) / name
    write_bytes(path, store.read_bytes(name))
    return ManifestSource(path)


def _check_id(path: Path, cut: dict[str, Any]) -> str:
    """The id of a cut, which names a member of a tar file."""
    name = cut.get("id")
    if not isinstance(name, str) or not name or str(PurePosixPath(name)) != name or UNUSABLE.search(name):
        raise InputError(f"{path}: utterance id {name!r}, expected one that can name a file, such as speaker/0001")
    return name
