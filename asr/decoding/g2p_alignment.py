"""Alignment of spellings with pronunciations: pairs of letters and phones, called graphones, by expectation maximization.

A graphone has one letter with zero to two phones, or two letters with one phone. The probability of an alignment is the
product of the probabilities of its graphones. The first step prefers graphones of one letter and one phone.

Sources: Jiampojamarn, Kondrak and Sherif, "Applying many-to-many alignments and hidden Markov models to letter-to-phoneme
conversion", 2007; Bisani and Ney, "Joint-sequence models for grapheme-to-phoneme conversion", 2008.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

SHAPES = np.array([(1, 0), (1, 1), (1, 2), (2, 1)])
"""Letters and phones of each shape of graphone. The search relies on at most two of both."""

FIRST_WEIGHT = 0.1
"""Weight at first of a graphone that is not one letter and one phone, whose weight is 1. Small lexicons need it."""

ITERATIONS = 12
BATCH = 5000
"""Words whose graphones are numbered at once."""


class Graphone(NamedTuple):
    """Letters that belong together, and their phones."""

    letters: str
    phones: tuple[str, ...]


Pair = tuple[str, tuple[str, ...]]
"""A word and one of its pronunciations."""


@dataclass(frozen=True)
class _Lattices:
    """All alignments of all words.

    The edges of word w are ``edges[starts[w] : starts[w + 1]]`` with shape (letters, phones + 1, shapes): the number of the
    graphone that begins at a letter and a phone, or -1. ``sizes`` (words, 2) are letters and phones. ``keys`` are the
    graphones as numbers.
    """

    edges: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    keys: np.ndarray


def align(pairs: Sequence[Pair], iterations: int = ITERATIONS) -> list[list[Graphone]]:
    """The most probable alignment of each pair. It is empty if there is none: more than two phones a letter."""
    letters, phones = _number(word for word, _ in pairs), _number(phones for _, phones in pairs)
    lattices = _make_lattices(pairs, letters, phones)
    names = [_name_graphone(int(key), list(letters), list(phones)) for key in lattices.keys]
    weights = np.array([1.0 if len(name.letters) == len(name.phones) else FIRST_WEIGHT for name in names])
    for _ in range(iterations):
        counts = expected_counts(lattices.edges, lattices.starts, lattices.sizes, weights)
        weights = counts / max(counts.sum(), np.finfo(float).tiny)
    best, ends = _best_paths(lattices.edges, lattices.starts, lattices.sizes, weights)
    return [[names[index] for index in path] for path in np.split(best[: ends[-1]], ends[:-1])]


def _number(sequences: Iterable[Iterable[str]]) -> dict[str, int]:
    """Numbers of symbols, from 1."""
    return {symbol: number for number, symbol in enumerate(sorted({s for sequence in sequences for s in sequence}), 1)}


def _make_lattices(pairs: Sequence[Pair], letters: dict[str, int], phones: dict[str, int]) -> _Lattices:
    """Number the graphones of all alignments, in batches, to limit memory."""
    sizes = np.array([(len(word), len(pronunciation)) for word, pronunciation in pairs], np.int64).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(sizes[:, 0] * (sizes[:, 1] + 1) * len(SHAPES))])
    bases = (len(letters) + 1, len(phones) + 1)

    def batches() -> Iterable[tuple[int, np.ndarray]]:
        for first in range(0, len(pairs), BATCH):
            batch = pairs[first : first + BATCH]
            spelled = np.array([letters[letter] for word, _ in batch for letter in word], np.int64)
            spoken = np.array([phones[phone] for _, pronunciation in batch for phone in pronunciation], np.int64)
            yield int(starts[first]), _edge_keys(spelled, spoken, sizes[first : first + BATCH], *bases)

    keys = np.unique(np.concatenate([np.unique(batch) for _, batch in batches()] or [np.array([-1])]))
    keys = keys[keys >= 0]
    edges = np.empty(starts[-1], np.int32)
    for start, batch in batches():
        edges[start : start + len(batch)] = np.where(batch < 0, -1, np.searchsorted(keys, batch))
    return _Lattices(edges, starts, sizes, keys)


def _name_graphone(key: int, letters: Sequence[str], phones: Sequence[str]) -> Graphone:
    """The letters and phones of a key of `_edge_keys`."""
    base = len(phones) + 1
    key, second_phone = divmod(key, base)
    key, first_phone = divmod(key, base)
    first, second = divmod(key, len(letters) + 1)
    spelled = "".join(letters[number - 1] for number in (first, second) if number)
    return Graphone(spelled, tuple(phones[number - 1] for number in (first_phone, second_phone) if number))


@numba.njit(nogil=True, cache=True)
def _edge_keys(
    letters: np.ndarray, phones: np.ndarray, sizes: np.ndarray, letter_base: int, phone_base: int
) -> np.ndarray:
    """Key of each edge of a batch of words, laid out as in `_Lattices`; -1 where no graphone fits."""
    keys = np.full(np.sum(sizes[:, 0] * (sizes[:, 1] + 1)) * len(SHAPES), -1)
    edge, letter_start, phone_start = 0, 0, 0
    for n, m in sizes:
        for i in range(n):
            for j in range(m + 1):
                for a, b in SHAPES:
                    # Before and after the graphone, no letter has more than two phones.
                    fits = i + a <= n and j + b <= m and j <= 2 * i and m - j - b <= 2 * (n - i - a)
                    if fits:
                        key = letters[letter_start + i] * letter_base
                        key += letters[letter_start + i + 1] if a == 2 else 0
                        key = key * phone_base + (phones[phone_start + j] if b > 0 else 0)
                        keys[edge] = key * phone_base + (phones[phone_start + j + 1] if b == 2 else 0)
                    edge += 1
        letter_start += n
        phone_start += m
    return keys


@numba.njit(nogil=True, cache=True)
def expected_counts(edges: np.ndarray, starts: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected number of each graphone, (graphones,), over all alignments, weighted by the products of ``weights``."""
    counts = np.zeros(len(weights))
    for word in range(len(sizes)):
        n, m = sizes[word]
        lattice = edges[starts[word] : starts[word + 1]].reshape(n, m + 1, len(SHAPES))
        before, after = np.zeros((n + 1, m + 1)), np.zeros((n + 1, m + 1))
        before[0, 0], after[n, m] = 1.0, 1.0
        for i in range(n):
            for j in range(m + 1):
                for k in range(len(SHAPES)):
                    if lattice[i, j, k] >= 0:
                        before[i + SHAPES[k, 0], j + SHAPES[k, 1]] += before[i, j] * weights[lattice[i, j, k]]
        total = before[n, m]
        if total <= 0 or not np.isfinite(total):
            continue
        for i in range(n - 1, -1, -1):
            for j in range(m + 1):
                for k in range(len(SHAPES)):
                    if lattice[i, j, k] >= 0:
                        rest = weights[lattice[i, j, k]] * after[i + SHAPES[k, 0], j + SHAPES[k, 1]]
                        after[i, j] += rest
                        counts[lattice[i, j, k]] += before[i, j] * rest / total
    return counts


