"""Log-probabilities of many recordings of any length.

Long recordings are cut into windows that overlap; short ones are batched with others of similar length.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.inference.bundle import Bundle
from asr.nn.ctc import BLANK_ID

BATCH_FRAMES = 14_000
"""Frames of 10 ms in a batch, padding included. With a pretrained encoder, which needs more memory, half of them."""
WINDOW_FRAMES, OVERLAP_FRAMES = 20_000, 2_000
"""A longer recording is recognized in windows of 200 s. Consecutive windows share 20 s. They are joined at the most
probable blank in the middle of these, so that no phone is lost or recognized twice.
"""
ENCODER_WINDOW_S, ENCODER_OVERLAP_S = 30.0, 3.0
"""The same for a pretrained encoder: Whisper's has positions for no more, and attention grows with the square."""


class Window(NamedTuple):
    """Frames ``start`` to ``stop`` of a recording, which ``file`` numbers."""

    file: int
    start: int
    stop: int


def compute_log_probs(bundle: Bundle, features: Sequence[Tensor]) -> list[Tensor]:
    """Compute the log-probabilities (output frames, symbols) of each recording's normalized features (frames, dim)."""
    reduction, symbols = bundle.model.time_reduction, len(bundle.inventory.symbols)
    sizes = window_sizes(bundle)
    results = [torch.zeros(0, symbols) for _ in features]
    windows = {
        index: split_into_windows(index, len(recording), reduction, *sizes)
        for index, recording in enumerate(features)
        if len(recording)
    }
    batch_frames = BATCH_FRAMES * 10 / bundle.features.frame_shift_ms / (2 if bundle.model.encoder else 1)
    for batch in _batches([first for first, *rest in windows.values() if not rest], batch_frames):
        batch_log_probs = _run_model(bundle, [features[window.file] for window in batch])
        for window, log_probs in zip(batch, batch_log_probs, strict=True):
            results[window.file] = log_probs
    for index, pieces in windows.items():
        if len(pieces) > 1:  # one window at a time, so that memory holds only the joined result
            recording = features[index]
            parts = (
                (piece.start // reduction, _run_model(bundle, [recording[piece.start : piece.stop]])[0])
                for piece in pieces
            )
            results[index] = join_windows(parts, -(-len(recording) // reduction), symbols)
    return results


def window_sizes(bundle: Bundle) -> tuple[int, int]:
    """The frames of a window, and those that two windows share."""
    if bundle.model.encoder is None:
        return WINDOW_FRAMES, OVERLAP_FRAMES
    shift_s = bundle.features.frame_shift_ms / 1000
    window, overlap = round(ENCODER_WINDOW_S / shift_s), round(ENCODER_OVERLAP_S / shift_s)
    limit = bundle.model.max_frames or window
    return min(window, limit), min(overlap, limit // 10)


def split_into_windows(file: int, frames: int, time_reduction: int, window: int, overlap: int) -> list[Window]:
    """Cut a recording of ``frames`` frames into windows. Each starts at the first frame of an output frame."""
    step = max(1, (window - overlap) // time_reduction) * time_reduction
    starts = range(0, max(1, frames - overlap), step) if frames > window else [0]
    return [Window(file, start, min(frames, start + step + overlap) if frames > window else frames) for start in starts]


def join_windows(parts: Iterable[tuple[int, Tensor]], frames: int, symbols: int) -> Tensor:
    """Join the log-probabilities of windows, each with the index of its first frame, to (frames, symbols).

    The seam between two windows lies in the middle half of their overlap, at the frame that is most probably blank in both.
    """
    whole = torch.empty(frames, symbols)
    stop = 0
    for start, part in parts:
        overlap, seam = stop - start, start
        if overlap > 0:
            first, last = start + overlap // 4, stop - overlap // 4
            blank = whole[first:last, BLANK_ID] + part[first - start : last - start, BLANK_ID]
            seam = first + int(blank.argmax())
        stop = start + len(part)
        whole[seam:stop] = part[seam - start :]
    return whole


def _batches(windows: Sequence[Window], batch_frames: float) -> Iterator[list[Window]]:
    """Sort windows by length and cut them into batches of at most ``batch_frames``, padding included."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: window.stop - window.start):
        if batch and (window.stop - window.start) * (len(batch) + 1) > batch_frames:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _run_model(bundle: Bundle, features: Sequence[Tensor]) -> list[Tensor]:
    """Compute the log-probabilities (output frames, symbols) of each window in one batch."""
    device = next(bundle.model.parameters()).device
    lengths = torch.tensor([len(window) for window in features], device=device)
    with torch.inference_mode():
        log_probs, out_lengths = bundle.log_probs(pad_sequence(list(features), batch_first=True).to(device), lengths)
    return [padded[:length] for padded, length in zip(log_probs, out_lengths.tolist(), strict=True)]
