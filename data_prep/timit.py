"""TIMIT in its download layout and common variants -> manifests.

Layout: ``TRAIN/DR1/FCJF0/SX127.WAV`` with phones in ``SX127.PHN``, words in ``SX127.WRD`` and the sentence in
``SX127.TXT``. Names may be in upper or lower case, audio is SPHERE or RIFF, and many copies have ``SX127.WAV.wav`` next to
``SX127.WAV`` or instead of it. As usual, the SA sentences, which every speaker reads, are left out.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.corpus.audio import AudioInfo, probe_audio
from asr.corpus.manifest import Utterance, write_corpus
from asr.corpus.phones import fold_timit, timit_folding
from asr.errors import InputError
from data_prep.checking import check_audio, compare_counts, compare_sample_rates, read_lines, read_speakers, warn

STANDARD_COUNTS = {"train": (3696, 462), "dev": (400, 50), "test": (192, 24), "fulltest": (1344, 168)}
"""Split -> (utterances, speakers) of the full corpus without SA sentences."""

STANDARD_SCORED_PHONES = {"dev": 15057, "test": 7215}
"""Split -> number of phones scored under the convention ``kaldi``, the N of published error rates."""

MAX_OVERHANG_SAMPLES = 400
"""How far the last phone may extend beyond the audio (25 ms at 16 kHz). It is then cut at the end of the audio."""

SAMPLE = re.compile(r"\d{1,12}")
DIALECT = re.compile(r"DR[1-8]")
SPEAKER = re.compile(r"[FM][A-Z]{3}\d")
SENTENCE_FILE = re.compile(r"(S[AIX]\d+)\.(WAV|WAV\.WAV|PHN|WRD|TXT)")


@dataclass(frozen=True)
class PhoneSegment:
    """A phone from sample ``start`` to ``end`` (exclusive)."""

    start: int
    end: int
    phone: str


def prepare_timit(source: Path, out: Path, jobs: int) -> None:
    """Write manifests of ``train``, ``dev``, ``test`` (core) and ``fulltest``, and their statistics, to ``out``.

    ``fulltest`` is the full test set; ``dev`` and ``test`` are the usual 50 and 24 of its speakers. Utterance ids have the
    form ``FCJF0_SX127``, regardless of the case of the names in ``source``.

    Args:
        source: the folder with ``TRAIN`` and ``TEST``, or any folder above it.
        out: folder of the manifests. Nothing is written until all checks pass.
        jobs: number of threads that check the audio.

    Raises:
        InputError: ``source`` does not contain exactly one TIMIT, or one of its files cannot be used.
    """
    root = find_timit(source)
    parts = _list_folder(root)
    left_out: Counter[str] = Counter()
    anomalies: Counter[str] = Counter()
    train, full_test = (_read_part(parts[part], left_out, anomalies) for part in ("TRAIN", "TEST"))
    utterances = [*train, *full_test]
    _check_speakers(utterances)
    splits = {
        "train": train,
        "dev": _select_speakers(full_test, "timit_dev.txt"),
        "test": _select_speakers(full_test, "timit_core_test.txt"),
        "fulltest": full_test,
    }
    notes = compare_counts(splits, STANDARD_COUNTS) + compare_scored_phones(splits) + compare_sample_rates(utterances)
    notes += [f"{count} utterances {anomaly}" for anomaly, count in anomalies.items()]
    warn(notes)
    check_audio(utterances, jobs)
    write_corpus(out, splits, left_out, notes)


def compare_scored_phones(splits: Mapping[str, Sequence[Utterance]]) -> list[str]:
    """A note for each split of standard size whose number of scored phones differs from TIMIT's."""
    notes = []
    for name, standard in STANDARD_SCORED_PHONES.items():
        scored = sum(len(fold_timit(utterance.phones)) for utterance in splits[name])
        if len(splits[name]) == STANDARD_COUNTS[name][0] and scored != standard:
            notes.append(f"split {name} has {scored} phones to score, the standard split has {standard}")
    return notes


