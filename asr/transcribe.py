"""A bundle and audio -> phones. Nothing that only training or data preparation needs is imported here."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.audio import read_audio
from asr.bundle import Bundle
from asr.ctc import best_path
from asr.errors import InputError
from asr.features import extract, normalize

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aif", ".aiff", ".au")
"""Files of a folder that are taken for audio, whatever the case. A file that is named itself is always taken."""

FILES_AT_ONCE = 64
FRAMES_AT_ONCE = 60_000
"""Files are gathered until there are so many, or so many frames (10 minutes)."""
BATCH_FRAMES = 15_000
"""Frames in a batch, padding included; a longer file is a batch of its own."""


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
    phones: dict[int, list[str]] = {}
    for batch in _batches({i: len(one) for i, one in features.items()}):
        phones |= zip(batch, _recognize_batch(bundle, [features[i] for i in batch]), strict=True)
    for i, (path, found) in enumerate(waiting):
        yield path, found if isinstance(found, InputError) else phones.get(i, [])


def _batches(lengths: dict[int, int]) -> Iterator[list[int]]:
    """Keys, shortest first, cut where a batch would have more than `BATCH_FRAMES` with its padding."""
    batch: list[int] = []
    for key in sorted(lengths, key=lambda key: lengths[key]):
        if batch and lengths[key] * (len(batch) + 1) > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(key)
    if batch:
        yield batch


def _recognize_batch(bundle: Bundle, features: Sequence[Tensor]) -> list[list[str]]:
    device = next(bundle.model.parameters()).device
    lengths = torch.tensor([len(one) for one in features], device=device)
    with torch.inference_mode():
        log_probs, out_lengths = bundle.model(pad_sequence(list(features), batch_first=True).to(device), lengths)
    return [bundle.inventory.decode(tokens) for tokens in best_path(log_probs, out_lengths)]
