"""Adaptation: a trained model learns from a few minutes of transcribed speech, and is kept from forgetting the rest.

The guard is a second loss, the divergence from the posteriors that the model had before. A pretrained encoder is not
trained.
Source: Yu et al., "KL-divergence regularized deep neural network adaptation for improved large vocabulary speech
recognition", 2013.
"""

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.config import AugmentConfig
from asr.errors import InputError
from asr.features.augmentation import augment_features
from asr.features.dataset import Dataset, Item, collate, plan_training
from asr.inference.bundle import Bundle, load_bundle, save_bundle
from asr.inference.evaluate import evaluation_mode, load_dataset, recognize, score_hypotheses
from asr.nn.ctc import ctc_loss, required_frames
from asr.scoring.error_rate import Score
from asr.system.files import check_writable, make_folder, read_text
from asr.system.progress import progress
from asr.training.data_checks import UtteranceCheck
from asr.training.losses import distillation_loss

log = logging.getLogger("asr.training")

SPEECH_S = 3600.0
"""Speech to train on, repetitions included: what two cores process in less than five minutes."""
EPOCHS = (3, 30)
"""The fewest and the most repetitions."""
LEARNING_RATE, GUARD = 3e-4, 0.5
BATCH_SECONDS, BATCH_UTTERANCES = 40.0, 8
MASKS = AugmentConfig(
    speeds=[1.0],
    frequency_warp=0.0,
    time_masks=2,
    time_mask_frames=25,
    time_mask_fraction=0.1,
    frequency_masks=2,
    frequency_mask_bins=8,
)
KEPT = ("aligner.safetensors", "confidence.yaml", "decoder.yaml", "ngram.arpa")
"""Files of the model that the adapted one takes over."""


@dataclass(frozen=True)
class Adaptation:
    """What an adaptation learned from, and the scores on that same speech before and after."""

    seconds: float
    epochs: int
    before: Score
    after: Score


def adapt(model: Path, cuts: Path, out: Path, guard: float = GUARD, seed: int = 1) -> Adaptation:
    """Adapt a model to the utterances of a manifest, and write it to the folder ``out``.

    ``guard`` is the weight of the divergence from the model before: 0 only learns, 1 only keeps.

    Raises:
        InputError: the model or the manifest cannot be used, an utterance is longer than the encoder sees at once, none has
            frames enough for its phones, or ``out`` exists or cannot be written.
    """
    if not 0 <= guard <= 1:
        raise InputError(f"guard is {guard}, expected 0 to 1")
    if out.exists():
        raise InputError(f"{out}: exists already, expected a new folder")
    make_folder(out.parent)
    check_writable(out)
    bundle = load_bundle(model)
    card = read_text(model / "README.md", "the model's card")
    dataset = load_dataset(bundle, cuts)
    UtteranceCheck(_longest_s(bundle), (), bundle.inventory).check_durations(dataset.utterances, str(cuts))
    before = score_hypotheses(bundle, dataset, recognize(bundle, dataset))
    seconds = sum(utterance.duration_s for utterance in dataset.utterances)
    epochs = min(EPOCHS[1], max(EPOCHS[0], round(SPEECH_S / seconds)))
    _train(bundle, dataset, epochs, guard, seed)
    after = score_hypotheses(bundle, dataset, recognize(bundle, dataset))
    data = f"{len(dataset)} utterances, {seconds / 60:.1f} minutes"
    save_bundle(bundle, out, f"# Adapted model\n\nAdapted to {data}. The card of the model before:\n\n#{card}")
    for name in KEPT:
        if (model / name).exists():
            shutil.copy2(model / name, out / name)
    return Adaptation(seconds, epochs, before, after)


def _longest_s(bundle: Bundle) -> float:
    """The longest utterance that the model's encoder sees at once."""
    frames, padding_s = bundle.model.max_frames, 2 * bundle.features.padding_ms / 1000
    return frames * bundle.features.frame_shift_ms / 1000 - padding_s if frames else math.inf


def _train(bundle: Bundle, dataset: Dataset, epochs: int, guard: float, seed: int) -> None:
    """Train all weights but those of a pretrained encoder, with a learning rate that falls to zero."""
    torch.manual_seed(seed)
    features = [dataset.features(Item(index, 1.0)) for index in range(len(dataset))]
    posteriors = _posteriors(bundle, features)
    fitting = _fitting(dataset, posteriors)
    if bundle.model.encoder:
        bundle.model.encoder.requires_grad_(False)
    weights = [weight for weight in bundle.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, LEARNING_RATE, weight_decay=0.01)
    durations_s = [dataset.utterances[index].duration_s for index in fitting]
    bundle.model.train()
    for epoch in progress(range(epochs), "adapting", epochs):
        for settings in optimizer.param_groups:
            settings["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * epoch / epochs)) / 2
        for items in plan_training(durations_s, [1.0], BATCH_SECONDS, BATCH_UTTERANCES, (seed, epoch)):
            chosen = [fitting[item.utterance] for item in items]
            _update(bundle, dataset, optimizer, chosen, features, posteriors, guard, (seed, epoch))
    bundle.model.eval()
    if bundle.model.encoder:
        bundle.model.encoder.requires_grad_(True)


def _update(
    bundle: Bundle,
    dataset: Dataset,
    optimizer: torch.optim.Optimizer,
    chosen: list[int],
    features: list[Tensor],
    posteriors: list[Tensor],
    guard: float,
    seed: tuple[int, int],
) -> None:
    """One step of the optimizer on some utterances."""
    masked = [
        augment_features(features[index], MASKS, bundle.features, np.random.default_rng((*seed, index)))
        for index in chosen
    ]
    tokens = [torch.tensor(dataset.tokens[index], dtype=torch.int64) for index in chosen]
    batch = collate(masked, tokens, tuple(dataset.utterances[index].id for index in chosen), masked[0].shape[1])
    log_probs, lengths = bundle.model(batch.features, batch.feature_lengths)
    losses, _ = ctc_loss(log_probs, lengths, batch.tokens, batch.token_lengths)
    before = pad_sequence([posteriors[index] for index in chosen], batch_first=True)
    divergence = distillation_loss(log_probs, before, lengths)
    loss = ((1 - guard) * losses + guard * divergence).sum() / max(1, int(batch.token_lengths.sum()))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(bundle.model.parameters(), 5.0)
    optimizer.step()


def _fitting(dataset: Dataset, posteriors: list[Tensor]) -> list[int]:
    """The utterances that have frames enough for their phones. The others are named."""
    fitting = []
    for index, utterance in enumerate(dataset.utterances):
        tokens, frames = dataset.tokens[index], len(posteriors[index])
        needed = int(required_frames(torch.tensor([tokens or [0]]), torch.tensor([len(tokens)])))
        if needed <= frames:
            fitting.append(index)
        else:
            log.warning("utterance %s is left out: %d output frames, its phones need %d", utterance.id, frames, needed)
    if not fitting:
        raise InputError("adaptation: no utterance has frames enough for its phones, expected at least one")
    return fitting


def _posteriors(bundle: Bundle, features: list[Tensor]) -> list[Tensor]:
    """The model's probabilities (frames, symbols) for each utterance alone."""
    with evaluation_mode(bundle):
        return [bundle.log_probs(one[None], torch.tensor([len(one)]))[0][0].exp() for one in features]
