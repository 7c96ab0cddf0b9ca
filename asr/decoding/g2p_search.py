"""Beam search for the pronunciations of a spelling, and the graphone n-gram that it uses.

A hypothesis is the pronunciation of the first letters. Hypotheses of the same letters, phones and n-gram history are one,
and the probabilities of their alignments add up.
"""

import math
from typing import NamedTuple

import numba
import numpy as np

from asr.decoding.ngram import BEGIN, END, Gram, NGram

BEAM = 32
"""Hypotheses kept after each letter."""

MARGIN = 10.0
"""In nats. Hypotheses less probable than the best one of the same letters by more than this are dropped."""


class GraphoneNGram(NamedTuple):
    """A backoff n-gram over graphones 1, 2, ... and the end of the word, 0; state s is a history, 0 the empty one.

    The arcs of state s are ``symbols``, natural ``log_probs`` and ``next_states`` from ``arc_starts[s]`` to before
    ``arc_starts[s + 1]``, sorted by symbol. State 0 has all symbols. Another state without an arc adds ``backoffs[s]`` and
    passes on to ``backoff_states[s]``, whose number is lower. ``start`` (1,) is the state at the beginning of a word.
    """

    arc_starts: np.ndarray
    symbols: np.ndarray
    log_probs: np.ndarray
    next_states: np.ndarray
    backoffs: np.ndarray
    backoff_states: np.ndarray
    start: np.ndarray


DTYPES = (np.int32, np.int32, np.float32, np.int32, np.float32, np.int32, np.int32)
"""Of the arrays of a `GraphoneNGram`."""


def compile_graphones(model: NGram) -> GraphoneNGram:
    """Compile a model of `asr.decoding.ngram.estimate` whose symbols are the numbers of the graphones."""
    histories: list[Gram] = [()]
    histories += [gram for table in model.tables[:-1] for gram in table if gram[-1] != END]
    states = {history: state for state, history in enumerate(histories)}
    columns: list[tuple[int, int, float, int]] = []
    for size, table in enumerate(model.tables, 1):
        for gram, (probability, _) in table.items():
            if gram == (BEGIN,):
                continue
            symbol = 0 if gram[-1] == END else int(gram[-1])
            following = 0 if gram[-1] == END else states[gram if size < model.order else gram[1:]]
            columns.append((states[gram[:-1]], symbol, probability * math.log(10), following))
    columns.sort()
    origins, symbols, log_probs, next_states = zip(*columns, strict=True)
    backoffs = [0.0, *(model.tables[len(history) - 1][history][1] * math.log(10) for history in histories[1:])]
    arrays = (
        np.searchsorted(origins, np.arange(len(histories) + 1)),
        symbols,
        log_probs,
        next_states,
        backoffs,
        [states[history[1:]] for history in histories],
        [states.get((BEGIN,), 0)],
    )
    return GraphoneNGram(*(np.array(array, dtype) for array, dtype in zip(arrays, DTYPES, strict=True)))


@numba.njit(nogil=True, cache=True)
def _advance(ngram: GraphoneNGram, state: int, symbol: int) -> tuple[float, int]:
    """Natural-log probability of a symbol after a state, and the state after both."""
    total = 0.0
    while True:
        low, end = ngram.arc_starts[state], ngram.arc_starts[state + 1]
        high = end
        while low < high:
            middle = (low + high) // 2
            if ngram.symbols[middle] < symbol:
                low = middle + 1
            else:
                high = middle
        if low < end and ngram.symbols[low] == symbol:
            return total + ngram.log_probs[low], ngram.next_states[low]
        total += ngram.backoffs[state]
        state = ngram.backoff_states[state]


class _Hypotheses(NamedTuple):
    """Hypotheses, or candidates for them: (letters + 1, beam) or (candidates,) each.

    ``score`` is ln p of the letters and phones so far, ``phones`` a hash of the phones. ``graphone`` is the last one, after
    the hypothesis ``origin`` = letters * beam + place.
    """

    state: np.ndarray
    score: np.ndarray
    phones: np.ndarray
    graphone: np.ndarray
    origin: np.ndarray


