"""Splits by speaker: the corpus's own, lists of speakers, or shares drawn by a seed. No speaker is in two splits.

A request is a line of items, separated by commas:

    train               one split's name: the whole corpus
    own                 the corpus's own splits
    dev=0.05,test=0.05  shares of the utterances; the other speakers train
    test=speakers.txt   a file with a speaker on each line; the other speakers train
    own,dev=0.05        the corpus's own splits, and a dev set from its training speakers
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asr.errors import InputError
from data_prep.checking import read_lines
from data_prep.entries import SPLITS, Entry
from data_prep.fields import to_name

DEFAULT_SHARES = {"dev": 0.05, "test": 0.05}

EXPECTED = "own, train, dev, test, or items like dev=0.05 and test=speakers.txt"


@dataclass(frozen=True)
class SplitRequest:
    """How to divide a corpus. Without ``own``, ``whole``, shares or lists: its own splits if it has all, else by shares.

    ``shared`` accepts the corpus's own splits even if a speaker is in two of them.
    """

    own: bool = False
    whole: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: bool = False
    seed: int = 1


@dataclass(frozen=True)
class Assignment:
    """Each speaker's split: that of ``speakers``, else the corpus's own (``own``), else ``rest``; "" is none."""

    speakers: Mapping[str, str]
    own: bool
    rest: str
    notes: tuple[str, ...] = ()

    def split_of(self, speaker: str, own_split: str) -> str:
        """The split of an utterance by its speaker and its own split in the corpus, "" if it is in none."""
        return self.speakers.get(speaker) or (own_split if self.own else self.rest)


class SpeakerCounts:
    """The utterances of each speaker, by the corpus's own split ("" if it has none)."""

    def __init__(self) -> None:
        self.splits: dict[str, Counter[str]] = {}

    def add(self, entry: Entry) -> None:
        """Count an utterance.

        Raises:
            InputError: its split has another name than those of `SPLITS`.
        """
        if entry.split not in self.splits:
            if entry.split and entry.split not in SPLITS:
                raise InputError(f"{entry.where}: split {entry.split!r}, expected one of {', '.join(SPLITS)}")
            self.splits[entry.split] = Counter()
        self.splits[entry.split][entry.speaker] += 1

    def totals(self) -> Counter[str]:
        """Speaker -> utterances in all splits."""
        return sum(self.splits.values(), Counter())


def parse_splits(text: str, seed: int = 1, shared: bool = False) -> SplitRequest:
    """Parse a request, "" for the default. Lists of speakers are read.

    Raises:
        InputError: an item that is unknown, repeated or contradicts another; a share out of range; an unreadable list.
    """
    items = [item.strip() for item in text.split(",")] if text.strip() else []
    if len(items) == 1 and items[0] in SPLITS:
        return SplitRequest(whole=items[0], seed=seed)
    own, shares, lists = False, dict[str, float](), dict[str, tuple[str, ...]]()
    for item in items:
        name, _, value = (part.strip() for part in item.partition("="))
        if item == "own" and not own:
            own = True
        elif name in SPLITS and value and name not in shares and name not in lists:
            share = _read_share(name, value)
            if share is None:
                lists[name] = _read_list(Path(value))
            else:
                shares[name] = share
        else:
            raise InputError(f"split: {text!r} has the item {item!r}, expected once {EXPECTED}")
    _check_consistent(text, shares, lists)
    return SplitRequest(own, "", shares, lists, shared, seed)


def _read_list(path: Path) -> tuple[str, ...]:
    """The speakers of a list, spelled as readers spell them."""
    lines = (line.removeprefix("\ufeff") for _, line in read_lines(path))
    return tuple(sorted({to_name(line) for line in lines if not line.startswith("#")}))


def _read_share(name: str, value: str) -> float | None:
    """The share that an item names; None if its value is no number, and so a file."""
    try:
        share = float(value)
    except ValueError:
        return None
    if name == "train":
        raise InputError(f"split: train={value}, expected shares of dev and test alone: the rest trains")
    if not 0 < share < 1:
        raise InputError(f"split: {name}={value}, expected a share between 0 and 1")
    return share


def _check_consistent(text: str, shares: Mapping[str, float], lists: Mapping[str, tuple[str, ...]]) -> None:
    if sum(shares.values()) >= 1:
        raise InputError(f"split: {text!r} leaves nothing to train on, expected shares of less than 1 together")
    if shares and "train" in lists:
        raise InputError(f"split: {text!r} lists train and draws {min(shares)}, expected one of the two")
    places = Counter(speaker for speakers in lists.values() for speaker in speakers)
    if twice := sorted(speaker for speaker, count in places.items() if count > 1):
        raise InputError(f"split: {text!r} lists speaker {twice[0]} in two splits, expected one")