def find_timit(source: Path) -> Path:
    """Find the only folder, ``source`` or below it, that has TRAIN and TEST (in any case) with dialect folders.

    Raises:
        InputError: there is none or more than one, or a folder cannot be read.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder, expected one with TIMIT")
    try:
        roots = sorted(_find_roots(source.absolute(), set()))
    except OSError as error:
        raise InputError(f"{error.filename}: not readable ({error.strerror}), expected a folder") from error
    if len(roots) != 1:
        listed = "" if not roots else f" ({', '.join(str(root) for root in roots[:3])})"
        expected = "expected 1 folder with TRAIN/DR1, TEST/DR1 and so on"
        raise InputError(f"{source}: {len(roots)} folders with TIMIT{listed}, {expected}")
    return roots[0]


def read_phn(path: Path, num_samples: int) -> tuple[list[PhoneSegment], int]:
    """Read the phones of a .PHN file; also returns by how many samples the last one exceeded the audio (it is cut there).

    Each line is ``start end phone``, in samples. Gaps between phones are allowed.

    Args:
        path: the .PHN file.
        num_samples: length of the audio.

    Raises:
        InputError: the file is missing or empty; a line is malformed, has an unknown phone, or starts before the
            previous one ends; a phone extends more than `MAX_OVERHANG_SAMPLES` beyond the audio.
    """
    segments: list[PhoneSegment] = []
    overhang = 0
    for number, line in read_lines(path):
        where, fields = f"{path}: line {number}", line.split()
        if len(fields) != 3 or not all(SAMPLE.fullmatch(field) for field in fields[:2]):
            raise InputError(f"{where}: {line.strip()!r}, expected: start end phone, in samples")
        start, end, phone = int(fields[0]), int(fields[1]), fields[2]
        if phone not in timit_folding():
            raise InputError(f"{where}: unknown phone {phone!r}, expected one of the 61 of TIMIT")
        if start >= end:
            raise InputError(f"{where}: ends at sample {end}, expected after its start at {start}")
        if overhang or start >= num_samples or end > num_samples + MAX_OVERHANG_SAMPLES:
            raise InputError(f"{where}: samples {start} to {end}, expected a range within the audio's {num_samples}")
        if segments and start < segments[-1].end:
            raise InputError(f"{where}: starts at sample {start}, expected {segments[-1].end} or later, in order")
        overhang = max(0, end - num_samples)
        segments.append(PhoneSegment(start, min(end, num_samples), phone))
    return segments, overhang


def _find_roots(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Find the folders with TRAIN and TEST at and below ``folder``. Links are followed, each folder is visited once."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    folders = [child for child in sorted(folder.iterdir()) if child.is_dir()]
    parts = {
        child.name.upper() for child in folders if child.name.upper() in ("TRAIN", "TEST") and _has_dialects(child)
    }
    if len(parts) == 2:
        yield folder
        return
    for child in folders:
        yield from _find_roots(child, seen)


def _has_dialects(folder: Path) -> bool:
    return any(DIALECT.fullmatch(child.name.upper()) for child in folder.iterdir())


def _list_folder(folder: Path) -> dict[str, Path]:
    """Upper-case name -> path of everything in a folder.

    Raises:
        InputError: two names differ only in case.
    """
    entries: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):  # files of file managers, never part of the corpus
            continue
        first = entries.setdefault(path.name.upper(), path)
        if first != path:
            raise InputError(f"{path}: differs from {first.name} only in case, expected one of them")
    return entries


def _read_part(part: Path, left_out: Counter[str], anomalies: Counter[str]) -> list[Utterance]:
    """Read TRAIN or TEST. ``left_out`` and ``anomalies`` count by reason."""
    utterances = []
    for dialect, dialect_folder in _list_subfolders(part, DIALECT):
        for speaker, speaker_folder in _list_subfolders(dialect_folder, SPEAKER):
            for sentence, files in _group_files(speaker_folder, left_out).items():
                if sentence.startswith("SA"):
                    left_out["SA sentences"] += 1
                else:
                    utterances.append(_read_utterance(speaker_folder, dialect, speaker, sentence, files, anomalies))
    return utterances


def _list_subfolders(parent: Path, pattern: re.Pattern[str]) -> list[tuple[str, Path]]:
    """The subfolders of a folder, as (upper-case name, path).

    Raises:
        InputError: a name does not match ``pattern``.
    """
    folders = [(name, path) for name, path in _list_folder(parent).items() if path.is_dir()]
    for name, path in folders:
        if not pattern.fullmatch(name):
            raise InputError(f"{path}: unknown folder, expected names like {pattern.pattern}")
    return folders


def _group_files(folder: Path, left_out: Counter[str]) -> dict[str, dict[str, Path]]:
    """Group the files of one speaker: sentence -> file by extension, such as "PHN"."""
    sentences: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    for name, path in _list_folder(folder).items():
        match = SENTENCE_FILE.fullmatch(name)
        if match:
            sentences[match[1]][match[2]] = path
        elif name.endswith(".WAV"):
            left_out["audio files not named as a sentence"] += 1
    return dict(sentences)


def _read_utterance(
    folder: Path, dialect: str, speaker: str, sentence: str, files: Mapping[str, Path], anomalies: Counter[str]
) -> Utterance:
    audio_path, info = _choose_audio(folder / f"{sentence}.WAV", files, anomalies)
    segments, overhang = read_phn(files.get("PHN", folder / f"{sentence}.PHN"), info.num_samples)
    words = _read_words(files)
    if overhang:
        anomalies["with a last phone beyond the audio, cut at its end"] += 1
    if not words:
        anomalies["without words (no usable .WRD or .TXT)"] += 1
    rate = info.sample_rate_hz
    return Utterance(
        id=f"{speaker}_{sentence}",
        audio_path=audio_path,
        sample_rate_hz=rate,
        duration_s=info.duration_s,
        speaker=speaker,
        phones=tuple(segment.phone for segment in segments),
        words=words,
        phone_times_s=tuple((segment.start / rate, segment.end / rate) for segment in segments),
        sex=speaker[0].lower(),
        details={"dialect": dialect},
    )


def _choose_audio(expected: Path, files: Mapping[str, Path], anomalies: Counter[str]) -> tuple[Path, AudioInfo]:
    """Choose X.WAV if it is readable, else X.WAV.wav. If neither exists, the error names ``expected``."""
    converted = files.get("WAV.WAV")
    original = files.get("WAV", expected if converted is None else converted)
    try:
        return original, probe_audio(original)
    except InputError:
        if converted is None or converted == original:
            raise
    info = probe_audio(converted)
    anomalies["with an unreadable .WAV, taken from .WAV.wav"] += 1
    return converted, info


def _read_words(files: Mapping[str, Path]) -> str:
    """Read the words in lower case from .WRD (``start end word``), else from .TXT (``start end sentence``), else ""."""
    for extension in ("WRD", "TXT"):
        if extension in files:
            try:
                text = " ".join(" ".join(line.split()[2:]) for _, line in read_lines(files[extension]))
            except InputError:  # training does not need words; utterances without them are counted
                continue
            if words := re.findall(r"[a-z'-]+", text.lower()):
                return " ".join(words)
    return ""


def _select_speakers(utterances: Sequence[Utterance], name: str) -> list[Utterance]:
    """The utterances of the speakers in a list of `data_prep.checking.LISTS`."""
    speakers = {speaker.upper() for speaker in read_speakers(name)}
    return [utterance for utterance in utterances if utterance.speaker in speakers]


def _check_speakers(utterances: Sequence[Utterance]) -> None:
    """Raise InputError if a speaker has two folders."""
    folders: dict[str, Path] = {}
    for utterance in utterances:
        folder = folders.setdefault(utterance.speaker, utterance.audio_path.parent)
        if folder != utterance.audio_path.parent:
            raise InputError(
                f"{utterance.audio_path.parent}: speaker {utterance.speaker} is also in {folder}, expected one folder"
            )
