"""A transcript and its file formats: text, JSON, NIST's CTM, Praat's TextGrid and TIMIT's PHN."""

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.corpus.notation import phone_symbols, translate
from asr.corpus.phones import PhoneInventory

TIER = "phones"


@dataclass(frozen=True)
class Phone:
    """A recognized phone, its start and end in seconds, and its confidence (a probability)."""

    symbol: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """The phones of a recording, in order and without overlap."""

    phones: tuple[Phone, ...]
    duration_s: float

    @property
    def symbols(self) -> list[str]:
        """The symbols of the phones."""
        return [phone.symbol for phone in self.phones]

    def in_notation(self, notation: str, phones: PhoneInventory | None = None) -> "Transcript":
        """Translate to another notation. Phones without a symbol there are dropped; unknown phones stay.

        ``phones`` is the model's inventory. Without it, the phones are TIMIT's or ARPAbet's.

        Raises:
            InputError: an unknown notation, or one that the inventory has no translation to.
        """
        return self.with_symbols(
            translate(phones.symbols[1:], phones.notation, notation) if phones else phone_symbols(notation)
        )

    def with_symbols(self, symbols: Mapping[str, str | None]) -> "Transcript":
        """Write phones with other symbols. Those whose symbol is None are dropped; those without one stay."""
        translated = [(phone, symbols.get(phone.symbol, phone.symbol)) for phone in self.phones]
        return replace(
            self, phones=tuple(replace(phone, symbol=symbol) for phone, symbol in translated if symbol is not None)
        )


def format_text(transcript: Transcript, path: Path) -> str:
    """The path, a tab, and the phones."""
    return f"{path}\t{' '.join(transcript.symbols)}\n"


def format_json(transcript: Transcript, path: Path) -> str:
    """A JSON object on one line; times in seconds."""
    return _json_line({"path": str(path)}, transcript)


def format_ctm(transcript: Transcript, path: Path) -> str:
    """NIST's CTM: file, channel, start and duration in s, phone, confidence. White space in a name becomes ``_``."""
    return _ctm_lines(path.stem, transcript)


def _json_line(name: dict[str, str], transcript: Transcript) -> str:
    phones = [{name: _rounded(value) for name, value in asdict(phone).items()} for phone in transcript.phones]
    content = {**name, "duration_s": _rounded(transcript.duration_s), "phones": phones}
    return json.dumps(content, ensure_ascii=False) + "\n"


def ctm_name(name: str) -> str:
    """The name of a recording or utterance in a CTM, whose fields end at white space."""
    return re.sub(r"\s", "_", name)


def _ctm_lines(name: str, transcript: Transcript) -> str:
    field = ctm_name(name)
    return "".join(
        f"{field} 1 {phone.start_s:.3f} {phone.end_s - phone.start_s:.3f} {phone.symbol} {phone.confidence:.3f}\n"
        for phone in transcript.phones
    )


def format_textgrid(transcript: Transcript, path: Path) -> str:
    """Praat's TextGrid with one interval tier. A silence of no duration has no interval."""
    from praatio import textgrid

    long = (phone for phone in transcript.phones if phone.end_s > phone.start_s)
    entries = [(phone.start_s, phone.end_s, phone.symbol) for phone in long]
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier(TIER, entries, 0, transcript.duration_s))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "grid.TextGrid"
        grid.save(str(file), format="long_textgrid", includeBlankSpaces=True)
        return file.read_text(encoding="utf-8")


def format_phn(transcript: Transcript, path: Path) -> str:
    """TIMIT's PHN: first sample, one past the last, and phone, at 16 kHz."""
    return "".join(
        f"{round(phone.start_s * SAMPLE_RATE_HZ)} {round(phone.end_s * SAMPLE_RATE_HZ)} {phone.symbol}\n"
        for phone in transcript.phones
    )


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


FORMATS: dict[str, tuple[str, Callable[[Transcript, Path], str]]] = {
    "text": (".txt", format_text),
    "json": (".json", format_json),
    "ctm": (".ctm", format_ctm),
    "textgrid": (".TextGrid", format_textgrid),
    "phn": (".phn", format_phn),
}
"""Name -> file suffix, and the function that formats a transcript, given the path of its audio."""

UTTERANCE_FORMATS: dict[str, tuple[str, Callable[[Transcript, str], str]]] = {
    "text": (".txt", lambda transcript, name: f"{name}\t{' '.join(transcript.symbols)}\n"),
    "json": (".jsonl", lambda transcript, name: _json_line({"id": name}, transcript)),
    "ctm": (".ctm", lambda transcript, name: _ctm_lines(name, transcript)),
}
"""The formats of files with many utterances, which have their id in place of a path: as `FORMATS`."""
