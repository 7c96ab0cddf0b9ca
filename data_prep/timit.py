"""TIMIT in its download layout, and in the forms it takes in the wild -> manifests.

``TRAIN/DR1/FCJF0/SX127.WAV`` with the phones in ``SX127.PHN``, the words in ``SX127.WRD`` and the sentence in
``SX127.TXT``; all names in upper or lower case, audio as SPHERE or RIFF, and often ``SX127.WAV.wav`` beside
``SX127.WAV`` or in its place. The SA sentences, which every speaker reads, are left out, as is the custom.
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
"""Split of standard size -> phones that the convention ``kaldi`` scores, the N of published error rates."""

MAX_OVERHANG_SAMPLES = 400
"""How far the last phone may reach beyond the audio, 25 ms at 16 kHz; it is then cut at the end of the audio."""

SAMPLE = re.compile(r"\d{1,12}")
DIALECT = re.compile(r"DR[1-8]")
SPEAKER = re.compile(r"[FM][A-Z]{3}\d")
SENTENCE_FILE = re.compile(r"(S[AIX]\d+)\.(WAV|WAV\.WAV|PHN|WRD|TXT)")


@dataclass(frozen=True)
class PhoneSegment:
    """One phone from sample ``start`` to before sample ``end``."""

    start: int
    end: int
    phone: str


def prepare_timit(source: Path, out: Path, jobs: int) -> None:
    """Write manifests of ``train``, ``dev``, ``test`` (core) and ``fulltest``, and their statistics, to ``out``.

    ``dev`` and ``test`` are the usual 50 and 24 speakers of the full test set, which ``fulltest`` has whole. An
    utterance is called ``FCJF0_SX127``, whatever the case of the names in ``source``.

    Args:
        source: the folder with ``TRAIN`` and ``TEST``, or any folder above it.
        out: where the manifests go; nothing is written before everything is checked.
        jobs: threads that check the audio.

    Raises:
        InputError: there is no TIMIT below ``source`` or more than one, or a file of it cannot be used as it is.
    """
    root = find_timit(source)
    parts = _children(root)
    left_out: Counter[str] = Counter()
    oddities: Counter[str] = Counter()
    train, full_test = (_read_part(parts[part], left_out, oddities) for part in ("TRAIN", "TEST"))
    utterances = [*train, *full_test]
    _check_speakers(utterances)
    splits = {
        "train": train,
        "dev": _of_speakers(full_test, "timit_dev.txt"),
        "test": _of_speakers(full_test, "timit_core_test.txt"),
        "fulltest": full_test,
    }
    notes = compare_counts(splits, STANDARD_COUNTS) + compare_scored_phones(splits) + compare_sample_rates(utterances)
    notes += [f"{count} utterances {oddity}" for oddity, count in oddities.items()]
    warn(notes)
    check_audio(utterances, jobs)
    write_corpus(out, splits, left_out, notes)


def compare_scored_phones(splits: Mapping[str, Sequence[Utterance]]) -> list[str]:
    """A note for each split that has its standard size and other phones, folded, than TIMIT has there."""
    notes = []
    for name, standard in STANDARD_SCORED_PHONES.items():
        found = sum(len(fold_timit(utterance.phones)) for utterance in splits[name])
        if len(splits[name]) == STANDARD_COUNTS[name][0] and found != standard:
            notes.append(f"split {name} has {found} phones to score, the standard one has {standard}")
    return notes


def find_timit(source: Path) -> Path:
    """The one folder, ``source`` or one below it, that has TRAIN and TEST with dialect folders, in any case."""
    if not source.is_dir():
        raise InputError(f"{source}: no such folder, expected one with TIMIT")
    try:
        found = sorted(_roots(source.absolute(), set()))
    except OSError as error:
        raise InputError(f"{error.filename}: not readable ({error.strerror}), expected a folder") from error
    if len(found) != 1:
        places = "" if not found else f" ({', '.join(str(root) for root in found[:3])})"
        expected = "expected 1 folder with TRAIN/DR1 and TEST/DR1 and so on"
        raise InputError(f"{source}: {len(found)} folders with TIMIT{places}, {expected}")
    return found[0]


def read_phn(path: Path, num_samples: int) -> tuple[list[PhoneSegment], int]:
    """The phones of a .PHN file, and by how many samples its last one was beyond the audio (it is cut there).

    Each line is ``start end phone``, in samples. Gaps between phones are as they may be.

    Args:
        path: the .PHN file.
        num_samples: length of the audio.

    Raises:
        InputError: the file is missing or empty; a line is malformed, has an unknown phone, or starts before the
            one above it ends; a phone is more than `MAX_OVERHANG_SAMPLES` beyond the audio.
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
            raise InputError(f"{where}: samples {start} to {end}, expected all within the audio's {num_samples}")
        if segments and start < segments[-1].end:
            raise InputError(f"{where}: starts at sample {start}, expected {segments[-1].end} or later, in order")
        overhang = max(0, end - num_samples)
        segments.append(PhoneSegment(start, min(end, num_samples), phone))
    return segments, overhang


