"""Utterances in and out: Lhotse cuts, checked on reading.

A manifest is a ``cuts_*.jsonl.gz`` file of Lhotse ``MonoCut`` objects, one a line: a recording with one supervision that
has the words as ``text``, ``speaker``, ``gender`` and the phones, space-separated, as ``custom["phones"]``. Where the
corpus gives times, ``alignment["phone"]`` has them too. Other ``custom`` fields (age, dialect) are details.
"""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem

from asr.errors import InputError

LONGEST_LINE_BYTES = 2**24
LONGEST_S = 1e9
GROWTH = 100
"""Bytes that gzip makes of one, beyond the first lines; of a manifest it makes about ten."""


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus: where its audio is, who speaks, and the phones spoken.

    ``phone_times_s`` has a (start, end) pair in seconds for each phone, or is None where the corpus has no times.
    ``sex`` is "f", "m" or "". ``details`` holds further facts of the speaker, such as age or dialect.
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
    out: Path, splits: Mapping[str, Sequence[Utterance]], left_out: Mapping[str, int], notes: Sequence[str] = ()
) -> None:
    """Write ``out/cuts_SPLIT.jsonl.gz`` for each split, then ``out/stats.json``; each file appears whole or not at all.

    ``left_out`` counts, by reason, the utterances of the source that are in no split.

    Raises:
        InputError: a split is empty, an id stands twice, or the folder cannot be written.
    """
    ids = Counter(utterance.id for split in splits.values() for utterance in split)
    for name, split in splits.items():
        if not split:
            raise InputError(f"{out}: split {name} has 0 utterances, expected at least 1")
        # A fourth set (TIMIT's full test) may share utterances with another split, never hold one twice.
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
            _write_cuts(split, out / f"cuts_{name}.jsonl.gz")
        partial = out / "stats.json.partial"
        partial.write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, out / "stats.json")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error


