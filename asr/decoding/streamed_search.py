"""Beam search while the frames arrive: what the probable hypotheses agree on is final, the rest may still change.

Hypotheses that disagree with a final label are dropped. With `FINAL` at 1, where all of them must agree, the result is that
of `BeamSearch.decode` over all frames. Memory does not grow: the tree keeps only the prefixes of the beam, from the last
final label.
"""

import numpy as np

from asr.decoding.beam_search import SYMBOL_MARGIN, BeamSearch
from asr.decoding.prefix_search import (
    Search,
    advance,
    empty_tree,
    find_slot,
    path_to,
    score_beam,
    start_search,
)
from asr.nn.ctc import BLANK_ID

FINAL, SHOWN = 0.99, 0.5
"""A label is final once hypotheses with so much of the beam's probability agree on it and all before; shown, with less."""

MAX_PENDING = 40
"""Labels of the best hypothesis that may wait for others to agree; older ones are final."""


class StreamedSearch:
    """The beam search of one stream."""

    def __init__(self, search: BeamSearch, symbols: int) -> None:
        """``symbols`` is the number of output symbols, blank included."""
        self._scores, self._next_states, start = search.language_model(symbols)
        self._symbols = symbols
        self._search = start_search(search.beam, symbols, 0, start)

    def accept(self, log_probs: np.ndarray) -> list[int]:
        """Search the next (frames, symbols) natural-log probabilities; returns the symbol ids that are final now."""
        self._rebuild(0, len(log_probs))
        advance(
            self._search,
            np.ascontiguousarray(log_probs, dtype=np.float64),
            self._scores,
            self._next_states,
            SYMBOL_MARGIN,
        )
        return self._commit()

    def pending(self, ended: bool = False) -> tuple[list[int], int]:
        """The symbol ids of the best hypothesis after the final ones, and how many are probable enough to be shown."""
        tree = self._search.tree
        paths, scores = self._hypotheses(ended)
        best = paths[int(scores.argmax())]
        shown = len(best) if ended else _agreed(paths, scores, SHOWN)
        return [int(tree.labels[node]) for node in best], shown

    def _hypotheses(self, ended: bool = False) -> tuple[list[list[int]], np.ndarray]:
        """The nodes of each prefix of the beam, and its natural-log score."""
        end_scores = self._scores[:, BLANK_ID] if ended else np.zeros(len(self._scores))
        nodes = self._search.beam.node[: self._search.sizes[0]]
        return [path_to(self._search.tree, int(node)) for node in nodes], score_beam(self._search, end_scores)

    def _commit(self) -> list[int]:
        """Make the last node that is agreed on the root; returns the labels up to it."""
        paths, scores = self._hypotheses()
        best = paths[int(scores.argmax())]
        agreed = best[: max(_agreed(paths, scores, FINAL), len(best) - MAX_PENDING)]
        if not agreed:
            return []
        labels = [int(self._search.tree.labels[node]) for node in agreed]
        self._keep([index for index, path in enumerate(paths) if path[: len(agreed)] == agreed])
        self._rebuild(agreed[-1], 0)
        return labels

    def _keep(self, indices: list[int]) -> None:
        """Drop all prefixes of the beam but these."""
        for values in self._search.beam:
            values[: len(indices)] = values[indices]
        self._search.sizes[0] = len(indices)

    def _rebuild(self, root: int, frames: int) -> None:
        """A new tree from ``root`` with the beam's prefixes, and room for so many frames."""
        tree, beam, candidates, sizes = self._search
        size = int(sizes[0])
        kept = {node for each in beam.node[:size] for node in path_to(tree, int(each)) if node > root}
        numbers = {root: 0} | {node: number for number, node in enumerate(sorted(kept), 1)}
        new = empty_tree(len(numbers) + frames * len(beam.node))
        new.labels[0] = tree.labels[root]
        for node in sorted(kept):
            parent, label, number = numbers[int(tree.parents[node])], int(tree.labels[node]), numbers[node]
            new.parents[number], new.labels[number] = parent, label
            key = parent * self._symbols + label
            slot = find_slot(new.keys, key)
            new.keys[slot], new.children[slot] = key, number
        beam.node[:size] = [numbers[int(node)] for node in beam.node[:size]]
        self._search = Search(new, beam, candidates, np.array([size, len(numbers)]))


def _agreed(paths: list[list[int]], scores: np.ndarray, share: float) -> int:
    """How many nodes of the best path are in paths that have this share of the probability together."""
    best, weights = paths[int(scores.argmax())], np.exp(scores - scores.max())
    least = share * weights.sum() if share < 1 else np.inf
    count = 0
    for place, node in enumerate(best):
        here = [len(path) > place and path[place] == node for path in paths]
        if weights[here].sum() < least and not all(here):
            break
        count += 1
    return count
