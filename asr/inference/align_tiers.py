"""Aligned utterances of a recording -> a TextGrid with the tiers ``words`` and ``phones``, of each speaker if several."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr.inference.align_utterance import Aligned, Interval
from asr.system.files import make_folder, write_text

SUFFIX = ".TextGrid"
WORDS, PHONES = "words", "phones"
CLIPPED_S = 0.05
"""Intervals of neighbouring utterances may overlap by so much; then the later one starts later."""


def write_tiers(path: Path, speakers: Mapping[str, Sequence[Aligned]], duration_s: float) -> None:
    """Write the tiers of a recording; the file is complete or not there.

    Raises:
        InputError: it cannot be written.
    """
    make_folder(path.parent)
    write_text(path, format_tiers(speakers, duration_s))


def format_tiers(speakers: Mapping[str, Sequence[Aligned]], duration_s: float) -> str:
    """The TextGrid of a recording of ``duration_s``."""
    from praatio import textgrid

    grid = textgrid.Textgrid(0, duration_s)
    for speaker, utterances in speakers.items():
        prefix = f"{speaker} - " if len(speakers) > 1 else ""
        for name, intervals in (
            (WORDS, [word for utterance in utterances for word in utterance.words]),
            (PHONES, [phone for utterance in utterances for phone in utterance.phones]),
        ):
            entries = [(start, end, label) for label, start, end in _in_order(intervals, duration_s)]
            grid.addTier(textgrid.IntervalTier(prefix + name, entries, 0, duration_s))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "grid.TextGrid"
        grid.save(str(file), format="long_textgrid", includeBlankSpaces=True)
        return file.read_text(encoding="utf-8")


def overlaps(utterance: Aligned, others: Iterable[Aligned]) -> bool:
    """Whether an utterance shares more than `CLIPPED_S` with another of the same speaker."""
    start_s, end_s = utterance.phones[0].start_s, utterance.phones[-1].end_s
    return any(
        start_s < other.phones[-1].end_s - CLIPPED_S and other.phones[0].start_s < end_s - CLIPPED_S for other in others
    )


def _in_order(intervals: Iterable[Interval], duration_s: float) -> list[Interval]:
    """Sort intervals and end each where the next begins at the latest; without those that then have no length."""
    ordered = sorted(intervals, key=lambda interval: interval.start_s)
    ends_s = [*(interval.start_s for interval in ordered[1:]), duration_s]
    pairs = zip(ordered, ends_s, strict=False)  # without intervals there is one end too many
    ended = (interval._replace(end_s=min(interval.end_s, end_s)) for interval, end_s in pairs)
    return [interval for interval in ended if interval.start_s < interval.end_s]
