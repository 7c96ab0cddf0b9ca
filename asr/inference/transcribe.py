"""Many recordings -> transcripts, in batches. Imports nothing that only training or data preparation needs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.transcript_formats import Transcript

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aif", ".aiff", ".au")
"""Suffixes of audio files in folders, upper or lower case. A file that is named itself may have any suffix."""

FILES_AT_ONCE = 64
FRAMES_AT_ONCE = 60_000
"""Files are collected up to this number of files, or of frames (10 minutes), and then recognized."""

T = TypeVar("T")
Features = tuple[Tensor, float]
"""Normalized features (frames, dim) and the duration in seconds."""


def find_audio_files(paths: Sequence[Path]) -> list[Path]:
    """Replace each folder by the audio files at any depth below it, sorted.

    Raises:
        InputError: a path does not exist, or a folder has no audio.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
            if not below:
                raise InputError(f"{path}: 0 audio files, expected at least one of {', '.join(AUDIO_SUFFIXES)}")
            files += below
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{path}: no such file or folder, expected audio")
    return files


def transcribe(
    recognizer: Recognizer, recordings: Iterable[T], read: Callable[[T], Features] | None = None
) -> Iterator[tuple[T, Transcript | InputError]]:
    """Yield each recording, in order, with its transcript, or with the error if it cannot be used.

    ``read`` computes the features of a recording; by default recordings are paths. Batches of similar length make this
    faster and change no result. A file shorter than a frame has no phones. If the model normalizes by speaker, each
    recording counts as a speaker.
    """
    compute: Callable[[Any], Features] = read or recognizer.features
    pending: list[tuple[T, Features | InputError]] = []
    for recording in recordings:
        pending.append((recording, _features_or_error(compute, recording)))
        frames = sum(len(result[0]) for _, result in pending if not isinstance(result, InputError))
        if len(pending) == FILES_AT_ONCE or frames > FRAMES_AT_ONCE:
            results = _recognize(recognizer, pending)
            pending = []  # frees the features of long files before the caller writes results
            yield from results
    yield from _recognize(recognizer, pending)


def _features_or_error(read: Callable[[T], Features], recording: T) -> Features | InputError:
    try:
        return read(recording)
    except InputError as error:
        return error


def _recognize(
    recognizer: Recognizer, pending: Sequence[tuple[T, Features | InputError]]
) -> list[tuple[T, Transcript | InputError]]:
    usable = [result for _, result in pending if not isinstance(result, InputError)]
    features, durations_s = [features for features, _ in usable], [duration_s for _, duration_s in usable]
    transcripts = iter(recognizer.recognize(features, durations_s))
    return [(name, result if isinstance(result, InputError) else next(transcripts)) for name, result in pending]
