"""The two files of a shard: its cuts, and a tar file with their audio or features."""

import gzip
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from asr.corpus.shard_encoding import Member, StoredFeatures, encode_audio, encode_features
from asr.corpus.shard_source import SourceCut
from asr.corpus.shards import file_names
from asr.corpus.stores import open_store
from asr.errors import InputError

TO_JSON = json.JSONEncoder(ensure_ascii=False).encode

store_at = cache(open_store)
"""A process opens each store once."""


@dataclass(frozen=True)
class Task:
    """A shard to write: its number and its cuts."""

    number: int
    items: list[SourceCut]

    def __reduce__(self) -> tuple[Any, ...]:
        """What a worker process needs: not the locks of local files, which this process holds."""
        return Task, (self.number, [SourceCut(item.cut, item.utterance) for item in self.items])


@dataclass(frozen=True)
class ShardWriter:
    """Writes one shard after another into ``folder`` and moves each to the store at ``out`` when it is complete."""

    out: str
    folder: Path
    content: str
    features: StoredFeatures | None
    skip_bad: bool
    retry_s: float

    def write(self, task: Task) -> dict[str, Any]:
        """Write a shard; returns its line in the index.

        Raises:
            InputError: an utterance cannot be used, the disk is full, or the store does not answer.
        """
        store = store_at(self.out, self.retry_s)
        paths = [self.folder / name for name in file_names(task.number, self.content)]
        left_out: list[str] = []
        try:
            kept = self._write_files(task.items, paths[0], paths[1], left_out)
            line = _describe(kept) | {"cuts": _measure(paths[0]), "data": _measure(paths[1])}
            for path in reversed(paths):  # a shard with cuts is complete
                store.put(path, path.name)
        except OSError as error:
            raise InputError(
                f"{store.location}: cannot be written ({error.strerror}), expected a disk with room"
            ) from error
        finally:
            for path in paths:
                path.unlink(missing_ok=True)
        return line | ({"left_out": left_out} if left_out else {})

    def _write_files(
        self, items: list[SourceCut], cuts: Path, data: Path, left_out: list[str]
    ) -> list[tuple[dict[str, Any], int]]:
        """Write both files; returns the cuts as written, with the numbers of their phones."""
        kept = []
        with (
            cuts.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines,
            tarfile.open(data, "w") as archive,
        ):
            for item, member in self._encode(items, left_out):
                cut = _place(item.cut, member)
                lines.write(_json_line(cut))
                _add(archive, f"{cut['id']}.{member.suffix}", member.content)
                _add(archive, f"{cut['id']}.json", _json_line(member.manifest))
                kept.append((cut, len(item.utterance.phones)))
        return kept

    def _encode(self, items: list[SourceCut], left_out: list[str]) -> Iterator[tuple[SourceCut, Member]]:
        for item in items:
            try:
                if self.features:
                    member = encode_features(item.utterance, self.features)
                else:
                    member = encode_audio(item.utterance, self.content)
            except InputError as error:
                if not self.skip_bad:
                    raise InputError(f"{error} (utterance {item.utterance.id}; --skip-bad leaves such out)") from error
                print(f"asr: {error}: utterance {item.utterance.id} is left out", file=sys.stderr)
                left_out.append(item.utterance.id)
                continue
            yield item, member


def _place(cut: dict[str, Any], member: Member) -> dict[str, Any]:
    """The cut with its data in a member of the shard."""
    if "num_frames" in member.manifest:
        return {key: value for key, value in cut.items() if key != "recording"} | {
            "start": 0.0,
            "features": member.manifest,
        }
    duration_s, rate_hz, samples = cut["duration"], member.manifest["sampling_rate"], member.manifest["num_samples"]
    if round(duration_s * rate_hz) > samples:  # the source is an MP3 that ends in its padding
        duration_s = samples / rate_hz
    return cut | {"start": 0.0, "duration": duration_s, "recording": member.manifest}


def _json_line(value: dict[str, Any]) -> bytes:
    try:
        return (TO_JSON(value) + "\n").encode()
    except UnicodeEncodeError:  # a surrogate without its pair
        return (json.dumps(value) + "\n").encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    information = tarfile.TarInfo(name)  # no times and no owners
    information.size = len(content)
    archive.addfile(information, io.BytesIO(content))


def _measure(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _describe(kept: list[tuple[dict[str, Any], int]]) -> dict[str, Any]:
    """What the index says of the utterances of a shard."""
    durations_s = [float(cut["duration"]) for cut, _ in kept]
    speakers = {one.get("speaker") for cut, _ in kept for one in cut.get("supervisions") or ()}
    without_phones = sum(phones == 0 for _, phones in kept)
    line = {
        "utterances": len(kept),
        "seconds": round(sum(durations_s), 4),
        "longest_s": max(durations_s, default=0.0),
        "speakers": len(speakers),
    }
    return line | ({"without_phones": without_phones} if without_phones else {})
