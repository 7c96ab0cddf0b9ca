"""Many utterances -> a TextGrid of each recording, in a folder that mirrors that of the audio.

Workers align units of recordings, this process writes the tiers. What exists is skipped, so that the same command resumes.
``errors.tsv`` names all that does not fit; it is written before the tiers that it concerns.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from asr.errors import InputError
from asr.inference.align_recordings import Tiers, align_recordings
from asr.inference.align_tiers import SUFFIX
from asr.inference.align_utterance import Item, Problem, UtteranceAligner
from asr.inference.hours_progress import HoursProgress
from asr.inference.recognizer import Recognizer
from asr.inference.result_files import ErrorsFile, lock_output, one_cell, read_errors, write_result
from asr.inference.units import Run, run_here
from asr.inference.verify import phone_weights
from asr.system.files import make_folder

UNIT_UTTERANCES, UNIT_BYTES = 64, 20 * 2**20
"""A unit has at most so many utterances and bytes of audio, but for its last recording."""

Items = Callable[[], Iterable[Item | Problem]]
"""Yields the utterances of a corpus, and what of it is no utterance, in the same order each time."""


@dataclass
class Summary:
    """Recordings and utterances done and skipped, seconds of audio aligned, and problems by reason."""

    recordings: int = 0
    skipped: int = 0
    utterances: int = 0
    seconds: float = 0.0
    problems: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class RecordingsUnit:
    """All utterances of some recordings, and those of the recordings whose tiers are wanted."""

    items: tuple[Item, ...]
    wanted: frozenset[Path]


@dataclass(frozen=True)
class Spread:
    """Who does units: ``load`` is how a worker loads the recognizer, and is pickled if the worker is elsewhere."""

    run: Run
    load: Callable[[], Recognizer]


def align_corpus(
    recognizer: Recognizer,
    items: Items,
    out: Path,
    root: Path | None = None,
    force: bool = False,
    jobs: int = 0,
    spread: Spread | None = None,
) -> Summary:
    """Write the tiers of every recording of a corpus to ``out``, at its path below ``root``.

    If audio lies elsewhere, or without ``root``, that is the folder that all audio has in common. ``jobs`` is the number
    of threads, 0 for one a processor, unless ``spread`` says who does the work. Recordings with tiers are skipped unless
    ``force`` is set.

    Raises:
        InputError: no utterances, two recordings with the same tiers, or a folder that cannot be written.
    """
    spread = spread or Spread(partial(run_here, threads=jobs or os.cpu_count() or 1), lambda: recognizer)
    counts, weights = survey(recognizer, items)
    targets = _find_targets(list(counts), out, root)
    places = {one_cell(str(path)): place for place, path in enumerate(counts)}
    with lock_output(out):
        done = set() if force else {path for path in counts if targets[path].exists()}
        done_cells = {one_cell(str(path)) for path in done}
        earlier = read_errors(out)
        errors = ErrorsFile(out, [problem for problem in earlier if problem.audio in done_cells])
        unusable = {problem.audio for problem in earlier} - done_cells
        units = _units(items(), counts, done, unusable, errors)
        total = sum(counts.values())
        summary = Summary(skipped=len(done))
        with HoursProgress("aligning", total, sum(counts[path] for path in done)) as progress:
            for outcome in spread.run(partial(make_aligner, spread.load, weights), units, len(counts)):
                if outcome.error is not None:
                    raise outcome.error
                assert outcome.result is not None
                _write(outcome.result, targets, errors, summary)
                progress.add(
                    sum(item.audio_path in outcome.unit.wanted for item in outcome.unit.items), outcome.result.seconds
                )
        errors.sort(lambda problem: places.get(one_cell(problem.audio), -1))
    summary.problems.update(problem.reason for problem in errors.problems)
    return summary


def make_aligner(load: Callable[[], Recognizer], weights: np.ndarray) -> Callable[[RecordingsUnit], Tiers]:
    """Load a recognizer, and return what aligns the recordings of a unit."""
    aligner = UtteranceAligner(load(), weights)
    return lambda unit: align_recordings(aligner, unit.items, set(unit.wanted))


def survey(recognizer: Recognizer, items: Items) -> tuple[dict[Path, int], np.ndarray]:
    """Count the utterances of each recording, and weigh the phones, (symbols,) float64, by those of the corpus."""
    counts: Counter[Path] = Counter()
    phones: Counter[str] = Counter()
    for item in items():
        if isinstance(item, Item):
            counts[item.audio_path] += 1
            firsts = [item.phones] if item.phones is not None else [each[0] for each in item.pronunciations if each]
            phones.update(phone for first in firsts for phone in first)
    if not counts:
        raise InputError("0 utterances to align, expected audio with its text")
    inventory = recognizer.bundle.inventory
    known: Counter[int] = Counter()
    for phone, count in phones.items():
        if inventory.mapping.get(phone) is not None:
            known[inventory.encode([phone], "")[0]] += count
    return dict(counts), phone_weights(known, len(inventory.symbols))


def _find_targets(paths: Sequence[Path], out: Path, root: Path | None) -> dict[Path, Path]:
    """The tiers' file of each recording."""
    if root is None or not all(path.absolute().is_relative_to(root.absolute()) for path in paths):
        root = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    targets: dict[Path, Path] = {}
    first: dict[Path, Path] = {}
    for path in paths:
        below = os.path.relpath(path.absolute(), root.absolute())
        target = (out / below).with_suffix(SUFFIX)
        if first.setdefault(target, path) != path:
            raise InputError(f"{path}: same tiers as {first[target]}, expected recordings with different names")
        targets[path] = target
    return targets