@numba.njit(nogil=True, cache=True)
def _best_paths(
    edges: np.ndarray, starts: np.ndarray, sizes: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Graphones of the best alignments of all words in sequence, and where each word ends in it, (words,)."""
    paths, ends, size = np.empty(np.sum(sizes[:, 0]), np.int32), np.zeros(len(sizes), np.int64), 0
    for word in range(len(sizes)):
        n, m = sizes[word]
        lattice = edges[starts[word] : starts[word + 1]].reshape(n, m + 1, len(SHAPES))
        best, choice = np.full((n + 1, m + 1), -np.inf), np.full((n + 1, m + 1), -1)
        best[n, m] = 0.0
        for i in range(n - 1, -1, -1):
            for j in range(m + 1):
                for k in range(len(SHAPES)):
                    if lattice[i, j, k] >= 0 and weights[lattice[i, j, k]] > 0:
                        rest = best[i + SHAPES[k, 0], j + SHAPES[k, 1]] + np.log(weights[lattice[i, j, k]])
                        if rest > best[i, j]:
                            best[i, j], choice[i, j] = rest, k
        i, j = 0, 0
        while choice[i, j] >= 0:
            k = choice[i, j]
            paths[size] = lattice[i, j, k]
            size += 1
            i, j = i + SHAPES[k, 0], j + SHAPES[k, 1]
        ends[word] = size
    return paths, ends
