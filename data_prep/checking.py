"""Checks of a corpus before its manifests are written: readable audio, sample rate, standard counts."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr.corpus.audio import SAMPLE_RATE_HZ, read_blocks
from asr.corpus.manifest import Utterance
from asr.errors import InputError
from asr.system.progress import progress

LISTS = Path(__file__).parent / "lists"
"""Lists of speakers, one per line."""


def read_speakers(name: str) -> frozenset[str]:
    """Read the speakers of a list in ``data_prep/lists``, spelled as in the list."""
    return frozenset(line.strip() for _, line in read_lines(LISTS / name) if not line.startswith("#"))


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the non-blank lines of a text file, each with its line number (from 1).

    Raises:
        InputError: the file is missing, not UTF-8, or has no such line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, expected a text file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as UTF-8 ({type(error).__name__}), expected a text file") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise InputError(f"{path}: empty, expected at least 1 line")
    return lines


def check_audio(utterances: Sequence[Utterance], jobs: int) -> None:
    """Read the audio of every utterance in ``jobs`` threads, with a progress bar if stderr is a terminal.

    Raises:
        InputError: a file cannot be used, see `asr.corpus.audio.read_audio`; the first one in the order of ``utterances``.
    """
    if jobs < 1:
        raise InputError(f"jobs: {jobs}, expected at least 1")
    with ThreadPoolExecutor(jobs) as pool:
        checks = pool.map(_check_samples, utterances)
        for _ in progress(checks, "checking audio", len(utterances)):
            pass


def compare_counts(splits: Mapping[str, Sequence[Utterance]], standard: Mapping[str, tuple[int, int]]) -> list[str]:
    """A note for each split whose (utterances, speakers) differ from the standard ones."""
    notes = []
    for name, (standard_utterances, standard_speakers) in standard.items():
        utterances, speakers = len(splits[name]), len({utterance.speaker for utterance in splits[name]})
        if (utterances, speakers) != (standard_utterances, standard_speakers):
            notes.append(
                f"split {name} has {utterances} utterances of {speakers} speakers, "
                f"the standard split has {standard_utterances} of {standard_speakers}"
            )
    return notes


def compare_sample_rates(utterances: Iterable[Utterance]) -> list[str]:
    """A note with the count of each sample rate if an utterance is not at 16 kHz; otherwise no note."""
    counts = Counter(utterance.sample_rate_hz for utterance in utterances)
    if set(counts) <= {SAMPLE_RATE_HZ}:
        return []
    rates = ", ".join(f"{count} at {rate} Hz" for rate, count in sorted(counts.items()))
    return [f"sample rates: {rates}; the standard rate is {SAMPLE_RATE_HZ} Hz"]


def warn(notes: Iterable[str]) -> None:
    """Print notes to stderr, one per line."""
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)


def _check_samples(utterance: Utterance) -> None:
    # At the file's own rate: checking samples does not need resampling.
    for _ in read_blocks(utterance.audio_path, utterance.sample_rate_hz):
        pass
