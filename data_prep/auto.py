"""Which layout a corpus has, from tell-tale files in a small sample of its folders."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from asr.corpus.manifest import MAX_LINE_BYTES
from asr.errors import InputError
from data_prep import buckeye, commonvoice, folder, kaldi, l2arctic, lhotse_cuts, librispeech, table
from data_prep.entries import SPLITS, Entry, LeftOut, Reader
from data_prep.lines import Line, parse_object, stream_lines

MAX_FOLDERS = 200
"""Folders that are looked into, from the top."""

MAX_SUBFOLDERS = 10
"""Folders in one folder that are looked into."""

MAX_FILES = 500
"""Files and folders of one folder that are looked at."""


@dataclass(frozen=True)
class Found:
    """The layout of a corpus: its name, as in ``asr prepare NAME``, and what it was recognized by.

    ``reader`` is None for `timit` and `speechocean762`, which are prepared in their own way.
    """

    name: str
    why: str
    reader: Reader | None


@dataclass(frozen=True)
class Sample:
    """Folders of a corpus and some of what is in them: folder -> (files, folders). ``complete`` if that is all."""

    source: Path
    folders: dict[Path, tuple[list[Path], list[Path]]]
    complete: bool

    def files(self, *suffixes: str) -> Iterator[Path]:
        """Yield the files with one of the suffixes, in lower case."""
        for files, _ in self.folders.values():
            yield from (path for path in files if path.suffix.lower() in suffixes)


@dataclass(frozen=True)
class Layout:
    """How a layout is recognized: ``find`` returns what it was recognized by, or "".

    ``sought`` says what is looked for. Corpora of this layout look like one of ``resembles``, too.
    """

    sought: str
    find: Callable[[Sample], str]
    read: Callable[[Path], Iterable[Entry | LeftOut]] | None
    resembles: tuple[str, ...] = ()


def detect(source: Path) -> Found:
    """Recognize the layout of a corpus.

    Args:
        source: a folder, a table, or a file of Lhotse cuts.

    Raises:
        InputError: there is no such file or folder, no layout is recognized, or more than one.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder, expected a corpus")
    sample = take_sample(source.absolute())
    reasons = {name: why for name, layout in LAYOUTS.items() if (why := layout.find(sample))}
    names = [name for name in reasons if not any(name in LAYOUTS[other].resembles for other in reasons)]
    if not names:
        sought = "; ".join(f"{layout.sought} ({name})" for name, layout in LAYOUTS.items())
        raise InputError(f"{source}: no layout recognized, expected one of: {sought}")
    if len(names) > 1:
        found = ", and ".join(f"{reasons[name]} ({name})" for name in names)
        raise InputError(f"{source}: {found}, expected one layout: name the one you mean")
    read = LAYOUTS[names[0]].read
    return Found(names[0], reasons[names[0]], None if read is None else partial(read, source))


def take_sample(source: Path) -> Sample:
    """Look at the folders of a corpus, from the top, and at no more than a part of each."""
    folders: dict[Path, tuple[list[Path], list[Path]]] = {}
    waiting, complete = [source] if source.is_dir() else [], True
    try:
        while waiting and len(folders) < MAX_FOLDERS:
            place = waiting.pop(0)
            with os.scandir(place) as entries:
                some = sorted(islice(entries, MAX_FILES + 1), key=lambda entry: entry.name)
            shown = [entry for entry in some if not entry.name.startswith(".")]
            subfolders = [Path(entry.path) for entry in shown if entry.is_dir()]
            folders[place] = ([Path(entry.path) for entry in shown if not entry.is_dir()], subfolders)
            waiting += subfolders[:MAX_SUBFOLDERS]
            complete = complete and len(some) <= MAX_FILES and len(subfolders) <= MAX_SUBFOLDERS
    except OSError as error:
        raise InputError(f"{error.filename}: not readable ({error.strerror}), expected a folder") from error
    return Sample(source, folders, complete and not waiting)


def _find_timit(sample: Sample) -> str:
    dialects = [f"{letters}{number}" for letters in ("DR", "dr", "Dr") for number in range(1, 9)]
    for _, subfolders in sample.folders.values():
        parts = [path for path in subfolders if path.name.upper() in ("TRAIN", "TEST")]
        if len([path for path in parts if any((path / dialect).is_dir() for dialect in dialects)]) == 2:
            return "folders of dialects in TRAIN and TEST"
    return ""


def _find_speechocean762(sample: Sample) -> str:
    for root in (sample.source, sample.source / "speechocean762"):
        if (root / "resource" / "text-phone").is_file() and (root / "train" / "wav.scp").is_file():
            return "resource/text-phone and train/wav.scp"
    return ""


