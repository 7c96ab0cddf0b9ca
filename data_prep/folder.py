"""A folder of recordings with texts or TextGrids, in the layout of the Montreal Forced Aligner -> entries.

    SOURCE/ann/monday 1.wav      audio: wav, flac, mp3, ogg or opus, in any case
    SOURCE/ann/monday 1.lab      its words: .lab or .txt; several lines are joined
    SOURCE/bob/2/story.flac
    SOURCE/bob/2/story.TextGrid  its words, phones or utterances in tiers, see `data_prep.folder_texts`

Source: M. McAuliffe et al., "Montreal Forced Aligner", Interspeech 2017, and its manual, "Corpus formats and structure".

**Speakers.** The first folder below those that all recordings share is the speaker: in ``wav/ann/monday/1.wav`` it is
``ann`` if there is also ``wav/bob``. (The aligner takes the last folder, ``monday``; then a speaker may be in two splits.)
If these folders are called train, dev or test, they are the corpus's own splits, and the next ones are the speakers. For
recordings in SOURCE itself, the speaker is the part of the name before the first ``_`` or ``-`` if every one has such a
part (``ann_1.wav``, ``bob-1.wav``), else each recording has a speaker of its own. The name of a tier goes before all this.

**Tiers elsewhere**: with a folder of tiers, such as ``asr align`` writes and a phonetician corrects, the TextGrid of
``SOURCE/ann/1.wav`` is ``TIERS/ann/1.TextGrid``, and no text in SOURCE is read.

**Ids**: the path in SOURCE without suffix, with ``-`` for ``/``. The part of a recording has its times in milliseconds
after that. White space in ids and speakers becomes ``_``. All text and names are NFC-normalized. Hidden files, and files
that are neither audio nor text, are ignored. Links to files are followed, links to folders if they lead out of SOURCE.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.errors import InputError
from data_prep.entries import Entry, LeftOut
from data_prep.fields import normalize, parse_split, to_name
from data_prep.folder_texts import TEXT_SUFFIXES, RecordingFiles, read_texts

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus")
"""If recordings differ only in their suffix, the first of these is read."""

TIERS_SUFFIXES = (".textgrid",)

NAMED_SPEAKER = re.compile(r"([^_-]+)[_-]")


def read_folder(source: Path, tiers: Path | None = None) -> Iterator[Entry | LeftOut]:
    """Yield the entries of a folder of recordings, folder by folder, in the order of their names.

    ``tiers`` is a folder with the TextGrids, at the places of their recordings in ``source``. Memory holds the folders, and
    the names in the largest one.

    Raises:
        InputError: there is no such folder, or no recording in it; two speakers have one name once white space is replaced.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder, expected one with recordings")
    if tiers is not None and not tiers.is_dir():
        raise InputError(f"{tiers}: no such folder, expected one with TextGrids")
    source = source.absolute()
    seen: list[LeftOut] = []
    folders = list(_walk(source, seen))
    yield from seen
    layout = _Layout(source, [folder for folder in folders if _has_audio(folder)])
    for folder in folders:
        beside = folder if tiers is None else tiers.absolute() / folder.relative_to(source)
        for found in _list_recordings(folder, beside, layout):
            if isinstance(found, LeftOut):
                yield found
            else:
                yield from read_texts(found, layout.speaker)
    if tiers is not None:
        yield from _list_tiers_elsewhere(source, tiers.absolute())


def refuse_archives(source: Path) -> None:
    """Raise InputError if a folder has a zip archive that was not unpacked: neither a folder nor a file of its name."""
    for path in sorted(source.rglob("*.zip")):
        if not path.with_suffix("").is_dir() and not path.with_suffix(".wav").is_file():
            raise InputError(f"{path}: a zip archive, expected it unpacked into {path.with_suffix('').name}")


class _Layout:
    """Which folders are speakers and splits."""

    def __init__(self, source: Path, folders: Sequence[Path]) -> None:
        if not folders:
            expected = f"expected some ({' '.join(AUDIO_SUFFIXES)})"
            raise InputError(f"{source}: no recordings in it, {expected}")
        self.source = source
        self._speakers: dict[str, str] = {}
        parts = [folder.relative_to(source).parts for folder in folders]
        self._level, deepest = 0, min(map(len, parts)) - 1
        while self._level < deepest and len({names[self._level] for names in parts}) == 1:
            self._level += 1
        tops = {names[self._level] for names in parts if names}
        self._has_splits = all(parts) and len(tops) > 1 and all(top.isalpha() and parse_split(top) for top in tops)

    def place(self, folder: Path) -> tuple[str, str]:
        """(split, speaker) of the recordings in a folder; the speaker is "" if their own names tell it."""
        names = folder.relative_to(self.source).parts
        split = parse_split(names[self._level]) if self._has_splits else ""
        level = self._level + self._has_splits
        return split, self.speaker(names[level]) if len(names) > level else ""

    def speaker(self, name: str) -> str:
        """The name of a speaker without white space.

        Raises:
            InputError: another speaker would get the same name.
        """
        speaker = to_name(name)
        if self._speakers.setdefault(speaker, normalize(name)) != normalize(name):
            both = f"{self._speakers[speaker]!r} and {normalize(name)!r}"
            raise InputError(f"{self.source}: speakers {both} are both {speaker}, expected names that differ otherwise")
        return speaker


