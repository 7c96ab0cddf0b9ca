"""A long recording and its whole text: cut into pieces at words that were recognized with confidence, then piece by piece.

    align_anchors  match the recognized phones with those that the text leads to expect; find the segments of the recording
                   that have text, without words that it lacks and without speech that the text lacks; cut each at pauses
                   between confident words into pieces of at most about 30 s
    LongRecording  align each piece as an utterance of its own

A stretch where text and recording differ spoils nothing around it: it gets no intervals, and is reported.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, islice

import numpy as np
from torch import Tensor

from asr.decoding.best_path import best_path_spans
from asr.inference.align_anchors import EXTRA_PHONES, Match, Stretch, cut_segment, find_segments, match_phones
from asr.inference.align_utterance import Aligned, Interval, Item, MisfitError, Problem, Unit, UtteranceAligner
from asr.inference.verify import read_features
from asr.inference.windows import compute_log_probs

PIECE_S, MIN_PIECE_S = 30.0, 10.0
"""A piece is longer than `PIECE_S` only if no word before is recognized well enough to cut there."""
TEXT_ONLY, AUDIO_ONLY = "text that the audio lacks", "audio that the text lacks"
MAX_MISSING = 0.8
"""If more of the words are missing, those that were found may be chance."""
GROUP_PHONES = 4
"""Phones without words are cut into groups of so many."""
PIECES_AT_ONCE = 8
SHOWN_WORDS = 8
"""Words of a stretch that the report names."""


@dataclass(frozen=True)
class LongRecording:
    """A long item with its natural-log probabilities (output frames, symbols) and its duration."""

    aligner: UtteranceAligner
    item: Item
    log_probs: Tensor
    duration_s: float

    def align(self) -> Aligned:
        """Align the words that the recording has.

        Raises:
            MisfitError: it has none of them.
        """
        units = self._units()
        known = [index for index, unit in enumerate(units) if unit.pronunciations]
        first_phones = [units[index].pronunciations[0] for index in known]
        edges = [0, *accumulate(map(len, first_phones))]
        match = match_phones(self.log_probs, self._frame_s, [phone for phones in first_phones for phone in phones])
        segments = find_segments(match, edges)
        pieces = [piece for segment in segments for piece in self._cut(match, edges, segment)]
        words: list[Interval] = []
        phones: list[Interval] = []
        missing = np.ones(len(units), bool)
        for piece, features, log_probs in self._recognize(pieces):
            inside = known[piece.first : piece.stop]
            with suppress(MisfitError):  # then its words are missing
                start_s, end_s = self._times_s(piece)
                own_units = [units[index] for index in inside]
                aligned = self.aligner.align(
                    own_units, features, log_probs, self.item.start_s + start_s, end_s - start_s
                )
                words += aligned.words
                phones += aligned.phones
                missing[inside] = False
        if missing.sum() > MAX_MISSING * len(units):
            found = len(units) - int(missing.sum())
            raise MisfitError("text does not fit the audio", f"{found} of {len(units)} words found")
        lacking = [Problem(*self._where, reason, detail) for reason, detail in self._describe_missing(units, missing)]
        extra = [Problem(*self._where, AUDIO_ONLY, detail) for detail in self._describe_extra(segments)]
        return Aligned(tuple(words), tuple(phones), (*lacking, *extra))

    @property
    def _where(self) -> tuple[str, str]:
        return self.item.id, str(self.item.audio_path)

    def _units(self) -> list[Unit]:
        """The words, or without words that have the corpus's own phones, groups of phones.

        Raises:
            MisfitError: nothing to align.
        """
        units = self.aligner.units(self.item) if self.item.phones is not None else self.aligner.known_units(self.item)
        if len(units) == 1:
            firsts = units[0].pronunciations[:1]
            groups = [each[i : i + GROUP_PHONES] for each in firsts for i in range(0, len(each), GROUP_PHONES)]
            return [Unit("", (group,)) for group in groups]
        if not any(unit.pronunciations for unit in units):
            raise MisfitError("no pronunciation", f"0 of {len(units)} words")
        return units

    def _cut(self, match: Match, edges: Sequence[int], segment: Stretch) -> list[Stretch]:
        shortest, longest = (round(seconds / self._frame_s) for seconds in (MIN_PIECE_S, PIECE_S))
        return cut_segment(match, edges, segment, shortest, longest)

    def _recognize(self, pieces: Iterable[Stretch]) -> Iterator[tuple[Stretch, Tensor, Tensor]]:
        """Yield features (frames, dim) and log-probabilities (output frames, symbols) of pieces, each normalized alone."""
        recognizer = self.aligner.recognizer
        remaining = iter(pieces)
        while batch := list(islice(remaining, PIECES_AT_ONCE)):
            features = []
            for piece in batch:
                start_s, end_s = self._times_s(piece)
                part = (self.item.start_s + start_s, end_s - start_s)
                features.append(read_features(recognizer, self.item.audio_path, *part))
            yield from zip(batch, features, compute_log_probs(recognizer.bundle, features), strict=True)

    def _times_s(self, piece: Stretch) -> tuple[float, float]:
        """Start and end of a piece, from the start of the item."""
        end_s = self.duration_s if piece.end == len(self.log_probs) else piece.end * self._frame_s
        return piece.start * self._frame_s, min(end_s, self.duration_s)

    @property
    def _frame_s(self) -> float:
        bundle = self.aligner.recognizer.bundle
        return bundle.model.time_reduction * bundle.features.frame_shift_ms / 1000

    def _describe_missing(self, units: Sequence[Unit], missing: np.ndarray) -> Iterator[tuple[str, str]]:
        """The reason and the words of each run that is not aligned."""
        unknown = np.array([not unit.pronunciations for unit in units])
        for reason, left_out in (("no pronunciation", unknown), (TEXT_ONLY, missing & ~unknown)):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], left_out, [0]]))).tolist()
            for first, stop in zip(edges[::2], edges[1::2], strict=True):
                shown = " ".join(unit.label for unit in units[first : min(stop, first + SHOWN_WORDS)])
                rest = " ..." if stop - first > SHOWN_WORDS else ""
                yield reason, f"words {first + 1} to {stop} of {len(units)}: {shown}{rest}"

    def _describe_extra(self, segments: Sequence[Stretch]) -> Iterator[str]:
        """From when to when the recording has speech that the text lacks."""
        edges = [0, *(edge for segment in segments for edge in (segment.start, segment.end)), len(self.log_probs)]
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end > start and len(best_path_spans(self.log_probs[start:end])) >= EXTRA_PHONES:
                start_s, end_s = (self.item.start_s + edge * self._frame_s for edge in (start, end))
                yield f"{start_s:.2f} to {end_s:.2f} s"