def _roots(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Folders with TRAIN and TEST at and below ``folder``; links are followed, each folder is seen once."""
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
        yield from _roots(child, seen)


def _has_dialects(folder: Path) -> bool:
    return any(DIALECT.fullmatch(child.name.upper()) for child in folder.iterdir())


def _children(folder: Path) -> dict[str, Path]:
    """What a folder holds, by upper-case name; names that differ in case alone are an error."""
    children: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):  # left by file managers, never part of the corpus
            continue
        other = children.setdefault(path.name.upper(), path)
        if other != path:
            raise InputError(f"{path}: stands beside {other.name}, expected one of them")
    return children


def _read_part(part: Path, left_out: Counter[str], oddities: Counter[str]) -> list[Utterance]:
    utterances = []
    for dialect, dialect_folder in _folders(part, DIALECT):
        for speaker, speaker_folder in _folders(dialect_folder, SPEAKER):
            for sentence, files in _sentences(speaker_folder, left_out).items():
                if sentence.startswith("SA"):
                    left_out["SA sentences"] += 1
                else:
                    utterances.append(_read_utterance(speaker_folder, dialect, speaker, sentence, files, oddities))
    return utterances


def _folders(parent: Path, pattern: re.Pattern[str]) -> list[tuple[str, Path]]:
    """The folders in a folder, by upper-case name, each of which must be named as ``pattern`` says."""
    folders = [(name, path) for name, path in _children(parent).items() if path.is_dir()]
    for name, path in folders:
        if not pattern.fullmatch(name):
            raise InputError(f"{path}: unknown folder, expected names like {pattern.pattern}")
    return folders


def _sentences(folder: Path, left_out: Counter[str]) -> dict[str, dict[str, Path]]:
    """Sentence -> its files by ending, such as "PHN", in the folder of one speaker."""
    sentences: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    for name, path in _children(folder).items():
        match = SENTENCE_FILE.fullmatch(name)
        if match:
            sentences[match[1]][match[2]] = path
        elif name.endswith(".WAV"):
            left_out["audio files not named as a sentence"] += 1
    return dict(sentences)


def _read_utterance(
    folder: Path, dialect: str, speaker: str, sentence: str, files: Mapping[str, Path], oddities: Counter[str]
) -> Utterance:
    audio_path, info = _choose_audio(folder / f"{sentence}.WAV", files, oddities)
    segments, overhang = read_phn(files.get("PHN", folder / f"{sentence}.PHN"), info.num_samples)
    words = _read_words(files)
    if overhang:
        oddities["with a last phone beyond the audio, cut at its end"] += 1
    if not words:
        oddities["without words (no usable .WRD or .TXT)"] += 1
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


def _choose_audio(missing: Path, files: Mapping[str, Path], oddities: Counter[str]) -> tuple[Path, AudioInfo]:
    """X.WAV where it can be read, else X.WAV.wav; ``missing`` is named where there is neither."""
    double = files.get("WAV.WAV")
    original = files.get("WAV", missing if double is None else double)
    try:
        return original, probe_audio(original)
    except InputError:
        if double is None or double == original:
            raise
    info = probe_audio(double)
    oddities["with an unreadable .WAV, taken from .WAV.wav"] += 1
    return double, info


def _read_words(files: Mapping[str, Path]) -> str:
    """The words in lower case: those of .WRD (``start end word``), else of .TXT (``start end sentence``), else ""."""
    for ending in ("WRD", "TXT"):
        if ending in files:
            try:
                text = " ".join(" ".join(line.split()[2:]) for _, line in read_lines(files[ending]))
            except InputError:  # words are kept for the reader; what is without them is counted
                continue
            if words := re.findall(r"[a-z'-]+", text.lower()):
                return " ".join(words)
    return ""


def _of_speakers(utterances: Sequence[Utterance], name: str) -> list[Utterance]:
    speakers = {speaker.upper() for speaker in read_speakers(name)}
    return [utterance for utterance in utterances if utterance.speaker in speakers]


def _check_speakers(utterances: Sequence[Utterance]) -> None:
    """Raise InputError where a speaker, and with it an utterance, stands in two folders."""
    folders: dict[str, Path] = {}
    for utterance in utterances:
        folder = folders.setdefault(utterance.speaker, utterance.audio_path.parent)
        if folder != utterance.audio_path.parent:
            raise InputError(
                f"{utterance.audio_path.parent}: speaker {utterance.speaker} also in {folder}, expected once"
            )
