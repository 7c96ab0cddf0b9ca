"""The published scoring conventions: what is done to reference and hypothesis before they are compared.

Folding TIMIT's phones to the 39 of scoring happens here and nowhere else.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from asr.corpus.phones import fold_timit, timit_folding
from asr.errors import InputError

SILENCE = "sil"


@dataclass(frozen=True)
class Convention:
    """What is done to reference and hypothesis alike before they are compared, and who does it.

    An ``optional`` phone of the reference that was not recognized costs nothing.
    """

    rule: Callable[[Sequence[str]], list[str]]
    summary: str
    optional: frozenset[str] = frozenset()


def merge_silences(phones: Sequence[str]) -> list[str]:
    """Phones folded to 39, runs of silence as one."""
    runs = ((phone, list(run)) for phone, run in groupby(fold_timit(phones)))
    return [same for phone, run in runs for same in (run[:1] if phone == SILENCE else run)]


def drop_silences(phones: Sequence[str]) -> list[str]:
    """Phones folded to 39, without silence."""
    return [phone for phone in fold_timit(phones) if phone != SILENCE]


def check_61(phones: Sequence[str]) -> list[str]:
    """The phones as they are, each one of TIMIT's 61."""
    unknown = [phone for phone in phones if phone not in timit_folding()]
    if unknown:
        raise InputError(f"unknown TIMIT phone {unknown[0]!r}, expected one of the 61")
    return list(phones)


CONVENTIONS: dict[str, Convention] = {
    "plain": Convention(list, "phones as they are (ARPAbet corpora)"),
    "kaldi": Convention(fold_timit, "39 phones, q dropped, every sil scored (Kaldi since 2014, ESPnet, icefall)"),
    "optional-sil": Convention(
        fold_timit, "as kaldi, a sil not recognized costs nothing (Kaldi before 2014)", frozenset({SILENCE})
    ),
    "merged-sil": Convention(merge_silences, "as kaldi, runs of sil are one (SpeechBrain)"),
    "no-sil": Convention(drop_silences, "as kaldi, without sil"),
    "61": Convention(check_61, "no folding, q scored (Graves 2006)"),
}
"""By name. All but ``plain`` are TIMIT's."""


def conventions_for(headline: str, phones: Collection[str]) -> list[str]:
    """The conventions a system can be scored under, the headline first, given the phones it knows.

    ``61`` is for those that tell all of TIMIT's 61 phones apart.
    """
    if headline == "plain":
        return ["plain"]
    names = [name for name in CONVENTIONS if name not in (headline, "plain")]
    return [headline, *(name for name in names if name != "61" or timit_folding().keys() <= set(phones))]
