"""Distillation: a student learns from the posteriors of trained models besides the transcriptions.

Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from asr.errors import InputError
from asr.features.dataset import Batch, Dataset, Item, plan_evaluation
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.evaluate import BATCH_SECONDS, batch_log_probs, evaluation_mode
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
        """``models`` are bundles with the student's phones and the same number of output frames per utterance.

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
        return teacher

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
                frames = len(train_set.features(item))
                self._check(model, train_set, item, frames, len(found), train_set.encode is not None)
                sums[item] = sums[item] + found if item in sums else found
        return {item: (total / len(self._models)).half() for item, total in sums.items()}

    def _compute(self, batch: Batch) -> dict[Item, Tensor]:
        """The mean posteriors of a batch, (frames, symbols) float32."""
        lengths = dict(zip(batch.items, batch.feature_lengths.tolist(), strict=True))
        sums: dict[Item, Tensor] = {}
        for model, teacher, own in self._followed:
            for item, found in _posteriors(teacher, own, [list(lengths)]):
                self._check(model, own, item, lengths[item], len(found), batch.encoded)
                sums[item] = sums[item] + found if item in sums else found
        return {item: total / len(self._models) for item, total in sums.items()}

    def _check(self, model: Path, dataset: Dataset, item: Item, frames: int, found: int, encoded: bool) -> None:
        """Refuse a teacher with another number of output frames than the student."""
        expected = self._student.model.output_frames(frames, encoded)
        if found != expected:
            name = dataset.utterances[item.utterance].id
            counts = f"{found} output frames for utterance {name}, expected {expected} as the student has"
            raise InputError(f"teacher {model}: {counts} (time_reduction, frame_shift_ms)")


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
        for on_cpu in own.batches(plan):
            batch = on_cpu.to(device)
            log_probs, lengths = batch_log_probs(teacher, batch)
            for row, (item, length) in enumerate(zip(batch.items, lengths.tolist(), strict=True)):
                yield item, log_probs[row, :length].exp().cpu()
