"""CTC: loss with a feasibility check, best path, and the flat start that precedes it.

Source: Graves et al., "Connectionist temporal classification", 2006. Blank is symbol 0; log-probabilities are natural.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

BLANK_ID = 0

Decoder = Callable[[Tensor, Tensor], list[list[int]]]
"""(batch, frames, symbols) log-probabilities and (batch,) lengths -> symbol ids of each utterance."""


def required_frames(tokens: Tensor, token_lengths: Tensor) -> Tensor:
    """Frames the shortest path of each label sequence needs: its tokens, and a blank between equal neighbours.

    (batch, longest) and (batch,) int64 -> (batch,) int64.
    """
    inside = torch.arange(1, tokens.shape[1], device=tokens.device) < token_lengths[:, None]
    repeats = ((tokens[:, 1:] == tokens[:, :-1]) & inside).sum(1)
    return token_lengths + repeats


def ctc_loss(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each utterance's labels, and which utterances have one.

    Args:
        log_probs: (batch, frames, symbols) float32.
        lengths: (batch,) int64 in frames.
        tokens: (batch, longest) int64, no blanks.
        token_lengths: (batch,) int64.

    Returns:
        (batch,) float32 losses in nats, and (batch,) bool: false where the labels cannot fit the frames. Such an
        utterance has likelihood 0; its loss is given as 0 here so that a sum leaves it out, and the caller must name it.
    """
    feasible = required_frames(tokens, token_lengths) <= lengths
    rows = feasible.nonzero()[:, 0]
    losses = log_probs[:, 0, 0] * 0.0
    if len(rows) > 0:
        # Infeasible rows stay out of the call: their infinite loss would leave nan in the gradient (0 times infinity).
        chosen = functional.ctc_loss(
            log_probs[rows].transpose(0, 1),
            tokens[rows],
            lengths[rows],
            token_lengths[rows],
            blank=BLANK_ID,
            reduction="none",
        )
        losses = losses.index_put((rows,), chosen)
    return losses, feasible


def consistency_loss(one: Tensor, other: Tensor, lengths: Tensor) -> Tensor:
    """How far two views of the same utterances are apart, in nats.

    (batch, frames, symbols) log-probabilities twice and (batch,) lengths -> (batch,). At each frame it is the mean of both
    Kullback-Leibler divergences, where the view that is followed is held fixed; summed over frames.
    Source: Yao et al., "CR-CTC: consistency regularization on CTC for improved speech recognition", 2025.
    """
    inside = torch.arange(one.shape[1], device=one.device) < lengths[:, None]
    there = functional.kl_div(one, other.detach(), reduction="none", log_target=True).sum(dim=2)
    back = functional.kl_div(other, one.detach(), reduction="none", log_target=True).sum(dim=2)
    return ((there + back) / 2).masked_fill(~inside, 0).sum(dim=1)


def distillation_loss(log_probs: Tensor, posteriors: Tensor, lengths: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a student from the posteriors it is to follow, summed over frames, in nats.

    (batch, frames, symbols) log-probabilities, (batch, frames, symbols) probabilities and (batch,) lengths -> (batch,).
    """
    inside = torch.arange(log_probs.shape[1], device=log_probs.device) < lengths[:, None]
    apart = functional.kl_div(log_probs, posteriors, reduction="none").sum(dim=2)
    return apart.masked_fill(~inside, 0).sum(dim=1)


def best_path(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """The labels of the most probable path: each frame's best symbol, repeats merged, blanks removed.

    (batch, frames, symbols) and (batch,) lengths -> a list of symbol ids for each utterance.
    """
    best = log_probs.argmax(dim=-1)
    results = []
    for row, length in zip(best.cpu(), lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(row[:length])
        results.append(merged[merged != BLANK_ID].tolist())
    return results


def best_path_spans(log_probs: Tensor) -> list[tuple[int, int]]:
    """The frames of each token of the best path, as (first, one past the last), of (frames, symbols) log-probabilities."""
    return _runs(log_probs.argmax(dim=-1))


def align_tokens(log_probs: Tensor, tokens: Sequence[int]) -> list[tuple[int, int]]:
    """The frames of each token on the most probable path that says them all, as (first, one past the last).

    (frames, symbols) natural-log probabilities and symbol ids without blanks. The frames must suffice: `required_frames`.
    """
    if not tokens:
        return []
    from torchaudio.functional import forced_align  # costs a second, and most uses of this module do without it

    return _runs(forced_align(log_probs[None].float().cpu(), torch.tensor([list(tokens)]), blank=BLANK_ID)[0][0])


def _runs(path: Tensor) -> list[tuple[int, int]]:
    values, sizes = torch.unique_consecutive(path.cpu(), return_counts=True)
    stops = sizes.cumsum(0)
    spans = zip(values.tolist(), (stops - sizes).tolist(), stops.tolist(), strict=True)
    return [(start, stop) for value, start, stop in spans if value != BLANK_ID]


def flat_start_targets(
    features: Tensor, feature_lengths: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor
) -> Tensor:
    """A symbol for each output frame: the utterance's phones spread evenly over its non-silent frames, blank elsewhere.

    Args:
        features: (batch, frames, dim) normalized log-mel features; their mean over dim tells speech from silence.
        feature_lengths: (batch,) int64 in feature frames.
        lengths: (batch,) int64 in output frames, at most as many.
        tokens: (batch, longest) int64.
        token_lengths: (batch,) int64.

    Returns:
        (batch, output frames) int64, -100 (ignored by cross-entropy) beyond each length.
    """
    targets = torch.full((len(features), int(lengths.max())), -100, dtype=torch.int64)
    loudness = features.mean(dim=2).cpu()
    sizes = zip(feature_lengths.tolist(), lengths.tolist(), token_lengths.tolist(), strict=True)
    for row, (frames, out_frames, labels) in enumerate(sizes):
        targets[row, :out_frames] = BLANK_ID
        if not labels or not out_frames:
            continue
        speech = _speech_frames(loudness[row, :frames], out_frames)
        if len(speech) < labels:
            speech = torch.arange(out_frames)
        position = torch.arange(len(speech)) * labels // len(speech)
        targets[row, speech] = tokens[row].cpu()[position]
    return targets.to(features.device)


def flat_start_loss(log_probs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each utterance, summed over its frames: (batch, frames, symbols), (batch, frames) -> (batch,)."""
    losses = functional.nll_loss(log_probs.transpose(1, 2), targets, reduction="none", ignore_index=-100)
    return losses.sum(dim=1)


def _speech_frames(loudness: Tensor, out_frames: int) -> Tensor:
    """Output frames louder than the middle between an utterance's quiet (10th percentile) and loud (90th) frames."""
    pooled = functional.adaptive_avg_pool1d(loudness[None, None], out_frames)[0, 0]
    quiet, loud = torch.quantile(pooled, torch.tensor([0.1, 0.9]))
    return (pooled >= (quiet + loud) / 2).nonzero()[:, 0]
