"""Training of the aligner: on a corpus's own times, or on alignments it makes itself, round after round."""

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
from asr.inference.forced_alignment import SILENCE, FrameClassifier, segment, without_silence
from asr.nn.ctc import required_frames
from asr.system.progress import progress

log = logging.getLogger("asr.training")

MOST_S = 3600.0
"""Of speech: more does not help a network of this size."""
BATCH = 16
LEAST_UPDATES = 50
"""Of an epoch: a small set is gone through several times."""
LEARNING_RATE = 2e-3
REACH_FRAMES = 8
"""How far a phone goes at first from where CTC has its peak, unless its neighbour is nearer."""
NOT_COUNTED = -100

Spans = list[tuple[int, int]]


@dataclass
class Example:
    """Features (frames, dim), the classes of the phones that are no silence, and their frames."""

    features: Tensor
    classes: list[int]
    spans: Spans

    def targets(self) -> Tensor:
        """The class of each frame."""
        found = torch.full((len(self.features),), SILENCE)
        for one, (start, stop) in zip(self.classes, self.spans, strict=True):
            found[start:stop] = one
        return found


def train_aligner(bundle: Bundle, dataset: Dataset, epochs: int, seed: int) -> FrameClassifier:
    """An aligner for a bundle's features and phones, from the utterances of a training set.

    Where all of them have times, those are learned. Else each phone lies at first around the peak that the bundle's model
    gives it, and after each epoch where the aligner then finds it.

    Raises:
        InputError: there is nothing to learn from.
    """
    timed = all(one.phone_times_s for one in dataset.utterances)
    generator = np.random.default_rng(seed)
    examples = [one for number in _chosen(dataset, generator) if (one := _example(bundle, dataset, number, timed))]
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
            for one in examples:
                one.spans = segment(network.scores(one.features), one.classes)
        loss = _epoch(network, optimizer, examples, generator)
        counts = torch.ones(classes)
        for one in examples:
            counts += torch.bincount(one.targets(), minlength=classes)
        network.log_priors.copy_((counts / counts.sum()).log())
    source = "the corpus's times" if timed else "its own alignments"
    log.info("aligner: %d utterances, %d epochs on %s, loss %.3f", len(examples), epochs, source, loss)
    return network.eval()


def _chosen(dataset: Dataset, generator: np.random.Generator) -> list[int]:
    """Utterances in random order, until there are `MOST_S` seconds of them."""
    chosen, seconds = [], 0.0
    for number in generator.permutation(len(dataset)).tolist():
        if seconds >= MOST_S:
            break
        chosen.append(number)
        seconds += dataset.utterances[number].duration_s
    return chosen


def _example(bundle: Bundle, dataset: Dataset, number: int, timed: bool) -> Example | None:
    """An utterance with its first spans; None where it has no phones, or more than the model has frames for."""
    utterance = dataset.utterances[number]
    features = dataset.features(Item(number, 1.0))
    tokens = dataset.tokens[number]
    spoken = without_silence(tokens, bundle.inventory)
    if not spoken:
        return None
    if timed:
        kept = [place for place, phone in enumerate(utterance.phones) if bundle.inventory.mapping[phone] is not None]
        times = [(utterance.phone_times_s or ())[place] for place in kept]
        spans = [frames_within(*times[place], bundle.features, len(features)) for place in spoken]
    else:
        found = _around_peaks(bundle, features, tokens)
        if found is None:
            return None
        spans = [found[place] for place in spoken]
    return Example(features, [tokens[place] for place in spoken], spans)


def _around_peaks(bundle: Bundle, features: Tensor, tokens: Sequence[int]) -> Spans | None:
    """Frames of each token: from half way to the one before to half way to the next, and no farther than `REACH_FRAMES`."""
    device = next(bundle.model.parameters()).device
    with torch.inference_mode():
        log_probs = bundle.log_probs(features[None].to(device), torch.tensor([len(features)], device=device))[0][0]
    if int(required_frames(torch.tensor([list(tokens)]), torch.tensor([len(tokens)]))) > len(log_probs):
        return None
    peaks = [(start + stop) / 2 * bundle.model.time_reduction for start, stop in align_tokens(log_probs, tokens)]
    edges = [-np.inf, *((one + two) / 2 for one, two in pairwise(peaks)), np.inf]
    spans = []
    for peak, (before, after) in zip(peaks, pairwise(edges), strict=True):
        start = round(max(before, peak - REACH_FRAMES, 0))
        spans.append((start, max(start + 1, round(min(after, peak + REACH_FRAMES, len(features))))))
    return spans


def _epoch(
    network: FrameClassifier,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    generator: np.random.Generator,
) -> float:
    network.train()
    total, frames = 0.0, 0
    times = max(1, LEAST_UPDATES * BATCH // len(examples))
    order = np.concatenate([generator.permutation(len(examples)) for _ in range(times)])
    for first in range(0, len(order), BATCH):
        batch = [examples[number] for number in order[first : first + BATCH]]
        features = pad_sequence([one.features for one in batch], batch_first=True)
        targets = pad_sequence([one.targets() for one in batch], batch_first=True, padding_value=NOT_COUNTED)
        log_probs = network(features).transpose(1, 2)
        loss = functional.nll_loss(log_probs, targets, ignore_index=NOT_COUNTED, reduction="sum")
        count = int((targets != NOT_COUNTED).sum())
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
        total, frames = total + float(loss.detach()), frames + count
    return total / max(1, frames)
