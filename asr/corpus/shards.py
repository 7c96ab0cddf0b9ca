"""Shards: a corpus in a few large files, local or in an object store, as `asr shard` writes them.

A million small files are slow on any file system and dear in any object store. A shard has the cuts of some hundred
utterances in one file and their audio, or their features, in another. The layout is that of Lhotse Shar, and
``lhotse.CutSet.from_shar(in_dir=...)`` opens the same folder:

    cuts.000000.jsonl.gz     a Lhotse cut on each line, in the order of the manifest
    recording.000000.tar     for each cut ID.flac (or ID.opus; ID.wav if FLAC does not hold the samples), then ID.json,
                             which describes it
    features.000000.tar      in place of recording: ID.llc, features compressed with lilcom, then ID.json
    cuts.000001.jsonl.gz     the next shard, and so on
    cuts.index               JSON lines: a head, which describes all shards, then a line for each shard: its utterances, its
                             seconds, the sizes and SHA-256 checksums of its files

The index comes last: without it, the shards are not complete. Lhotse takes every file for data, except those whose names
begin with ``cuts.`` and do not contain ``.jsonl``: hence the name of the index.

An utterance is read from the middle of a tar file, which is neither unpacked nor scanned again: its ``audio_path`` is
``recording.000000.tar:OFFSET:BYTES`` (`asr.corpus.tar_members`).
"""

import gzip
import hashlib
import io
import json
import os
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

from asr.corpus.cuts import Utterance, make_utterance, one_line
from asr.corpus.stores import RETRY_S, MissingFileError, open_store
from asr.corpus.tar_members import TarMember, list_members
from asr.errors import InputError

INDEX = "cuts.index"
FORMAT = "asr-shards-1"
CONTENTS = ("flac", "opus", "features")


class BadShardError(InputError):
    """A shard that is truncated, altered, missing, or has unreadable content. A store that does not answer is not that."""


@dataclass(frozen=True)
class ShardFile:
    """A file of a shard, as the index describes it."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """What the index says of a shard. ``files`` are the cuts and the data, ``speakers`` is their number."""

    number: int
    utterances: int
    duration_s: float
    longest_s: float
    speakers: int
    files: tuple[ShardFile, ShardFile]

    @property
    def name(self) -> str:
        """The name of the shard in messages."""
        return f"shard {self.number:06}"


def file_names(number: int, content: str) -> tuple[str, str]:
    """The files of a shard: cuts and data."""
    field_name = "features" if content == "features" else "recording"
    return f"cuts.{number:06}.jsonl.gz", f"{field_name}.{number:06}.tar"


class Shards(Sequence[Shard]):
    """The index of a corpus in shards. A hundred thousand shards take 25 MB.

    ``content`` is one of `CONTENTS`; ``features`` are the settings of stored features (a `FeatureConfig` as a mapping) or
    None. ``digest`` identifies the content. ``utterance_counts`` (shards,) int64 and ``durations_s`` (shards,) float64 have
    a value for each shard.
    """

    def __init__(self, location: str, head: dict[str, Any], lines: Iterable[dict[str, Any]], digest: str) -> None:
        """``lines`` are those of the index after its head. As objects they would take ten times the memory."""
        self.location, self.head, self.digest = location, head, digest
        self.content: str = head["content"]
        self.features: dict[str, Any] | None = head["features"]
        counts, seconds, checksums = array("q"), array("d"), bytearray()
        for line in lines:
            (cuts_bytes, cuts_sha256), (data_bytes, data_sha256) = line["cuts"], line["data"]
            counts.extend((line["utterances"], line["speakers"], cuts_bytes, data_bytes))
            seconds.extend((line["seconds"], line["longest_s"]))
            checksums += int(cuts_sha256 + data_sha256, 16).to_bytes(64)
        self._counts, self._seconds = np.array(counts).reshape(-1, 4), np.array(seconds).reshape(-1, 2)
        self._checksums = bytes(checksums)
        self.utterance_counts, self.durations_s = self._counts[:, 0], self._seconds[:, 0]

    @property
    def utterances(self) -> int:
        """The number of utterances in all shards."""
        return int(self.utterance_counts.sum())

    @property
    def duration_s(self) -> float:
        """The seconds of speech in all shards."""
        return float(self.durations_s.sum())

    @property
    def size_bytes(self) -> int:
        """The bytes of all files but the index."""
        return int(self._counts[:, 2:].sum())

    def __len__(self) -> int:
        return len(self.utterance_counts)

    @overload
    def __getitem__(self, number: int) -> Shard: ...
    @overload
    def __getitem__(self, number: slice) -> list[Shard]: ...
    def __getitem__(self, number: int | slice) -> Shard | list[Shard]:
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        checksums = self._checksums[64 * number : 64 * (number + 1)].hex()
        utterances, speakers, cuts_bytes, data_bytes = self._counts[number].tolist()
        duration_s, longest_s = self._seconds[number].tolist()
        cuts, data = file_names(number, self.content)
        files = (ShardFile(cuts, cuts_bytes, checksums[:64]), ShardFile(data, data_bytes, checksums[64:]))
        return Shard(number, utterances, duration_s, longest_s, speakers, files)


@dataclass
class LocalShard:
    """The files of a shard on the local disk, with checked checksums. ``name`` says where the shard is, in messages.

    Keep it, or use ``with``, as long as its utterances are read: after `close` the spool may remove the files.
    """

    name: str
    shard: Shard
    content: str
    cuts: Path
    data: Path
    held: list[IO[bytes]] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The number of the shard."""
        return self.shard.number

    def close(self) -> None:
        """Let the spool remove the files when it needs room."""
        while self.held:
            self.held.pop().close()

    def __enter__(self) -> "LocalShard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_shards(location: str | Path, retry_s: float = RETRY_S) -> bool:
    """Whether there are complete shards at a location, a folder or a URL.

    Raises:
        InputError: a store does not answer.
    """
    return open_store(location, retry_s).has(INDEX)