@numba.njit(nogil=True, cache=True)
def search(
    spans: np.ndarray, phones: np.ndarray, ngram: GraphoneNGram, beam: int, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Search for the pronunciations of a word of n letters.

    ``spans`` (n, 2, 2) are the first graphone, and the one after the last, for the letter at a position, and for the two
    letters from there. ``phones`` (graphones + 1, 2) are the numbers of a graphone's phones, 0 for none. Returns the
    natural-log probabilities of the word together with each pronunciation, (pronunciations,), best first; and the last
    graphone and the origin of all hypotheses, (n + 1, beam). Pronunciation i is the hypothesis in row n, place i; an origin
    is row * beam + place.
    """
    n, room = len(spans), 2 * beam * max(1, np.max(spans[:, :, 1] - spans[:, :, 0]))
    kept = _Hypotheses(
        np.zeros((n + 1, beam), np.int64),
        np.zeros((n + 1, beam)),
        np.zeros((n + 1, beam), np.uint64),
        np.zeros((n + 1, beam), np.int32),
        np.zeros((n + 1, beam), np.int64),
    )
    candidates = _Hypotheses(
        np.zeros(room, np.int64),
        np.zeros(room),
        np.zeros(room, np.uint64),
        np.zeros(room, np.int32),
        np.zeros(room, np.int64),
    )
    sizes = np.zeros(n + 1, np.int64)
    kept.state[0, 0], sizes[0] = ngram.start[0], 1
    for row in range(1, n + 1):
        count = _extend(row, spans, phones, ngram, margin, kept, sizes, candidates)
        sizes[row] = _keep_best(row, candidates, count, margin, kept)
    return kept.score[n, : sizes[n]], kept.graphone, kept.origin


@numba.njit(nogil=True, cache=True)
def _extend(
    row: int,
    spans: np.ndarray,
    phones: np.ndarray,
    ngram: GraphoneNGram,
    margin: float,
    kept: _Hypotheses,
    sizes: np.ndarray,
    candidates: _Hypotheses,
) -> int:
    """Fill ``candidates`` with the hypotheses of the first ``row`` letters; returns their number.

    Those of the whole word include the end, and have state 0.
    """
    count, best = 0, -np.inf
    for letters in range(1, min(row, 2) + 1):
        origin = row - letters
        first, last = spans[origin, letters - 1]
        for place in range(sizes[origin]):
            if kept.score[origin, place] < best - margin:
                break  # the best come first, and no graphone makes them more probable
            for graphone in range(first, last):
                log_prob, state = _advance(ngram, kept.state[origin, place], graphone)
                if row == len(spans):
                    log_prob, state = log_prob + _advance(ngram, state, 0)[0], 0
                candidates.state[count] = state
                candidates.score[count] = kept.score[origin, place] + log_prob
                candidates.phones[count] = _add_phones(kept.phones[origin, place], phones[graphone])
                candidates.graphone[count] = graphone
                candidates.origin[count] = origin * kept.state.shape[1] + place
                best = max(best, candidates.score[count])
                count += 1
    return count


@numba.njit(nogil=True, cache=True)
def _add_phones(value: np.uint64, phones: np.ndarray) -> np.uint64:
    """Hash of a sequence that is extended by phones."""
    for phone in phones:
        if phone > 0:
            value = (value + np.uint64(phone)) * np.uint64(0x9E3779B97F4A7C15)
            value ^= value >> np.uint64(29)
    return value


@numba.njit(nogil=True, cache=True)
def _keep_best(row: int, candidates: _Hypotheses, count: int, margin: float, kept: _Hypotheses) -> int:
    """Merge candidates of equal phones and state, and keep the best in ``row``; returns their number."""
    if count == 0:
        return 0
    near = np.flatnonzero(candidates.score[:count] >= np.max(candidates.score[:count]) - margin)
    keys = candidates.phones[near] ^ (candidates.state[near].astype(np.uint64) * np.uint64(0xD1B54A32D192ED03))
    order = np.argsort(keys)
    best, totals, merged = np.empty(len(near), np.int64), np.empty(len(near)), 0
    for position in range(len(order)):
        index = near[order[position]]
        score = candidates.score[index]
        if position > 0 and keys[order[position]] == keys[order[position - 1]]:
            high, low = max(totals[merged - 1], score), min(totals[merged - 1], score)
            totals[merged - 1] = high + math.log1p(math.exp(low - high))
            if score > candidates.score[best[merged - 1]]:
                best[merged - 1] = index
        else:
            best[merged], totals[merged] = index, score
            merged += 1
    chosen = np.argsort(-totals[:merged])[: kept.state.shape[1]]
    for place, choice in enumerate(chosen):
        index = best[choice]
        kept.score[row, place] = totals[choice]
        kept.state[row, place], kept.phones[row, place] = candidates.state[index], candidates.phones[index]
        kept.graphone[row, place], kept.origin[row, place] = candidates.graphone[index], candidates.origin[index]
    return len(chosen)