def _find_l2arctic(sample: Sample) -> str:
    speakers = [
        place
        for place, (_, subfolders) in sample.folders.items()
        if len({"wav", "transcript", "textgrid", "annotation"} & {path.name for path in subfolders}) > 2
    ]
    return f"wav, transcript, textgrid and annotation in {_count(speakers, 'folder')}" if speakers else ""


def _find_buckeye(sample: Sample) -> str:
    found = [path for path in sample.files(".phones") if path.with_suffix(".words").is_file()]
    return f"{_count(found, '.phones file')} beside .words" if found else ""


def _find_kaldi(sample: Sample) -> str:
    if (sample.source / "wav.scp").is_file():
        return "wav.scp"
    _, subfolders = sample.folders.get(sample.source, ([], []))
    found = [path.name for path in subfolders if (path / "wav.scp").is_file()]
    return f"wav.scp in {', '.join(found[:5])}" if found else ""


def _find_librispeech(sample: Sample) -> str:
    try:
        root, _ = librispeech.find_parts(sample.source)
    except InputError:
        return ""
    for path in sample.files(".txt"):
        if (
            path.name.endswith((librispeech.TRANSCRIPT, librispeech.NORMALIZED))
            and path.is_relative_to(root)
            and len(path.relative_to(root).parts) == 4
        ):
            return f"transcripts such as {path.relative_to(root)}"
    return ""


def _find_commonvoice(sample: Sample) -> str:
    _, subfolders = sample.folders.get(sample.source, ([], []))
    for place in (sample.source, *subfolders):
        if commonvoice.is_language(place):
            tables = [f"{split}.tsv" for split in SPLITS if (place / f"{split}.tsv").is_file()]
            return f"{', '.join(tables)} and clips"
    return ""


def _find_lhotse(sample: Sample) -> str:
    if sample.source.is_file():
        return (
            "a file of cuts" if sample.source.name.endswith(lhotse_cuts.SUFFIXES) and _has_cuts(sample.source) else ""
        )
    files, _ = sample.folders[sample.source]
    found = [path.name for path in files if path.name.startswith("cuts_") and path.name.endswith(lhotse_cuts.SUFFIXES)]
    return ", ".join(found[:5])


def _has_cuts(path: Path) -> bool:
    """Whether the first line is a cut."""
    try:
        first = next(stream_lines(path, MAX_LINE_BYTES), None)
    except InputError:
        return False
    cut = parse_object(first.text) if isinstance(first, Line) else None
    return cut is not None and str(cut.get("type", "")).endswith("Cut")


def _find_table(sample: Sample) -> str:
    source = sample.source
    if (
        source.is_file()
        and source.suffix.lower() in table.FORMATS
        and not (source.suffix.lower() == ".jsonl" and _has_cuts(source))
    ):
        return f"a table {source.suffix.lower()}"
    return ""


def _find_folder(sample: Sample) -> str:
    folders: set[Path] = set()
    counts: dict[str, int] = {}
    for place, (files, _) in sample.folders.items():
        audio = {path.stem for path in files if path.suffix.lower() in folder.AUDIO_SUFFIXES}
        for path in files:
            if path.suffix.lower() in folder.TEXT_SUFFIXES and path.stem in audio:
                folders.add(place)
                counts[path.suffix] = counts.get(path.suffix, 0) + 1
    found = " and ".join(_count(range(count), f"{suffix} file") for suffix, count in counts.items())
    at_least = "" if sample.complete else "at least "
    return f"{at_least}{found} beside audio in {_count(folders, 'folder')}" if folders else ""


def _count(items: Iterable[object], what: str) -> str:
    number = sum(1 for _ in items)
    return f"{number} {what}{'s' if number != 1 else ''}"


LAYOUTS = {
    "timit": Layout("TRAIN/DR1 and TEST/DR1", _find_timit, None, ("folder",)),
    "speechocean762": Layout("resource/text-phone and train/wav.scp", _find_speechocean762, None, ("kaldi",)),
    "l2arctic": Layout("wav, transcript, textgrid, annotation", _find_l2arctic, l2arctic.read_l2arctic, ("folder",)),
    "buckeye": Layout("*.words and *.phones", _find_buckeye, buckeye.read_buckeye, ("folder",)),
    "kaldi": Layout("wav.scp", _find_kaldi, kaldi.read_kaldi),
    "librispeech": Layout("train-*/*/*/*.trans.txt", _find_librispeech, librispeech.read_librispeech, ("folder",)),
    "commonvoice": Layout("clips and train.tsv", _find_commonvoice, commonvoice.read_commonvoice),
    "lhotse": Layout("cuts_*.jsonl.gz", _find_lhotse, lhotse_cuts.read_cuts),
    "table": Layout("a file .csv, .tsv, .jsonl or .parquet", _find_table, partial(table.read_table, columns={})),
    "folder": Layout(".lab, .txt or .TextGrid beside audio", _find_folder, folder.read_folder),
}
"""The layouts in the order in which messages name them."""
