"""The loops of CTC prefix beam search, compiled by numba without the global interpreter lock.

A prefix is a node of a tree, and the probabilities of all paths with the same labels add up in it.
"""

import math
from typing import NamedTuple

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def log_add(a: float, b: float) -> float:
    """ln(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


@numba.njit(nogil=True, cache=True)
def find_slot(keys: np.ndarray, key: int) -> int:
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


class Tree(NamedTuple):
    """Prefix tree: parent and last label of each node, (nodes,) each. Node 0 is the empty prefix.

    ``position`` is a node's position in the beam, -1 if it is not in the beam. ``keys`` and ``children`` are a hash table
    from parent * symbols + symbol to the child node.
    """

    parents: np.ndarray
    labels: np.ndarray
    position: np.ndarray
    keys: np.ndarray
    children: np.ndarray


class Prefixes(NamedTuple):
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


class Search(NamedTuple):
    """The state of a search between two frames; ``sizes`` are the prefixes of the beam and the nodes of the tree."""

    tree: Tree
    beam: Prefixes
    candidates: Prefixes
    sizes: np.ndarray


def start_search(beam_size: int, symbols: int, frames: int, state: int) -> Search:
    """The empty prefix, in the n-gram's ``state``, and room for so many frames."""
    beam = empty_prefixes(beam_size)
    beam.state[0], beam.label[0] = state, -np.inf
    candidates = empty_prefixes(beam_size * symbols)
    return Search(empty_tree(frames * beam_size + 1), beam, candidates, np.array([1, 1]))


@numba.njit(nogil=True, cache=True)
def advance(
    search: Search, log_probs: np.ndarray, lm_scores: np.ndarray, next_states: np.ndarray, margin: float
) -> None:
    """Search the next frames (frames, symbols), for which the tree has room."""
    tree, beam, candidates, sizes = search
    symbols = log_probs.shape[1]
    for frame in log_probs:
        count = _extend(frame, lm_scores, margin, symbols, tree, beam, sizes[0], candidates)
        scores = np.empty(count)
        for i in range(count):
            scores[i] = log_add(candidates.blank[i], candidates.label[i]) + candidates.lm[i]
        tree.position[beam.node[: sizes[0]]] = -1
        chosen = _best_indices(scores, len(beam.node))
        sizes[0], sizes[1] = _replace_beam(chosen, next_states, symbols, tree, sizes[1], candidates, beam)


@numba.njit(nogil=True, cache=True)
def score_beam(search: Search, end_scores: np.ndarray) -> np.ndarray:
    """The score of each prefix of the beam if the utterance ends here; ``end_scores`` are those of the n-gram's states."""
    beam, size = search.beam, search.sizes[0]
    totals = np.empty(size)
    for i in range(size):
        totals[i] = log_add(beam.blank[i], beam.label[i]) + beam.lm[i] + end_scores[beam.state[i]]
    return totals


@numba.njit(nogil=True, cache=True)
def _extend(
    frame: np.ndarray,
    lm_scores: np.ndarray,
    margin: float,
    symbols: int,
    tree: Tree,
    beam: Prefixes,
    size: int,
    candidates: Prefixes,
) -> int:
    """Fill ``candidates`` with the extensions of every prefix in the beam by one frame; returns their number."""
    total = np.empty(size)
    for i in range(size):  # no new label: a blank, or the last label repeated
        node = beam.node[i]
        tree.position[node] = i
        total[i] = log_add(beam.blank[i], beam.label[i])
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
            child = tree.children[find_slot(tree.keys, int(beam.node[i]) * symbols + symbol)]
            if child and tree.position[child] >= 0:
                position = tree.position[child]
                candidates.label[position] = log_add(candidates.label[position], before + frame[symbol])
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
    tree: Tree,
    nodes: int,
    candidates: Prefixes,
    beam: Prefixes,
) -> tuple[int, int]:
    """Make the chosen candidates the beam and add their missing nodes; returns the sizes of beam and tree."""
    parents = beam.node.copy()
    for i, c in enumerate(chosen):
        symbol, parent, node = candidates.symbol[c], parents[candidates.origin[c]], candidates.node[c]
        if symbol and not node:
            tree.parents[nodes], tree.labels[nodes] = parent, symbol
            key = int(parent) * symbols + symbol
            slot = find_slot(tree.keys, key)
            tree.keys[slot], tree.children[slot] = key, nodes
            node = nodes
            nodes += 1
        beam.node[i], beam.blank[i], beam.label[i] = node, candidates.blank[c], candidates.label[c]
        beam.lm[i] = candidates.lm[c]
        beam.state[i] = next_states[candidates.state[c], symbol] if symbol else candidates.state[c]
    return len(chosen), nodes


@numba.njit(nogil=True, cache=True)
def empty_tree(nodes: int) -> Tree:
    """A tree of the empty prefix, with room for so many nodes."""
    size = 2
    while size < 2 * nodes:
        size *= 2
    return Tree(
        np.zeros(nodes, np.int32),
        np.zeros(nodes, np.int16),
        np.full(nodes, -1, np.int32),
        np.zeros(size, np.int64),
        np.zeros(size, np.int32),
    )


@numba.njit(nogil=True, cache=True)
def empty_prefixes(count: int) -> Prefixes:
    """Room for so many prefixes."""
    return Prefixes(
        np.zeros(count, np.int32),
        np.zeros(count, np.int32),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count, np.int32),
        np.zeros(count, np.int16),
    )


def labels_to(tree: Tree, node: int) -> list[int]:
    """Labels on the path from the root to a node."""
    return [int(tree.labels[each]) for each in path_to(tree, node)]


def path_to(tree: Tree, node: int) -> list[int]:
    """Nodes on the path from the root, which is left out, to a node."""
    path = []
    while node > 0:
        path.append(node)
        node = int(tree.parents[node])
    return path[::-1]
