"""The statistics of a corpus as plain values, for JSON and for the page.

In:  a `Tally` and the suspicions about it.
Out: a dictionary of strings and numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from asr.reports.corpus_suspicions import Suspicion
from asr.reports.corpus_tally import SplitCounts, Tally

QUANTILES = {"lowest": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "highest": 1.0}
RARE = 100
"""A phone that occurs less often in the whole corpus is rare."""


class Quantity(NamedTuple):
    """A measured column: its label with unit, the factor from the unit of the column to that, and where its axis starts."""

    label: str
    factor: float = 1.0
    from_zero: bool = False


QUANTITIES = {
    "duration_s": Quantity("duration, s", from_zero=True),
    "speech_s": Quantity("without silence at the ends, s", from_zero=True),
    "phones_per_s": Quantity("phones per second of speech", from_zero=True),
    "level_db": Quantity("level, dB"),
    "peak_db": Quantity("peak, dB"),
    "clipped": Quantity("clipped samples, %", 100.0),
    "offset": Quantity("DC offset, % of full scale", 100.0),
    "snr_db": Quantity("signal-to-noise ratio, dB"),
    "bandwidth_hz": Quantity("bandwidth, kHz", 0.001, True),
    "start_silence_s": Quantity("silence at the start, s"),
    "end_silence_s": Quantity("silence at the end, s"),
    "per": Quantity("error rate of the model, %", 100.0, True),
}


def describe_tally(tally: Tally, suspicions: Sequence[Suspicion]) -> dict[str, Any]:
    """All statistics, as they are written to JSON."""
    training = tally.splits[tally.training]
    names = [split.name for split in tally.splits]
    split_of = tally.columns["split"]
    return {
        "manifests": {name: str(path) for name, path in zip(names, tally.manifests, strict=True)},
        "training_split": training.name,
        "splits": {split.name: _split(tally, number, training) for number, split in enumerate(tally.splits)},
        "rare_phones": rare_phones(tally),
        "phones_in_one_split": phones_in_one_split(tally),
        "overlaps": overlaps(tally),
        "suspicious": {
            one.name: {
                "rule": one.rule,
                "utterances": dict(
                    zip(names, np.bincount(split_of[one.rows], minlength=len(names)).tolist(), strict=True)
                ),
            }
            for one in suspicions
        },
        "unusable": [{"split": split, "id": name, "reason": reason} for split, name, reason in tally.unusable],
    }


def _split(tally: Tally, number: int, training: SplitCounts) -> dict[str, Any]:
    split = tally.splits[number]
    minutes = np.array(list(split.speaker_seconds.values())) / 60
    unknown = unknown_words(split, training)
    measured = [name for name in QUANTITIES if name in tally.columns]
    return {
        "utterances": split.utterances,
        "unusable": split.unusable,
        "hours": split.seconds / 3600,
        "speakers": len(split.speaker_seconds),
        "minutes_per_speaker": quantiles(minutes),
        "speakers_by_sex": {sex: len(speakers) for sex, speakers in sorted(split.sex_speakers.items())},
        "hours_by_sex": {sex: seconds / 3600 for sex, seconds in sorted(split.sex_seconds.items())},
        "distinct_texts": len(np.unique(tally.columns["text"][tally.columns["split"] == number])),
        "words": split.words.total(),
        "distinct_words": len(split.words),
        "words_not_in_training": unknown.total(),
        "distinct_words_not_in_training": len(unknown),
        "phones": split.phones.total(),
        "distinct_phones": len(split.phones),
        "phone_counts": dict(split.phones.most_common()),
        "phone_durations_s": {
            phone: {"mean": total / count, "shortest": shortest, "longest": longest}
            for phone, (count, total, shortest, longest) in sorted(split.phone_times.items())
        },
        "formats": [
            {"sample_rate_hz": rate, "channels": channels, "utterances": count}
            for (rate, channels), count in sorted(split.formats.items())
        ],
        "measures": {name: quantiles(tally.values(name, number)) for name in measured},
    }


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Number, mean and quantiles of values (values,); of no values, the number alone."""
    if len(values) == 0:
        return {"count": 0}
    found = np.quantile(values, list(QUANTILES.values())).tolist()
    return {"count": len(values), "mean": float(values.mean()), **dict(zip(QUANTILES, found, strict=True))}


def unknown_words(split: SplitCounts, training: SplitCounts) -> Counter[str]:
    """The words of a split that the training split does not have, with their counts."""
    return Counter({word: count for word, count in split.words.items() if word not in training.words})


def phone_totals(tally: Tally) -> Counter[str]:
    """How often each phone occurs in the corpus."""
    totals: Counter[str] = Counter()
    for split in tally.splits:
        totals.update(split.phones)
    return totals


def rare_phones(tally: Tally) -> dict[str, int]:
    """Phones that occur less than `RARE` times, with their counts, rarest first."""
    found = [(count, phone) for phone, count in phone_totals(tally).items() if count < RARE]
    return {phone: count for count, phone in sorted(found)}


def phones_in_one_split(tally: Tally) -> dict[str, list[str]]:
    """The phones that only one split has, by split; none if there is a single split."""
    if len(tally.splits) < 2:
        return {}
    splits_of = Counter(phone for split in tally.splits for phone in split.phones)
    alone = {split.name: sorted(phone for phone in split.phones if splits_of[phone] == 1) for split in tally.splits}
    return {name: phones for name, phones in alone.items() if phones}


def overlaps(tally: Tally) -> list[Mapping[str, Any]]:
    """What each two splits share: speakers, distinct texts, and samples, as numbers of distinct ones."""
    split = tally.columns["split"]
    distinct = {
        name: [np.unique(tally.columns[name][split == number]) for number in range(len(tally.splits))]
        for name in ("speaker", "text", "samples")
    }
    return [
        {
            "splits": [tally.splits[first].name, tally.splits[second].name],
            "speakers": len(np.intersect1d(distinct["speaker"][first], distinct["speaker"][second])),
            "texts": int(np.count_nonzero(np.intersect1d(distinct["text"][first], distinct["text"][second]))),
            "recordings": len(np.intersect1d(distinct["samples"][first], distinct["samples"][second])),
        }
        for first, second in combinations(range(len(tally.splits)), 2)
    ]
