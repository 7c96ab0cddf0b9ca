"""The CTC loss, and a check that the labels fit the frames.

Source: Graves et al., "Connectionist temporal classification", 2006. Blank is symbol 0; log-probabilities are natural.
"""

from typing import Any

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
        chosen = log_probs[indices].transpose(0, 1), tokens[indices], lengths[indices], token_lengths[indices]
        if _on_gpu(log_probs):
            feasible_losses = ReproducibleCtc.apply(*chosen)
        else:
            feasible_losses = functional.ctc_loss(*chosen, blank=BLANK_ID, reduction="none")
        losses = losses.index_put((indices,), feasible_losses)
    return losses, feasible


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


class ReproducibleCtc(torch.autograd.Function):
    """CTC on a GPU, with the same gradient at each call.

    There torch adds up the posteriors of states with the same symbol in whatever order threads come by. Here the forward
    variables of the reversed utterance are the backward variables, and a product adds up the posteriors.
    """

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, tokens: Tensor, lengths: Tensor, token_lengths: Tensor) -> Tensor:
        """(frames, batch, symbols), (batch, longest), (batch,) twice -> (batch,) losses."""
        frames, _, symbols = log_probs.shape
        counts = lengths.tolist(), token_lengths.tolist()
        losses, alpha = torch._ctc_loss(log_probs, tokens, *counts, BLANK_ID)
        tokens = tokens[:, : alpha.shape[2] // 2]  # the longest of these utterances may be shorter than the batch's
        # Where each frame, token and state is in the reversed utterance; beyond the end it does not matter.
        frame = (lengths[:, None] - 1 - torch.arange(frames, device=lengths.device)).clamp(min=0)
        token = (token_lengths[:, None] - 1 - torch.arange(tokens.shape[1], device=lengths.device)).clamp(min=0)
        state = torch.arange(alpha.shape[2], device=lengths.device)
        turned = 2 * token_lengths[:, None] - state
        reversed_log_probs = log_probs.gather(0, frame.t()[..., None].expand(-1, -1, symbols))
        _, beta = torch._ctc_loss(reversed_log_probs, tokens.gather(1, token), *counts, BLANK_ID)
        beta = beta.gather(1, frame[..., None].expand_as(beta))
        beta = beta.gather(2, turned.clamp(min=0)[:, None].expand_as(beta))

        symbol = tokens.new_full((len(tokens), len(state)), BLANK_ID)
        symbol[:, 1::2] = tokens
        emitted = log_probs.transpose(0, 1).gather(2, symbol[:, None].expand(-1, frames, -1))
        inside = (torch.arange(frames, device=lengths.device) < lengths[:, None])[..., None] & (turned >= 0)[:, None]
        posteriors = torch.where(inside, alpha + beta - emitted + losses[:, None, None], -torch.inf).exp()
        gradient = -posteriors @ functional.one_hot(symbol, symbols).to(posteriors)
        ctx.save_for_backward(gradient.transpose(0, 1))
        return losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """(batch,) -> (frames, batch, symbols)."""
        (slope,) = ctx.saved_tensors
        return slope * gradient[None, :, None], None, None, None
