"""CTC prefix beam search, with or without a phone n-gram.

Source: Hannun et al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs",
2014.
A prefix is a node of a tree; all paths that say the same phones add up in one node. The loops are compiled by numba, which
holds no lock: utterances can be decoded in several threads.

A model's folder holds the decoder that was tuned for it:

    decoder.yaml   beam, weight and bonus
    ngram.arpa     the n-gram
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from torch import Tensor

from asr.config import BeamConfig, from_mapping, to_yaml
from asr.corpus.phones import PhoneInventory
from asr.decoding.ngram import Automaton, NGram, compile_ngram, read_arpa, write_arpa
from asr.errors import InputError
from asr.nn.ctc import BLANK_ID
from asr.system.files import write_text
from asr.system.plain_yaml import read_yaml

SETTINGS_FILE, NGRAM_FILE = "decoder.yaml", "ngram.arpa"

SYMBOL_MARGIN = 12.0
"""In nats: a symbol this much less probable than a frame's best one is not tried in that frame."""


@dataclass(frozen=True)
class Hypothesis:
    """Symbol ids, and the natural-log score they were chosen by."""

    tokens: list[int]
    score: float


@dataclass(frozen=True)
class BeamSearch:
    """Prefix beam search.

    score = ln p(phones | audio) + ``weight`` * ln p(phones) of the n-gram + ``bonus`` * number of phones.
    """

    beam: int = 50
    ngram: Automaton | None = None
    weight: float = 0.0
    bonus: float = 0.0

    def decode(self, log_probs: np.ndarray, count: int = 1) -> list[Hypothesis]:
        """The ``count`` best hypotheses, best first, of (frames, symbols) natural-log probabilities."""
        extra, following, start = self._ngram_or_none(log_probs.shape[1])
        frames = np.ascontiguousarray(log_probs, dtype=np.float64)
        nodes, parents, labels, totals = _search(frames, extra, following, start, self.beam, SYMBOL_MARGIN)
        best = np.argsort(-totals, kind="stable")[:count]
        return [Hypothesis(_labels_to(int(nodes[i]), parents, labels), float(totals[i])) for i in best]

    def _ngram_or_none(self, symbols: int) -> tuple[np.ndarray, np.ndarray, int]:
        """What a symbol adds to the score in each state, the state it leads to, and the first state."""
        if self.ngram is None:
            return self.bonus * (np.arange(symbols) != BLANK_ID)[None], np.zeros((1, symbols), np.int32), 0
        return self._weighted, self.ngram.following, self.ngram.start

    @cached_property
    def _weighted(self) -> np.ndarray:
        assert self.ngram is not None
        extra = self.weight * self.ngram.scores.astype(np.float64) + self.bonus
        extra[:, BLANK_ID] -= self.bonus  # an utterance's end is no phone
        return extra

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
        """Symbol ids of each best hypothesis for (batch, frames, symbols) with (batch,) lengths: as `best_path`."""
        rows = [row[:length].numpy() for row, length in zip(log_probs.cpu(), lengths.tolist(), strict=True)]
        with ThreadPoolExecutor() as pool:
            return [hypotheses[0].tokens for hypotheses in pool.map(self.decode, rows)]


def save_decoder(search: BeamConfig, ngram: NGram, folder: Path) -> None:
    """Put a decoder into a model's folder, in place of one that is there."""
    write_arpa(ngram, folder / NGRAM_FILE)
    write_text(folder / SETTINGS_FILE, to_yaml(search))


def load_decoder(folder: Path, phones: PhoneInventory) -> BeamSearch:
    """The decoder in a model's folder.

    Raises:
        InputError: there is none, or its n-gram lacks a phone.
    """
    if not (folder / SETTINGS_FILE).is_file():
        raise InputError(f"{folder}: no {SETTINGS_FILE}, expected a decoder as `asr tune-decoder` leaves it there")
    settings = from_mapping(BeamConfig, read_yaml(folder / SETTINGS_FILE), str(folder / SETTINGS_FILE))
    ngram = compile_ngram(read_arpa(folder / NGRAM_FILE), phones)
    return BeamSearch(settings.beam, ngram, settings.weight, settings.bonus)


def _labels_to(node: int, parents: np.ndarray, labels: np.ndarray) -> list[int]:
    found = []
    while node > 0:
        found.append(int(labels[node]))
        node = int(parents[node])
    return found[::-1]


@numba.njit(nogil=True, cache=True)
def _add(a: float, b: float) -> float:
    """ln(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


@numba.njit(nogil=True, cache=True)
def _slot(keys: np.ndarray, key: int) -> int:
    """Where a key stands in an open hash table, or the free place where it would."""
    mask = len(keys) - 1
    place = (key * 0x9E3779B1 >> 7) & mask
    while keys[place] != 0 and keys[place] != key:
        place = (place + 1) & mask
    return place


@numba.njit(nogil=True, cache=True)
def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest values, of equals the first."""
    if len(scores) <= count:
        return np.arange(len(scores))
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen = np.empty(count, np.int64)
    taken = 0
    room_for_equals = count - np.sum(scores > limit)
    for index in range(len(scores)):
        if scores[index] == limit:
            room_for_equals -= 1
        if scores[index] > limit or (scores[index] == limit and room_for_equals >= 0):
            chosen[taken] = index
            taken += 1
    return chosen


class _Tree(NamedTuple):
    """Prefixes as nodes, each with its parent and last label; node 0 is the empty one. (nodes,) each.

    ``position`` is a node's place in the beam, -1 outside it; ``keys`` and ``children`` are the hash table from
    parent * symbols + symbol to the child.
    """

    parents: np.ndarray
    labels: np.ndarray
    position: np.ndarray
    keys: np.ndarray
    children: np.ndarray


