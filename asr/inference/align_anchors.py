"""Where the words of a text are in a long recording, roughly: from its recognized phones to segments and pieces.

Words are numbered; the expected phones of word w are ``edges[w]`` to ``edges[w + 1]``. Places are indices of recognized
phones. Frames are output frames of the model.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

from asr.decoding.best_path import best_path_spans
from asr.inference.align_sequences import match_sequences

WINDOW = 12
MIN_MATCHED = 0.45
"""Of `WINDOW` expected phones, so many must be recognized, one after another, in text that the recording has. Of the right
text about 0.7 are, of another about 0.2.
"""
UNCLEAR_PHONES = 100
"""So many phones in a row may be there although few agree with what is recognized."""
UNCLEAR_SHARE, PHONE_S = 0.2, 0.06
"""If many phones are missing there, this share of their number must be recognized, and each must have so much time."""
FEW_WORDS = 2
"""So few words in other text may be found by chance."""
EXTRA_PHONES = 15
"""Recognized phones in a row beyond those expected: speech that the text lacks."""


@dataclass(frozen=True)
class Match:
    """Recognized phones and their frames, and for each expected phone the place of its recognized one, or -1.

    ``frames`` is the number of output frames, ``frame_s`` the time of each in seconds.
    """

    recognized: list[int]
    spans: list[tuple[int, int]]
    frames: int
    frame_s: float
    expected: list[int]
    places: list[int]

    def is_equal(self, *indices: int) -> bool:
        """Whether these expected phones, of those that exist, were recognized."""
        inside = [index for index in indices if 0 <= index < len(self.expected)]
        return all(self.places[i] >= 0 and self.recognized[self.places[i]] == self.expected[i] for i in inside)

    def edge(self, place: int) -> int:
        """The frame half way between a recognized phone and the one before."""
        if place <= 0:
            return 0
        return self.frames if place >= len(self.spans) else (self.spans[place - 1][1] + self.spans[place][0] + 1) // 2


@dataclass(frozen=True)
class Stretch:
    """Words ``first`` to ``stop``, exclusive, in frames ``start`` to ``end``."""

    first: int
    stop: int
    start: int
    end: int


def match_phones(log_probs: Tensor, frame_s: float, expected: list[int]) -> Match:
    """Match the phones of the best path through (output frames, symbols) natural-log probabilities with those expected."""
    spans = best_path_spans(log_probs)
    best = log_probs.argmax(dim=1).tolist()
    recognized = [best[start] for start, _ in spans]
    return Match(recognized, spans, len(log_probs), frame_s, expected, match_sequences(expected, recognized))


def find_segments(match: Match, edges: Sequence[int]) -> list[Stretch]:
    """Find the runs of words that the recording has, and their frames. No two segments share a frame."""
    anchors = find_confident(match)  # expected phones
    inside = np.zeros(len(match.expected), bool)
    for first, last in pairwise([-1, *anchors, len(match.expected)]):
        inside[max(0, first) if _is_continuous(match, first, last) else last : last + 1] = True
    found = [bool(inside[start:stop].mean() >= 0.5) for start, stop in pairwise(edges)]
    splits = {_split_word(edges, *pair) for pair in pairwise(anchors) if _extra(match, *pair) >= EXTRA_PHONES}
    runs: list[list[int]] = []
    for word in (word for word, is_found in enumerate(found) if is_found):
        if not runs or runs[-1][-1] != word - 1 or word in splits:
            runs.append([])
        runs[-1].append(word)
    kept = [
        run
        for run in runs
        if (len(run) > FEW_WORDS or len(found) <= FEW_WORDS)
        and bisect_left(anchors, edges[run[0]]) < bisect_left(anchors, edges[run[-1] + 1])
    ]
    return list(_stretches(match, edges, kept, anchors))


def find_confident(match: Match) -> list[int]:
    """Find the expected phones that were recognized, among others that were, in ascending order."""
    count = len(match.expected)
    width = min(WINDOW, count)
    equal = [index for index in range(count) if match.is_equal(index)]
    confident: set[int] = set()
    for position, index in enumerate(equal):
        near = equal[position : bisect_left(equal, index + width)]
        near = near[: bisect_left(near, True, key=lambda other: match.places[other] - match.places[index] >= 2 * width)]
        if len(near) >= MIN_MATCHED * width:
            confident.update(near)
    return sorted(confident)


def _is_continuous(match: Match, first: int, last: int) -> bool:
    """Whether the expected phones between two that were recognized are there, though badly spoken or badly recognized."""
    expected, extra = last - first - 1, _extra(match, first, last)
    if expected > UNCLEAR_PHONES or extra >= EXTRA_PHONES:
        return False
    start = match.spans[match.places[first]][1] if first >= 0 else 0
    stop = match.spans[match.places[last]][0] if last < len(match.expected) else match.frames
    enough = expected + extra >= UNCLEAR_SHARE * expected and (stop - start) * match.frame_s >= PHONE_S * expected
    return enough or extra > -EXTRA_PHONES


def _extra(match: Match, first: int, last: int) -> int:
    """The recognized phones between two expected ones, beyond those expected; negative if fewer.

    -1 and the number of expected phones are before the first recognized phone and behind the last.
    """
    after = len(match.recognized) if last == len(match.expected) else match.places[last]
    before = -1 if first < 0 else match.places[first]
    return after - before - (last - first)


def _split_word(edges: Sequence[int], first: int, last: int) -> int:
    """The word that begins after speech that the text lacks, which lies between two expected phones."""
    before, after = (bisect_right(edges, index) - 1 for index in (first, last))
    if before == after and edges[after + 1] - last < last - edges[after]:
        return after + 1
    return after


def _stretches(
    match: Match, edges: Sequence[int], runs: Sequence[Sequence[int]], anchors: Sequence[int]
) -> Iterator[Stretch]:
    """Give runs of words the frames from before their first phone to behind their last."""
    places = [match.places[index] for index in anchors]
    bounds: list[tuple[int, int]] = []  # first place and one past the last, of each run
    for run in runs:
        first, stop = edges[run[0]], edges[run[-1] + 1]
        own = range(bisect_left(anchors, first), bisect_left(anchors, stop))
        head, tail = own[0], own[-1]
        # A phone of a neighbour's word may lie on the other side of speech that the text lacks.
        while head < tail and places[head + 1] - places[head] - (anchors[head + 1] - anchors[head]) >= EXTRA_PHONES:
            head += 1
        while head < tail and places[tail] - places[tail - 1] - (anchors[tail] - anchors[tail - 1]) >= EXTRA_PHONES:
            tail -= 1
        bounds.append((places[head] - (anchors[head] - first), places[tail] + stop - anchors[tail]))
    for position, (run, (start, stop)) in enumerate(zip(runs, bounds, strict=True)):
        lowest = (bounds[position - 1][1] + start + 1) // 2 if position else 0
        highest = (stop + bounds[position + 1][0] + 1) // 2 if position + 1 < len(bounds) else len(match.spans)
        # Speech that the text lacks stays outside, but for a phone; less of it is taken in.
        start = lowest if start - lowest < EXTRA_PHONES // 2 else start - 1
        stop = highest if highest - stop < EXTRA_PHONES // 2 else stop + 1
        yield Stretch(run[0], run[-1] + 1, match.edge(start), match.edge(stop))


def cut_segment(match: Match, edges: Sequence[int], segment: Stretch, shortest: int, longest: int) -> list[Stretch]:
    """Cut a segment between confident words into pieces of ``shortest`` to ``longest`` frames, at the longest pauses."""
    cuts = [
        (_pause(match, edges[word]), match.edge(match.places[edges[word]]), word)
        for word in range(segment.first + 1, segment.stop)
        if _is_cut(match, edges[word])
    ]
    pieces, first, start = [], segment.first, segment.start
    while segment.end - start > longest:
        later = [cut for cut in cuts if start + shortest <= cut[1] <= segment.end - shortest]
        within = [cut for cut in later if cut[1] <= start + longest]
        if not later:
            break
        _, frame, word = max(within) if within else min(later, key=lambda cut: cut[1])
        pieces.append(Stretch(first, word, start, frame))
        first, start = word, frame
    return [*pieces, Stretch(first, segment.stop, start, segment.end)]


def _is_cut(match: Match, index: int) -> bool:
    """Whether the phones on either side of an expected one's start are recognized, one after another."""
    return match.is_equal(index - 2, index - 1, index, index + 1) and match.places[index] - match.places[index - 1] == 1


def _pause(match: Match, index: int) -> int:
    """The frames between the recognized phone of an expected one and the phone before."""
    place = match.places[index]
    return match.spans[place][0] - match.spans[place - 1][1]
