"""Losses beside CTC: flat start, consistency of two views, distillation, expected errors.

`asr.training.objective` combines them.
"""

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from asr.nn.ctc import BLANK_ID

SAMPLES = 16
"""Paths drawn from the posteriors of an utterance for `expected_error_loss`."""


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


def expected_error_loss(
    log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, samples: int = SAMPLES
) -> Tensor:
    """Expected edit distance between the reference and what the model outputs, in errors: minimum PER training.

    (batch, frames, symbols) log-probabilities, (batch,) lengths, (batch, longest) tokens and (batch,) lengths -> (batch,).
    The value is the mean over paths drawn from the posteriors; the gradient is that of the expectation, estimated from the
    same paths, each against the mean of the others.
    Source: A. Graves and N. Jaitly, "Towards end-to-end speech recognition with recurrent neural networks", 2014.
    """
    batch, frames, _ = log_probs.shape
    probabilities = log_probs.detach().float().exp().flatten(0, 1)
    paths = torch.multinomial(probabilities, samples, replacement=True).view(batch, frames, samples)
    arrays = [tensor.cpu().numpy() for tensor in (paths, lengths, tokens, token_lengths)]
    errors = torch.from_numpy(_path_errors(*arrays)).to(log_probs)
    advantages = (errors - errors.mean(1, keepdim=True)) * samples / (samples - 1)
    inside = torch.arange(frames, device=log_probs.device) < lengths[:, None]
    # A product, since the gradient of `gather` is summed in any order on a GPU.
    chosen = functional.one_hot(paths, log_probs.shape[2]).to(log_probs)
    weights = torch.einsum("btsv,bs->btv", chosen, advantages / samples).masked_fill(~inside[..., None], 0)
    slope = (weights * log_probs).sum((1, 2))
    return errors.mean(1) + slope - slope.detach()


@numba.njit(cache=True, nogil=True)
def _path_errors(paths: np.ndarray, lengths: np.ndarray, tokens: np.ndarray, token_lengths: np.ndarray) -> np.ndarray:
    """Edit distance of each path's labels to the tokens: (batch, frames, samples), ... -> (batch, samples) float32."""
    batch, _, samples = paths.shape
    errors = np.empty((batch, samples), np.float32)
    for utterance in range(batch):
        labels = token_lengths[utterance]
        for sample in range(samples):
            costs, previous = np.arange(labels + 1), BLANK_ID
            for frame in range(lengths[utterance]):
                symbol = paths[utterance, frame, sample]
                if symbol not in (BLANK_ID, previous):
                    diagonal, costs[0] = costs[0], costs[0] + 1
                    for position in range(labels):
                        replaced = diagonal + (symbol != tokens[utterance, position])
                        diagonal = costs[position + 1]
                        costs[position + 1] = min(replaced, diagonal + 1, costs[position] + 1)
                previous = symbol
            errors[utterance, sample] = costs[labels]
    return errors


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
