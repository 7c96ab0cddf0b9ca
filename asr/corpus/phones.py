"""Phone inventories, folding tables and phone ids.

A corpus is transcribed in a *transcription set* (TIMIT's 61 phones, ARPAbet's 39, or a corpus's own). A model outputs the
symbols of an *inventory*: id 0 is the CTC blank, the phones follow in sorted order, so that ids do not depend on the order
of files.

A table makes an inventory of any phones, in canonical composition (NFC). It has a phone on each line; or a phone, a tab and
the phone that is modelled in its place, ``-`` if it is dropped:

    # notation: ipa
    a
    aː	a
    ʔ	-

Lines that begin with ``# `` are comments. Two of them say what the phones are: ``# notation:`` with one of timit, arpabet,
ipa, xsampa, graphemes and other, and ``# units:`` with phones or graphemes. Without them the phones themselves tell, as
`asr.corpus.notation.detect` reads them.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path

from asr.config import INVENTORIES, TABLES
from asr.corpus.notation import KNOWN_NOTATIONS, SILENCES, detect, xsampa_to_ipa
from asr.errors import InputError
from asr.system.files import read_text

BLANK = "<blank>"
"""Name of the CTC blank, id 0 in every model."""
RESERVED = {BLANK: "the CTC blank", "<s>": "the beginning in n-grams", "</s>": "the end in n-grams"}
"""Names that no phone may have, and what they stand for."""
DROPPED = "-"
"""Stands in a table for the modelled phone of a phone that is dropped."""
TABLE = "a phone on each line, or a phone, a tab and the modelled phone"


@dataclass(frozen=True)
class PhoneInventory:
    """The output symbols of a model: ``symbols[0]`` is the blank, ``symbols[i]`` the phone with id i.

    ``mapping`` maps a transcribed phone to the modelled one, or to None if it is dropped (the glottal stop). ``notation``
    is one of `asr.corpus.notation.KNOWN_NOTATIONS`, "" if it is not known.
    """

    name: str
    symbols: tuple[str, ...]
    mapping: dict[str, str | None]
    notation: str = ""

    @property
    def ships(self) -> bool:
        """Whether the inventory is one of `INVENTORIES`, so that its name says all of it."""
        return self.name in INVENTORIES

    def encode(self, phones: Iterable[str], utterance: str) -> list[int]:
        """Map transcribed phones to ids, without the dropped ones.

        Raises:
            InputError: an unknown phone; the message names ``utterance``.
        """
        ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        return [ids[modelled] for modelled in self.fold(phones, utterance)]

    def fold(self, phones: Iterable[str], utterance: str) -> list[str]:
        """Map transcribed phones to modelled ones, without the dropped ones.

        Raises:
            InputError: an unknown phone; the message names ``utterance``.
        """
        folded = []
        for written in phones:
            phone = written if written in self.mapping else unicodedata.normalize("NFC", written)
            if phone not in self.mapping:
                expected = f"one of the {len(self.mapping)} phones of inventory {self.name}"
                raise InputError(f"utterance {utterance}: unknown phone {written!r}, expected {expected}")
            modelled = self.mapping[phone]
            if modelled is not None:
                folded.append(modelled)
        return folded

    def reference(self, phones: Sequence[str], utterance: str) -> Sequence[str]:
        """The transcribed phones as scoring takes them: folded by a table, or unchanged for scoring conventions to fold.

        Raises:
            InputError: an unknown phone; the message names ``utterance``.
        """
        return phones if self.ships else self.fold(phones, utterance)

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


def inventory(name: str, folder: Path = Path()) -> PhoneInventory:
    """The phone inventory called ``name``, one of `INVENTORIES`, or of the table at this path, which starts in ``folder``.

    Raises:
        InputError: an unknown name, or a table that cannot be used.
    """
    if any(fnmatchcase(name, pattern) for pattern in TABLES):
        return read_inventory(folder / name)
    return _shipped(name)


@cache
def _shipped(name: str) -> PhoneInventory:
    if name == "arpabet39":
        return make_inventory(name, {phone: phone for phone in _read_data_lines("arpabet39.txt")}, "arpabet")
    mappings: dict[str, dict[str, str | None]] = {
        "timit61": {phone: phone for phone in timit_folding()},
        "timit48": {phone: modelled for phone, (modelled, _) in timit_folding().items()},
        "timit39": {phone: scored for phone, (_, scored) in timit_folding().items()},
    }
    if name not in mappings:
        raise InputError(f"unknown phone inventory {name!r}, expected one of {', '.join(INVENTORIES)}, or a table")
    return make_inventory(name, mappings[name], "timit")


def read_inventory(path: Path) -> PhoneInventory:
    """Read the inventory of a table; its name is that of the file.

    Raises:
        InputError: the file cannot be read or has no phones; a line is empty, repeats a phone, or has something else.
    """
    mapping, comments = read_folding(path)
    phones = sorted({phone for phone in mapping.values() if phone is not None})
    units, notation = comments.get("units", "phones"), comments.get("notation") or detect(phones)
    for key, value, allowed in (("units", units, ("phones", "graphemes")), ("notation", notation, KNOWN_NOTATIONS)):
        if value and value not in allowed:
            raise InputError(f"{path}: {key} is {value!r}, expected one of {', '.join(allowed)}")
    if units == "graphemes" and comments.get("notation", units) != units:
        raise InputError(f"{path}: units are graphemes and notation is {notation}, expected one of them")
    notation = "graphemes" if units == "graphemes" else notation
    if notation == "xsampa":
        for phone in set(phones) - SILENCES:
            xsampa_to_ipa(phone)
    return make_inventory(path.name, mapping, notation)


def read_folding(path: Path) -> tuple[dict[str, str | None], dict[str, str]]:
    """Read a table: transcribed phone -> modelled phone, None if it is dropped; and those comments that are key and value.

    Raises:
        InputError: as `read_inventory`.
    """
    mapping: dict[str, str | None] = {}
    comments: dict[str, str] = {}
    text = unicodedata.normalize("NFC", read_text(path, TABLE).removeprefix("\ufeff"))
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# "):
            key, colon, value = line[2:].partition(":")
            comments |= {key.strip(): value.strip()} if colon else {}
            continue
        phone, tab, modelled = line.partition("\t")
        problem = _problem(phone, modelled if tab else phone)
        if problem or phone in mapping:
            raise InputError(f"{path}:{number}: {problem or f'phone {phone!r} occurs twice'}, expected {TABLE}")
        mapping[phone] = (None if modelled == DROPPED else modelled) if tab else phone
    for phone, folded in list(mapping.items()):
        if folded is not None and mapping.setdefault(folded, folded) != folded:
            twice = f"{phone!r} is folded to {folded!r}, and that to {mapping[folded] or DROPPED!r}"
            raise InputError(f"{path}: {twice}, expected modelled phones that stay as they are")
    if not any(mapping.values()):
        raise InputError(f"{path}: 0 phones, expected {TABLE}")
    return mapping, comments


def _problem(phone: str, modelled: str) -> str:
    """What keeps a line from being one of a table, "" if nothing does."""
    if not phone and not modelled:
        return "an empty line"
    if not phone or not modelled:
        return "a phone is missing beside the tab"
    spaced = next((one for one in (phone, modelled) if any(map(str.isspace, one))), None)
    if spaced is not None:
        return f"white space in {spaced!r}"
    return next((f"{one!r} stands for {RESERVED[one]}" for one in (phone, modelled) if one in RESERVED), "")


def format_folding(mapping: Mapping[str, str | None]) -> str:
    """The table of a mapping, as `read_folding` reads it."""
    lines = (phone if phone == folded else f"{phone}\t{folded or DROPPED}" for phone, folded in mapping.items())
    return "".join(f"{line}\n" for line in lines)


def make_inventory(name: str, mapping: dict[str, str] | dict[str, str | None], notation: str = "") -> PhoneInventory:
    """Build the inventory of a mapping: the blank, then every modelled phone in sorted order."""
    phones = sorted({phone for phone in mapping.values() if phone is not None})
    return PhoneInventory(name, (BLANK, *phones), dict(mapping), notation)


def _read_data_lines(name: str) -> list[str]:
    """The lines of a file in ``asr/data``, without comments and empty lines."""
    text = resources.files("asr").joinpath("data", name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
