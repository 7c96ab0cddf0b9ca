"""An utterance, and the Lhotse cut that it is in manifests and shards.

A cut is a ``MonoCut`` with one supervision, a JSON object on a line of its own. The supervision has ``text`` (the words),
``speaker``, ``gender`` and ``custom["phones"]``, separated by spaces. If the corpus has phone times, they are in
``alignment["phone"]``. Other ``custom`` fields, such as age or dialect, become ``details``.
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import InputError

MAX_NUMBER = 1e9
"""Largest time in seconds, or sample rate in Hz, that a manifest may contain."""

TO_JSON = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus: its audio, speaker, words and reference phones.

    ``phone_times_s`` has a (start, end) pair in seconds for each phone, or is None if the corpus has no phone times.
    ``sex`` is "f", "m" or "". ``details`` has other facts about the speaker, such as age or dialect. ``start_s`` is the
    start of the utterance in its audio file. ``features_path`` is that of stored features, which take the place of audio
    (`asr.corpus.stored_features`).
    """

    id: str
    audio_path: Path
    sample_rate_hz: int
    duration_s: float
    speaker: str
    phones: tuple[str, ...]
    words: str = ""
    phone_times_s: tuple[tuple[float, float], ...] | None = None
    sex: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    start_s: float = 0.0
    features_path: Path | None = None


def cut_line(utterance: Utterance, language: str = "English") -> str:
    """The line of an utterance in a manifest, with its line break: a `MonoCut` as Lhotse writes it.

    Lhotse's classes take ten times as long, and importing them takes half a gigabyte in each process that writes.
    """
    end_s = utterance.start_s + utterance.duration_s
    supervision: dict[str, object] = {
        "id": utterance.id,
        "recording_id": utterance.id,
        "start": 0.0,
        "duration": utterance.duration_s,
        "channel": 0,
        "text": utterance.words,
        "language": language,
        "speaker": utterance.speaker,
        "gender": utterance.sex,
        "custom": {"phones": " ".join(utterance.phones), **utterance.details},
    }
    if not language:
        del supervision["language"]
    if utterance.phone_times_s is not None:
        timed = zip(utterance.phones, utterance.phone_times_s, strict=True)
        phones = [[phone, start, round(end - start, 7), None] for phone, (start, end) in timed]
        supervision["alignment"] = {"phone": phones}
    recording = {
        "id": utterance.id,
        "sources": [{"type": "file", "channels": [0], "source": str(utterance.audio_path)}],
        "sampling_rate": utterance.sample_rate_hz,
        "num_samples": round(end_s * utterance.sample_rate_hz),
        "duration": end_s,
        "channel_ids": [0],
    }
    cut = {
        "id": utterance.id,
        "start": utterance.start_s,
        "duration": utterance.duration_s,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut",
    }
    return TO_JSON(cut) + "\n"


def make_utterance(
    path: Path, cut: Mapping[str, Any], audio_path: Path | None = None, need_phones: bool = True
) -> Utterance:
    """The utterance of a Lhotse cut of the manifest ``path``, a JSON object. Its audio is in ``audio_path``, if given.

    Without ``need_phones``, phones, speaker and supervision may be missing, as in a corpus without transcripts.

    Raises:
        InputError: the cut has no phones, no speaker, more or fewer phones than phone times, or not exactly one
            supervision and one audio file.
    """
    try:
        return _from_cut(f"{path}: utterance {cut['id']}", cut, audio_path, need_phones)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: not a manifest of Lhotse cuts ({one_line(error)})") from error


def _from_cut(where: str, cut: Mapping[str, Any], audio_path: Path | None, need_phones: bool) -> Utterance:
    supervisions, signal = cut.get("supervisions") or [], cut.get("recording") or cut.get("features")
    if not signal or len(supervisions) not in ((1,) if need_phones else (0, 1)):
        raise InputError(f"{where}: {len(supervisions)} supervisions, expected 1, with a recording")
    sources = signal.get("sources") or []
    if audio_path is None and [source["type"] for source in sources] != ["file"]:
        raise InputError(f"{where}: audio in {len(sources)} sources, expected 1 file")
    supervision = supervisions[0] if supervisions else {}
    custom = dict(supervision.get("custom") or {})
    alignment = (supervision.get("alignment") or {}).get("phone")
    phones = custom.pop("phones", None)
    if phones is None and alignment is None and need_phones:
        raise InputError(f"{where}: no phones, expected custom['phones'] or alignment['phone']")
    # Before version 1.8, Lhotse wrote these as objects, with the values in the same order.
    timed = [tuple(item.values() if isinstance(item, dict) else item)[:3] for item in alignment or ()]
    times = tuple((start, round(start + duration, 8)) for _, start, duration in timed)
    symbols = phones.split() if phones is not None else [symbol for symbol, _, _ in timed]
    if need_phones and alignment and len(symbols) != len(times):
        raise InputError(f"{where}: {len(symbols)} phones and {len(times)} in alignment['phone'], expected as many")
    if not supervision.get("speaker") and need_phones:
        raise InputError(f"{where}: no speaker, expected a name")
    utterance = Utterance(
        id=cut["id"],
        audio_path=audio_path or Path(sources[0]["source"]),
        sample_rate_hz=signal["sampling_rate"],
        duration_s=cut["duration"],
        speaker=supervision.get("speaker") or "",
        phones=tuple(unicodedata.normalize("NFC", one) if isinstance(one, str) else one for one in symbols),
        words=supervision.get("text") or "",
        phone_times_s=None if alignment is None else times,
        sex=supervision.get("gender") or "",
        details={key: str(value) for key, value in custom.items()},
        start_s=cut["start"],
    )
    _check_values(where, utterance)
    return utterance


def _check_values(where: str, utterance: Utterance) -> None:
    """Refuse values of the wrong JSON type and numbers out of range."""
    times = [time for pair in utterance.phone_times_s or () for time in pair]
    texts = [utterance.id, utterance.speaker, utterance.words, utterance.sex, *utterance.phones]
    invalid: list[object] = [text for text in texts if not isinstance(text, str)]
    numbers = (utterance.sample_rate_hz, utterance.duration_s, utterance.start_s, *times)
    invalid += [number for number in numbers if not isinstance(number, int | float) or not abs(number) < MAX_NUMBER]
    if invalid:
        value = str(invalid[0])[:100]
        raise InputError(f"{where}: value {value!r}, expected strings, and numbers below {MAX_NUMBER:g}")


def one_line(error: Exception) -> str:
    """The type and message of an exception on one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
