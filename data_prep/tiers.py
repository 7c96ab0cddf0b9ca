"""Tiers of words, phones and utterances -> utterances, and what makes a tier unusable."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from data_prep.entries import LeftOut
from data_prep.textgrid import Interval, TextGrid, Tier

SILENCES = frozenset({"", "sil", "sp", "<sil>", "<p:>", "<nib>"})
"""Labels of gaps, in lower case: an empty one, HTK's and the Montreal Forced Aligner's, MAUS's pause and noise."""

UNKNOWN = frozenset({"spn", "<usb>"})
"""Labels, in lower case, of speech whose phones are unknown: the Montreal Forced Aligner's and MAUS's."""

ROLES = {
    **dict.fromkeys(("phones", "phone", "phonemes", "phoneme", "segments", "segment", "mau"), "phones"),
    **dict.fromkeys(("words", "word", "ort-mau", "ort"), "words"),
    **dict.fromkeys(("utterances", "utterance", "sentences", "sentence", "speech"), "utterances"),
    **dict.fromkeys(("transcript", "transcription"), "utterances"),
    **dict.fromkeys(("notes", "kan-mau", "kan"), "none"),
}
"""Name of a tier in lower case -> what it holds. MAUS's KAN has words as the lexicon pronounces them, not phones."""

TOLERANCE_S = 0.001
"""How far intervals may overlap or run past the end: programs round times to milliseconds."""

MIN_PAUSE_S = 0.5
"""Speech is cut into utterances at pauses of this length."""

MAX_UTTERANCE_S = 20.0
"""Longer stretches without such a pause are cut at the longest one in every so many seconds."""

MAX_WHOLE_S = 30.0
"""Longest recording that is one utterance, if no tier says where utterances are."""

MARGIN_S = 0.1
"""Silence before the first and after the last phone of an utterance that is cut at pauses, if there is as much."""


