"""The most probable path of CTC outputs, free or forced through given labels, and the frames of its labels.

Source: Graves et al., "Connectionist temporal classification", 2006. Blank is symbol 0; log-probabilities are natural.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from asr.nn.ctc import BLANK_ID

Decoder = Callable[[Tensor, Tensor], list[list[int]]]
"""(batch, frames, symbols) log-probabilities and (batch,) lengths -> symbol ids of each utterance."""


def best_path(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """Decode the labels of the most probable path: each frame's best symbol, repeats merged, blanks removed.

    (batch, frames, symbols) and (batch,) lengths -> a list of symbol ids for each utterance.
    """
    best = log_probs.argmax(dim=-1)
    hypotheses = []
    for path, length in zip(best.cpu(), lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(path[:length])
        hypotheses.append(merged[merged != BLANK_ID].tolist())
    return hypotheses


def best_path_spans(log_probs: Tensor) -> list[tuple[int, int]]:
    """Frames (start, stop) of each token of the best path, ``stop`` exclusive, from (frames, symbols) log-probabilities."""
    return _spans(log_probs.argmax(dim=-1))


def align_tokens(log_probs: Tensor, tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Frames (start, stop) of each token on the most probable path with these tokens, ``stop`` exclusive.

    (frames, symbols) natural-log probabilities and symbol ids without blanks. There must be at least `required_frames`.
    """
    if not tokens:
        return []
    from torchaudio.functional import forced_align  # the import takes a second, and most callers do not need it

    return _spans(forced_align(log_probs[None].float().cpu(), torch.tensor([list(tokens)]), blank=BLANK_ID)[0][0])


def _spans(path: Tensor) -> list[tuple[int, int]]:
    values, sizes = torch.unique_consecutive(path.cpu(), return_counts=True)
    stops = sizes.cumsum(0)
    runs = zip(values.tolist(), (stops - sizes).tolist(), stops.tolist(), strict=True)
    return [(start, stop) for value, start, stop in runs if value != BLANK_ID]