def _walk(source: Path, left_out: list[LeftOut]) -> Iterator[Path]:
    """Yield ``source`` and the folders in it, each once, in the order of their names."""
    root, visited, waiting = source.resolve(), set(), [source]
    while waiting:
        folder = waiting.pop()
        target = folder.resolve()
        if target in visited or (folder != source and folder.is_symlink() and target.is_relative_to(root)):
            left_out.append(LeftOut(str(folder), "link to a folder that is read elsewhere"))
            continue
        visited.add(target)
        try:
            with os.scandir(folder) as entries:
                inside = [entry.path for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        except OSError as error:
            left_out.append(LeftOut(f"{folder}: {error.strerror}", "folder that is not readable"))
            continue
        yield folder
        waiting += [Path(path) for path in sorted(inside, key=_sort_key, reverse=True)]


def _has_audio(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(_is_wanted(entry.name, AUDIO_SUFFIXES) for entry in entries)


def _list_recordings(folder: Path, beside: Path, layout: _Layout) -> Iterator[RecordingFiles | LeftOut]:
    """Yield the recordings in one folder, whose texts are in it, or ``beside`` it in a folder of TextGrids.

    Audio and text belong together if their NFC-normalized stems are the same.
    """
    if beside == folder:
        files = _list_files(folder, (*AUDIO_SUFFIXES, *TEXT_SUFFIXES))
    else:
        files = [*_list_files(folder, AUDIO_SUFFIXES), *_list_files(beside, TIERS_SUFFIXES)]
    stems: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        if not path.exists():
            yield LeftOut(str(path), "link to a file that does not exist")
        elif not _is_utf8(str(path)):
            yield LeftOut(ascii(str(path)), "file name that is not UTF-8")
        else:
            stems[unicodedata.normalize("NFC", path.stem)].append(path)
    audio = {stem: _sort_by_suffix(paths, AUDIO_SUFFIXES) for stem, paths in stems.items()}
    texts = {stem: _sort_by_suffix(paths, TEXT_SUFFIXES) for stem, paths in stems.items()}
    speakers = _name_speakers(folder, [stem for stem in stems if audio[stem]], layout)
    prefix = folder.relative_to(layout.source).parts
    for stem in stems:
        yield from (LeftOut(str(path), "second recording of the same name") for path in audio[stem][1:])
        if not audio[stem]:
            yield from (LeftOut(str(path), "text without audio") for path in texts[stem])
        elif not texts[stem]:
            yield LeftOut(str(audio[stem][0]), "audio without text")
        else:
            name = "-".join(map(to_name, (*prefix, stem)))
            yield RecordingFiles(name, audio[stem][0], tuple(texts[stem]), *speakers[stem])


def _list_tiers_elsewhere(source: Path, tiers: Path) -> Iterator[LeftOut]:
    """Yield the TextGrids in folders that ``source`` lacks."""
    for folder in _walk(tiers, []):
        if not (source / folder.relative_to(tiers)).is_dir():
            yield from (LeftOut(str(path), "text without audio") for path in _list_files(folder, TIERS_SUFFIXES))


def _list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder with one of the suffixes; [] if there is no such folder."""
    names = sorted(os.listdir(folder), key=_sort_key) if folder.is_dir() else []
    return [folder / name for name in names if _is_wanted(name, suffixes) and not (folder / name).is_dir()]


def _name_speakers(folder: Path, stems: Sequence[str], layout: _Layout) -> dict[str, tuple[str, str]]:
    """Stem -> (speaker, split) of each recording in a folder."""
    if not stems:
        return {}
    split, speaker = layout.place(folder)
    if speaker:
        return dict.fromkeys(stems, (speaker, split))
    matches = [NAMED_SPEAKER.match(stem) for stem in stems]
    names = [match[1] for match in matches if match is not None]
    if len(names) < len(stems):
        names = list(stems)
    return {stem: (layout.speaker(name), split) for stem, name in zip(stems, names, strict=True)}


def _sort_by_suffix(paths: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """The paths with one of these suffixes, in the order of the suffixes."""
    return [path for suffix in suffixes for path in paths if path.suffix.lower() == suffix]


def _is_wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in suffixes


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sort_key(name: str) -> tuple[str, str]:
    return unicodedata.normalize("NFC", name), name
