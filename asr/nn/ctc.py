"""CTC: loss with a feasibility check, best path, and the flat start that precedes it.

Source: Graves et al., "Connectionist temporal classification", 2006. Blank is symbol 0; log-probabilities are natural.
"""

import torch
from torch import Tensor
from torch.nn import functional

BLANK_ID = 0


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
