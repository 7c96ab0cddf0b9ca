"""The frames of a padded batch as rows in dense pieces, for recurrent layers, with gathers that go both ways."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Pieces have few different shapes, since oneDNN compiles its kernels for each one that it has not met.
FRAME_STEP, ROW_STEP, LONGEST_STEPS = 8, 4, 32
PIECE_COST_ROWS = 64
"""What a piece costs beside its rows, in rows: laying out the weights, and adding its gradients to the others'."""


def length_mask(lengths: Tensor, frames: int) -> Tensor:
    """(batch,) lengths -> (batch, frames) bool, true inside each sequence."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class RaggedBatch(NamedTuple):
    """A batch as rows of one frame each, in dense pieces of ``(frames, utterances)``, the longest utterances first.

    A piece holds the next frames of the utterances that are not over yet, frame by frame; rows beyond an utterance's end
    fill a piece up. Every piece's utterances are the first ones of the piece before, whose states they take over.
    """

    pieces: list[tuple[int, int]]
    owner: Tensor  # (rows,) utterance of each row
    inside: Tensor  # (rows,) whether the row is a real frame
    source: Tensor  # (rows,) its place in the padded batch, flattened
    place: Tensor  # (batch * frames,) the row of each frame of the padded batch
    real: Tensor  # (batch * frames,) whether the frame is inside its utterance
    mirror: Tensor  # (rows,) the row of the same utterance as far from its end; fills stay where they are

    @classmethod
    def of(cls, lengths: Tensor, frames: int) -> "RaggedBatch":
        """The rows of a batch with these lengths, padded to ``frames``."""
        order = lengths.argsort(descending=True, stable=True)
        starts = torch.arange(0, max(1, int(lengths.max())), FRAME_STEP)
        active = (lengths > starts[:, None]).sum(dim=1).clamp_min(1)  # utterances that are not over, at every step
        counts = (-(-active // ROW_STEP) * ROW_STEP).clamp_max(len(lengths)).tolist()
        pieces, times, ranks, start = pieces_of(counts), [], [], 0
        for size, utterances in pieces:
            times.append(torch.arange(start, start + size).repeat_interleave(utterances))
            ranks.append(torch.arange(utterances).repeat(size))
            start += size
        time, owner = torch.cat(times), order[torch.cat(ranks)]
        inside = time < lengths[owner]
        source = owner * frames + time.clamp_max(frames - 1)
        rows, place = torch.arange(len(time)), torch.zeros(len(lengths) * frames, dtype=torch.int64)
        place[source[inside]] = rows[inside]
        opposite = owner * frames + (lengths[owner] - 1 - time).clamp_min(0)
        mirror = torch.where(inside, place[opposite], rows)
        return cls(pieces, owner, inside, source, place, length_mask(lengths, frames).flatten(), mirror)

    def from_padded(self, padded: Tensor) -> Tensor:
        """(batch, frames, dim) -> (rows, dim), zero where a row is no frame, whatever stands in the padding."""
        return _Gather.apply(padded.flatten(0, 1), self.source, self.inside, self.place, self.real)

    def to_padded(self, values: Tensor, batch: int) -> Tensor:
        """(rows, dim) -> (batch, frames, dim), zero beyond each length."""
        return _Gather.apply(values, self.place, self.real, self.source, self.inside).unflatten(0, (batch, -1))

    def reversed(self, values: Tensor) -> Tensor:
        """(rows, dim) -> the same rows with each utterance reversed within its own length."""
        return _Gather.apply(values, self.mirror, None, self.mirror, None)


def pieces_of(counts: Sequence[int]) -> list[tuple[int, int]]:
    """(frames, utterances) of the pieces that cost least, for so many utterances at each step of `FRAME_STEP` frames."""
    least: list[tuple[float, int]] = [(0.0, 0)] * (
        len(counts) + 1
    )  # from each step on: the cost, and the first piece's end
    for step in reversed(range(len(counts))):
        ends = range(step + 1, min(step + LONGEST_STEPS, len(counts)) + 1)
        rows = FRAME_STEP * counts[step]
        least[step] = min((PIECE_COST_ROWS + rows * (end - step) + least[end][0], end) for end in ends)
    pieces, step = [], 0
    while step < len(counts):
        end = least[step][1]
        pieces.append((FRAME_STEP * (end - step), counts[step]))
        step = end
    return pieces


class _Gather(torch.autograd.Function):
    """RaggedBatch picked by index, zero where they are not to be kept. The way back is a gather as well, and given too."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, index: Tensor, keep: Tensor | None, back: Tensor, keep_back: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(back, keep_back)
        return _pick(values, index, keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _pick(gradients[0], *ctx.saved_tensors), None, None, None, None


def _pick(values: Tensor, index: Tensor, keep: Tensor | None) -> Tensor:
    picked = values.index_select(0, index)
    return picked if keep is None else picked.masked_fill_(~keep[:, None], 0)
