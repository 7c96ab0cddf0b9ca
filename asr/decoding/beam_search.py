"""CTC prefix beam search, with or without a phone n-gram.

Source: Hannun et al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs",
2014.
A prefix is a node of a tree, and the probabilities of all paths with the same labels add up in it. numba compiles the loops
without the global interpreter lock, so that threads decode several utterances at once.

The tuned decoder of a model is stored in the model's folder:

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
"""In nats. Symbols less probable than a frame's best one by more than this are not tried in that frame."""


@dataclass(frozen=True)
class Hypothesis:
    """Symbol ids and their natural-log score."""

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
        """Find the ``count`` best hypotheses of (frames, symbols) natural-log probabilities, best first."""
        lm_scores, next_states, start = self._language_model(log_probs.shape[1])
        frames = np.ascontiguousarray(log_probs, dtype=np.float64)
        nodes, parents, labels, scores = _search(frames, lm_scores, next_states, start, self.beam, SYMBOL_MARGIN)
        best = np.argsort(-scores, kind="stable")[:count]
        return [Hypothesis(_labels_to(int(nodes[i]), parents, labels), float(scores[i])) for i in best]

    def _language_model(self, symbols: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Weighted scores and next states, (states, symbols) each, and the start state; one state without an n-gram."""
        if self.ngram is None:
            return self.bonus * (np.arange(symbols) != BLANK_ID)[None], np.zeros((1, symbols), np.int32), 0
        return self._weighted_scores, self.ngram.next_states, self.ngram.start

    @cached_property
    def _weighted_scores(self) -> np.ndarray:
        assert self.ngram is not None
        scores = self.weight * self.ngram.scores.astype(np.float64) + self.bonus
        scores[:, BLANK_ID] -= self.bonus  # the end of the utterance is not a phone
        return scores

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
        """Decode a batch like `best_path`: (batch, frames, symbols) and (batch,) lengths -> the best symbol ids of each."""
        utterances = [padded[:length].numpy() for padded, length in zip(log_probs.cpu(), lengths.tolist(), strict=True)]
        with ThreadPoolExecutor() as pool:
            return [hypotheses[0].tokens for hypotheses in pool.map(self.decode, utterances)]


def save_decoder(search: BeamConfig, ngram: NGram, folder: Path) -> None:
    """Store a decoder in a model's folder; it replaces an earlier one."""
    write_arpa(ngram, folder / NGRAM_FILE)
    write_text(folder / SETTINGS_FILE, to_yaml(search))


def load_decoder(folder: Path, phones: PhoneInventory) -> BeamSearch:
    """Load the decoder from a model's folder.

    Raises:
        InputError: the folder has no decoder, or its n-gram lacks a phone.
    """
    if not (folder / SETTINGS_FILE).is_file():
        raise InputError(f"{folder}: no {SETTINGS_FILE}, expected a decoder written by `asr tune-decoder`")
    settings = from_mapping(BeamConfig, read_yaml(folder / SETTINGS_FILE), str(folder / SETTINGS_FILE))
    ngram = compile_ngram(read_arpa(folder / NGRAM_FILE), phones)
    return BeamSearch(settings.beam, ngram, settings.weight, settings.bonus)


def _labels_to(node: int, parents: np.ndarray, labels: np.ndarray) -> list[int]:
    """Labels on the path from the root to a node."""
    reversed_labels = []
    while node > 0:
        reversed_labels.append(int(labels[node]))
        node = int(parents[node])
    return reversed_labels[::-1]


@numba.njit(nogil=True, cache=True)
def _log_add(a: float, b: float) -> float:
    """ln(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


@numba.njit(nogil=True, cache=True)
def _find_slot(keys: np.ndarray, key: int) -> int:
    """Slot of a key in an open-addressing hash table, or the free slot for it."""
    mask = len(keys) - 1
    slot = (key * 0x9E3779B1 >> 7) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@numba.njit(nogil=True, cache=True)
def _best_indices(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest scores; ties go to the first."""
    if len(scores) <= count:
        return np.arange(len(scores))
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen = np.empty(count, np.int64)
    taken = 0
    room_for_ties = count - np.sum(scores > limit)
    for index in range(len(scores)):
        if scores[index] == limit:
            room_for_ties -= 1
        if scores[index] > limit or (scores[index] == limit and room_for_ties >= 0):
            chosen[taken] = index
            taken += 1
    return chosen


class _Tree(NamedTuple):
    """Prefix tree: parent and last label of each node, (nodes,) each. Node 0 is the empty prefix.

    ``position`` is a node's position in the beam, -1 if it is not in the beam. ``keys`` and ``children`` are a hash table
    from parent * symbols + symbol to the child node.
    """

    parents: np.ndarray
    labels: np.ndarray
    position: np.ndarray
    keys: np.ndarray
    children: np.ndarray


class _Prefixes(NamedTuple):
    """The prefixes of the beam, or the candidates for it, (prefixes,) each.

    ``blank`` and ``label`` are ln p of the paths that end in a blank or in the last label. ``lm`` is the weighted n-gram
    score with the bonus, ``state`` the state of the n-gram. A candidate extends the prefix at position ``origin`` of the
    beam by ``symbol``, 0 for no extension; its ``node`` is 0 if it is not in the tree yet.
    """

    node: np.ndarray
    state: np.ndarray
    blank: np.ndarray
    label: np.ndarray
    lm: np.ndarray
    origin: np.ndarray
    symbol: np.ndarray


@numba.njit(nogil=True, cache=True)
def _search(
    log_probs: np.ndarray, lm_scores: np.ndarray, next_states: np.ndarray, start: int, beam_size: int, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Search all frames; returns the nodes of the final beam, the parent and label of every node, and the beam's scores."""
    frames, symbols = log_probs.shape
    tree = _empty_tree(frames * beam_size + 1)
    beam, candidates = _empty_prefixes(beam_size), _empty_prefixes(beam_size * symbols)
    beam.node[0], beam.state[0], beam.blank[0], beam.label[0], beam.lm[0] = 0, start, 0.0, -np.inf, 0.0
    size, nodes = 1, 1
    for frame in log_probs:
        count = _extend(frame, lm_scores, margin, symbols, tree, beam, size, candidates)
        scores = np.empty(count)
        for i in range(count):
            scores[i] = _log_add(candidates.blank[i], candidates.label[i]) + candidates.lm[i]
        tree.position[beam.node[:size]] = -1
        chosen = _best_indices(scores, beam_size)
        size, nodes = _replace_beam(chosen, next_states, symbols, tree, nodes, candidates, beam)
    totals = np.empty(size)
    for i in range(size):
        totals[i] = _log_add(beam.blank[i], beam.label[i]) + beam.lm[i] + lm_scores[beam.state[i], 0]
    return beam.node[:size], tree.parents, tree.labels, totals


@numba.njit(nogil=True, cache=True)
def _extend(
    frame: np.ndarray,
    lm_scores: np.ndarray,
    margin: float,
    symbols: int,
    tree: _Tree,
    beam: _Prefixes,
    size: int,
    candidates: _Prefixes,
) -> int:
    """Fill ``candidates`` with the extensions of every prefix in the beam by one frame; returns their number."""
    total = np.empty(size)
    for i in range(size):  # no new label: a blank, or the last label repeated
        node = beam.node[i]
        tree.position[node] = i
        total[i] = _log_add(beam.blank[i], beam.label[i])
        candidates.node[i], candidates.origin[i], candidates.symbol[i], candidates.lm[i] = node, i, 0, beam.lm[i]
        candidates.state[i] = beam.state[i]
        candidates.blank[i] = total[i] + frame[0]
        candidates.label[i] = beam.label[i] + frame[tree.labels[node]]
    count = size
    lowest = np.max(frame) - margin
    for symbol in range(1, symbols):
        if frame[symbol] < lowest:
            continue
        for i in range(size):  # one more label; if it equals the last one, only after a blank
            before = beam.blank[i] if symbol == tree.labels[beam.node[i]] else total[i]
            if before == -np.inf:
                continue
            child = tree.children[_find_slot(tree.keys, int(beam.node[i]) * symbols + symbol)]
            if child and tree.position[child] >= 0:
                position = tree.position[child]
                candidates.label[position] = _log_add(candidates.label[position], before + frame[symbol])
                continue
            candidates.node[count], candidates.origin[count], candidates.symbol[count] = child, i, symbol
            candidates.state[count] = beam.state[i]
            candidates.lm[count] = beam.lm[i] + lm_scores[beam.state[i], symbol]
            candidates.blank[count], candidates.label[count] = -np.inf, before + frame[symbol]
            count += 1
    return count


@numba.njit(nogil=True, cache=True)
def _replace_beam(
    chosen: np.ndarray,
    next_states: np.ndarray,
    symbols: int,
    tree: _Tree,
    nodes: int,
    candidates: _Prefixes,
    beam: _Prefixes,
) -> tuple[int, int]:
    """Make the chosen candidates the beam and add their missing nodes; returns the sizes of beam and tree."""
    parents = beam.node.copy()
    for i, c in enumerate(chosen):
        symbol, parent, node = candidates.symbol[c], parents[candidates.origin[c]], candidates.node[c]
        if symbol and not node:
            tree.parents[nodes], tree.labels[nodes] = parent, symbol
            key = int(parent) * symbols + symbol
            slot = _find_slot(tree.keys, key)
            tree.keys[slot], tree.children[slot] = key, nodes
            node = nodes
            nodes += 1
        beam.node[i], beam.blank[i], beam.label[i] = node, candidates.blank[c], candidates.label[c]
        beam.lm[i] = candidates.lm[c]
        beam.state[i] = next_states[candidates.state[c], symbol] if symbol else candidates.state[c]
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
