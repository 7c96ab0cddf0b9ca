"""Log-probabilities of recordings of any length, many at a time: windows of long ones, batches of like length."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.inference.bundle import Bundle
from asr.nn.ctc import BLANK_ID

BATCH_FRAMES = 14_000
"""Frames in a batch, padding included."""
WINDOW_FRAMES, OVERLAP_FRAMES = 20_000, 2_000
"""A longer recording is recognized in windows of 200 s. Each shares 20 s with the next, and they are joined where both
are surest of a blank and far from their ends, so that no phone is lost or heard twice.
"""


class Window(NamedTuple):
    """Frames ``start`` to ``stop`` of a file."""

    file: int
    start: int
    stop: int


def log_probs_of(bundle: Bundle, features: Sequence[Tensor]) -> list[Tensor]:
    """Log-probabilities (output frames, symbols) of each recording's normalized features (frames, dim)."""
    reduction, symbols = bundle.model.time_reduction, len(bundle.inventory.symbols)
    found = [torch.zeros(0, symbols) for _ in features]
    windows = {number: windows_of(number, len(one), reduction) for number, one in enumerate(features) if len(one)}
    for batch in _batches([one for (one, *more) in windows.values() if not more]):
        results = _log_probs(bundle, [features[window.file] for window in batch])
        for window, log_probs in zip(batch, results, strict=True):
            found[window.file] = log_probs
    for number, several in windows.items():
        if len(several) > 1:  # one after the other: what is kept of a long recording is its result
            rows = features[number]
            parts = ((one.start // reduction, _log_probs(bundle, [rows[one.start : one.stop]])[0]) for one in several)
            found[number] = joined(parts, -(-len(features[number]) // reduction), symbols)
    return found


def windows_of(file: int, frames: int, time_reduction: int) -> list[Window]:
    """The windows of a file of so many frames. They begin with an output frame."""
    step = -(-(WINDOW_FRAMES - OVERLAP_FRAMES) // time_reduction) * time_reduction
    starts = range(0, max(1, frames - OVERLAP_FRAMES), step) if frames > WINDOW_FRAMES else [0]
    return [Window(file, start, min(frames, start + step + OVERLAP_FRAMES)) for start in starts]


def joined(parts: Iterable[tuple[int, Tensor]], frames: int, symbols: int) -> Tensor:
    """One sequence of log-probabilities (frames, symbols) from those of windows, each with its first frame's number.

    From one window to the next it goes in the middle half of what they share, at the frame that is likeliest blank in both.
    """
    whole = torch.empty(frames, symbols)
    stop = 0
    for start, part in parts:
        shared, seam = stop - start, start
        if shared > 0:
            first, last = start + shared // 4, stop - shared // 4
            blank = whole[first:last, BLANK_ID] + part[first - start : last - start, BLANK_ID]
            seam = first + int(blank.argmax())
        stop = start + len(part)
        whole[seam:stop] = part[seam - start :]
    return whole


def _batches(windows: Sequence[Window]) -> Iterator[list[Window]]:
    """Windows, shortest first, cut where a batch would have more than `BATCH_FRAMES` with its padding."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: window.stop - window.start):
        if batch and (window.stop - window.start) * (len(batch) + 1) > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _log_probs(bundle: Bundle, features: Sequence[Tensor]) -> list[Tensor]:
    """Log-probabilities of each window, (output frames, symbols)."""
    device = next(bundle.model.parameters()).device
    lengths = torch.tensor([len(one) for one in features], device=device)
    with torch.inference_mode():
        log_probs, out_lengths = bundle.log_probs(pad_sequence(list(features), batch_first=True).to(device), lengths)
    return [one[:length] for one, length in zip(log_probs, out_lengths.tolist(), strict=True)]