def open_shards(location: str | Path, retry_s: float = RETRY_S) -> Shards:
    """Read the index of shards in a folder or at a URL such as ``s3://bucket/train``.

    Raises:
        InputError: there are none, the index is truncated, or a store does not answer.
    """
    store = open_store(location, retry_s)
    try:
        content = store.read_bytes(INDEX)
    except MissingFileError as error:
        raise InputError(f"{store.where(INDEX)}: no such file, expected shards as `asr shard` writes them") from error
    head, lines = parse_index(store.where(INDEX), content)
    try:
        shards, count = Shards(store.location, head, lines, hashlib.sha256(content).hexdigest()), head["shards"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{store.where(INDEX)}: {one_line(error)}, expected an index of shards") from error
    if len(shards) != count:
        raise InputError(f"{store.where(INDEX)}: {len(shards)} shards, expected the {count} of its first line")
    return shards


def parse_index(where: str, content: bytes) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The head of an index, and its lines one after another.

    Raises:
        InputError: it is not an index of shards; also while the lines are read.
    """
    lines = _read_json(where, content)
    head = next(lines, {})
    if head.get("format") != FORMAT or head.get("content") not in CONTENTS:
        raise InputError(f"{where}: format {head.get('format')!r}, expected an index of shards ({FORMAT})")
    return head, lines


def _read_json(where: str, content: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(io.BytesIO(content), 1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: line {number}: {one_line(error)}, expected an index of shards") from error
        if not isinstance(value, dict):
            raise InputError(f"{where}: line {number}: a {type(value).__name__}, expected an index of shards")
        yield value


def check_file(path: Path, where: str, file: ShardFile) -> None:
    """Raise BadShardError unless a file has the size and the checksum of the index."""
    try:
        with path.open("rb") as content:
            size = os.fstat(content.fileno()).st_size
            checksum = hashlib.file_digest(content, "sha256").hexdigest() if size == file.size_bytes else ""
    except OSError as error:
        raise BadShardError(f"{where}: not readable ({error.strerror}), expected {file.size_bytes} bytes") from error
    if size != file.size_bytes:
        raise BadShardError(f"{where}: {size} bytes, expected {file.size_bytes}")
    if checksum != file.sha256:
        raise BadShardError(f"{where}: SHA-256 {checksum}, expected {file.sha256}")


def read_utterances(local: LocalShard, need_phones: bool = True) -> list[Utterance]:
    """Read the utterances of a shard, in its order. They name parts of its files, and hold no audio.

    ``need_phones`` is that of `asr.corpus.cuts.make_utterance`.

    Raises:
        BadShardError: the files are not readable, or do not belong together.
        InputError: a cut cannot be used.
    """
    return [utterance for _, utterance in read_cuts(local, need_phones)]


def read_cuts(local: LocalShard, need_phones: bool = True) -> Iterator[tuple[dict[str, Any], Utterance]]:
    """Yield each cut of a shard, a JSON object, and its utterance. Raises as `read_utterances`."""
    for cut, member in _read_members(local):
        utterance = make_utterance(local.cuts, cut, member.path, need_phones)
        yield cut, replace(utterance, features_path=member.path) if local.content == "features" else utterance


def _read_members(local: LocalShard) -> list[tuple[dict[str, Any], TarMember]]:
    """Each cut of a shard with the member that has its data."""
    try:
        members = list(list_members(local.data))[::2]  # every second one describes the one before it
        with gzip.open(local.cuts) as file:
            cuts = [json.loads(line) for line in file]
        ids = [cut["id"] for cut in cuts]
    except (InputError, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise BadShardError(f"{local.name}: {one_line(error)}, expected cuts and their members") from error
    if not len(cuts) == len(members) == local.shard.utterances:
        found = f"{len(cuts)} cuts and {len(members)} members"
        raise BadShardError(f"{local.name}: {found}, expected {local.shard.utterances} of each")
    for utterance_id, (name, _) in zip(ids, members, strict=True):
        if name.rpartition(".")[0] != utterance_id:
            raise BadShardError(f"{local.name}: member {name}, expected that of cut {utterance_id}")
    return [(cut, member) for cut, (_, member) in zip(cuts, members, strict=True)]


def warn_bad(error: BadShardError, skipped: int) -> None:
    """Name a shard that is skipped on standard error, with the number of those skipped so far."""
    print(f"asr: {error}: skipped, {skipped} so far", file=sys.stderr)
