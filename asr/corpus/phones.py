"""Phone inventories, folding tables and phone ids.

A corpus is transcribed in a *transcription set* (TIMIT's 61 phones or ARPAbet's 39). A model outputs the symbols of an
*inventory*: id 0 is the CTC blank, the phones follow in sorted order, so that ids do not depend on the order of files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from asr.config import INVENTORIES
from asr.errors import InputError

BLANK = "<blank>"
"""Name of the CTC blank, id 0 in every model."""

SILENCES = frozenset({"h#", "pau", "epi", "sil"})
"""Silence labels: before, between and after words."""


@dataclass(frozen=True)
class PhoneInventory:
    """The output symbols of a model: ``symbols[0]`` is the blank, ``symbols[i]`` the phone with id i.

    ``mapping`` maps a transcribed phone to the modelled one, or to None if it is dropped (the glottal stop).
    """

    name: str
    symbols: tuple[str, ...]
    mapping: dict[str, str | None]

    def encode(self, phones: Iterable[str], utterance: str) -> list[int]:
        """Map transcribed phones to ids, without the dropped ones.

        Raises:
            InputError: an unknown phone; the message names ``utterance``.
        """
        ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        tokens = []
        for phone in phones:
            if phone not in self.mapping:
                expected = f"one of the {len(self.mapping)} phones of inventory {self.name}"
                raise InputError(f"utterance {utterance}: unknown phone {phone!r}, expected {expected}")
            modelled = self.mapping[phone]
            if modelled is not None:
                tokens.append(ids[modelled])
        return tokens

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """Map ids to phones. The caller removes blanks first."""
        return [self.symbols[token] for token in tokens]


@cache
def timit_folding() -> dict[str, tuple[str | None, str | None]]:
    """TIMIT's 61 phones -> (one of the 48 modelled, one of the 39 scored); None if the phone is dropped.

    Source: K.-F. Lee and H.-W. Hon, "Speaker-independent phone recognition using hidden Markov models", 1989.
    """
    folding: dict[str, tuple[str | None, str | None]] = {}
    for line in _read_data_lines("timit_phones.tsv"):
        transcribed, modelled, scored = (None if phone == "-" else phone for phone in line.split("\t"))
        assert transcribed is not None
        folding[transcribed] = (modelled, scored)
    return folding


@cache
def _scored_phones() -> dict[str, str | None]:
    """Phone of TIMIT's 61, 48 or 39 -> one of the 39 scored; None if it is dropped."""
    table: dict[str, str | None] = {}
    for transcribed, (modelled, scored) in timit_folding().items():
        table[transcribed] = scored
        for already_folded in (modelled, scored):
            if already_folded is not None:
                table.setdefault(already_folded, scored)
    return table


def fold_timit(phones: Sequence[str]) -> list[str]:
    """Fold phones of TIMIT's 61, 48 or 39 to the 39 scored ones; ``q`` is dropped.

    Raises:
        InputError: an unknown phone.
    """
    table = _scored_phones()
    unknown = [phone for phone in phones if phone not in table]
    if unknown:
        raise InputError(f"unknown TIMIT phone {unknown[0]!r}, expected one of the 61, 48 or 39")
    return [folded for phone in phones if (folded := table[phone]) is not None]


@cache
def inventory(name: str) -> PhoneInventory:
    """The phone inventory called ``name``, one of `INVENTORIES`.

    Raises:
        InputError: an unknown name.
    """
    if name == "arpabet39":
        return make_inventory(name, {phone: phone for phone in _read_data_lines("arpabet39.txt")})
    mappings: dict[str, dict[str, str | None]] = {
        "timit61": {phone: phone for phone in timit_folding()},
        "timit48": {phone: modelled for phone, (modelled, _) in timit_folding().items()},
        "timit39": {phone: scored for phone, (_, scored) in timit_folding().items()},
    }
    if name not in mappings:
        raise InputError(f"unknown phone inventory {name!r}, expected one of {', '.join(INVENTORIES)}")
    return make_inventory(name, mappings[name])


def make_inventory(name: str, mapping: dict[str, str] | dict[str, str | None]) -> PhoneInventory:
    """Build the inventory of a mapping: the blank, then every modelled phone in sorted order."""
    phones = sorted({phone for phone in mapping.values() if phone is not None})
    return PhoneInventory(name, (BLANK, *phones), dict(mapping))


def _read_data_lines(name: str) -> list[str]:
    """The lines of a file in ``asr/data``, without comments and empty lines."""
    text = resources.files("asr").joinpath("data", name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
