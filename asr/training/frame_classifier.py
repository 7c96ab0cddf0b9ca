"""Training of the aligner's frame classifier, from a corpus's phone times or from alignments of its own."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from asr.decoding.best_path import align_tokens
from asr.errors import InputError
from asr.features.dataset import Dataset, Item
from asr.features.filterbanks import feature_dim
from asr.features.frames import frames_within
from asr.inference.bundle import Bundle
from asr.inference.forced_alignment import SILENCE, FrameClassifier, non_silence_positions, segment
from asr.inference.windows import compute_log_probs
from asr.nn.ctc import required_frames
from asr.system.progress import progress

log = logging.getLogger("asr.training")

MAX_TRAINING_S = 3600.0
"""Seconds of speech to train on; more does not improve a network of this size."""
BATCH_UTTERANCES = 16
MIN_UPDATES = 50
"""Updates per epoch; a small set is repeated."""
LEARNING_RATE = 2e-3
REACH_FRAMES = 8
"""Initially a phone extends this far from its CTC peak, unless its neighbour is nearer."""
IGNORED = -100

Spans = list[tuple[int, int]]


@dataclass
class Example:
    """Features (frames, dim) of an utterance, the classes of its phones without silences, and the frames of each phone.

    ``peaks`` are CTC's, in frames, for realignment; None if the corpus has phone times.
    """

    features: Tensor
    classes: list[int]
    spans: Spans
    peaks: list[float] | None

    def targets(self) -> Tensor:
        """The class of each frame, (frames,) int64."""
        targets = torch.full((len(self.features),), SILENCE)
        for label, (start, stop) in zip(self.classes, self.spans, strict=True):
            targets[start:stop] = label
        return targets


def train_aligner(bundle: Bundle, dataset: Dataset, epochs: int, seed: int) -> FrameClassifier:
    """Train a frame classifier for a bundle's features and phones on a training set.

    If every utterance has phone times, they are the targets. Otherwise each phone is placed around its CTC peak first, and
    realigned by the classifier itself before every later epoch.

    Raises:
        InputError: no utterance can be aligned.
    """
    timed = all(utterance.phone_times_s for utterance in dataset.utterances)
    generator = np.random.default_rng(seed)
    candidates = (_example(bundle, dataset, index, timed) for index in _sample(dataset, generator))
    examples = [example for example in candidates if example is not None]
    if not examples:
        raise InputError("aligner: no utterance has phones that the model has frames for, expected at least one")
    classes = len(bundle.inventory.symbols)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FrameClassifier(feature_dim(bundle.features), classes)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    loss = 0.0
    for epoch in progress(range(epochs), "aligner", epochs):
        if epoch > 0 and not timed:
            for example in examples:
                example.spans = segment(network.scores(example.features), example.classes, example.peaks)
        loss = _train_epoch(network, optimizer, examples, generator)
        counts = torch.ones(classes)
        for example in examples:
            counts += torch.bincount(example.targets(), minlength=classes)
        network.log_priors.copy_((counts / counts.sum()).log())
    source = "the corpus's times" if timed else "its own alignments"
    log.info("aligner: %d utterances, %d epochs on %s, loss %.3f", len(examples), epochs, source, loss)
    return network.eval()


def _sample(dataset: Dataset, generator: np.random.Generator) -> list[int]:
    """Utterances in random order, `MAX_TRAINING_S` seconds of them."""
    chosen, seconds = [], 0.0
    for index in generator.permutation(len(dataset)).tolist():
        if seconds >= MAX_TRAINING_S:
            break
        chosen.append(index)
        seconds += dataset.utterances[index].duration_s
    return chosen


def _example(bundle: Bundle, dataset: Dataset, index: int, timed: bool) -> Example | None:
    """An utterance with its initial spans; None if it has no phones, or more than the model has output frames for."""
    utterance, tokens = dataset.utterances[index], dataset.tokens[index]
    features = dataset.features(Item(index, 1.0))
    positions = non_silence_positions(tokens, bundle.inventory)
    if not positions:
        return None
    if timed:
        times_s = [
            time_s
            for phone, time_s in zip(utterance.phones, utterance.phone_times_s or (), strict=True)
            if bundle.inventory.mapping[phone] is not None
        ]
        spans = [frames_within(*times_s[position], bundle.features, len(features)) for position in positions]
        peaks: list[float] | None = None
    else:
        all_peaks = _peaks(bundle, features, tokens)
        if all_peaks is None:
            return None
        around_peaks = _spans_around(all_peaks, len(features))
        spans = [around_peaks[position] for position in positions]
        peaks = [all_peaks[position] for position in positions]
    return Example(features, [tokens[position] for position in positions], spans, peaks)


def _peaks(bundle: Bundle, features: Tensor, tokens: Sequence[int]) -> list[float] | None:
    """CTC's peak of each token, in frames; None if there are more tokens than output frames for them."""
    log_probs = compute_log_probs(bundle, [features])[0]
    if int(required_frames(torch.tensor([list(tokens)]), torch.tensor([len(tokens)]))) > len(log_probs):
        return None
    return [(start + stop) / 2 * bundle.model.time_reduction for start, stop in align_tokens(log_probs, tokens)]


def _spans_around(peaks: Sequence[float], frames: int) -> Spans:
    """Frames of each token: halfway to the peaks of its neighbours, at most `REACH_FRAMES` from its own."""
    edges = [-np.inf, *((left + right) / 2 for left, right in pairwise(peaks)), np.inf]
    spans = []
    for peak, (before, after) in zip(peaks, pairwise(edges), strict=True):
        start = round(max(before, peak - REACH_FRAMES, 0))
        spans.append((start, max(start + 1, round(min(after, peak + REACH_FRAMES, frames)))))
    return spans


def _train_epoch(
    network: FrameClassifier,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    generator: np.random.Generator,
) -> float:
    """One pass over the examples, repeated up to `MIN_UPDATES` updates; the mean loss of a frame."""
    network.train()
    total, frames = 0.0, 0
    repeats = max(1, MIN_UPDATES * BATCH_UTTERANCES // len(examples))
    order = np.concatenate([generator.permutation(len(examples)) for _ in range(repeats)])
    for first in range(0, len(order), BATCH_UTTERANCES):
        batch = [examples[index] for index in order[first : first + BATCH_UTTERANCES]]
        features = pad_sequence([example.features for example in batch], batch_first=True)
        targets = pad_sequence([example.targets() for example in batch], batch_first=True, padding_value=IGNORED)
        log_probs = network(features).transpose(1, 2)
        loss = functional.nll_loss(log_probs, targets, ignore_index=IGNORED, reduction="sum")
        count = int((targets != IGNORED).sum())
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
        total, frames = total + float(loss.detach()), frames + count
    return total / max(1, frames)
