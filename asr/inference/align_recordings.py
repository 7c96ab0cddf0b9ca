"""The utterances of some recordings, or of a shard -> their tiers. Workers of `align_corpus` do this.

Utterances of up to a minute are aligned in batches; longer ones one by one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from asr.corpus.audio import probe_audio
from asr.errors import InputError
from asr.inference.align_long import LongRecording
from asr.inference.align_tiers import format_tiers, overlaps
from asr.inference.align_utterance import Aligned, Item, MisfitError, Problem, UtteranceAligner
from asr.inference.verify import read_features
from asr.inference.windows import compute_log_probs

BATCH_UTTERANCES, BATCH_S = 32, 300.0
"""A batch has at most so many utterances, and so many seconds but for its last."""
LONG_S = 60.0
"""A longer utterance is cut at words that are recognized with confidence."""

Result = tuple[Item, float, Aligned | Problem]
"""An utterance, the duration of its recording in seconds, and its intervals or why it has none."""


@dataclass
class Tiers:
    """The TextGrids of recordings, by path; the utterances in them, their seconds, and the problems of all utterances."""

    texts: dict[Path, str] = field(default_factory=dict)
    utterances: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)


@dataclass
class _Recording:
    """What is aligned of a recording."""

    duration_s: float = 0.0
    speakers: dict[str, list[Aligned]] = field(default_factory=lambda: defaultdict(list))


def align_recordings(aligner: UtteranceAligner, items: Iterable[Item], wanted: set[Path]) -> Tiers:
    """Align all utterances of some recordings, and format the tiers of those that are wanted."""
    tiers, recordings = Tiers(), defaultdict[Path, _Recording](_Recording)
    for batch in _batches(items):
        for item, duration_s, result in _align_batch(aligner, batch):
            recording = recordings[item.audio_path]
            recording.duration_s = max(recording.duration_s, duration_s)
            if item.audio_path in wanted:
                _take(tiers, recording, item, duration_s, result)
    for path, recording in recordings.items():
        if recording.speakers:
            tiers.texts[path] = format_tiers(recording.speakers, recording.duration_s)
    return tiers


def _take(tiers: Tiers, recording: _Recording, item: Item, duration_s: float, result: Aligned | Problem) -> None:
    """Add a result to its recording."""
    if isinstance(result, Aligned) and overlaps(result, recording.speakers.get(item.speaker, [])):
        result = Problem(item.id, str(item.audio_path), "overlaps another utterance of its speaker")
    if isinstance(result, Problem):
        tiers.problems.append(result)
        return
    tiers.problems += result.problems
    recording.speakers[item.speaker].append(result)
    tiers.utterances += 1
    tiers.seconds += _own_duration_s(item, duration_s)


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
            return LongRecording(aligner.without_padding(), item, own_s).align()
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
