"""Many audio files -> transcripts, in batches. Imports nothing that only training or data preparation needs."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.transcript_formats import Transcript

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aif", ".aiff", ".au")
"""Suffixes of audio files in folders, upper or lower case. A file that is named itself may have any suffix."""

FILES_AT_ONCE = 64
FRAMES_AT_ONCE = 60_000
"""Files are collected up to this number of files, or of frames (10 minutes), and then recognized."""

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


def transcribe(recognizer: Recognizer, files: Iterable[Path]) -> Iterator[tuple[Path, Transcript | InputError]]:
    """Yield each file, in order, with its transcript, or with the error if it cannot be used.

    Batches of similar length make this faster and change no result. A file shorter than a frame has no phones. If the model
    normalizes by speaker, each file counts as a speaker.
    """
    pending: list[tuple[Path, Features | InputError]] = []
    for path in files:
        pending.append((path, _features(recognizer, path)))
        frames = sum(len(result[0]) for _, result in pending if not isinstance(result, InputError))
        if len(pending) == FILES_AT_ONCE or frames > FRAMES_AT_ONCE:
            results = _recognize(recognizer, pending)
            pending = []  # frees the features of long files before the caller writes results
            yield from results
    yield from _recognize(recognizer, pending)


def _features(recognizer: Recognizer, path: Path) -> Features | InputError:
    try:
        return recognizer.features(path)
    except InputError as error:
        return error


def _recognize(
    recognizer: Recognizer, pending: Sequence[tuple[Path, Features | InputError]]
) -> list[tuple[Path, Transcript | InputError]]:
    usable = [result for _, result in pending if not isinstance(result, InputError)]
    features, durations_s = [features for features, _ in usable], [duration_s for _, duration_s in usable]
    transcripts = iter(recognizer.recognize(features, durations_s))
    return [(path, result if isinstance(result, InputError) else next(transcripts)) for path, result in pending]
