"""What pronounces words: a lexicon, espeak-ng, a trained grapheme-to-phoneme model; and tables that fold phones."""

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from asr.errors import InputError
from asr.system.files import read_text

OOV_POLICIES = ("error", "g2p", "drop")
UNITS = ("phones", "graphemes")

Phones = tuple[str, ...]


class Pronouncer(Protocol):
    """What knows pronunciations: espeak-ng, a trained model."""

    def pronounce(self, word: str) -> list[Phones]:
        """All pronunciations of a word, the most likely first; [] if there is none."""
        ...


@dataclass(frozen=True)
class Pronouncing:
    """Where phones come from if the corpus has words alone, and what becomes of words without a pronunciation.

    ``g2p`` is "espeak", in ``language``, or the path of a trained model. ``oov`` is one of `OOV_POLICIES`: a missing word
    is an error, or goes to ``g2p``, or its utterance is left out. ``phones_map`` is a table, see `read_phones_map`.
    """

    lexicon: Path | None = None
    g2p: str = ""
    language: str = ""
    oov: str = "error"
    units: str = "phones"
    phones_map: Path | None = None

    def check(self) -> None:
        """Refuse settings that are unknown or contradict each other.

        Raises:
            InputError: names the setting.
        """
        for name, value, known in (("oov", self.oov, OOV_POLICIES), ("units", self.units, UNITS)):
            if value not in known:
                raise InputError(f"{name}: {value!r}, expected one of {', '.join(known)}")
        given = [name for name in ("lexicon", "g2p", "phones_map") if getattr(self, name)]
        if self.units == "graphemes" and given:
            raise InputError(f"units: graphemes with a {given[0]}, expected one of the two")
        if self.oov == "g2p" and not self.g2p:
            raise InputError("oov: g2p, but g2p is not given, expected espeak or the path of a trained model")
        if self.g2p and self.oov != "g2p":
            raise InputError(f"oov: {self.oov}, but g2p is given, expected oov g2p")
        if self.g2p == "espeak" and not self.language:
            raise InputError("language: not given, expected one of espeak-ng's languages, such as de or cmn")


def read_phones_map(path: Path) -> dict[str, str | None]:
    """Read a folding table: a phone and the phone that replaces it on each line, "-" if it is dropped, None here.

    Raises:
        InputError: the file cannot be read or has no phones, a line has no two phones, or a phone is there twice.
    """
    table: dict[str, str | None] = {}
    for number, line in enumerate(read_text(path, "two phones on each line").removeprefix("\ufeff").splitlines(), 1):
        phones = unicodedata.normalize("NFC", line).split()
        if not phones:
            continue
        if len(phones) != 2:
            raise InputError(f"{path}: line {number}: {len(phones)} phones, expected a phone and its replacement")
        if phones[0] in table:
            raise InputError(f"{path}: line {number}: {phones[0]!r} occurs twice, expected once")
        table[phones[0]] = None if phones[1] == "-" else phones[1]
    if not table:
        raise InputError(f"{path}: 0 phones, expected two on each line")
    return table


def load_lexicon(path: Path, known: Collection[str] = ()) -> Mapping[str, list[Phones]]:
    """Word -> its pronunciations, with any phones. Those that are ``known`` keep their stress."""
    from asr.corpus.lexicon import read_lexicon

    return read_lexicon(path, known=known)


def load_g2p(name: str, language: str) -> Pronouncer:
    """The grapheme-to-phoneme model called ``name``: "espeak" in a language, or a trained one by its path."""
    if name == "espeak":
        from data_prep.espeak_g2p import EspeakG2P

        return EspeakG2P(language)
    from asr.decoding.g2p import load_g2p as load_trained

    return load_trained(Path(name))
