"""The CTC loss, and a check that the labels fit the frames.

Source: Graves et al., "Connectionist temporal classification", 2006. Blank is symbol 0; log-probabilities are natural.
"""

import torch
from torch import Tensor
from torch.nn import functional

BLANK_ID = 0


def required_frames(tokens: Tensor, token_lengths: Tensor) -> Tensor:
    """Count the frames of the shortest path through each label sequence: its tokens, and a blank between equal neighbours.

    (batch, longest) and (batch,) int64 -> (batch,) int64.
    """
    inside = torch.arange(1, tokens.shape[1], device=tokens.device) < token_lengths[:, None]
    repeats = ((tokens[:, 1:] == tokens[:, :-1]) & inside).sum(1)
    return token_lengths + repeats


def ctc_loss(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each utterance's labels, and whether the labels fit.

    Args:
        log_probs: (batch, frames, symbols) float32.
        lengths: (batch,) int64 in frames.
        tokens: (batch, longest) int64, no blanks.
        token_lengths: (batch,) int64.

    Returns:
        (batch,) float32 losses in nats, and (batch,) bool: false if the labels do not fit the frames. Such an utterance
        has likelihood 0. Its loss is set to 0, so that it does not count in a sum; the caller must report it.
    """
    feasible = required_frames(tokens, token_lengths) <= lengths
    indices = feasible.nonzero()[:, 0]
    losses = log_probs[:, 0, 0] * 0.0
    if len(indices) > 0:
        # Infeasible utterances are left out: their infinite loss would put NaN into the gradient (0 times infinity).
        feasible_losses = functional.ctc_loss(
            log_probs[indices].transpose(0, 1),
            tokens[indices],
            lengths[indices],
            token_lengths[indices],
            blank=BLANK_ID,
            reduction="none",
        )
        losses = losses.index_put((indices,), feasible_losses)
    return losses, feasible
