"""Losses beside CTC: flat start, consistency of two views, distillation. `asr.training.objective` combines them."""

import torch
from torch import Tensor
from torch.nn import functional

from asr.nn.ctc import BLANK_ID


def consistency_loss(first: Tensor, second: Tensor, lengths: Tensor) -> Tensor:
    """Divergence of two views of the same utterances, in nats.

    (batch, frames, symbols) log-probabilities twice and (batch,) lengths -> (batch,). Each frame contributes the mean of
    the two Kullback-Leibler divergences; the gradient does not flow into the target of either.
    Source: Yao et al., "CR-CTC: consistency regularization on CTC for improved speech recognition", 2025.
    """
    inside = torch.arange(first.shape[1], device=first.device) < lengths[:, None]
    forward = functional.kl_div(first, second.detach(), reduction="none", log_target=True).sum(dim=2)
    backward = functional.kl_div(second, first.detach(), reduction="none", log_target=True).sum(dim=2)
    return ((forward + backward) / 2).masked_fill(~inside, 0).sum(dim=1)


def distillation_loss(log_probs: Tensor, posteriors: Tensor, lengths: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a student from its teachers' posteriors, summed over frames, in nats.

    (batch, frames, symbols) log-probabilities, (batch, frames, symbols) probabilities and (batch,) lengths -> (batch,).
    """
    inside = torch.arange(log_probs.shape[1], device=log_probs.device) < lengths[:, None]
    divergence = functional.kl_div(log_probs, posteriors, reduction="none").sum(dim=2)
    return divergence.masked_fill(~inside, 0).sum(dim=1)


def flat_start_targets(
    features: Tensor, feature_lengths: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor
) -> Tensor:
    """Frame targets of the flat start: the phones spread evenly over the frames with speech, blank elsewhere.

    Args:
        features: (batch, frames, dim) normalized log-mel features; their mean over dim tells speech from silence.
        feature_lengths: (batch,) int64 in feature frames.
        lengths: (batch,) int64 in output frames, at most ``feature_lengths``.
        tokens: (batch, longest) int64.
        token_lengths: (batch,) int64.

    Returns:
        (batch, output frames) int64, -100 (ignored by cross-entropy) beyond each length.
    """
    targets = torch.full((len(features), int(lengths.max())), -100, dtype=torch.int64)
    levels = features.mean(dim=2).cpu()
    sizes = zip(feature_lengths.tolist(), lengths.tolist(), token_lengths.tolist(), strict=True)
    for index, (frames, out_frames, labels) in enumerate(sizes):
        targets[index, :out_frames] = BLANK_ID
        if not labels or not out_frames:
            continue
        speech = _speech_frames(levels[index, :frames], out_frames)
        if len(speech) < labels:
            speech = torch.arange(out_frames)
        position = torch.arange(len(speech)) * labels // len(speech)
        targets[index, speech] = tokens[index].cpu()[position]
    return targets.to(features.device)


def flat_start_loss(log_probs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each utterance, summed over its frames: (batch, frames, symbols), (batch, frames) -> (batch,)."""
    losses = functional.nll_loss(log_probs.transpose(1, 2), targets, reduction="none", ignore_index=-100)
    return losses.sum(dim=1)


def _speech_frames(levels: Tensor, out_frames: int) -> Tensor:
    """Output frames whose level is above the midpoint of the utterance's 10th and 90th percentiles."""
    pooled = functional.adaptive_avg_pool1d(levels[None, None], out_frames)[0, 0]
    quiet, loud = torch.quantile(pooled, torch.tensor([0.1, 0.9]))
    return (pooled >= (quiet + loud) / 2).nonzero()[:, 0]
