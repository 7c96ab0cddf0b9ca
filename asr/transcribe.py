"""A bundle and audio -> phones. Nothing that only training or data preparation needs is imported here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from asr.audio import read_audio
from asr.bundle import Bundle
from asr.ctc import best_path
from asr.errors import InputError
from asr.features import extract, normalize

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aif", ".aiff", ".au")
"""Files of a folder that are taken for audio, whatever the case. A file that is named itself is always taken."""


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


def transcribe(bundle: Bundle, files: Sequence[Path]) -> Iterator[tuple[Path, list[str] | InputError]]:
    """The phones of each file, in order, or the error that says why there are none.

    A file shorter than a frame has no phones. Where the model normalizes by speaker, each file is a speaker of its own.
    """
    device = next(bundle.model.parameters()).device
    for path in files:
        try:
            samples = read_audio(path, bundle.features.sample_rate_hz)
        except InputError as error:
            yield path, error
            continue
        features = normalize(extract(samples, bundle.features), bundle.features, "", bundle.statistics)
        if len(features) == 0:
            yield path, []
            continue
        with torch.inference_mode():
            log_probs, lengths = bundle.model(features[None].to(device), torch.tensor([len(features)], device=device))
        yield path, bundle.inventory.decode(best_path(log_probs, lengths)[0])
