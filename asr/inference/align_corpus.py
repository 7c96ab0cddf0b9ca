"""Many utterances -> a TextGrid of each recording, in a folder that mirrors that of the audio.

Threads align batches of utterances; a recording is written when its last utterance is done. What exists is skipped, so that
the same command resumes. ``errors.tsv`` names all that does not fit; it is written before the tiers that it concerns.
"""

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from asr.corpus.audio import probe_audio
from asr.errors import InputError
from asr.inference.align_long import LongRecording
from asr.inference.align_tiers import SUFFIX, overlaps, write_tiers
from asr.inference.align_utterance import Aligned, Item, MisfitError, Problem, UtteranceAligner
from asr.inference.recognizer import Recognizer
from asr.inference.verify import phone_weights, read_features
from asr.inference.windows import compute_log_probs
from asr.system.files import make_folder, read_text, write_text
from asr.system.progress import progress

ERRORS_FILE = "errors.tsv"
HEADER = Problem("utterance", "audio", "reason", "detail")
BATCH_UTTERANCES, BATCH_S = 32, 300.0
"""A batch has at most so many utterances, and so many seconds but for its last."""
LONG_S = 60.0
"""A longer utterance is cut at words that are recognized with confidence."""

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


@dataclass
class _Recording:
    """A recording whose utterances are not all done."""

    left: int
    duration_s: float = 0.0
    speakers: dict[str, list[Aligned]] = field(default_factory=lambda: defaultdict(list))


Result = tuple[Item, float, Aligned | Problem]
"""An utterance, the duration of its recording in seconds, and its intervals or why it has none."""


def align_corpus(
    recognizer: Recognizer, items: Items, out: Path, root: Path | None = None, force: bool = False, jobs: int = 0
) -> Summary:
    """Write the tiers of every recording of a corpus to ``out``, at its path below ``root``.

    If audio lies elsewhere, or without ``root``, that is the folder that all audio has in common. ``jobs`` is the number
    of threads, 0 for one a processor. Recordings with tiers are skipped unless ``force`` is set.

    Raises:
        InputError: no utterances, two recordings with the same tiers, or a folder that cannot be written.
    """
    jobs = jobs or os.cpu_count() or 1
    counts, aligner = _survey(recognizer, items)
    targets = _find_targets(list(counts), out, root)
    make_folder(out)
    done = set() if force else {path for path in counts if targets[path].exists()}
    summary = Summary(skipped=len(done))
    recordings = {path: _Recording(count) for path, count in counts.items() if path not in done}
    with _ErrorFile(out / ERRORS_FILE, {_cell(str(path)) for path in done}, summary) as errors:
        todo = _todo(items(), done, errors)
        count = sum(recording.left for recording in recordings.values())
        results = _align_all(aligner, todo, min(jobs, count))
        for item, duration_s, result in progress(results, "aligning", count):
            recording = recordings[item.audio_path]
            _take(recording, item, duration_s, result, errors, summary)
            if recording.left == 0:
                del recordings[item.audio_path]
                if recording.speakers:
                    write_tiers(targets[item.audio_path], recording.speakers, recording.duration_s)
                    summary.recordings += 1
    return summary


def _survey(recognizer: Recognizer, items: Items) -> tuple[dict[Path, int], UtteranceAligner]:
    """Count the utterances of each recording, and the phones of the corpus."""
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
    return dict(counts), UtteranceAligner(recognizer, phone_weights(known, len(inventory.symbols)))


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


def _todo(items: Iterable[Item | Problem], done: set[Path], errors: "_ErrorFile") -> Iterator[Item]:
    for item in items:
        if isinstance(item, Problem):
            errors.add(item)
        elif item.audio_path not in done:
            yield item


def _take(
    recording: _Recording,
    item: Item,
    duration_s: float,
    result: Aligned | Problem,
    errors: "_ErrorFile",
    summary: Summary,
) -> None:
    """Add a result to its recording."""
    recording.left -= 1
    recording.duration_s = max(recording.duration_s, duration_s)
    if isinstance(result, Aligned) and overlaps(result, recording.speakers.get(item.speaker, [])):
        result = Problem(item.id, str(item.audio_path), "overlaps another utterance of its speaker")
    if isinstance(result, Problem):
        errors.add(result)
        return
    for problem in result.problems:
        errors.add(problem)
    recording.speakers[item.speaker].append(result)
    summary.utterances += 1
    summary.seconds += _own_duration_s(item, duration_s)