def read_manifest(path: Path) -> list[Utterance]:
    """The utterances of a manifest, in its order, every one checked.

    Raises:
        InputError: the file is missing, empty or not a manifest of cuts; an id stands twice; a cut has no phones, no
            speaker or no single audio file; the audio file is gone.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a manifest (cuts_*.jsonl.gz, see `asr prepare --help`)")
    try:
        _check_lines(path)
        utterances = [_from_cut(path, cut) for cut in CutSet.from_file(path)]
    except InputError:
        raise
    except Exception as error:  # lhotse passes on whatever gzip, JSON and its own constructors raise
        raise InputError(f"{path}: not a manifest of Lhotse cuts ({_one_line(error)})") from error
    if not utterances:
        raise InputError(f"{path}: 0 utterances, expected at least 1")
    check_unique_ids(path, utterances)
    return utterances


def _check_lines(path: Path) -> None:
    """Refuse a line, or lines, of a length that no cuts have: gzip makes gigabytes of a few kilobytes."""
    left = LONGEST_LINE_BYTES + GROWTH * path.stat().st_size
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while line := file.readline(LONGEST_LINE_BYTES + 1):
            left -= len(line)
            if len(line) > LONGEST_LINE_BYTES:
                raise InputError(f"{path}: a line of more than {LONGEST_LINE_BYTES} bytes, expected a cut a line")
            if left < 0:
                raise InputError(f"{path}: unpacks to more than {GROWTH} times its size, expected cuts")


def check_unique_ids(path: Path, utterances: Iterable[Utterance]) -> None:
    """Raise InputError where two utterances of a manifest have the same id."""
    for utterance_id, count in Counter(utterance.id for utterance in utterances).items():
        if count > 1:
            raise InputError(f"{path}: utterance id {utterance_id} stands {count} times, expected once")


def _write_cuts(utterances: Sequence[Utterance], path: Path) -> None:
    partial = path.with_name("partial_" + path.name)
    CutSet.from_cuts(_to_cut(utterance) for utterance in utterances).to_file(partial)
    os.replace(partial, path)


def _to_cut(utterance: Utterance) -> MonoCut:
    duration_s = utterance.duration_s
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource(type="file", channels=[0], source=str(utterance.audio_path))],
        sampling_rate=utterance.sample_rate_hz,
        num_samples=round((utterance.start_s + duration_s) * utterance.sample_rate_hz),
        duration=utterance.start_s + duration_s,
    )
    alignment = None
    if utterance.phone_times_s is not None:
        alignment = {
            "phone": [
                AlignmentItem(symbol=phone, start=start, duration=round(end - start, 7))
                for phone, (start, end) in zip(utterance.phones, utterance.phone_times_s, strict=True)
            ]
        }
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0.0,
        duration=duration_s,
        text=utterance.words,
        speaker=utterance.speaker,
        gender=utterance.sex,
        language="English",
        custom={"phones": " ".join(utterance.phones), **utterance.details},
        alignment=alignment,
    )
    return MonoCut(
        id=utterance.id,
        start=utterance.start_s,
        duration=duration_s,
        channel=0,
        recording=recording,
        supervisions=[supervision],
    )


def _from_cut(path: Path, cut: MonoCut) -> Utterance:
    where = f"{path}: utterance {cut.id}"
    if len(cut.supervisions) != 1 or not cut.has_recording:
        raise InputError(f"{where}: {len(cut.supervisions)} supervisions, expected 1 and a recording")
    supervision, sources = cut.supervisions[0], cut.recording.sources
    if len(sources) != 1 or sources[0].type != "file":
        raise InputError(f"{where}: audio in {len(sources)} sources, expected 1 file")
    audio_path = Path(sources[0].source)
    if not audio_path.is_file():
        raise InputError(f"{where}: its audio {audio_path} is gone, expected a file")
    custom = dict(supervision.custom or {})
    items = (supervision.alignment or {}).get("phone")
    phones = custom.pop("phones", None)
    if phones is None and items is None:
        raise InputError(f"{where}: no phones, expected custom['phones'] or alignment['phone']")
    if not supervision.speaker:
        raise InputError(f"{where}: no speaker, expected one")
    found = Utterance(
        id=cut.id,
        audio_path=audio_path,
        sample_rate_hz=cut.recording.sampling_rate,
        duration_s=cut.duration,
        speaker=supervision.speaker,
        phones=tuple(phones.split()) if phones is not None else tuple(item.symbol for item in items or ()),
        words=supervision.text or "",
        phone_times_s=None if items is None else tuple((item.start, item.end) for item in items),
        sex=supervision.gender or "",
        details={key: str(value) for key, value in custom.items()},
        start_s=cut.start,
    )
    _check_values(where, found)
    return found


def _check_values(where: str, found: Utterance) -> None:
    """Refuse what JSON may have in the place of a text or a number."""
    times = [time for pair in found.phone_times_s or () for time in pair]
    texts = [found.id, found.speaker, found.words, found.sex, *found.phones]
    wrong: list[object] = [text for text in texts if not isinstance(text, str)]
    numbers = (found.sample_rate_hz, found.duration_s, found.start_s, *times)
    wrong += [number for number in numbers if not isinstance(number, int | float) or not abs(number) < LONGEST_S]
    if wrong:
        raise InputError(f"{where}: has {str(wrong[0])[:100]!r}, expected texts and numbers in their places")


def _statistics(utterances: Sequence[Utterance]) -> dict[str, object]:
    return {
        "utterances": len(utterances),
        "speakers": len({utterance.speaker for utterance in utterances}),
        "hours": round(sum(utterance.duration_s for utterance in utterances) / 3600, 4),
        "phones": sum(len(utterance.phones) for utterance in utterances),
        "phone_counts": dict(sorted(Counter(p for utterance in utterances for p in utterance.phones).items())),
        "sample_rates_hz": dict(sorted(Counter(str(utterance.sample_rate_hz) for utterance in utterances).items())),
    }


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
