"""Write utterances as Lhotse manifests, and read and check them.

A manifest is a ``cuts_*.jsonl.gz`` file with one Lhotse ``MonoCut`` per line: a recording and one supervision. The
supervision has ``text`` (the words), ``speaker``, ``gender`` and ``custom["phones"]``, separated by spaces. If the corpus
has phone times, they are in ``alignment["phone"]``. Other ``custom`` fields, such as age or dialect, become ``details``.
"""

import gzip
import json
import os
import unicodedata
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import InputError

if TYPE_CHECKING:
    from lhotse import MonoCut

MAX_LINE_BYTES = 2**24

MAX_NUMBER = 1e9
"""Largest time in seconds, or sample rate in Hz, that a manifest may contain."""

MAX_COMPRESSION_RATIO = 100
"""Largest accepted ratio of decompressed to compressed size. Manifests have about 10."""

TO_JSON = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus: its audio, speaker, words and reference phones.

    ``phone_times_s`` has a (start, end) pair in seconds for each phone, or is None if the corpus has no phone times.
    ``sex`` is "f", "m" or "". ``details`` has other facts about the speaker, such as age or dialect. ``start_s`` is the
    start of the utterance in its audio file.
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


def write_corpus(
    out: Path,
    splits: Mapping[str, Sequence[Utterance]],
    left_out: Mapping[str, int],
    notes: Sequence[str] = (),
    language: str = "English",
) -> None:
    """Write ``out/cuts_SPLIT.jsonl.gz`` for each split, then ``out/stats.json``. Each file is replaced atomically.

    ``left_out`` counts, by reason, the utterances of the source that are in no split.

    Raises:
        InputError: a split is empty or repeats an id, or the folder cannot be written.
    """
    ids = Counter(utterance.id for split in splits.values() for utterance in split)
    for name, split in splits.items():
        if not split:
            raise InputError(f"{out}: split {name} has 0 utterances, expected at least 1")
        # Splits may share utterances (TIMIT's full test set contains dev and test). Within a split, ids are unique.
        check_unique_ids(out / f"cuts_{name}.jsonl.gz", split)
    statistics = {
        "splits": {name: _statistics(split) for name, split in splits.items()},
        "distinct_utterances": len(ids),
        "left_out": dict(left_out),
        "notes": list(notes),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, split in splits.items():
            _write_cuts(split, out / f"cuts_{name}.jsonl.gz", language)
        partial = out / "stats.json.partial"
        partial.write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, out / "stats.json")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error


def read_manifest(path: Path) -> list[Utterance]:
    """Read and check the utterances of a manifest, in file order.

    Raises:
        InputError: the file is missing, empty or not a manifest of cuts; an id occurs twice; a cut has no phones, no
            speaker, or not exactly one audio file; the audio file is missing.
    """
    utterances = list(stream_manifest(path))
    check_unique_ids(path, utterances)
    return utterances


def stream_manifest(path: Path, check_audio: bool = True) -> Iterator[Utterance]:
    """Yield the utterances of a manifest one after another. Without ``check_audio``, their audio may be missing.

    Raises:
        InputError: as `read_manifest`, but ids may occur twice.
    """
    count_cuts(path)
    from lhotse import CutSet

    try:
        for cut in CutSet.from_file(path):
            yield _from_cut(path, cut, check_audio)
    except InputError:
        raise
    except Exception as error:  # lhotse lets the exceptions of gzip, JSON and its own constructors through
        raise InputError(f"{path}: not a manifest of Lhotse cuts ({_one_line(error)})") from error