def _align_all(aligner: UtteranceAligner, items: Iterable[Item], jobs: int) -> Iterator[Result]:
    """Align utterances in threads, in order; few batches wait at a time."""
    if jobs <= 1:  # then torch has all processors
        for batch in _batches(items):
            yield from _align_batch(aligner, batch)
        return
    waiting: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for batch in _batches(items):
                waiting.append(pool.submit(_align_batch, aligner, batch))
                if len(waiting) > 2 * jobs:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


Timed = tuple[Item, float, Problem | None]
"""An utterance, the duration of its recording, and why it cannot be aligned."""


def _batches(items: Iterable[Item]) -> Iterator[list[Timed]]:
    """Group utterances, with the headers of their audio read."""
    batch: list[Timed] = []
    seconds = 0.0
    for item in items:
        try:
            duration_s, problem = probe_audio(item.audio_path).duration_s, None
        except InputError as error:
            duration_s, problem = 0.0, _unusable(item, error)
        own_s = _own_duration_s(item, duration_s)
        if batch and (own_s > LONG_S or seconds + own_s > BATCH_S or len(batch) == BATCH_UTTERANCES):
            yield batch
            batch, seconds = [], 0.0
        batch.append((item, duration_s, problem))
        seconds += own_s
    if batch:
        yield batch


def _align_batch(aligner: UtteranceAligner, batch: Sequence[Timed]) -> list[Result]:
    """Align the utterances of a batch."""
    results: list[Result] = []
    usable: list[tuple[int, Tensor]] = []
    for item, duration_s, problem in batch:
        outcome: Aligned | Problem | Tensor = problem or _read_or_align_long(aligner, item, duration_s)
        if isinstance(outcome, Tensor):
            usable.append((len(results), outcome))
            outcome = Problem(item.id, str(item.audio_path), "not aligned")
        results.append((item, duration_s, outcome))
    all_log_probs = compute_log_probs(aligner.recognizer.bundle, [features for _, features in usable])
    for (index, features), log_probs in zip(usable, all_log_probs, strict=True):
        item, duration_s, _ = results[index]
        try:
            units = aligner.units(item)
            own_s = _own_duration_s(item, duration_s)
            results[index] = (item, duration_s, aligner.align(units, features, log_probs, item.start_s, own_s))
        except MisfitError as misfit:
            results[index] = (item, duration_s, _misfit(item, misfit))
    return results


def _read_or_align_long(aligner: UtteranceAligner, item: Item, duration_s: float) -> Aligned | Problem | Tensor:
    """The normalized features (frames, dim) of an utterance; if it is long, its intervals."""
    own_s = _own_duration_s(item, duration_s)
    try:
        if own_s > LONG_S:
            return LongRecording(aligner, item, own_s).align()
        if own_s == duration_s:
            return aligner.recognizer.features(item.audio_path)[0]
        return read_features(aligner.recognizer, item.audio_path, item.start_s, own_s)
    except InputError as error:
        return _unusable(item, error)
    except MisfitError as misfit:
        return _misfit(item, misfit)


def _own_duration_s(item: Item, duration_s: float) -> float:
    """The duration of an utterance in a recording of ``duration_s``."""
    return (duration_s if item.end_s is None else item.end_s) - item.start_s


def _misfit(item: Item, misfit: MisfitError) -> Problem:
    return Problem(item.id, str(item.audio_path), misfit.reason, misfit.detail)


def _unusable(item: Item, error: InputError) -> Problem:
    return Problem(item.id, str(item.audio_path), "audio that cannot be used", str(error))


class _ErrorFile:
    """``errors.tsv``: the lines of recordings whose tiers exist stay, others are added at once."""

    def __init__(self, path: Path, kept: set[str], summary: Summary) -> None:
        self.path, self.kept, self.summary = path, kept, summary

    def __enter__(self) -> "_ErrorFile":
        lines = [_line(HEADER)]
        if self.path.exists():
            old = read_text(self.path, "problems of an alignment").splitlines(keepends=True)[1:]
            kept = [line for line in old if line.endswith("\n") and self.kept.intersection(line.split("\t")[1:2])]
            self.summary.problems.update(line.rstrip("\n").split("\t")[2] for line in kept)
            lines += kept
        write_text(self.path, "".join(lines))
        self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, problem: Problem) -> None:
        """Add a problem to the file and to the counts."""
        self.summary.problems[problem.reason] += 1
        self.file.write(_line(problem))
        self.file.flush()


def _line(problem: Problem) -> str:
    return "\t".join(map(_cell, problem)) + "\n"


def _cell(value: str) -> str:
    return " ".join(value.split())
