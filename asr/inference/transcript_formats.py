"""What was recognized in a file, as text, JSON, CTM, a Praat TextGrid or TIMIT's PHN."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.corpus.notation import translation

TIER = "phones"


@dataclass(frozen=True)
class Phone:
    """A recognized phone, where it lies, and how sure the model is of it (a probability)."""

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
        """The phones alone."""
        return [phone.symbol for phone in self.phones]

    def in_notation(self, notation: str) -> "Transcript":
        """The same in another notation; phones that have no symbol there are left out, unknown ones stay.

        Raises:
            InputError: an unknown notation.
        """
        table = translation(notation)
        translated = [(phone, table.get(phone.symbol, phone.symbol)) for phone in self.phones]
        return replace(self, phones=tuple(replace(phone, symbol=new) for phone, new in translated if new is not None))


def as_text(transcript: Transcript, path: Path) -> str:
    """The path, a tab, and the phones."""
    return f"{path}\t{' '.join(transcript.symbols)}\n"


def as_json(transcript: Transcript, path: Path) -> str:
    """An object on one line; times in seconds."""
    phones = [{name: _rounded(value) for name, value in asdict(phone).items()} for phone in transcript.phones]
    return (
        json.dumps(
            {"path": str(path), "duration_s": _rounded(transcript.duration_s), "phones": phones}, ensure_ascii=False
        )
        + "\n"
    )


def as_ctm(transcript: Transcript, path: Path) -> str:
    """NIST's CTM: file, channel, start and duration in seconds, phone, confidence."""
    return "".join(
        f"{path.stem} 1 {phone.start_s:.3f} {phone.end_s - phone.start_s:.3f} {phone.symbol} {phone.confidence:.3f}\n"
        for phone in transcript.phones
    )


def as_textgrid(transcript: Transcript, path: Path) -> str:
    """A TextGrid for Praat with one interval tier."""
    from praatio import textgrid

    entries = [(phone.start_s, phone.end_s, phone.symbol) for phone in transcript.phones]
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier(TIER, entries, 0, transcript.duration_s))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "grid.TextGrid"
        grid.save(str(file), format="long_textgrid", includeBlankSpaces=True)
        return file.read_text(encoding="utf-8")


def as_phn(transcript: Transcript, path: Path) -> str:
    """TIMIT's PHN: first sample, one past the last, and phone, at 16 kHz."""
    return "".join(
        f"{round(phone.start_s * SAMPLE_RATE_HZ)} {round(phone.end_s * SAMPLE_RATE_HZ)} {phone.symbol}\n"
        for phone in transcript.phones
    )


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


FORMATS: dict[str, tuple[str, Callable[[Transcript, Path], str]]] = {
    "text": (".txt", as_text),
    "json": (".json", as_json),
    "ctm": (".ctm", as_ctm),
    "textgrid": (".TextGrid", as_textgrid),
    "phn": (".phn", as_phn),
}
"""Name -> the ending of its files, and how a transcript and the path of its audio are written."""
