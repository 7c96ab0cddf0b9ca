"""Error analysis of a scored set: errors by phone, confusions, errors by group, and what to fix first.

In:  a `Score`, and the manifest's `Utterance`s for the groups.
Out: tables of counts, and `Finding`s as sentences.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from asr.corpus.manifest import Utterance
from asr.corpus.notation import detect, manner, translate, without_stress
from asr.errors import InputError
from asr.scoring.alignment import DELETION, INSERTION, SUBSTITUTION, Counts
from asr.scoring.error_rate import Score, ScoredUtterance

LENGTH_LIMITS_S = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
AGE_LIMITS = (8, 12, 16, 25, 40, 60)
MAX_GROUPS = 40
"""A grouping with more groups than this is not shown. Speakers are always shown."""

ConfusionTable = Mapping[tuple[str | None, str | None], int]
"""(reference phone or None for an insertion, recognized phone or None for a deletion) -> count."""


@dataclass(frozen=True)
class Finding:
    """Something to fix, as a sentence, and the reduction in PER (a fraction) that fixing it would give."""

    kind: str
    text: str
    gain: float


@dataclass(frozen=True)
class PhoneErrors:
    """The errors of one phone. ``recognized_as`` lists its substitutions with their counts, most frequent first."""

    phone: str
    manner: str
    count: int
    correct: int
    deleted: int
    inserted: int
    recognized_as: Sequence[tuple[str, int]]


@cache
def manners() -> dict[str, tuple[int, str]]:
    """Phone of TIMIT or ARPAbet -> its index in the order of the confusion matrix, and its manner of articulation."""
    text = resources.files("asr").joinpath("data", "manners.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    listed = [(phone, manner) for manner, phones in lines for phone in phones.split()]
    return {phone: (index, manner) for index, (phone, manner) in enumerate(listed)}


def articulation(phones: Iterable[str], notation: str = "") -> dict[str, tuple[int, str]]:
    """Phone -> its place in the order of the confusion matrix, and its manner of articulation, "other" if unknown.

    Without a ``notation``, the phones themselves tell theirs.
    """
    distinct = set(phones)
    written, known = notation or detect(distinct), manners()
    if written in ("ipa", "xsampa"):
        return {phone: manner(_in_ipa(phone, written)) for phone in distinct}
    unknown = (len(known), "other")
    if written in ("graphemes", "other"):
        return dict.fromkeys(distinct, unknown)
    return {phone: known.get(without_stress(phone), unknown) for phone in distinct}


def _in_ipa(phone: str, notation: str) -> str:
    """A phone in IPA; a silence, or what is not in the notation, as it is."""
    try:
        return translate([phone], notation, "ipa")[phone] or phone
    except InputError:
        return phone


def sort_by_manner(phones: Iterable[str], notation: str = "") -> list[str]:
    """Distinct phones sorted by manner of articulation; phones without one come last."""
    places = articulation(phones, notation)
    return sorted(places, key=lambda phone: (places[phone][0], phone))


def confusions(result: Score) -> Counter[tuple[str | None, str | None]]:
    """Count every pair of reference phone (None: insertion) and recognized phone (None: deletion)."""
    return Counter(
        (edit.reference, edit.hypothesis)
        for utterance in result.utterances
        for edit in utterance.edits
        if edit.kind in (SUBSTITUTION, DELETION, INSERTION) or edit.hypothesis is not None
    )


def phone_errors(result: Score) -> list[PhoneErrors]:
    """The errors of every phone in the references or hypotheses, sorted by manner."""
    table = confusions(result)
    places = articulation((phone for pair in table for phone in pair if phone is not None), result.notation)
    return [_errors_of(phone, places[phone][1], table) for phone in sort_by_manner(places, result.notation)]


def _errors_of(phone: str, manner_of: str, table: ConfusionTable) -> PhoneErrors:
    outcomes = {hypothesis: count for (reference, hypothesis), count in table.items() if reference == phone}
    substitutions = [(str(other), count) for other, count in outcomes.items() if other not in (None, phone)]
    return PhoneErrors(
        phone,
        manner=manner_of,
        count=sum(outcomes.values()),
        correct=outcomes.get(phone, 0),
        deleted=outcomes.get(None, 0),
        inserted=table.get((None, phone), 0),
        recognized_as=sorted(substitutions, key=lambda pair: (-pair[1], pair[0])),
    )


def groups(result: Score, utterances: Mapping[str, Utterance]) -> dict[str, dict[str, Counts]]:
    """Errors by speaker, sex, length, and every detail in the manifest, such as age or dialect.

    Groupings with a single group, or with more than `MAX_GROUPS` groups, are left out.
    """
    keys: dict[str, Callable[[Utterance], str]] = {
        "speaker": lambda utterance: utterance.speaker,
        "sex": lambda utterance: {"f": "female", "m": "male"}.get(utterance.sex, "not given"),
        "length": lambda utterance: _range(utterance.duration_s, LENGTH_LIMITS_S, " s"),
    }
    for name in sorted({name for utterance in utterances.values() for name in utterance.details}):
        if name == "age":
            keys[name] = lambda utterance: _age(utterance.details.get("age", ""))
        else:
            keys[name] = lambda utterance, name=name: utterance.details.get(name, "not given")  # type: ignore[misc]
    grouped = {}
    for name, key in keys.items():
        table = _count_by(result.utterances, lambda scored, key=key: key(utterances[scored.id]))  # type: ignore[misc]
        if len(table) > 1 and (name == "speaker" or len(table) <= MAX_GROUPS):
            grouped[name] = table
    return grouped


def _count_by(scored: Sequence[ScoredUtterance], key: Callable[[ScoredUtterance], str]) -> dict[str, Counts]:
    table: dict[str, Counts] = {}
    for utterance in scored:
        group = key(utterance)
        table[group] = table.get(group, Counts()) + utterance.counts
    return dict(sorted(table.items(), key=lambda item: _leading_number(item[0])))


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
    """The fixes that would lower the PER most, largest gain first. Each kind appears once before any appears twice."""
    total = result.total
    if not total.errors or not total.reference_phones:
        return []
    ranked = sorted(
        [*_confusion_findings(result), *_deletion_findings(result), *_balance(result), *_weak_groups(result, by_group)],
        key=lambda finding: (-finding.gain, finding.text),
    )
    first_of_kind = {finding.kind: finding for finding in reversed(ranked)}
    leading = [finding for finding in ranked if first_of_kind[finding.kind] is finding]
    rest = [finding for finding in ranked if first_of_kind[finding.kind] is not finding]
    return sorted([*leading, *rest][:wanted], key=lambda finding: -finding.gain)


def frequent_confusions(result: Score, limit: int) -> list[str]:
    """The most frequent substitutions as text: "iy recognized as ih, 112 of 2,960"."""
    reference_counts = {row.phone: row.count for row in phone_errors(result)}
    substitutions = [
        (count, reference, hypothesis)
        for (reference, hypothesis), count in confusions(result).items()
        if reference is not None and hypothesis is not None and reference != hypothesis
    ]
    substitutions.sort(key=lambda entry: (-entry[0], entry[1:]))
    return [
        f"{reference} recognized as {hypothesis}, {count:,} of {reference_counts[reference]:,}"
        for count, reference, hypothesis in substitutions[:limit]
    ]


def _confusion_findings(result: Score) -> list[Finding]:
    table, total = confusions(result), result.total
    pairs = {tuple(sorted(pair)) for pair in table if None not in pair and pair[0] != pair[1]}  # type: ignore[type-var]
    listed = []
    for first, second in pairs:
        forward, backward = table[(first, second)], table[(second, first)]
        both = forward + backward
        text = (
            f"{first} and {second} are confused {_times(both)} ({first} recognized as {second}: {forward:,}, "
            f"{second} recognized as {first}: {backward:,}), {_share(both, total)}."
        )
        listed.append(Finding("confusion", text, both / total.reference_phones))
    return listed


def _deletion_findings(result: Score) -> list[Finding]:
    return [
        Finding(
            "deletion",
            f"{row.phone} is deleted {row.deleted:,} of {_times(row.count)} ({100 * row.deleted / row.count:.0f} %), "
            f"{_share(row.deleted, result.total)}.",
            row.deleted / result.total.reference_phones,
        )
        for row in phone_errors(result)
        if row.deleted
    ]


def _balance(result: Score) -> list[Finding]:
    total = result.total
    deletions, insertions = total.deletions, total.insertions
    more, less = max(deletions, insertions), min(deletions, insertions)
    if not more or more < 2 * less:
        return []
    direction = "higher" if deletions > insertions else "lower"
    text = (
        f"Deletions ({deletions:,}) and insertions ({insertions:,}) are out of balance. Use a {direction} {result.unit} "
        "insertion bonus: asr tune-decoder chooses it on a dev set."
    )
    return [Finding("balance", text, (more - less) / 2 / total.reference_phones)]


def _weak_groups(result: Score, by_group: Mapping[str, Mapping[str, Counts]]) -> list[Finding]:
    listed, total, rate = [], result.total, result.rate_name
    for grouping, table in by_group.items():
        for name, counts in table.items():
            phones_elsewhere = total.reference_phones - counts.reference_phones
            if not counts.reference_phones or not phones_elsewhere:
                continue
            rate_elsewhere = (total.errors - counts.errors) / phones_elsewhere
            gain = (counts.errors - counts.reference_phones * rate_elsewhere) / total.reference_phones
            if gain > 0:
                text = (
                    f"{rate} is {100 * counts.per:.1f} % for {grouping} {name} and {100 * rate_elsewhere:.1f} % for the "
                    f"rest. Closing this gap would lower the overall {rate} by {100 * gain:.1f} points."
                )
                listed.append(Finding("group", text, gain))
    return listed


def _times(count: int) -> str:
    return "1 time" if count == 1 else f"{count:,} times"


def _share(errors: int, total: Counts) -> str:
    return f"{100 * errors / total.errors:.1f} % of all errors"