@dataclass(frozen=True)
class TierGroup:
    """The tiers of one speaker: words with their phones, and utterances. ``speaker`` is "" if no tier names one."""

    speaker: str
    words: Tier | None = None
    phones: Tier | None = None
    utterances: Tier | None = None

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers that there are."""
        return tuple(tier for tier in (self.utterances, self.words, self.phones) if tier is not None)


class Stretch(NamedTuple):
    """A part of a recording that becomes an utterance; ``end_s`` None is its end. Without a tier, ``phones`` is None."""

    start_s: float
    end_s: float | None
    words: str
    phones: Sequence[Interval] | None


def is_gap(label: str) -> bool:
    """Whether a label stands for silence."""
    return label.lower() in SILENCES


def find_fault(where: str, tier: Tier, end_s: float) -> LeftOut | None:
    """The first interval that makes a tier unusable: empty, backward, overlapping, or beyond the end at ``end_s``."""
    previous = Interval(0.0, 0.0, "")
    for interval in tier.intervals:
        span = f"{where}: tier {tier.name!r}: {interval.label!r} from {interval.start_s:g} s to {interval.end_s:g} s"
        if interval.end_s < interval.start_s or interval.start_s < previous.start_s - TOLERANCE_S:
            return LeftOut(f"{span}, after one from {previous.start_s:g} s", "tier that runs backwards")
        if interval.start_s < previous.end_s - TOLERANCE_S:
            return LeftOut(f"{span}, after one to {previous.end_s:g} s", "tier with overlapping intervals")
        if interval.end_s == interval.start_s and interval.label:
            return LeftOut(span, "tier with an interval of no length")
        if interval.end_s > end_s + TOLERANCE_S:
            return LeftOut(f"{span}, the end is at {end_s:g} s", "tier that runs past the end")
        previous = interval
    return None


def group_tiers(tiers: Iterable[Tier]) -> tuple[list[TierGroup], list[Tier]]:
    """Pair the tiers of words with those of phones, by name; also returns the tiers whose place another one has.

    "words" and "phones" belong together, and so do "Ann - words" and "Ann - phones", as the Montreal Forced Aligner names
    them. Where there are such tiers, tier "Ann" has Ann's utterances, and all others (comments, tones) are not read. Where
    there are none, each tier is called after the speaker whose utterances it has.
    """
    named = [(tier, *_role(tier.name)) for tier in tiers]
    speakers = {speaker for _, speaker, role in named if role in ("words", "phones")}
    groups: dict[str, dict[str, Tier]] = {}
    doubled = []
    for tier, speaker, role in named:
        if role == "none" or (role == "speaker" and speakers and speaker not in speakers):
            continue
        group, place = groups.setdefault(speaker, {}), "utterances" if role == "speaker" else role
        if group.setdefault(place, tier) is not tier:
            doubled.append(tier)
    return [TierGroup(speaker, **group) for speaker, group in groups.items()], doubled


def divide(group: TierGroup, grid: TextGrid, whole: bool) -> Iterator[Stretch]:
    """Divide the tiers of a speaker into utterances: by the tier of utterances, else at pauses.

    If ``whole`` is set, a recording of up to `MAX_WHOLE_S` without a tier of utterances stays one utterance.
    """
    words = () if group.words is None else _labelled(group.words)
    phones = None if group.phones is None else _labelled(group.phones)
    if group.utterances is not None:
        for start_s, end_s, label in _labelled(group.utterances):
            spoken = _join(within(words, start_s, end_s)) if words else label
            yield Stretch(start_s, end_s, spoken, None if phones is None else within(phones, start_s, end_s))
    elif whole and grid.end_s <= MAX_WHOLE_S:
        yield Stretch(0.0, None, _join(words), phones)
    else:
        for start_s, end_s, piece in cut_at_pauses(words if phones is None else phones, 0.0, grid.end_s):
            spoken = _join(within(words, start_s, end_s))
            yield Stretch(start_s, end_s, spoken, None if phones is None else piece)


def outside(group: TierGroup) -> int:
    """The number of labelled words, or else phones, of a speaker that lie in none of the labelled utterances."""
    speech = group.words or group.phones
    if group.utterances is None or speech is None:
        return 0
    labelled = _labelled(speech)
    return len(labelled) - sum(len(within(labelled, start, end)) for start, end, _ in _labelled(group.utterances))


def cut_at_pauses(
    speech: Sequence[Interval], start_s: float, end_s: float
) -> Iterator[tuple[float, float, Sequence[Interval]]]:
    """Cut phones or words into utterances at pauses of `MIN_PAUSE_S`, and what is then longer than `MAX_UTTERANCE_S` again.

    Yields (start, end, intervals), with `MARGIN_S` of the silence around, in the stretch from ``start_s`` to ``end_s``. A
    piece that has no pause stays longer than `MAX_UTTERANCE_S`.
    """
    cuts = [index for index in range(1, len(speech)) if _pause_s(speech, index) >= MIN_PAUSE_S]
    pieces = [part for first, last in pairwise([0, *cuts, len(speech)]) for part in _shorten(speech, first, last)]
    for first, last in pieces:
        if first == last:
            continue
        earliest = start_s if first == 0 else (speech[first - 1].end_s + speech[first].start_s) / 2
        latest = end_s if last == len(speech) else (speech[last - 1].end_s + speech[last].start_s) / 2
        begin = max(earliest, speech[first].start_s - MARGIN_S)
        yield begin, min(latest, speech[last - 1].end_s + MARGIN_S), speech[first:last]


def is_too_long(start_s: float, end_s: float | None) -> bool:
    """Whether a piece of `cut_at_pauses` is longer than `MAX_UTTERANCE_S`, because it has no pause."""
    return end_s is not None and end_s - start_s > MAX_UTTERANCE_S + 2 * MARGIN_S


def within(intervals: Sequence[Interval], start_s: float, end_s: float) -> Sequence[Interval]:
    """The intervals, sorted by time, whose middle lies from ``start_s`` to ``end_s``."""
    first, last = (bisect_left(intervals, limit, key=_middle) for limit in (start_s, end_s))
    return intervals[first:last]


def relative_times(phones: Sequence[Interval], start_s: float, end_s: float | None) -> tuple[tuple[float, float], ...]:
    """Times of phones from ``start_s`` on, cut at ``end_s``. Overlaps, which are at most `TOLERANCE_S`, are removed."""
    times, previous = [], 0.0
    for phone in phones:
        end = phone.end_s if end_s is None else min(phone.end_s, end_s)
        begin = max(previous, round(phone.start_s - start_s, 9))
        previous = max(begin, round(end - start_s, 9))
        times.append((begin, previous))
    return tuple(times)


def find_unusable_phone(phones: Sequence[Interval]) -> tuple[str, str] | None:
    """What keeps phones from being a reference: (detail, reason), or None."""
    if not phones:
        return "0 phones", "no phones"
    for phone in phones:
        at = f"{phone.label!r} at {phone.start_s:g} s"
        if phone.label.lower() in UNKNOWN:
            return at, f"unknown word ({phone.label.lower()})"
        if " " in phone.label:
            return at, "phone label with white space"
    return None


def span_id(recording: str, start_s: float, end_s: float) -> str:
    """The id of an utterance that is part of a recording: start and end in milliseconds, as wide as in a day."""
    return f"{recording}-{round(start_s * 1000):08d}-{round(end_s * 1000):08d}"


def _role(name: str) -> tuple[str, str]:
    """(speaker, role) of a tier; the speaker is "" if the name does not tell."""
    speaker, separator, rest = name.rpartition(" - ")
    if separator and speaker and rest.lower() in ROLES:
        return speaker, ROLES[rest.lower()]
    return ("", ROLES[name.lower()]) if name.lower() in ROLES else (name, "speaker")


def _labelled(tier: Tier) -> tuple[Interval, ...]:
    return tuple(interval for interval in tier.intervals if not is_gap(interval.label))


def _join(words: Sequence[Interval]) -> str:
    return " ".join(word.label for word in words)


def _middle(interval: Interval) -> float:
    return (interval.start_s + interval.end_s) / 2


def _pause_s(speech: Sequence[Interval], index: int) -> float:
    return speech[index].start_s - speech[index - 1].end_s


def _shorten(speech: Sequence[Interval], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Cut a piece that is longer than `MAX_UTTERANCE_S` at the longest pause of the next so many seconds, and so on."""
    while first < last and speech[last - 1].end_s - speech[first].start_s > MAX_UTTERANCE_S:
        cut = 0
        for index in range(first + 1, last):
            if cut and speech[index - 1].end_s - speech[first].start_s > MAX_UTTERANCE_S:
                break
            pause_s = _pause_s(speech, index)
            if pause_s > TOLERANCE_S and (not cut or pause_s >= _pause_s(speech, cut) - TOLERANCE_S):
                cut = index
        if not cut:
            break
        yield first, cut
        first = cut
    yield first, last
