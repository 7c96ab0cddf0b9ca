"""LibriSpeech and LibriTTS: PART/SPEAKER/CHAPTER with audio and its text, and the sex of speakers in SPEAKERS.TXT.

LibriSpeech has one ``*.trans.txt`` for each chapter, LibriTTS one ``*.normalized.txt`` for each utterance. The parts
``train-*``, ``dev-*`` and ``test-*`` are the splits.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from asr.errors import InputError
from data_prep.entries import Entry, LeftOut
from data_prep.fields import normalize, parse_sex, parse_split, to_name
from data_prep.lines import stream_lines

AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus")

TRANSCRIPT, NORMALIZED = ".trans.txt", ".normalized.txt"

SPEAKER_TABLES = ("SPEAKERS.TXT", "SPEAKERS.txt", "speakers.txt", "speakers.tsv")


def read_librispeech(source: Path) -> Iterator[Entry | LeftOut]:
    """Read the parts in the order of their names. A part is in ``details``.

    Args:
        source: the folder with the parts, its parent, or a single part.

    Raises:
        InputError: there is no part.
    """
    root, parts = find_parts(source)
    sexes, left_out = _read_sexes(root)
    yield from left_out
    if parts != [source.absolute()]:
        for folder in _list_folders(root):
            if folder not in parts:
                yield LeftOut(str(folder), "folder that is no part")
    for part in parts:
        for speaker in _list_folders(part):
            for chapter in _list_folders(speaker):
                yield from _read_chapter(chapter, part.name, speaker.name, sexes)


def find_parts(source: Path) -> tuple[Path, list[Path]]:
    """Find the folder with the parts, and the parts.

    Raises:
        InputError: there is none.
    """
    source = source.absolute()
    if is_part(source):
        return source.parent, [source]
    for root in (source, *(source / name for name in ("LibriSpeech", "LibriTTS", "LibriTTS_R"))):
        parts = [folder for folder in _list_folders(root) if is_part(folder)] if root.is_dir() else []
        if parts:
            return root, parts
    raise InputError(
        f"{source}: no part of LibriSpeech, expected folders such as train-clean-100, dev-clean, test-other"
    )


def is_part(folder: Path) -> bool:
    """Whether the name of a folder is that of a part: train-clean-100, dev-other."""
    return "-" in folder.name and parse_split(folder.name) != ""


def _list_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_sexes(root: Path) -> tuple[dict[str, str], list[LeftOut]]:
    """Read speaker -> sex from the table of speakers, if there is one. Its columns are divided by | or by tabs."""
    sexes: dict[str, str] = {}
    left_out: list[LeftOut] = []
    for path in [root / name for name in SPEAKER_TABLES if (root / name).is_file()][:1]:
        for line in stream_lines(path):
            if isinstance(line, LeftOut):
                left_out.append(line)
                continue
            speaker, sex, *_ = (*line.text.split("\t" if path.suffix == ".tsv" else "|"), "", "")
            if not speaker.startswith(";"):
                sexes[to_name(speaker)] = parse_sex(sex)
    return sexes, left_out


def _read_chapter(chapter: Path, part: str, speaker: str, sexes: Mapping[str, str]) -> Iterator[Entry | LeftOut]:
    """Read a chapter in the order of the ids; then its audio without text."""
    files = sorted(path for path in chapter.iterdir() if not path.name.startswith("."))
    audio: dict[str, Path] = {}
    for path in files:
        if path.suffix.lower() in AUDIO_SUFFIXES and audio.setdefault(to_name(path.stem), path) != path:
            yield LeftOut(str(path), "audio in two formats")
    seen: set[str] = set()
    for text in _read_texts(files):
        if isinstance(text, LeftOut):
            yield text
            continue
        utterance, where, words = text
        if utterance in seen or not words or utterance not in audio:
            reason = "id that occurs twice" if utterance in seen else "text without audio" if words else "empty text"
            yield LeftOut(f"{where}: {utterance}", reason)
        else:
            yield Entry(
                id=utterance,
                audio_path=audio[utterance],
                speaker=to_name(speaker),
                where=where,
                words=words,
                sex=sexes.get(to_name(speaker), ""),
                split=parse_split(part),
                details={"part": part},
            )
        seen.add(utterance)
    yield from (LeftOut(str(path), "audio without text") for key, path in audio.items() if key not in seen)


def _read_texts(files: Iterable[Path]) -> Iterator[tuple[str, str, str] | LeftOut]:
    """Yield (utterance, where, words) from the transcripts among the files of a chapter."""
    for path in files:
        try:
            if path.name.endswith(TRANSCRIPT):
                for line in stream_lines(path):
                    if isinstance(line, LeftOut):
                        yield line
                    elif text := normalize(line.text):
                        utterance, _, words = text.partition(" ")
                        yield utterance, f"{path}: line {line.number}", words
            elif path.name.endswith(NORMALIZED):
                lines = list(stream_lines(path))
                yield from (line for line in lines if isinstance(line, LeftOut))
                words = normalize(" ".join(line.text for line in lines if not isinstance(line, LeftOut)))
                yield to_name(path.name.removesuffix(NORMALIZED)), str(path), words
        except InputError as error:
            yield LeftOut(str(error), "transcript that is not readable as UTF-8")