class _Prefixes(NamedTuple):
    """Prefixes in the beam, or candidates for it, (prefixes,) each.

    ``blank`` and ``label`` are ln p of the paths that end in a blank or in the last label, ``given`` is what the n-gram
    and the bonus add. ``state`` is the n-gram's; a candidate is the prefix at place ``origin`` of the beam with ``symbol``
    added, or as it was where that is 0, and its node is 0 where it has none yet.
    """

    node: np.ndarray
    state: np.ndarray
    blank: np.ndarray
    label: np.ndarray
    given: np.ndarray
    origin: np.ndarray
    symbol: np.ndarray


@numba.njit(nogil=True, cache=True)
def _search(
    log_probs: np.ndarray, extra: np.ndarray, following: np.ndarray, start: int, beam: int, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The prefixes that are left at the end: their nodes, every node's parent and label, and the prefixes' scores."""
    frames, symbols = log_probs.shape
    tree = _empty_tree(frames * beam + 1)
    kept, tried = _empty_prefixes(beam), _empty_prefixes(beam * symbols)
    kept.node[0], kept.state[0], kept.blank[0], kept.label[0], kept.given[0] = 0, start, 0.0, -np.inf, 0.0
    count, nodes = 1, 1
    for frame in log_probs:
        found = _try_all(frame, extra, margin, symbols, tree, kept, count, tried)
        scores = np.empty(found)
        for i in range(found):
            scores[i] = _add(tried.blank[i], tried.label[i]) + tried.given[i]
        tree.position[kept.node[:count]] = -1
        count, nodes = _keep(_best(scores, beam), following, symbols, tree, nodes, tried, kept)
    totals = np.empty(count)
    for i in range(count):
        totals[i] = _add(kept.blank[i], kept.label[i]) + kept.given[i] + extra[kept.state[i], 0]
    return kept.node[:count], tree.parents, tree.labels, totals


@numba.njit(nogil=True, cache=True)
def _try_all(
    frame: np.ndarray,
    extra: np.ndarray,
    margin: float,
    symbols: int,
    tree: _Tree,
    kept: _Prefixes,
    count: int,
    tried: _Prefixes,
) -> int:
    """Fill ``tried`` with what each prefix of the beam can become in a frame; their number."""
    total = np.empty(count)
    for i in range(count):  # as it is: by a blank, or by its last label again
        node = kept.node[i]
        tree.position[node] = i
        total[i] = _add(kept.blank[i], kept.label[i])
        tried.node[i], tried.origin[i], tried.symbol[i], tried.given[i] = node, i, 0, kept.given[i]
        tried.state[i] = kept.state[i]
        tried.blank[i], tried.label[i] = total[i] + frame[0], kept.label[i] + frame[tree.labels[node]]
    found = count
    lowest = np.max(frame) - margin
    for symbol in range(1, symbols):
        if frame[symbol] < lowest:
            continue
        for i in range(count):  # with a symbol more; the last one again only after a blank
            before = kept.blank[i] if symbol == tree.labels[kept.node[i]] else total[i]
            if before == -np.inf:
                continue
            child = tree.children[_slot(tree.keys, int(kept.node[i]) * symbols + symbol)]
            if child and tree.position[child] >= 0:
                place = tree.position[child]
                tried.label[place] = _add(tried.label[place], before + frame[symbol])
                continue
            tried.node[found], tried.origin[found], tried.symbol[found] = child, i, symbol
            tried.state[found], tried.given[found] = kept.state[i], kept.given[i] + extra[kept.state[i], symbol]
            tried.blank[found], tried.label[found] = -np.inf, before + frame[symbol]
            found += 1
    return found


@numba.njit(nogil=True, cache=True)
def _keep(
    chosen: np.ndarray,
    following: np.ndarray,
    symbols: int,
    tree: _Tree,
    nodes: int,
    tried: _Prefixes,
    kept: _Prefixes,
) -> tuple[int, int]:
    """Make the chosen candidates the beam, new nodes where they have none; how many they are, and the tree's nodes."""
    parents = kept.node.copy()
    for i, c in enumerate(chosen):
        symbol, parent, node = tried.symbol[c], parents[tried.origin[c]], tried.node[c]
        if symbol and not node:
            tree.parents[nodes], tree.labels[nodes] = parent, symbol
            key = int(parent) * symbols + symbol
            place = _slot(tree.keys, key)
            tree.keys[place], tree.children[place] = key, nodes
            node = nodes
            nodes += 1
        kept.node[i], kept.blank[i], kept.label[i], kept.given[i] = node, tried.blank[c], tried.label[c], tried.given[c]
        kept.state[i] = following[tried.state[c], symbol] if symbol else tried.state[c]
    return len(chosen), nodes


@numba.njit(nogil=True, cache=True)
def _empty_tree(nodes: int) -> _Tree:
    size = 2
    while size < 2 * nodes:
        size *= 2
    return _Tree(
        np.zeros(nodes, np.int32),
        np.zeros(nodes, np.int16),
        np.full(nodes, -1, np.int32),
        np.zeros(size, np.int64),
        np.zeros(size, np.int32),
    )


@numba.njit(nogil=True, cache=True)
def _empty_prefixes(count: int) -> _Prefixes:
    return _Prefixes(
        np.zeros(count, np.int32),
        np.zeros(count, np.int32),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count, np.int32),
        np.zeros(count, np.int16),
    )
