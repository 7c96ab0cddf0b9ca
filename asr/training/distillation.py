"""Distillation: a student learns from the posteriors of trained models besides the transcriptions.

Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.errors import InputError
from asr.features.dataset import Batch, Dataset, Item, plan_evaluation
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.evaluate import BATCH_SECONDS, batch_log_probs, evaluation_mode
from asr.nn.ctc import BLANK_ID
from asr.system.processor import loading_threads
from asr.system.progress import progress


class Teachers:
    """The teachers' mean posteriors for each unmasked utterance of a training set, at each speed.

    Without shards they are computed once, before training, and kept in float16: 80 bytes per output frame with 39 phones.
    With shards they are computed batch by batch, since memory must not grow with the training set.
    """

    def __init__(
        self,
        models: Sequence[Path],
        student: Bundle,
        train_set: Dataset | None,
        speeds: Sequence[float],
        precision: str,
    ) -> None:
        """``models`` are bundles with the student's phones and its output frames, or several for each of them.

        ``train_set`` is None with shards: then `follow` says which utterances the next batches have.

        Raises:
            InputError: a model cannot be read or does not fit the student.
        """
        self._student, self._models, self._precision = student, models, precision
        self._kept: dict[Item, Tensor] | None = None
        self._followed: list[tuple[Path, Bundle, Dataset]] = []
        if train_set is None:
            self._teachers = [(model, self._load(model)) for model in models]
            for model, teacher in self._teachers:
                if teacher.features.normalization == "speaker":
                    raise InputError(f"teacher {model}: normalization speaker, expected another with shards")
        else:
            self._kept = self._compute_all(train_set, speeds)

    def follow(self, train_set: Dataset) -> None:
        """Take the utterances of the next batches from this dataset."""
        if self._kept is None:
            self._followed = [(model, one, _dataset_for(one, train_set)) for model, one in self._teachers]

    def posteriors(self, batch: Batch) -> Tensor:
        """(batch, frames, symbols) float32 probabilities of a batch, 0 beyond each length."""
        kept = self._compute(batch) if self._kept is None else self._kept
        posteriors = [kept[item].float() for item in batch.items]
        return torch.nn.utils.rnn.pad_sequence(posteriors, batch_first=True)

    def _load(self, model: Path) -> Bundle:
        """Load a teacher. Recordings get as much noise around them as for the student, so that the frames are the same."""
        teacher = load_bundle(model, next(self._student.model.parameters()).device, self._precision)
        if teacher.inventory.symbols != self._student.inventory.symbols:
            phones = f"has the {len(teacher.inventory.symbols) - 1} phones of {teacher.inventory.name}"
            raise InputError(f"teacher {model}: {phones}, expected those of {self._student.inventory.name}")
        teacher.features = replace(teacher.features, padding_ms=self._student.features.padding_ms)
        if not self._frames_per_output(teacher).is_integer():
            shifts = f"an output frame every {_shift_ms(teacher):g} ms, expected {_shift_ms(self._student):g} ms"
            reason = "as the student has, or an integer fraction of it (time_reduction, frame_shift_ms)"
            raise InputError(f"teacher {model}: {shifts} {reason}")
        return teacher

    def _frames_per_output(self, teacher: Bundle) -> float:
        """How many of the teacher's output frames are as long as one of the student's."""
        return _shift_ms(self._student) / _shift_ms(teacher)

    def _compute_all(self, train_set: Dataset, speeds: Sequence[float]) -> dict[Item, Tensor]:
        """The mean posteriors of a training set, (frames, symbols) float16. One teacher at a time is in memory."""
        sums: dict[Item, Tensor] = {}
        for model in self._models:
            teacher = self._load(model)
            own = _dataset_for(teacher, train_set)
            plan = [
                [Item(item.utterance, speed) for item in batch]
                for speed in speeds
                for batch in plan_evaluation([one.duration_s / speed for one in own.utterances], BATCH_SECONDS)
            ]
            for item, found in _posteriors(teacher, own, progress(plan, "posteriors of a teacher", len(plan))):
                frames = self._student.model.output_frames(len(train_set.features(item)), train_set.encode is not None)
                fitted = self._fit(model, teacher, train_set, item, found, frames)
                sums[item] = sums[item] + fitted if item in sums else fitted
        return {item: (total / len(self._models)).half() for item, total in sums.items()}

    def _compute(self, batch: Batch) -> dict[Item, Tensor]:
        """The mean posteriors of a batch, (frames, symbols) float32."""
        lengths = dict(zip(batch.items, batch.feature_lengths.tolist(), strict=True))
        sums: dict[Item, Tensor] = {}
        for model, teacher, own in self._followed:
            for item, found in _posteriors(teacher, own, [list(lengths)]):
                frames = self._student.model.output_frames(lengths[item], batch.encoded)
                fitted = self._fit(model, teacher, own, item, found, frames)
                sums[item] = sums[item] + fitted if item in sums else fitted
        return {item: total / len(self._models) for item, total in sums.items()}

    def _fit(self, model: Path, teacher: Bundle, dataset: Dataset, item: Item, found: Tensor, frames: int) -> Tensor:
        """A teacher's posteriors in the student's output frames: (frames', symbols) -> (frames, symbols).

        Front ends that place their windows differently may differ by one output frame: blank is added, or the last frame
        left out.
        """
        fitted = merge_frames(found, int(self._frames_per_output(teacher)))
        if abs(len(fitted) - frames) > 1:
            name = dataset.utterances[item.utterance].id
            counts = f"{len(fitted)} output frames for utterance {name}, expected {frames} as the student has"
            raise InputError(f"teacher {model}: {counts} (time_reduction, frame_shift_ms)")
        return torch.cat([fitted, _blank_frames(fitted, 1)])[:frames]


def merge_frames(posteriors: Tensor, count: int) -> Tensor:
    """Merge every ``count`` frames of CTC posteriors into one: (frames, symbols) -> (ceil(frames / count), symbols).

    A merged frame has the probability that its frames output nothing, or one symbol alone (in one frame, or in neighbouring
    ones), given that they do not output several. Where ``count`` frames of the best path output several symbols, each gets
    a merged frame of its own beside them: a student would learn to leave out what is merged away.
    """
    merged_frames = _merged_frames(posteriors.argmax(1).numpy(), count)
    place = np.arange(len(posteriors)) - np.searchsorted(merged_frames, merged_frames)  # among those that are merged
    shape = (-(-len(posteriors) // count), max(place, default=0) + 1)
    groups = _blank_frames(posteriors, math.prod(shape)).double().unflatten(0, shape)
    groups[merged_frames, place] = posteriors.double().clamp(min=1e-30)  # neighbours may be sure of different symbols
    before = torch.ones_like(groups[:, 0, :1])  # probability of blanks alone so far
    during = after = torch.zeros_like(groups[:, 0])  # of each symbol, not ended by a blank and ended by one
    for frame in groups.unbind(1):
        blank = frame[:, BLANK_ID, None]
        before, during, after = before * blank, (before + during) * frame, (during + after) * blank
    merged = during + after
    merged[:, BLANK_ID] = before[:, 0]
    return (merged / merged.sum(1, keepdim=True)).to(posteriors.dtype)


def _merged_frames(best: np.ndarray, count: int) -> np.ndarray:
    """The merged frame of each frame, in ascending order: (frames,) best symbols -> (frames,).

    It is the frame's number / ``count``, but symbols of the best path do not share one, and equal neighbours have one
    between them. Symbols come later than their number says if need be, or earlier at the end. Too many stay where they are.
    """
    usual, last = np.arange(len(best)) // count, (len(best) - 1) // count
    starts = np.flatnonzero((best != BLANK_ID) & (best != np.append(BLANK_ID, best[:-1])))
    if not len(starts):
        return usual
    distance = np.append(0, 1 + (np.diff(best[starts]) == 0))  # of each symbol from the one before, at least
    least = distance.cumsum()
    moved = least + np.minimum(np.maximum.accumulate(usual[starts] - least), last - least[-1])
    if moved[0] < 0:
        return usual
    following = np.searchsorted(starts, np.arange(len(best)), side="right")  # the next symbol after each frame
    earliest = np.append(0, moved)[following]
    latest = np.append(moved, last)[following] - np.where(best == BLANK_ID, 0, np.append(distance, 0)[following])
    return np.clip(usual, earliest, latest)


def _blank_frames(like: Tensor, count: int) -> Tensor:
    """Posteriors of ``count`` frames that are blank for certain, (count, symbols)."""
    frames = like.new_zeros(count, like.shape[1])
    frames[:, BLANK_ID] = 1
    return frames


def _shift_ms(bundle: Bundle) -> float:
    """The time from one output frame to the next, in ms."""
    return bundle.features.frame_shift_ms * bundle.model.time_reduction


def _dataset_for(teacher: Bundle, train_set: Dataset) -> Dataset:
    """The same utterances with a teacher's own features."""
    own = Dataset(train_set.utterances, teacher.features, teacher.inventory, cache_gib=0, statistics=teacher.statistics)
    if teacher.features.normalization == "speaker":
        own.learn_statistics()
    return own


def _posteriors(teacher: Bundle, own: Dataset, plan: Iterable[Sequence[Item]]) -> Iterator[tuple[Item, Tensor]]:
    """(frames, symbols) float32 probabilities of each utterance of a plan, from the teacher's own features."""
    device = next(teacher.model.parameters()).device
    with evaluation_mode(teacher):
        for on_cpu in own.batches(plan, threads=loading_threads(device)):
            batch = on_cpu.to(device)
            log_probs, lengths = batch_log_probs(teacher, batch)
            posteriors = log_probs.exp().cpu()
            for row, (item, length) in enumerate(zip(batch.items, lengths.tolist(), strict=True)):
                yield item, posteriors[row, :length]
