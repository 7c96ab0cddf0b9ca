"""Phone inventories, folding tables and the ids a model gives to phones.

A corpus is transcribed in a *transcription set* (TIMIT's 61 phones, or the 39 of ARPAbet); a model has an
*inventory* of output symbols: id 0 is the CTC blank, phones follow in sorted order, so that ids never depend on
the order in which files were read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from asr.config import INVENTORIES
from asr.errors import InputError

BLANK = "<blank>"
"""Name of the CTC blank, symbol id 0 of every model."""

SILENCES = frozenset({"h#", "pau", "epi", "sil"})
"""Phones that are none: before, between and after words."""


@dataclass(frozen=True)
class PhoneInventory:
    """The output symbols of one model: ``symbols[0]`` is the blank, ``symbols[i]`` the phone with id i.

    ``mapping`` takes a transcribed phone to the modelled one, or to None where it is dropped (the glottal stop).
    """

    name: str
    symbols: tuple[str, ...]
    mapping: dict[str, str | None]

    def encode(self, phones: Iterable[str], utterance: str) -> list[int]:
        """Ids of transcribed phones; dropped ones leave no trace. ``utterance`` is named in the error."""
        ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        tokens = []
        for phone in phones:
            if phone not in self.mapping:
                known = f"one of the {len(self.mapping)} phones of inventory {self.name}"
                raise InputError(f"utterance {utterance}: unknown phone {phone!r}, expected {known}")
            modelled = self.mapping[phone]
            if modelled is not None:
                tokens.append(ids[modelled])
        return tokens

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """Phones of symbol ids; the blank must have been removed."""
        return [self.symbols[token] for token in tokens]


@cache
def timit_folding() -> dict[str, tuple[str | None, str | None]]:
    """TIMIT's 61 phones -> (one of the 48 modelled, one of the 39 scored); None where the phone is dropped.

    Source: K.-F. Lee and H.-W. Hon, "Speaker-independent phone recognition using hidden Markov models", 1989.
    """
    folding: dict[str, tuple[str | None, str | None]] = {}
    for line in _data_lines("timit_phones.tsv"):
        transcribed, modelled, scored = (None if phone == "-" else phone for phone in line.split("\t"))
        assert transcribed is not None
        folding[transcribed] = (modelled, scored)
    return folding


@cache
def _scored_phones() -> dict[str, str | None]:
    table: dict[str, str | None] = {}
    for transcribed, (modelled, scored) in timit_folding().items():
        table[transcribed] = scored
        for already_folded in (modelled, scored):
            if already_folded is not None:
                table.setdefault(already_folded, scored)
    return table


def fold_timit(phones: Sequence[str]) -> list[str]:
    """Phones of any TIMIT inventory (61, 48 or 39) folded to the 39 of scoring; ``q`` is dropped."""
    table = _scored_phones()
    unknown = [phone for phone in phones if phone not in table]
    if unknown:
        raise InputError(f"unknown TIMIT phone {unknown[0]!r}, expected one of the 61, 48 or 39")
    return [folded for phone in phones if (folded := table[phone]) is not None]


@cache
def inventory(name: str) -> PhoneInventory:
    """The inventory of that name, one of `INVENTORIES`."""
    if name == "arpabet39":
        return make_inventory(name, {phone: phone for phone in _data_lines("arpabet39.txt")})
    columns: dict[str, dict[str, str | None]] = {
        "timit61": {phone: phone for phone in timit_folding()},
        "timit48": {phone: modelled for phone, (modelled, _) in timit_folding().items()},
        "timit39": {phone: scored for phone, (_, scored) in timit_folding().items()},
    }
    if name not in columns:
        raise InputError(f"unknown phone inventory {name!r}, expected one of {', '.join(INVENTORIES)}")
    return make_inventory(name, columns[name])


def make_inventory(name: str, mapping: dict[str, str] | dict[str, str | None]) -> PhoneInventory:
    """An inventory whose symbols are the blank and, sorted, every phone that ``mapping`` leads to."""
    phones = sorted({phone for phone in mapping.values() if phone is not None})
    return PhoneInventory(name, (BLANK, *phones), dict(mapping))


def _data_lines(name: str) -> list[str]:
    text = resources.files("asr").joinpath("data", name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