def assign(counts: SpeakerCounts, request: SplitRequest) -> Assignment:
    """Assign the speakers of a corpus to splits. The same request and speakers always give the same splits.

    Raises:
        InputError: too few speakers, a speaker in two of the corpus's own splits, no split of its own, an empty list.
    """
    if request.whole:
        return Assignment({}, False, request.whole)
    own, shares, notes = request.own, dict(request.shares), list[str]()
    if not (own or shares or request.lists):
        own = set(SPLITS) <= set(counts.splits)
        if not own:
            shares = dict(DEFAULT_SHARES)
            notes += _note_own_splits(counts)
    if own and not set(counts.splits) - {""}:
        raise InputError("split: own, but no utterance of the corpus is in a split, expected shares or lists")
    speakers = {speaker: split for split, names in request.lists.items() for speaker in names}
    totals = counts.totals()
    for split, names in request.lists.items():
        absent = sum(name not in totals for name in names)
        if absent == len(names):
            raise InputError(
                f"split: no speaker listed for {split} is in the corpus, expected those of it, not {names[0]}"
            )
        notes += [f"split {split}: {absent} of {len(names)} listed speakers are not in the corpus"] if absent else []
    if own:
        notes += _check_own(counts, speakers, request.shared)
    pool = _pool(counts, totals, own)
    if shares:
        free = {speaker: count for speaker, count in pool.items() if speaker not in speakers}
        speakers |= draw_speakers(free, shares, request.seed)
    return Assignment(speakers, own, "" if "train" in request.lists else "train", tuple(notes))


def _note_own_splits(counts: SpeakerCounts) -> list[str]:
    """A note if the corpus has some splits of its own, which the default does not use."""
    present = [split for split in SPLITS if split in counts.splits]
    missing = [split for split in SPLITS if split not in counts.splits]
    if not present:
        return []
    return [
        f"the corpus's own splits {', '.join(present)} are not used, as it has no {' and no '.join(missing)}; "
        f"with --split own they are"
    ]


def _check_own(counts: SpeakerCounts, moved: Mapping[str, str], shared: bool) -> list[str]:
    """Refuse a speaker in two of the corpus's own splits, or with ``shared`` note how many there are."""
    places: Counter[str] = Counter()
    for split in SPLITS:
        places.update(counts.splits.get(split, Counter()).keys() - moved.keys())
    both = sorted(speaker for speaker, count in places.items() if count > 1)
    if both and not shared:
        first, second = [split for split in SPLITS if both[0] in counts.splits.get(split, ())][:2]
        raise InputError(
            f"speaker {both[0]} is in the corpus's own splits {first} and {second}, expected in one of them "
            f"(--shared-speakers accepts it)"
        )
    return [f"{len(both)} speakers are in two of the corpus's own splits, such as {both[0]}"] if both else []


def _pool(counts: SpeakerCounts, totals: Mapping[str, int], own: bool) -> Mapping[str, int]:
    """The speakers from whom shares are drawn: with own splits those who are in train alone."""
    if not own:
        return totals
    train = counts.splits.get("train", Counter())
    return {speaker: count for speaker, count in train.items() if totals[speaker] == count}


def draw_speakers(counts: Mapping[str, int], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Draw speakers for each share of the utterances, at least one each and one left: speaker -> split.

    Speakers are taken in an order that depends on the seed and their names alone, as long as each brings the split nearer
    to its share. If none does, the one with the fewest utterances is taken.

    Raises:
        InputError: fewer speakers than splits.
    """
    shares = {split: shares[split] for split in SPLITS if split in shares}
    needed, total = len(shares) + 1, sum(counts.values())
    if len(counts) < needed:
        raise InputError(
            f"split: {len(counts)} speakers for train, {', '.join(shares)}, expected at least {needed}, one for each "
            f"(--split train puts all into one manifest)"
        )
    order = sorted(counts, key=lambda speaker: (_number(speaker, seed), speaker))
    drawn: dict[str, str] = {}
    for position, (split, share) in enumerate(shares.items()):
        left = [speaker for speaker in order if speaker not in drawn]
        most, missing = len(left) - (needed - position - 1), share * total
        taken = list[str]()
        for speaker in left:
            if len(taken) < most and counts[speaker] < 2 * missing:
                taken.append(speaker)
                missing -= counts[speaker]
        drawn |= dict.fromkeys(taken or [min(left, key=lambda speaker: counts[speaker])], split)
    return drawn


def _number(speaker: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\t{speaker}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
