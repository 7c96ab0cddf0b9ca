"""A bundle and audio -> phones. Nothing that only training or data preparation needs is imported here."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.audio import read_audio
from asr.bundle import Bundle
from asr.ctc import BLANK_ID, best_path
from asr.errors import InputError
from asr.features import extract, normalize

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aif", ".aiff", ".au")
"""Files of a folder that are taken for audio, whatever the case. A file that is named itself is always taken."""

FILES_AT_ONCE = 64
FRAMES_AT_ONCE = 60_000
"""Files are gathered until there are so many, or so many frames (10 minutes)."""
BATCH_FRAMES = 14_000
"""Frames in a batch, padding included."""
WINDOW_FRAMES, OVERLAP_FRAMES = 31_000, 1_000
"""A longer file is recognized in windows of 5 minutes. Each shares 10 s with the next, and they are joined where both are
surest of a blank and far from their ends, so that no phone is lost or heard twice.
"""


class Window(NamedTuple):
    """Frames ``start`` to ``stop`` of a file."""

    file: int
    start: int
    stop: int


def audio_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are; folders replaced by the audio files at any depth in them, sorted.

    Raises:
        InputError: a path does not exist, or a folder holds no audio.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"{path}: 0 audio files, expected at least one of {', '.join(AUDIO_SUFFIXES)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file or folder, expected audio")
    return found


def transcribe(bundle: Bundle, files: Iterable[Path]) -> Iterator[tuple[Path, list[str] | InputError]]:
    """The phones of each file, in order, or the error that says why there are none.

    Files are read some at a time and recognized in batches of similar length, which changes the speed and no result. A file
    shorter than a frame has no phones. Where the model normalizes by speaker, each file is a speaker of its own.
    """
    waiting: list[tuple[Path, Tensor | InputError]] = []
    for path in files:
        waiting.append((path, _features(bundle, path)))
        frames = sum(len(features) for _, features in waiting if isinstance(features, Tensor))
        if len(waiting) == FILES_AT_ONCE or frames > FRAMES_AT_ONCE:
            yield from _recognize(bundle, waiting)
            waiting = []
    yield from _recognize(bundle, waiting)


def _features(bundle: Bundle, path: Path) -> Tensor | InputError:
    try:
        samples = read_audio(path, bundle.features.sample_rate_hz)
    except InputError as error:
        return error
    return normalize(extract(samples, bundle.features), bundle.features, "", bundle.statistics)


def _recognize(
    bundle: Bundle, waiting: Sequence[tuple[Path, Tensor | InputError]]
) -> Iterator[tuple[Path, list[str] | InputError]]:
    """The phones of files whose features are there, in the order given."""
    features = {i: found for i, (_, found) in enumerate(waiting) if isinstance(found, Tensor) and len(found) > 0}
    windows = [window for i, one in features.items() for window in windows_of(i, len(one), bundle.model.time_reduction)]
    kept: dict[Window, Tensor] = {}
    for batch in _batches(windows):
        kept |= zip(batch, _log_probs(bundle, [features[w.file][w.start : w.stop] for w in batch]), strict=True)
    for i, (path, found) in enumerate(waiting):
        if isinstance(found, InputError):
            yield path, found
        else:
            parts = [(w.start // bundle.model.time_reduction, kept.pop(w)) for w in windows if w.file == i]
            yield path, _phones(bundle, joined(parts)) if parts else []


def windows_of(file: int, frames: int, time_reduction: int) -> list[Window]:
    """The windows of a file of so many frames. They begin with an output frame."""
    step = -(-(WINDOW_FRAMES - OVERLAP_FRAMES) // time_reduction) * time_reduction
    starts = range(0, max(1, frames - OVERLAP_FRAMES), step) if frames > WINDOW_FRAMES else [0]
    return [Window(file, start, min(frames, start + step + OVERLAP_FRAMES)) for start in starts]


def joined(parts: Sequence[tuple[int, Tensor]]) -> Tensor:
    """One sequence of log-probabilities (frames, symbols) from those of windows, each with its first frame's number.

    From one window to the next it goes in the middle half of what they share, at the frame that is likeliest blank in both.
    """
    (_, whole), *others = parts
    for start, part in others:
        shared = len(whole) - start
        first, last = start + shared // 4, len(whole) - shared // 4
        blank = whole[first:last, BLANK_ID] + part[first - start : last - start, BLANK_ID]
        seam = first + int(blank.argmax())
        whole = torch.cat([whole[:seam], part[seam - start :]])
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


def _phones(bundle: Bundle, log_probs: Tensor) -> list[str]:
    (tokens,) = best_path(log_probs[None], torch.tensor([len(log_probs)], device=log_probs.device))
    return bundle.inventory.decode(tokens)
