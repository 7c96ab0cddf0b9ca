"""Distillation: a student learns from the posteriors of trained models besides the transcriptions.

Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.
"""

from collections.abc import Iterator, Sequence
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

    They are computed once, before training, and kept in float16: 80 bytes per output frame with 39 phones.
    """

    def __init__(
        self, models: Sequence[Path], student: Bundle, train_set: Dataset, speeds: Sequence[float], precision: str
    ) -> None:
        """``models`` are bundles with the student's phones and the same number of output frames per utterance.

        Raises:
            InputError: a model cannot be read or does not fit the student.
        """
        sums: dict[Item, Tensor] = {}
        for model in models:
            teacher = load_bundle(model, next(student.model.parameters()).device, precision)
            if teacher.inventory.symbols != student.inventory.symbols:
                phones = f"has the {len(teacher.inventory.symbols) - 1} phones of {teacher.inventory.name}"
                raise InputError(f"teacher {model}: {phones}, expected those of {student.inventory.name}")
            for item, found in _posteriors(teacher, train_set, speeds):
                expected = student.model.output_frames(len(train_set.features(item)), train_set.encode is not None)
                if len(found) != expected:
                    name = train_set.utterances[item.utterance].id
                    frames = f"{len(found)} output frames for utterance {name}, expected {expected} as the student has"
                    raise InputError(f"teacher {model}: {frames} (time_reduction, frame_shift_ms)")
                sums[item] = sums[item] + found if item in sums else found
        self._posteriors = {item: (total / len(models)).half() for item, total in sums.items()}

    def posteriors(self, batch: Batch) -> Tensor:
        """(batch, frames, symbols) float32 probabilities of a batch, 0 beyond each length."""
        posteriors = [self._posteriors[item].float() for item in batch.items]
        return torch.nn.utils.rnn.pad_sequence(posteriors, batch_first=True)


def _posteriors(teacher: Bundle, train_set: Dataset, speeds: Sequence[float]) -> Iterator[tuple[Item, Tensor]]:
    """(frames, symbols) float32 probabilities of each utterance at each speed, computed from the teacher's own features."""
    own = Dataset(train_set.utterances, teacher.features, teacher.inventory, cache_gib=0, statistics=teacher.statistics)
    if teacher.features.normalization == "speaker":
        own.learn_statistics()
    plan = [
        [Item(item.utterance, speed) for item in batch]
        for speed in speeds
        for batch in plan_evaluation([one.duration_s / speed for one in own.utterances], BATCH_SECONDS)
    ]
    device = next(teacher.model.parameters()).device
    with evaluation_mode(teacher):
        for on_cpu in progress(own.batches(plan), "posteriors of a teacher", len(plan)):
            batch = on_cpu.to(device)
            log_probs, lengths = batch_log_probs(teacher, batch)
            for row, (item, length) in enumerate(zip(batch.items, lengths.tolist(), strict=True)):
                yield item, log_probs[row, :length].exp().cpu()
