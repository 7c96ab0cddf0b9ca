"""Audio files -> transcripts, many at a time. Nothing that only training or data preparation needs is imported here."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.transcript_formats import Transcript

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aif", ".aiff", ".au")
"""Files of a folder that are taken for audio, whatever the case. A file that is named itself is always taken."""

FILES_AT_ONCE = 64
FRAMES_AT_ONCE = 60_000
"""Files are gathered until there are so many, or so many frames (10 minutes)."""


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


def transcribe(recognizer: Recognizer, files: Iterable[Path]) -> Iterator[tuple[Path, Transcript | InputError]]:
    """What is said in each file, in order, or the error that says why nothing is.

    Files are read some at a time and recognized in batches of similar length, which changes the speed and no result. A file
    shorter than a frame has no phones. Where the model normalizes by speaker, each file is a speaker of its own.
    """
    waiting: list[tuple[Path, tuple[Tensor, float] | InputError]] = []
    for path in files:
        waiting.append((path, _features(recognizer, path)))
        frames = sum(len(found[0]) for _, found in waiting if not isinstance(found, InputError))
        if len(waiting) == FILES_AT_ONCE or frames > FRAMES_AT_ONCE:
            results = _recognize(recognizer, waiting)
            waiting = []  # before results are written: features of hours are much to keep
            yield from results
    yield from _recognize(recognizer, waiting)


def _features(recognizer: Recognizer, path: Path) -> tuple[Tensor, float] | InputError:
    """Features and duration in seconds."""
    try:
        return recognizer.features(path)
    except InputError as error:
        return error


def _recognize(
    recognizer: Recognizer, waiting: Sequence[tuple[Path, tuple[Tensor, float] | InputError]]
) -> list[tuple[Path, Transcript | InputError]]:
    good = [found for _, found in waiting if not isinstance(found, InputError)]
    transcripts = iter(recognizer.recognize([features for features, _ in good], [seconds for _, seconds in good]))
    return [(path, found if isinstance(found, InputError) else next(transcripts)) for path, found in waiting]
