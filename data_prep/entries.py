"""What the reader of a corpus yields: utterances as the corpus describes them, and what it leaves out.

A reader looks at texts, tables and tiers, never at samples. `data_prep.pipeline` does the rest for all readers: audio,
pronunciations, splits and manifests.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Entry:
    """One utterance of a corpus, before its audio is read.

    ``phones`` is None if the corpus has words alone; then a lexicon or a grapheme-to-phoneme model gives the phones.
    Times are in seconds from the start of the utterance. ``end_s`` None means the end of the audio file. ``split`` is the
    corpus's own, "" if it has none. ``where`` names the entry in messages: a file, and a line if there are several.
    """

    id: str
    audio_path: Path
    speaker: str
    where: str
    words: str = ""
    phones: tuple[str, ...] | None = None
    phone_times_s: tuple[tuple[float, float], ...] | None = None
    start_s: float = 0.0
    end_s: float | None = None
    sex: str = ""
    split: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class LeftOut(NamedTuple):
    """Something in the corpus that becomes no utterance: where it is, and why. Reasons are counted, so they name no values.

    ``where`` carries the values: "a/b.lab: 7 words". ``reason`` is one of few: "text without audio".
    """

    where: str
    reason: str


class Reader(Protocol):
    """Reads a corpus, in the same order each time, an entry at a time: memory must not grow with the corpus."""

    def __call__(self) -> Iterable[Entry | LeftOut]:
        """Yield the entries of the corpus from its start.

        Raises:
            InputError: the corpus as a whole cannot be read: no such folder, a missing table or column, a wrong encoding.
        """
        ...
