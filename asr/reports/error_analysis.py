"""Where the errors of a scored set are: by phone, by pair of phones, by group of utterances, and what to fix first."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from asr.corpus.manifest import Utterance
from asr.scoring.alignment import DELETION, INSERTION, SUBSTITUTION, Counts
from asr.scoring.error_rate import Score, Scored

LENGTH_LIMITS_S = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
MOST_VALUES = 40
"""A detail with more values than this, or numbers other than ages, is not shown as groups."""
AGE_LIMITS = (8, 12, 16, 25, 40, 60)


@dataclass(frozen=True)
class Finding:
    """Something to fix, in words, and by how much the PER (a fraction) would fall if it were."""

    kind: str
    text: str
    gain: float


@dataclass(frozen=True)
class PhoneErrors:
    """What became of one phone of the reference; ``heard_as`` are the phones it was taken for, most often first."""

    phone: str
    manner: str
    count: int
    correct: int
    deleted: int
    inserted: int
    heard_as: Sequence[tuple[str, int]]


@cache
def manners() -> dict[str, tuple[int, str]]:
    """Phone -> its place in the order of a confusion matrix, and its manner of articulation."""
    text = resources.files("asr").joinpath("data", "manners.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    listed = [(phone, manner) for manner, phones in rows for phone in phones.split()]
    return {phone: (place, manner) for place, (phone, manner) in enumerate(listed)}


def in_order(phones: Iterable[str]) -> list[str]:
    """Phones sorted by manner; those that have none come last."""
    known = manners()
    return sorted(set(phones), key=lambda phone: (known.get(phone, (len(known), ""))[0], phone))


def confusions(result: Score) -> Counter[tuple[str | None, str | None]]:
    """How often each phone of the reference (None: an insertion) was recognized as each phone (None: a deletion)."""
    return Counter(
        (edit.reference, edit.hypothesis)
        for one in result.utterances
        for edit in one.edits
        if edit.kind in (SUBSTITUTION, DELETION, INSERTION) or edit.hypothesis is not None
    )


def phone_errors(result: Score) -> list[PhoneErrors]:
    """Every phone of reference or hypothesis, sorted by manner."""
    table = confusions(result)
    rows = []
    for phone in in_order(phone for pair in table for phone in pair if phone is not None):
        became = {heard: number for (said, heard), number in table.items() if said == phone}
        others = sorted(
            ((heard, number) for heard, number in became.items() if heard not in (None, phone)),
            key=lambda pair: (-pair[1], str(pair[0])),
        )
        rows.append(
            PhoneErrors(
                phone,
                manners().get(phone, (0, "other"))[1],
                sum(became.values()),
                became.get(phone, 0),
                became.get(None, 0),
                table[(None, phone)],
                [(str(heard), number) for heard, number in others],
            )
        )
    return rows


def groups(result: Score, utterances: Mapping[str, Utterance]) -> dict[str, dict[str, Counts]]:
    """Errors by speaker, sex, length and every detail that the manifest gives, such as age or dialect.

    A way of grouping that has one group only is left out.
    """
    keys: dict[str, Callable[[Utterance], str]] = {
        "speaker": lambda one: one.speaker,
        "sex": lambda one: {"f": "female", "m": "male"}.get(one.sex, "not given"),
        "length": lambda one: _range(one.duration_s, LENGTH_LIMITS_S, " s"),
    }
    for name in sorted({name for one in utterances.values() for name in one.details}):
        if name == "age":
            keys[name] = lambda one: _age(one.details.get("age", ""))
        else:
            keys[name] = lambda one, name=name: one.details.get(name, "not given")  # type: ignore[misc]
    found = {}
    for name, key in keys.items():
        table = _by(result.utterances, lambda one, key=key: key(utterances[one.id]))  # type: ignore[misc]
        if len(table) > 1 and (name == "speaker" or len(table) <= MOST_VALUES):
            found[name] = table
    return found


def _by(scored: Sequence[Scored], key: Callable[[Scored], str]) -> dict[str, Counts]:
    table: dict[str, Counts] = {}
    for one in scored:
        table[key(one)] = table.get(key(one), Counts()) + one.counts
    return dict(sorted(table.items(), key=lambda row: _leading_number(row[0])))


def _range(value: float, limits: Sequence[float], unit: str) -> str:
    above = [limit for limit in limits if value >= limit]
    below = [limit for limit in limits if value < limit]
    if not above:
        return f"under {below[0]:g}{unit}"
    return f"{above[-1]:g} to {below[0]:g}{unit}" if below else f"{above[-1]:g}{unit} and more"


def _age(text: str) -> str:
    return _range(float(text), AGE_LIMITS, " years") if text.isdecimal() else "not given"


def _leading_number(name: str) -> tuple[float, str]:
    first = name.split()[0] if name.split() else ""
    if first == "under":
        return (-1.0, name)
    return (float(first), name) if first.isdecimal() and " " in name else (float("inf"), name)


def findings(result: Score, by_group: Mapping[str, Mapping[str, Counts]], wanted: int = 3) -> list[Finding]:
    """What would lower the PER most, the greatest gain first: at most one of each kind before a second of any."""
    total = result.total
    if not total.errors or not total.reference_phones:
        return []
    found = sorted(
        [*_confused(result), *_missed(result), *_imbalance(total), *_weak_groups(total, by_group)],
        key=lambda one: (-one.gain, one.text),
    )
    first_of_kind = {one.kind: one for one in reversed(found)}
    leading = [one for one in found if first_of_kind[one.kind] is one]
    rest = [one for one in found if first_of_kind[one.kind] is not one]
    return sorted([*leading, *rest][:wanted], key=lambda one: -one.gain)


def confusion_words(result: Score, shown: int) -> list[str]:
    """The most frequent substitutions: "iy heard as ih, 112 of 2,960"."""
    spoken = {row.phone: row.count for row in phone_errors(result)}
    pairs = [
        (number, said, heard)
        for (said, heard), number in confusions(result).items()
        if said is not None and heard is not None and said != heard
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    return [f"{said} heard as {heard}, {number:,} of {spoken[said]:,}" for number, said, heard in pairs[:shown]]


def _confused(result: Score) -> list[Finding]:
    table, total = confusions(result), result.total
    found = []
    for said, heard in {tuple(sorted(pair)) for pair in table if None not in pair and pair[0] != pair[1]}:  # type: ignore[type-var]
        both = table[(said, heard)] + table[(heard, said)]
        text = (
            f"{said} and {heard} are taken for each other {both:,} times ({table[(said, heard)]:,} times {heard} is heard "
            f"for {said}, {table[(heard, said)]:,} times {said} for {heard}): {_share(both, total)}."
        )
        found.append(Finding("confusion", text, both / total.reference_phones))
    return found


def _missed(result: Score) -> list[Finding]:
    return [
        Finding(
            "deletion",
            f"{row.phone} is not heard {row.deleted:,} of {row.count:,} times ({100 * row.deleted / row.count:.0f} %): "
            f"{_share(row.deleted, result.total)}.",
            row.deleted / result.total.reference_phones,
        )
        for row in phone_errors(result)
        if row.deleted
    ]


def _imbalance(total: Counts) -> list[Finding]:
    more, less = total.deletions, total.insertions
    advice = "phones cost too much, and asr tune-decoder would choose a bonus for each"
    if less > more:
        more, less, advice = (
            less,
            more,
            "phones come too cheaply, and asr tune-decoder would take something off each",
        )
    if more < 2 * less:
        return []
    gain = (more - less) / 2 / total.reference_phones
    return [
        Finding(
            "balance", f"There are {total.deletions:,} deletions and {total.insertions:,} insertions: {advice}.", gain
        )
    ]


def _weak_groups(total: Counts, by_group: Mapping[str, Mapping[str, Counts]]) -> list[Finding]:
    found = []
    for way, table in by_group.items():
        for name, one in table.items():
            others = total.reference_phones - one.reference_phones
            if not one.reference_phones or not others:
                continue
            rate = (total.errors - one.errors) / others
            gain = (one.errors - one.reference_phones * rate) / total.reference_phones
            if gain > 0:
                text = (
                    f"PER is {100 * one.per:.1f} % for {way} {name}, {100 * rate:.1f} % elsewhere: as good as elsewhere, "
                    f"it would take {100 * gain:.1f} points off the total."
                )
                found.append(Finding("group", text, gain))
    return found


def _share(errors: int, total: Counts) -> str:
    return f"{100 * errors / total.errors:.1f} % of all errors"
