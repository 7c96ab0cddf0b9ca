"""The first pass over a corpus: how many utterances, whose, in which parts; no id twice. No audio is read."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np

from asr.errors import InputError
from data_prep.entries import SPLITS, Entry, LeftOut, Reader
from data_prep.splits import Assignment, SpeakerCounts

Item = Entry | LeftOut
T = TypeVar("T")


@dataclass
class Listing:
    """What the first pass finds: numbers of items and utterances, the speakers, and the digest of each part's items."""

    items: int = 0
    utterances: int = 0
    speakers: SpeakerCounts = field(default_factory=SpeakerCounts)
    parts: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """A digest of all items."""
        return hashlib.blake2b("\n".join(self.parts).encode(), digest_size=16).hexdigest()

    def splits(self, assignment: Assignment) -> list[str]:
        """The splits that have utterances."""
        own = self.speakers.splits.items()
        found = {assignment.split_of(speaker, split) for split, counts in own for speaker in counts}
        return [split for split in SPLITS if split in found]


def list_corpus(reader: Reader, preview: Callable[[Entry], None], part_items: int) -> Listing:
    """Read a corpus once; ``preview`` sees every utterance.

    Raises:
        InputError: an id occurs twice, a split has an unknown name, or ``reader`` or ``preview`` raises it.
    """
    listing, hashes = Listing(), array("q")
    for items in in_parts(reader(), part_items):
        listing.parts.append(digest_items(items))
        listing.items += len(items)
        for item in items:
            if isinstance(item, Entry):
                hashes.append(hash(item.id))
                listing.speakers.add(item)
                preview(item)
    listing.utterances = len(hashes)
    _refuse_equal_ids(reader, np.frombuffer(hashes, np.int64) if hashes else np.zeros(0, np.int64))
    return listing


def in_parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of ``size``; the last may have fewer."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def digest_items(items: Sequence[Item]) -> str:
    """A digest of all fields of some items."""
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        if isinstance(item, Entry):
            texts = (item.id, str(item.audio_path), item.speaker, item.where, item.words, item.sex, item.split)
            others = (item.phones, item.phone_times_s, item.start_s, item.end_s, tuple(item.details.items()))
            digest.update(repr((texts, others)).encode("utf-8", "surrogatepass"))
        else:
            digest.update(repr(tuple(item)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _refuse_equal_ids(reader: Reader, hashes: np.ndarray) -> None:
    """Raise InputError if an id occurs twice. If hashes are equal, another pass compares their ids."""
    ordered = np.sort(hashes)
    equal = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not equal:
        return
    places: dict[str, str] = {}
    for item in reader():
        if isinstance(item, Entry) and hash(item.id) in equal:
            if item.id in places:
                raise InputError(f"{item.where}: id {item.id!r} is also that of {places[item.id]}, expected it once")
            places[item.id] = item.where
