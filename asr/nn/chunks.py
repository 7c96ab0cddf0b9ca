"""Chunks with look-ahead, so that a bidirectional stack need not wait for the end of an utterance.

The forward direction runs through the whole utterance, its state handed from chunk to chunk. The backward direction starts
anew for each chunk, a few frames after its end: the look-ahead. Layers above need the outputs there too, so the forward
direction also runs through the look-ahead, but its state there goes no further. A model is at most one chunk and one
look-ahead late, however many layers it has.
Source: Zhang et al., "Highway long short-term memory RNNs for distant speech recognition", 2016 (latency-controlled BLSTM).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.nn.ragged import Cell


@dataclass(frozen=True)
class ChunkLayout:
    """A ragged batch as blocks: all first chunks, longest utterance first, then all second ones, ... with their look-ahead.

    Packed tensors are (packed, dim), where packed = (chunk + look-ahead) * blocks, in time order. ``counts`` are the blocks
    of each chunk. Frames beyond an utterance's end follow all its real ones in both directions.
    """

    chunk: int
    counts: list[int]
    utterance_index: Tensor  # (packed,) the utterance of each packed frame
    packed_mask: Tensor  # (packed,) bool, false beyond the end of an utterance
    padded_index: Tensor  # (packed,) position in the flattened padded batch
    packed_index: Tensor  # (batch * frames,) packed position of each frame of the padded batch
    padded_mask: Tensor  # (batch * frames,) bool, true inside each utterance
    reversed_index: (
        Tensor  # (packed,) packed position of the frame equally far from the block's end; beyond it: its own
    )

    @classmethod
    def from_lengths(cls, lengths: Tensor, frames: int, chunk: int, look_ahead: int) -> "ChunkLayout":
        """The layout of a batch with these lengths (batch,), padded to ``frames``."""
        device, size = lengths.device, chunk + look_ahead
        order = lengths.argsort(descending=True, stable=True)
        starts = torch.arange(0, max(1, int(lengths.max())), chunk, device=device)
        counts = (lengths > starts[:, None]).sum(dim=1).clamp_min(1)
        rank = torch.cat([torch.arange(count, device=device) for count in counts.tolist()])
        utterance, start = order[rank], starts.repeat_interleave(counts)  # of each block
        blocks, time = len(rank), torch.arange(size, device=device)[:, None]
        left = (lengths[utterance] - start).clamp(0, size)  # frames of each block
        mask = time < left
        padded_index = utterance * frames + (start + time).clamp_max(frames - 1)
        mirrored = torch.where(mask, left - 1 - time, time)
        frame = torch.arange(frames, device=device)
        first_block, ranks = counts.cumsum(0) - counts, order.argsort()
        inside = frame < lengths[:, None]
        block = (first_block[(frame // chunk).clamp_max(len(starts) - 1)] + ranks[:, None]).where(inside, 0)
        return cls(
            chunk,
            counts.tolist(),
            utterance.expand(size, -1).flatten(),
            mask.flatten(),
            padded_index.flatten(),
            (frame % chunk * blocks + block).flatten(),
            inside.flatten(),
            (mirrored * blocks + torch.arange(blocks, device=device)).flatten(),
        )

    def pack(self, padded: Tensor) -> Tensor:
        """(batch, frames, dim) -> (packed, dim), zero beyond each length whatever the padding contains."""
        return padded.flatten(0, 1).index_select(0, self.padded_index).masked_fill(~self.packed_mask[:, None], 0)

    def unpack(self, packed: Tensor, batch: int) -> Tensor:
        """(packed, dim) -> (batch, frames, dim) without look-ahead, zero beyond each length."""
        padded = packed.index_select(0, self.packed_index).masked_fill(~self.padded_mask[:, None], 0)
        return padded.unflatten(0, (batch, -1))

    def run(self, cell: Cell, backward: bool, hidden: Tensor, *weights: Tensor) -> Tensor:
        """One direction of one layer: (packed, input_size) -> (packed, hidden)."""
        blocks = sum(self.counts)
        if not backward:
            states = [hidden.new_zeros(1, self.counts[0], weights[1].shape[1])] * 2
            frames = hidden.view(-1, blocks, hidden.shape[1])
            return run_forward(cell, frames, self.chunk, self.counts, states, weights)[0].flatten(0, 1)
        states = [hidden.new_zeros(1, blocks, weights[1].shape[1])] * 2
        reverse = hidden.index_select(0, self.reversed_index).view(-1, blocks, hidden.shape[1])
        return cell(reverse, states, weights)[0].flatten(0, 1).index_select(0, self.reversed_index)


def run_forward(
    cell: Cell, frames: Tensor, chunk: int, counts: Sequence[int], states: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The forward direction of a layer over blocks (chunk + look-ahead, blocks, input_size), ``counts`` in each chunk.

    Begins with ``states`` and returns the outputs (chunk + look-ahead, blocks, hidden) and the states after the last chunk.
    """
    outputs, ends, current = [], [], list(states)
    for block in frames[:chunk].split(list(counts), dim=1):
        continued = [state[:, : block.shape[1]].contiguous() for state in current]
        output, *current = cell(block.contiguous(), continued, weights)
        outputs.append(output)
        ends.append(current)
    main = torch.cat(outputs, dim=1)
    if len(frames) <= chunk:
        return main, current
    after = [torch.cat(parts, dim=1) for parts in zip(*ends, strict=True)]
    return torch.cat([main, cell(frames[chunk:], after, weights)[0]]), current
