"""The published scoring conventions: how reference and hypothesis are normalized before they are aligned.

Folding TIMIT's phones to 39 for scoring happens here and nowhere else.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from asr.corpus.phones import fold_timit, timit_folding
from asr.errors import InputError

SILENCE = "sil"


@dataclass(frozen=True)
class Convention:
    """``rule`` normalizes reference and hypothesis before alignment; ``summary`` names it and its users.

    The deletion of an ``optional`` phone is not an error.
    """

    rule: Callable[[Sequence[str]], list[str]]
    summary: str
    optional: frozenset[str] = frozenset()


def merge_silences(phones: Sequence[str]) -> list[str]:
    """Fold phones to 39 and merge runs of silence."""
    runs = ((phone, list(run)) for phone, run in groupby(fold_timit(phones)))
    return [repeated for phone, run in runs for repeated in (run[:1] if phone == SILENCE else run)]


def drop_silences(phones: Sequence[str]) -> list[str]:
    """Fold phones to 39 and drop silence."""
    return [phone for phone in fold_timit(phones) if phone != SILENCE]


def check_61(phones: Sequence[str]) -> list[str]:
    """Check that phones are TIMIT's 61, and return them unchanged.

    Raises:
        InputError: another phone.
    """
    unknown = [phone for phone in phones if phone not in timit_folding()]
    if unknown:
        raise InputError(f"unknown TIMIT phone {unknown[0]!r}, expected one of the 61")
    return list(phones)


CONVENTIONS: dict[str, Convention] = {
    "plain": Convention(list, "unchanged phones (ARPAbet corpora)"),
    "kaldi": Convention(fold_timit, "39 phones, q dropped, every sil scored (Kaldi since 2014, ESPnet, icefall)"),
    "optional-sil": Convention(
        fold_timit, "like kaldi, but a missed sil is not an error (Kaldi before 2014)", frozenset({SILENCE})
    ),
    "merged-sil": Convention(merge_silences, "like kaldi, but runs of sil are merged (SpeechBrain)"),
    "no-sil": Convention(drop_silences, "like kaldi, but without sil"),
    "61": Convention(check_61, "no folding, q scored (Graves 2006)"),
}
"""Conventions by name. All except ``plain`` are for TIMIT."""


def conventions_for(headline: str, phones: Collection[str]) -> list[str]:
    """Names of the conventions for a system that distinguishes ``phones``, the headline first.

    ``61`` is included if the system distinguishes all of TIMIT's 61 phones.
    """
    if headline == "plain":
        return ["plain"]
    names = [name for name in CONVENTIONS if name not in (headline, "plain")]
    return [headline, *(name for name in names if name != "61" or timit_folding().keys() <= set(phones))]
