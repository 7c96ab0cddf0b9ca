"""The layout of a ragged batch: its frames packed into a few dense segments, with gathers in both directions.

In:  lengths (batch,) in frames, and padded values (batch, frames, dim).
Out: packed values (packed, dim) for the recurrent layers, and padded values again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Cell = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], list[Tensor]]
"""(frames, utterances, input_size), states (1, utterances, hidden), weights -> (frames, utterances, hidden), states."""

# The sizes of a segment are multiples of the steps: oneDNN compiles its kernels again for each new shape.
FRAME_STEP, UTTERANCE_STEP, MAX_SEGMENT_STEPS = 8, 4, 32
SEGMENT_COST_FRAMES = 64
"""Fixed cost of a segment, in packed frames: laying out the weights, and adding up their gradients."""


def length_mask(lengths: Tensor, frames: int) -> Tensor:
    """(batch,) lengths -> (batch, frames) bool, true inside each utterance."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class PackedLayout(NamedTuple):
    """The layout of a padded batch as dense segments of ``(frames, utterances)``, the longest utterances first.

    A segment holds the next frames of all utterances that have not ended, in time order; fill frames complete it.
    Its utterances are the first ones of the previous segment, so that it continues from their states. ``packed`` below is
    the number of frames in all segments, fill included.
    """

    segments: list[tuple[int, int]]
    utterance_index: Tensor  # (packed,) the utterance of each packed frame
    packed_mask: Tensor  # (packed,) bool, false for fill
    padded_index: Tensor  # (packed,) position in the flattened padded batch
    packed_index: Tensor  # (batch * frames,) packed position of each frame of the padded batch
    padded_mask: Tensor  # (batch * frames,) bool, true inside each utterance
    reversed_index: Tensor  # (packed,) packed position of the frame equally far from the utterance's end; fill: its own

    @classmethod
    def from_lengths(cls, lengths: Tensor, frames: int) -> "PackedLayout":
        """The layout of a batch with these lengths (batch,), padded to ``frames``."""
        order = lengths.argsort(descending=True, stable=True)
        starts = torch.arange(0, max(1, int(lengths.max())), FRAME_STEP)
        active = (lengths > starts[:, None]).sum(dim=1).clamp_min(1)  # utterances that have not ended, at each step
        counts = (-(-active // UTTERANCE_STEP) * UTTERANCE_STEP).clamp_max(len(lengths)).tolist()
        segments, times, ranks, start = plan_segments(counts), [], [], 0
        for segment_frames, utterances in segments:
            times.append(torch.arange(start, start + segment_frames).repeat_interleave(utterances))
            ranks.append(torch.arange(utterances).repeat(segment_frames))
            start += segment_frames
        time, utterance_index = torch.cat(times), order[torch.cat(ranks)]
        packed_mask = time < lengths[utterance_index]
        padded_index = utterance_index * frames + time.clamp_max(frames - 1)
        positions, packed_index = torch.arange(len(time)), torch.zeros(len(lengths) * frames, dtype=torch.int64)
        packed_index[padded_index[packed_mask]] = positions[packed_mask]
        opposite = utterance_index * frames + (lengths[utterance_index] - 1 - time).clamp_min(0)
        reversed_index = torch.where(packed_mask, packed_index[opposite], positions)
        padded_mask = length_mask(lengths, frames).flatten()
        return cls(segments, utterance_index, packed_mask, padded_index, packed_index, padded_mask, reversed_index)

    def pack(self, padded: Tensor) -> Tensor:
        """(batch, frames, dim) -> (packed, dim), zero in fill frames whatever the padding contains."""
        return _Gather.apply(
            padded.flatten(0, 1), self.padded_index, self.packed_mask, self.packed_index, self.padded_mask
        )

    def unpack(self, packed: Tensor, batch: int) -> Tensor:
        """(packed, dim) -> (batch, frames, dim), zero beyond each length."""
        padded = _Gather.apply(packed, self.packed_index, self.padded_mask, self.padded_index, self.packed_mask)
        return padded.unflatten(0, (batch, -1))

    def run(self, cell: Cell, backward: bool, hidden: Tensor, *weights: Tensor) -> Tensor:
        """One direction of one layer, segment by segment: (packed, input_size) -> (packed, hidden)."""
        if backward:
            hidden = self.reverse(hidden)
        state = hidden.new_zeros(1, self.segments[0][1], weights[1].shape[1])
        states, outputs = [state, state], []
        sizes = [frames * utterances for frames, utterances in self.segments]
        for segment, shape in zip(hidden.split(sizes), self.segments, strict=True):
            states = [state[:, : shape[1]].contiguous() for state in states]
            output, *states = cell(segment.view(*shape, -1), states, weights)
            outputs.append(output.flatten(0, 1))
        output = torch.cat(outputs)
        return self.reverse(output) if backward else output

    def reverse(self, packed: Tensor) -> Tensor:
        """(packed, dim) -> the same shape, each utterance reversed within its own length."""
        return _Gather.apply(packed, self.reversed_index, None, self.reversed_index, None)


def plan_segments(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Choose the cheapest segments (frames, utterances) for the utterances in each step of `FRAME_STEP` frames."""
    # For the steps from each one on: the lowest cost, and the end of the first segment.
    best: list[tuple[float, int]] = [(0.0, 0)] * (len(counts) + 1)
    for step in reversed(range(len(counts))):
        ends = range(step + 1, min(step + MAX_SEGMENT_STEPS, len(counts)) + 1)
        step_frames = FRAME_STEP * counts[step]
        best[step] = min((SEGMENT_COST_FRAMES + step_frames * (end - step) + best[end][0], end) for end in ends)
    segments, step = [], 0
    while step < len(counts):
        end = best[step][1]
        segments.append((FRAME_STEP * (end - step), counts[step]))
        step = end
    return segments


class _Gather(torch.autograd.Function):
    """Frames selected by index, zero where the mask is false. The backward pass is a gather by the inverse index."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, index: Tensor, mask: Tensor | None, inverse: Tensor, inverse_mask: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(inverse, inverse_mask)
        return _select(values, index, mask)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _select(gradients[0], *ctx.saved_tensors), None, None, None, None


def _select(values: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
    selected = values.index_select(0, index)
    return selected if mask is None else selected.masked_fill_(~mask[:, None], 0)