def _units(
    items: Iterable[Item | Problem], counts: dict[Path, int], done: set[Path], unusable: set[str], errors: ErrorsFile
) -> Iterator[RecordingsUnit]:
    """The units with recordings that lack tiers; what is no utterance becomes an error.

    The units depend on the corpus alone. One whose tiers are there in part is therefore aligned whole, so that a result
    does not depend on where an earlier command ended. Where only such tiers lack as could not be made, they are tried
    alone.
    """
    for unit in _all_units(items, counts, errors):
        lacking = frozenset(item.audio_path for item in unit if item.audio_path not in done)
        if {one_cell(str(path)) for path in lacking} <= unusable:
            unit = [item for item in unit if item.audio_path in lacking]
        if lacking:
            yield RecordingsUnit(tuple(unit), lacking)


def _all_units(items: Iterable[Item | Problem], counts: dict[Path, int], errors: ErrorsFile) -> Iterator[list[Item]]:
    open_recordings: dict[Path, list[Item]] = {}
    unit: list[Item] = []
    size = 0
    for item in items:
        if isinstance(item, Problem):
            errors.add(item)
            continue
        recording = open_recordings.setdefault(item.audio_path, [])
        recording.append(item)
        if len(recording) < counts[item.audio_path]:
            continue
        del open_recordings[item.audio_path]
        own = item.audio_path.stat().st_size if item.audio_path.is_file() else 0
        if unit and (len(unit) + len(recording) > UNIT_UTTERANCES or size + own > UNIT_BYTES):
            yield unit
            unit, size = [], 0
        unit += recording
        size += own
    if unit:
        yield unit


def _write(tiers: Tiers, targets: dict[Path, Path], errors: ErrorsFile, summary: Summary) -> None:
    """Write what was done of a unit, its errors first."""
    for problem in tiers.problems:
        errors.add(problem)
    for path, text in tiers.texts.items():
        make_folder(targets[path].parent)
        write_result(targets[path], text.encode())
    summary.recordings += len(tiers.texts)
    summary.utterances += tiers.utterances
    summary.seconds += tiers.seconds
