"""One part of a corpus: its audio checked, its words spelled, its lines and counts written. Worker processes do this."""

import gzip
import hashlib
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.corpus.manifest import MAX_LINE_BYTES, Utterance, cut_line
from asr.errors import InputError
from asr.system.files import read_json_object, write_bytes, write_text
from asr.system.signals import end_with_parent
from data_prep.entries import SPLITS, Entry, LeftOut
from data_prep.leaving_out import Unusable
from data_prep.listing import Item, digest_items
from data_prep.pronouncing import Pronouncing
from data_prep.recordings import SLACK_S, Recordings
from data_prep.spelling import Speller
from data_prep.tallies import Tally

COMPRESSION_LEVEL = 6


@dataclass(frozen=True)
class Part:
    """Some items of a corpus in its order, and the split of each, "" if it is in none.

    ``stem`` is the path of the part's files without their suffix. ``digest`` is that of the items in the first pass.
    """

    stem: Path
    items: Sequence[Item]
    splits: Sequence[str]
    digest: str


class PartWriter:
    """Writes parts. What it learns of recordings and words serves the later ones."""

    def __init__(self, speller: Speller, check: str) -> None:
        """``check`` is one of `data_prep.recordings.CHECKS`."""
        self.speller, self.recordings = speller, Recordings(check)

    def write(self, part: Part) -> None:
        """Write a part's lines, a gzip member for each split, and last its counts. A part that is there already is kept.

        Raises:
            InputError: the corpus has changed since the first pass, or the files cannot be written.
        """
        if digest_items(part.items) != part.digest:
            raise InputError("the corpus has changed while it was read, expected it to stay; start again")
        stamp = stamp_audio(part.items)
        if is_complete(part.stem, part.digest, stamp):
            return
        tally, lines, left_out = Tally(), dict[str, list[bytes]](), list[LeftOut]()
        self.speller.reset()
        for item, split in zip(part.items, part.splits, strict=True):
            try:
                if isinstance(item, LeftOut):
                    raise Unusable(item.reason)
                lines.setdefault(split, []).append(self._make_line(item, split, tally))
            except Unusable as unusable:
                left_out.append(unusable.at(item.where))
                tally.leave_out(left_out[-1])
        tally.sources, tally.missing, tally.dropped = self.speller.sources, self.speller.missing, self.speller.dropped
        sizes = {split: _write_member(part.stem, split, lines[split]) for split in SPLITS if split in lines}
        content = {
            "digest": part.digest,
            "audio": stamp,
            "bytes": sizes,
            "counts": tally.to_json(),
            "left_out": left_out,
        }
        write_text(part.stem.with_suffix(".json"), json.dumps(content))

    def _make_line(self, entry: Entry, split: str, tally: Tally) -> bytes:
        """The line of an utterance in its manifest; it is counted.

        Raises:
            Unusable: the utterance is left out.
        """
        if not entry.speaker:
            raise Unusable("no speaker")
        if not entry.words.strip() and self.speller.needs_words(entry):
            raise Unusable("empty text")
        if not split:
            raise Unusable("in no split")
        info, place = self.recordings.find(entry)
        spelled = self.speller.spell(entry)
        utterance = Utterance(
            id=entry.id,
            audio_path=entry.audio_path.absolute(),
            sample_rate_hz=info.sample_rate_hz,
            duration_s=place.duration_s,
            speaker=entry.speaker,
            phones=spelled.units,
            words=entry.words,
            phone_times_s=fit_times(spelled.times_s, place.duration_s),
            sex=entry.sex,
            details=entry.details,
            start_s=place.start_s,
        )
        try:
            line = cut_line(utterance, self.speller.request.language).encode()
        except UnicodeEncodeError as error:
            raise Unusable("a name or text that is not UTF-8") from error
        if len(line) > MAX_LINE_BYTES:
            raise Unusable("too long for a manifest", f"{len(line)} bytes, expected at most {MAX_LINE_BYTES}")
        tally.splits[split].add(utterance, info.channels)
        tally.shortened += place.shortened
        return line


def fit_times(
    times_s: tuple[tuple[float, float], ...] | None, duration_s: float
) -> tuple[tuple[float, float], ...] | None:
    """Times of phones, with ends up to `SLACK_S` beyond the audio at its end.

    Raises:
        Unusable: they overlap or go back, or are beyond the audio.
    """
    last = 0.0
    for start, end in times_s or ():
        if not last <= start <= end:
            raise Unusable("phone times overlap or go back", f"{start:g} s to {end:g} s after {last:g} s")
        last = end
    if times_s is None or last <= duration_s:
        return times_s
    if last > duration_s + SLACK_S or times_s[-1][0] > duration_s:
        raise Unusable("phone times beyond the audio", f"{last:g} s of {duration_s:g} s")
    return tuple((start, min(end, duration_s)) for start, end in times_s)


def stamp_audio(items: Sequence[Item]) -> str:
    """A digest of the sizes and times of the audio files of some items: it tells whether one was changed."""
    digest = hashlib.blake2b(digest_size=16)
    for path in dict.fromkeys(item.audio_path for item in items if isinstance(item, Entry)):
        try:
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        except (OSError, ValueError):
            digest.update(b"missing\n")
    return digest.hexdigest()


def is_complete(stem: Path, digest: str = "", audio: str = "") -> bool:
    """Whether a part is there, of these items and audio if they are given, and none of its files was cut off."""
    try:
        content: dict[str, Any] = read_json_object(stem.with_suffix(".json"))
        sizes = {split: member_path(stem, split).stat().st_size for split in content["bytes"]}
    except (InputError, OSError, KeyError):
        return False
    same = not digest or (content["digest"], content["audio"]) == (digest, audio)
    return same and sizes == content["bytes"]


def member_path(stem: Path, split: str) -> Path:
    """The lines of a part in one split."""
    return stem.with_suffix(f".{split}.gz")


def _write_member(stem: Path, split: str, lines: Sequence[bytes]) -> int:
    member = gzip.compress(b"".join(lines), COMPRESSION_LEVEL, mtime=0)
    write_bytes(member_path(stem, split), member)
    return len(member)


def make_writer(pronouncing: Pronouncing, check: str) -> Callable[[Part], None]:
    """What writes parts in a process that has nothing of the preparation yet."""
    return PartWriter(Speller(pronouncing), check).write


_writers: list[Callable[[Part], None]] = []
"""The one writer of a worker process."""


def start_worker(pronouncing: Pronouncing, check: str) -> None:
    """Get a worker process ready. It ignores Ctrl-C, which its parent handles, and ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    _writers.append(make_writer(pronouncing, check))


def write_part(part: Part) -> None:
    """Write a part in a worker process."""
    _writers[0](part)
