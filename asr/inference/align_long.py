"""A long recording and its whole text: cut into pieces at words that were recognized with confidence, then piece by piece.

    align_anchors  match the recognized phones with those that the text leads to expect; find the segments of the recording
                   that have text, without words that it lacks and without speech that the text lacks; cut each at pauses
                   between confident words into pieces of at most about 30 s
    LongRecording  align each piece as an utterance of its own

A stretch where text and recording differ spoils nothing around it: it gets no intervals, and is reported.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, islice

import numpy as np
from torch import Tensor

from asr.corpus.audio import read_blocks
from asr.features.frames import frame_samples
from asr.inference.align_anchors import EXTRA_PHONES, Match, Stretch, cut_segment, find_segments, match_phones
from asr.inference.align_utterance import Aligned, Interval, Item, MisfitError, Problem, Unit, UtteranceAligner
from asr.inference.verify import read_features
from asr.inference.windows import compute_log_probs, join_windows

WINDOW_S, OVERLAP_S = 30.0, 3.0
"""The recording is recognized in windows, so that speakers and channels may change."""
PIECE_S, MIN_PIECE_S = 30.0, 10.0
"""A piece is longer than `PIECE_S` only if no word before is recognized well enough to cut there."""
TEXT_ONLY, AUDIO_ONLY = "text that the audio lacks", "audio that the text lacks"
MAX_MISSING = 0.8
"""If more of the words are missing, those that were found may be chance."""
GROUP_PHONES = 4
"""Phones without words are cut into groups of so many."""
WINDOWS_AT_ONCE = 4
SHOWN_WORDS = 8
"""Words of a stretch that the report names."""


@dataclass(frozen=True)
class LongRecording:
    """A long item, and its duration."""

    aligner: UtteranceAligner
    item: Item
    duration_s: float

    def align(self) -> Aligned:
        """Align the words that the recording has.

        Raises:
            MisfitError: it has few of them.
            InputError: the audio cannot be used.
        """
        units, label = self._units()
        known = [index for index, unit in enumerate(units) if unit.pronunciations]
        first_phones = [units[index].pronunciations[0] for index in known]
        edges = [0, *accumulate(map(len, first_phones))]
        log_probs = self._recognize()
        match = match_phones(log_probs, self._frame_s, [phone for phones in first_phones for phone in phones])
        segments = find_segments(match, edges)
        pieces = [piece for segment in segments for piece in self._cut(match, edges, segment)]
        words: list[Interval] = []
        phones: list[Interval] = []
        missing = np.ones(len(units), bool)
        for piece in pieces:
            inside = known[piece.first : piece.stop]
            with suppress(MisfitError):  # then its words are missing
                aligned = self._align_piece([units[index] for index in inside], piece, log_probs)
                words += aligned.words
                phones += aligned.phones
                missing[inside] = False
        if label and phones:  # phones that no words agree with: one interval has all words
            words = [Interval(label, phones[0].start_s, phones[-1].end_s)]
        if missing.sum() > MAX_MISSING * len(units):
            found = len(units) - int(missing.sum())
            raise MisfitError("text does not fit the audio", f"{found} of {len(units)} words found")
        lacking = [Problem(*self._where, reason, detail) for reason, detail in self._describe_missing(units, missing)]
        extra = [Problem(*self._where, AUDIO_ONLY, detail) for detail in self._describe_extra(match, segments)]
        return Aligned(tuple(words), tuple(phones), (*lacking, *extra))

    @property
    def _where(self) -> tuple[str, str]:
        return self.item.id, str(self.item.audio_path)

    def _units(self) -> tuple[list[Unit], str]:
        """The words; or, if no words agree with the corpus's own phones, groups of these phones, and all words as a label.

        Raises:
            MisfitError: nothing to align.
        """
        units = self.aligner.units(self.item) if self.item.phones is not None else self.aligner.known_units(self.item)
        if not any(unit.pronunciations for unit in units):
            raise MisfitError("no pronunciation", f"0 of {len(units)} words")
        if len(units) > 1:
            return units, ""
        (first, *_), label = units[0].pronunciations, units[0].label
        return [Unit("", (first[i : i + GROUP_PHONES],)) for i in range(0, len(first), GROUP_PHONES)], label

    def _cut(self, match: Match, edges: Sequence[int], segment: Stretch) -> list[Stretch]:
        shortest, longest = (round(seconds / self._frame_s) for seconds in (MIN_PIECE_S, PIECE_S))
        return cut_segment(match, edges, segment, shortest, longest)

    def _recognize(self) -> Tensor:
        """Compute natural-log probabilities (output frames, symbols) in windows, each normalized alone, and join them."""
        windows = list(self._recognize_windows())  # an MP3 may end before its header says, so these tell the frames
        start, last = windows[-1]
        return join_windows(windows, start + len(last), last.shape[1])

    def _recognize_windows(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the first output frame of each window and its log-probabilities."""
        recognizer = self.aligner.recognizer
        step = round((WINDOW_S - OVERLAP_S) / self._frame_s)
        windows = enumerate(self._read_windows(step * self._frame_samples))
        while batch := list(islice(windows, WINDOWS_AT_ONCE)):
            features = [recognizer.features(window, recognizer.sample_rate_hz)[0] for _, window in batch]
            all_log_probs = compute_log_probs(recognizer.bundle, features)
            yield from ((number * step, each) for (number, _), each in zip(batch, all_log_probs, strict=True))

    def _read_windows(self, step: int) -> Iterator[np.ndarray]:
        """Read windows of (samples,) float32 that start ``step`` samples apart."""
        rate_hz = self.aligner.recognizer.sample_rate_hz
        size = step + round(OVERLAP_S * rate_hz)
        pending = np.zeros(0, np.float32)
        for block in read_blocks(self.item.audio_path, rate_hz, self.item.start_s, self.duration_s):
            pending = np.concatenate([pending, block])
            while len(pending) > size:
                yield pending[:size]
                pending = pending[step:]
        yield pending

    def _align_piece(self, units: Sequence[Unit], piece: Stretch, log_probs: Tensor) -> Aligned:
        """Align a piece as an utterance of its own: its features are normalized alone."""
        start_s, end_s = self._times_s(piece)
        start_s, duration_s = self.item.start_s + start_s, end_s - start_s
        features = read_features(self.aligner.recognizer, self.item.audio_path, start_s, duration_s)
        return self.aligner.align(units, features, log_probs[piece.start : piece.end], start_s, duration_s)

    def _times_s(self, piece: Stretch) -> tuple[float, float]:
        """Start and end of a piece, from the start of the item."""
        last = round(self.duration_s / self._frame_s) - 1
        return piece.start * self._frame_s, self.duration_s if piece.end >= last else piece.end * self._frame_s

    @property
    def _frame_samples(self) -> int:
        """Samples from an output frame to the next."""
        bundle = self.aligner.recognizer.bundle
        return bundle.model.time_reduction * frame_samples(bundle.features)[1]

    @property
    def _frame_s(self) -> float:
        return self._frame_samples / self.aligner.recognizer.sample_rate_hz

    def _describe_missing(self, units: Sequence[Unit], missing: np.ndarray) -> Iterator[tuple[str, str]]:
        """The reason and the words of each run that is not aligned."""
        unknown = np.array([not unit.pronunciations for unit in units], bool)
        for reason, left_out in (("no pronunciation", unknown), (TEXT_ONLY, missing & ~unknown)):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], left_out, [0]]))).tolist()
            for first, stop in zip(edges[::2], edges[1::2], strict=True):
                shown = " ".join(unit.label for unit in units[first : min(stop, first + SHOWN_WORDS)])
                rest = " ..." if stop - first > SHOWN_WORDS else ""
                place = f"{first + 1} to {stop} of {len(units)}"
                yield reason, f"words {place}: {shown}{rest}" if shown.strip() else f"groups of phones {place}"

    def _describe_extra(self, match: Match, segments: Sequence[Stretch]) -> Iterator[str]:
        """From when to when the recording has speech that the text lacks."""
        edges = [0, *(edge for segment in segments for edge in (segment.start, segment.end)), match.frames]
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if sum(start <= first and last <= end for first, last in match.spans) >= EXTRA_PHONES:
                start_s, end_s = (self.item.start_s + edge * self._frame_s for edge in (start, end))
                yield f"{start_s:.2f} to {end_s:.2f} s"
