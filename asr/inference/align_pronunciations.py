"""Words with several pronunciations each: the most probable of them, and the output frames of its phones.

The pronunciations of an utterance make a graph: after each word, all pronunciations of the next may follow. A state is a
phone or a blank of CTC. A Viterbi search finds the best path from the first word to the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

from asr.nn.ctc import BLANK_ID
from asr.system.deferred_compilation import defer_compilation

MAX_PRONUNCIATIONS = 100
"""Of a word. The search stores in a byte which predecessor of a state is the best."""
IMPOSSIBLE = -1e30
"""The score of a path that does not exist, in natural log."""

Pronunciations = Sequence[Sequence[int]]
"""The pronunciations of a word, as symbol ids. None is empty."""


@dataclass(frozen=True)
class ChosenPath:
    """The best path through the words: the index of each word's pronunciation, all its phones and their output frames.

    A span is (first frame, one past the last).
    """

    choices: list[int]
    tokens: list[int]
    spans: list[tuple[int, int]]


@dataclass(frozen=True)
class _Graph:
    """The states of the search, each after its predecessors: symbols, and for each phone its word and pronunciation.

    The predecessors of state i, besides itself, are ``before[first[i] : first[i + 1]]``. ``word`` is -1 for blanks.
    """

    symbols: np.ndarray
    word: np.ndarray
    choice: np.ndarray
    first: np.ndarray
    before: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def choose_pronunciations(log_probs: Tensor, words: Sequence[Pronunciations]) -> ChosenPath | None:
    """Find the best path through words in (output frames, symbols) natural-log probabilities.

    None if the frames are too few for the phones of any path. Of a word, the first `MAX_PRONUNCIATIONS` count.
    """
    if not words:
        return ChosenPath([], [], [])
    if len(log_probs) == 0:
        return None
    graph = _build_graph(words)
    scores = np.ascontiguousarray(log_probs.float().cpu().numpy())
    origin, best = _viterbi(scores, graph.symbols, graph.first, graph.before, graph.starts)
    end = int(graph.ends[best[graph.ends].argmax()])
    if best[end] <= IMPOSSIBLE / 2:
        return None
    states = _trace_back(origin, graph.first, graph.before, end)
    choices, tokens, spans = [0] * len(words), [], []
    edges = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]
    for start, stop in pairwise(edges):
        state = states[start]
        if graph.word[state] >= 0:
            choices[graph.word[state]] = int(graph.choice[state])
            tokens.append(int(graph.symbols[state]))
            spans.append((start, stop))
    return ChosenPath(choices, tokens, spans)


def _build_graph(words: Sequence[Pronunciations]) -> _Graph:
    symbols, places = [BLANK_ID], [(-1, -1)]
    before: list[list[int]] = [[]]

    def add(symbol: int, place: tuple[int, int], predecessors: list[int]) -> int:
        symbols.append(symbol)
        places.append(place)
        # CTC merges equal neighbours, so a blank must part them.
        before.append([state for state in predecessors if symbol == BLANK_ID or symbols[state] != symbol])
        return len(symbols) - 1

    ends = [0]
    starts = [0]
    for position, pronunciations in enumerate(words):
        lasts = []
        for choice, phones in enumerate(pronunciations[:MAX_PRONUNCIATIONS]):
            for index, phone in enumerate(phones):
                if index == 0:
                    state = add(phone, (position, choice), ends)
                    if position == 0:
                        starts.append(state)
                else:
                    blank = add(BLANK_ID, (-1, -1), [state])
                    state = add(phone, (position, choice), [blank, state])
            lasts.append(state)
        ends = [add(BLANK_ID, (-1, -1), lasts), *lasts]
    first = np.cumsum([0, *(len(states) for states in before)])
    flat = [state for states in before for state in states]
    word, choice = np.array(places).T
    return _Graph(np.array(symbols), word, choice, first, np.array(flat, np.int64), np.array(starts), np.array(ends))


@defer_compilation(lambda scores, symbols, first, before, starts: len(scores) * len(symbols))
def _viterbi(
    scores: np.ndarray, symbols: np.ndarray, first: np.ndarray, before: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the predecessor of each (frame, state) on the best path to it, int8, and the final scores of the states.

    0 is the state itself, k its k-th predecessor.
    """
    frames, count = len(scores), len(symbols)
    origin = np.zeros((frames, count), np.int8)
    best = np.full(count, IMPOSSIBLE)
    for state in starts:
        best[state] = scores[0, symbols[state]]
    for frame in range(1, frames):
        # Predecessors have smaller numbers: from the last state to the first, they still hold the frame before.
        for state in range(count - 1, -1, -1):
            value, came = best[state], 0
            for index in range(first[state], first[state + 1]):
                if best[before[index]] > value:
                    value, came = best[before[index]], index - first[state] + 1
            best[state] = value + scores[frame, symbols[state]]
            origin[frame, state] = came
    return origin, best


@defer_compilation(lambda origin, first, before, end: len(origin))
def _trace_back(origin: np.ndarray, first: np.ndarray, before: np.ndarray, end: int) -> np.ndarray:
    """Follow the best path backward from its last state. Returns the state of each frame."""
    states = np.zeros(len(origin), np.int64)
    state = end
    for frame in range(len(origin) - 1, -1, -1):
        states[frame] = state
        came = origin[frame, state]
        if came > 0:
            state = before[first[state] + came - 1]
    return states
