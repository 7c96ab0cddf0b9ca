"""Lhotse cuts of any origin: a file ``*.jsonl`` or ``*.jsonl.gz``, or a folder of ``cuts_SPLIT.jsonl.gz``.

Each supervision of a cut becomes an utterance. Phones come from ``custom["phones"]`` or ``alignment["phone"]``. Lines are
read as JSON: Lhotse's classes take ten times as long and half a gigabyte.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asr.corpus.manifest import MAX_LINE_BYTES
from asr.errors import InputError
from data_prep.entries import Entry, LeftOut
from data_prep.fields import MAX_TIME_S, locate, normalize, parse_sex, parse_split, to_name
from data_prep.lines import parse_object, stream_lines

SUFFIXES = (".jsonl", ".jsonl.gz")

ROUNDING_S = 1e-6
"""How far a phone may start before the last one ends, since their times were rounded: it then starts there."""

WRITTEN_LANGUAGE = "English"
"""The language that `asr.corpus.manifest` writes unless it is told another, which therefore says nothing."""


def read_cuts(source: Path) -> Iterator[Entry | LeftOut]:
    """Read cuts in the order of the files and their lines. Relative paths start here, or else at the folder of the file.

    Args:
        source: a file of cuts, whose utterances have no split; or a folder of files ``cuts_SPLIT``.

    Raises:
        InputError: there is no file of cuts, or its lines are not JSON.
    """
    source = source.absolute()
    if source.is_file():
        yield from _read_file(source, "")
        return
    paths = list_cuts(source)
    if not paths:
        raise InputError(f"{source}: no file cuts_*.jsonl.gz, expected Lhotse cuts")
    for path in paths:
        split = parse_split(path.name.removeprefix("cuts_"))
        if split:
            yield from _read_file(path, split)
        else:
            yield LeftOut(str(path), "file of cuts not named train, dev or test")


def list_cuts(folder: Path) -> list[Path]:
    """List the files of cuts in a folder."""
    return sorted(path for path in folder.glob("cuts_*.jsonl*") if path.name.endswith(SUFFIXES))


def _read_file(path: Path, split: str) -> Iterator[Entry | LeftOut]:
    for line in stream_lines(path, MAX_LINE_BYTES):
        if isinstance(line, LeftOut):
            yield line
            continue
        where = f"{path}: line {line.number}"
        try:
            items = list(_read_cut(path, where, split, parse_object(line.text)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if line.number == 1:
                raise InputError(f"{where}: no Lhotse cut, expected one on each line") from error
            items = [LeftOut(where, "line that is no Lhotse cut")]
        yield from items


def _read_cut(path: Path, where: str, split: str, cut: Any) -> Iterator[Entry | LeftOut]:
    """Yield an entry for each supervision of a cut."""
    where = f"{where}: cut {cut['id']}"
    reason = _find_fault(cut)
    if reason is not None:
        yield LeftOut(where, reason)
        return
    supervisions = cut["supervisions"]
    for supervision in supervisions:
        if len(supervisions) == 1:
            yield _make_entry(path, where, split, cut, supervision | {"id": cut["id"]})
        else:
            yield _make_entry(path, f"{where}: supervision {supervision['id']}", split, cut, supervision)


def _find_fault(cut: dict[str, Any]) -> str | None:
    """Return why a cut makes no entry, or None if it does."""
    if cut["type"] not in ("MonoCut", "Cut"):
        return "cut that is mixed, padding or of several channels"
    recording = cut.get("recording")
    if not recording:
        return "cut without recording"
    sources = recording["sources"]
    if len(sources) != 1 or sources[0]["type"] != "file":
        return "audio that is not in one file"
    if len(sources[0]["channels"]) > 1:
        return "one channel of several"
    if recording.get("transforms"):
        return "audio with a transform"
    return None if cut["supervisions"] else "cut without supervision"


def _make_entry(
    path: Path, where: str, split: str, cut: dict[str, Any], supervision: dict[str, Any]
) -> Entry | LeftOut:
    """Make the entry of a supervision, whose times are relative to the start of the cut."""
    phones, times_s = _read_phones(supervision)
    words, speaker = normalize(supervision.get("text") or ""), to_name(str(supervision.get("speaker") or ""))
    if times_s is not None and len(phones) != len(times_s):
        return LeftOut(where, "phones and alignment of different lengths")
    if not speaker or not (words or phones):
        return LeftOut(where, "audio without text" if speaker else "no speaker")
    start_s = cut["start"] + supervision["start"]
    end_s = round(start_s + supervision["duration"], 9)
    recording = cut["recording"]
    if not 0 <= start_s < end_s < MAX_TIME_S:
        return LeftOut(where, "start and end that are no times of a recording")
    to_end = abs(end_s - recording["duration"]) * recording["sampling_rate"] < 1
    return Entry(
        id=to_name(str(supervision["id"])),
        audio_path=_locate_audio(path, recording["sources"][0]["source"]),
        speaker=speaker,
        where=where,
        words=words,
        phones=phones or None,
        phone_times_s=times_s,
        start_s=start_s,
        end_s=None if to_end else end_s,
        sex=parse_sex(supervision.get("gender") or ""),
        split=split,
        details=_read_details(supervision),
    )


def _read_phones(supervision: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[float, float], ...] | None]:
    """Read the phones of a supervision and the (start, end) of each in seconds from its start, None if it has no times."""
    items = (supervision.get("alignment") or {}).get("phone") or []
    listed = (supervision.get("custom") or {}).get("phones") or ""
    listed = listed if isinstance(listed, str) else " ".join(listed)
    symbols: list[str] = []
    times_s: list[tuple[float, float]] = []
    for item in items:
        symbol, start, duration = (
            (item["symbol"], item["start"], item["duration"]) if isinstance(item, dict) else item[:3]
        )
        start_s = start - supervision["start"]
        last_s = times_s[-1][1] if times_s else 0.0
        start_s = last_s if abs(start_s - last_s) < ROUNDING_S else round(start_s, 9)
        symbols.append(normalize(symbol))
        times_s.append((start_s, round(start - supervision["start"] + duration, 9)))
    phones = tuple(normalize(listed).split()) if listed else tuple(symbols)
    return phones, tuple(times_s) or None


def _read_details(supervision: dict[str, Any]) -> Mapping[str, str]:
    """Read the custom fields that are texts or numbers, and the language."""
    custom = {key: value for key, value in (supervision.get("custom") or {}).items() if key != "phones"}
    details = {key: str(value) for key, value in custom.items() if isinstance(value, str | int | float)}
    language = supervision.get("language")
    if language and language != WRITTEN_LANGUAGE:
        details.setdefault("language", str(language))
    return details


def _locate_audio(path: Path, name: str) -> Path:
    here = locate(Path.cwd(), name)
    return here if here.exists() else locate(path.parent, name)
