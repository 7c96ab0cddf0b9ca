"""Two long sequences of symbols, such as the recognized and the expected phones of an hour: which belong together.

Runs of symbols that occur once in both sequences and in the same order are anchors. Between anchors, an edit distance with
affine gaps decides (O. Gotoh, "An improved algorithm for matching biological sequences", 1982), so that a stretch that one
sequence lacks stays in one piece. Memory is bounded: rows of the table are computed again on the way back.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from asr.system.deferred_compilation import defer_compilation

RUN = 6
"""Symbols of an anchor. Six phones of any 39 rarely occur twice by chance in an hour, but phrases may recur."""
NEIGHBOUR = 100
MAX_SHIFT = 15
"""An anchor counts if another lies within `NEIGHBOUR` symbols whose offset differs by at most `MAX_SHIFT`."""
SUBSTITUTION, OPENING, EXTENSION = 10, 10, 4
"""Costs: of a pair of different symbols, and of the first and each further symbol that the other sequence lacks."""
STRIPE_ROWS = 256
LARGE = 2**30
"""A cost above all others, in int32."""
PAIR, ONLY_FIRST, ONLY_SECOND = 0, 1, 2
"""What a cell of the table ends with."""


def match_sequences(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """The index in ``second`` that each symbol of ``first`` belongs to, -1 if none: ascending, symbols may differ."""
    a, b = np.asarray(first, np.int32), np.asarray(second, np.int32)
    matches = [-1] * len(a)
    done_a = done_b = 0
    for anchor_a, anchor_b in [*find_anchors(first, second), (len(a), len(b))]:
        for row, column in _match_block(a[done_a:anchor_a], b[done_b:anchor_b]):
            matches[done_a + row] = done_b + column
        if anchor_a < len(a):
            matches[anchor_a] = anchor_b
        done_a, done_b = anchor_a + 1, anchor_b + 1
    return matches


def find_anchors(first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    """Positions in both sequences that belong together, strictly ascending in both: the symbols of unique runs."""
    runs = [_unique_runs(sequence) for sequence in (first, second)]
    starts = sorted((runs[0][run], runs[1][run]) for run in runs[0].keys() & runs[1].keys())
    kept = _longest_ascent(starts)
    supported = [
        pair
        for index, pair in enumerate(kept)
        if any(_agree(pair, other) for other in (*kept[max(0, index - 1) : index], *kept[index + 1 : index + 2]))
    ]
    anchors: list[tuple[int, int]] = []
    for start_a, start_b in supported:
        for step in range(RUN):
            if not anchors or (start_a + step > anchors[-1][0] and start_b + step > anchors[-1][1]):
                anchors.append((start_a + step, start_b + step))
    return anchors


def _unique_runs(sequence: Sequence[int]) -> dict[tuple[int, ...], int]:
    """The runs of `RUN` symbols that occur once, and where."""
    runs = [tuple(sequence[start : start + RUN]) for start in range(len(sequence) - RUN + 1)]
    counts = Counter(runs)
    return {run: start for start, run in enumerate(runs) if counts[run] == 1}


def _agree(pair: tuple[int, int], other: tuple[int, int]) -> bool:
    shifts = [second - first for first, second in (pair, other)]
    return abs(pair[0] - other[0]) <= NEIGHBOUR and abs(shifts[0] - shifts[1]) <= MAX_SHIFT


def _longest_ascent(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence that ascends in the second of each pair, for pairs that ascend in the first."""
    from bisect import bisect_left

    tails: list[int] = []
    last: list[int] = []
    before = [-1] * len(pairs)
    for index, (_, value) in enumerate(pairs):
        place = bisect_left(tails, value)
        before[index] = last[place - 1] if place else -1
        tails[place : place + 1] = [value]
        last[place : place + 1] = [index]
    ascent = []
    index = last[-1] if last else -1
    while index >= 0:
        ascent.append(pairs[index])
        index = before[index]
    return ascent[::-1]


def _match_block(a: np.ndarray, b: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of the cheapest alignment of two short sequences, or of any two, in more time."""
    if len(a) == 0 or len(b) == 0:
        return []
    gaps = OPENING - EXTENSION + EXTENSION * np.arange(len(b) + 1)
    row = np.full((3, len(b) + 1), LARGE, np.int32)
    row[PAIR, 0], row[ONLY_SECOND, 1:] = 0, gaps[1:]
    rows = []
    for start in range(0, len(a), STRIPE_ROWS):
        rows.append(row)
        row, _ = _fill(a[start : start + STRIPE_ROWS], b, row)
    column, state = len(b), int(row[:, -1].argmin())
    pairs = []
    for index in range(len(rows) - 1, -1, -1):
        start = index * STRIPE_ROWS
        _, origin = _fill(a[start : start + STRIPE_ROWS], b, rows[index])
        line = len(origin)
        while line > 0 and (column > 0 or state == ONLY_FIRST):
            came = int(origin[line - 1, column]) >> 2 * state & 3
            if state == PAIR:
                line, column = line - 1, column - 1
                pairs.append((start + line, column))
            elif state == ONLY_FIRST:
                line -= 1
            else:
                column -= 1
            state = came
        if column == 0:
            break
    return pairs[::-1]


@defer_compilation(lambda a, b, above: len(a) * len(b))
def _fill(a: np.ndarray, b: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill the rows of ``a`` below the row ``above``, (3, columns + 1) int32 costs by `PAIR` and so on.

    Returns the last row, and the ends of the cells before, (rows, columns + 1) uint8: two bits each for the three ends.
    """
    columns = len(b) + 1
    origin = np.zeros((len(a), columns), np.uint8)
    row = above.copy()
    for line in range(len(a)):
        new = np.full((3, columns), LARGE, np.int32)
        for column in range(columns):
            pair, up, left = row[0, column] + OPENING, row[1, column] + EXTENSION, row[2, column] + OPENING
            new[1, column] = min(pair, up, left)
            bits = (0 if pair <= up and pair <= left else 1 if up <= left else 2) << 2
            if column > 0:
                pair, up, left = row[0, column - 1], row[1, column - 1], row[2, column - 1]
                new[0, column] = min(pair, up, left) + (0 if a[line] == b[column - 1] else SUBSTITUTION)
                bits |= 0 if pair <= up and pair <= left else 1 if up <= left else 2
                pair, up = new[0, column - 1] + OPENING, new[1, column - 1] + OPENING
                left = new[2, column - 1] + EXTENSION
                new[2, column] = min(pair, up, left)
                bits |= (0 if pair <= up and pair <= left else 1 if up <= left else 2) << 4
            origin[line, column] = bits
        row = new
    return row, origin