def count_cuts(path: Path) -> int:
    """Count the cuts of a manifest, one on each line. A small gzip file that expands to gigabytes is refused.

    Raises:
        InputError: the file is missing, empty or not readable; a line, or the whole, is implausibly long.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a manifest (cuts_*.jsonl.gz, see `asr prepare --help`)")
    bytes_left, count = MAX_LINE_BYTES + MAX_COMPRESSION_RATIO * path.stat().st_size, 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                bytes_left -= len(line)
                count += not line.isspace()
                if len(line) > MAX_LINE_BYTES:
                    raise InputError(f"{path}: a line of more than {MAX_LINE_BYTES} bytes, expected one cut per line")
                if bytes_left < 0:
                    ratio = MAX_COMPRESSION_RATIO
                    raise InputError(f"{path}: decompresses to more than {ratio} times its size, expected a manifest")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a manifest of Lhotse cuts ({_one_line(error)})") from error
    if count == 0:
        raise InputError(f"{path}: 0 utterances, expected at least 1")
    return count


def check_unique_ids(path: Path, utterances: Iterable[Utterance]) -> None:
    """Raise InputError if two utterances of a manifest have the same id."""
    for utterance_id, count in Counter(utterance.id for utterance in utterances).items():
        if count > 1:
            raise InputError(f"{path}: utterance id {utterance_id} occurs {count} times, expected once")


def _write_cuts(utterances: Sequence[Utterance], path: Path, language: str) -> None:
    partial = path.with_name("partial_" + path.name)
    with partial.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        for utterance in utterances:
            lines.write(cut_line(utterance, language).encode())
    os.replace(partial, path)


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


def _from_cut(path: Path, cut: "MonoCut", check_audio: bool) -> Utterance:
    where = f"{path}: utterance {cut.id}"
    if len(cut.supervisions) != 1 or not cut.has_recording:
        raise InputError(f"{where}: {len(cut.supervisions)} supervisions, expected 1, with a recording")
    supervision, sources = cut.supervisions[0], cut.recording.sources
    if len(sources) != 1 or sources[0].type != "file":
        raise InputError(f"{where}: audio in {len(sources)} sources, expected 1 file")
    audio_path = Path(sources[0].source)
    if check_audio and not audio_path.is_file():
        raise InputError(f"{where}: audio file {audio_path} is missing, expected a file")
    custom = dict(supervision.custom or {})
    alignment = (supervision.alignment or {}).get("phone")
    phones = custom.pop("phones", None)
    if phones is None and alignment is None:
        raise InputError(f"{where}: no phones, expected custom['phones'] or alignment['phone']")
    symbols = phones.split() if phones is not None else [item.symbol for item in alignment or ()]
    if not supervision.speaker:
        raise InputError(f"{where}: no speaker, expected a name")
    utterance = Utterance(
        id=cut.id,
        audio_path=audio_path,
        sample_rate_hz=cut.recording.sampling_rate,
        duration_s=cut.duration,
        speaker=supervision.speaker,
        phones=tuple(unicodedata.normalize("NFC", one) if isinstance(one, str) else one for one in symbols),
        words=supervision.text or "",
        phone_times_s=None if alignment is None else tuple((item.start, item.end) for item in alignment),
        sex=supervision.gender or "",
        details={key: str(value) for key, value in custom.items()},
        start_s=cut.start,
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


def _statistics(utterances: Sequence[Utterance]) -> dict[str, object]:
    return split_statistics(
        len(utterances),
        {utterance.speaker for utterance in utterances},
        sum(utterance.duration_s for utterance in utterances),
        Counter(phone for utterance in utterances for phone in utterance.phones),
        Counter(str(utterance.sample_rate_hz) for utterance in utterances),
    )


def split_statistics(
    utterances: int,
    speakers: Collection[str],
    duration_s: float,
    phone_counts: Mapping[str, int],
    sample_rates_hz: Mapping[str, int],
) -> dict[str, object]:
    """The statistics of one split, as ``stats.json`` has them, from its counts."""
    return {
        "utterances": utterances,
        "speakers": len(speakers),
        "hours": round(duration_s / 3600, 4),
        "phones": sum(phone_counts.values()),
        "phone_counts": dict(sorted(phone_counts.items())),
        "sample_rates_hz": dict(sorted(sample_rates_hz.items())),
    }


def _one_line(error: Exception) -> str:
    """Type and message of an exception on one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
