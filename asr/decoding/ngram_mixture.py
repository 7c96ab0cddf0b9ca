"""Mixtures of n-grams, such as one of a corpus and one of much other text, and pruning, which makes them small.

Sources: Jelinek and Mercer, "Interpolated estimation of Markov source parameters from sparse data", 1980, here with one
weight for all histories; Stolcke, "Entropy-based pruning of backoff language models", 1998.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from asr.decoding.ngram import BEGIN, END, LOG10_ZERO, Gram, NGram

ITERATIONS = 100
"""Of the EM algorithm, which has converged to three decimals long before."""
TINY = 1e-12
"""Probability that is left for backing off if rounding leaves none."""


def mix(first: NGram, second: NGram, weight: float) -> NGram:
    """Mix two models: ``weight`` of the first's probabilities and the rest of the second's, for the n-grams of both."""
    levels: list[dict[Gram, float]] = []
    histories: set[Gram] = set()  # files of other tools may lack some
    for size in range(max(first.order, second.order), 0, -1):
        grams = histories.union(*(table for model in (first, second) for table in model.tables[size - 1 : size]))
        shares = {gram: weight * probability(first, gram) + (1 - weight) * probability(second, gram) for gram in grams}
        levels.insert(0, shares)
        histories = {gram[:-1] for gram in grams}
    return _normalize(levels)


def choose_weight(first: NGram, second: NGram, texts: Iterable[Sequence[str]]) -> float:
    """The weight of the first model with which the mixture gives texts the highest probability, by EM."""
    grams = [gram for text in texts for gram in _predictions(text, max(first.order, second.order))]
    pairs = [(probability(first, gram), probability(second, gram)) for gram in grams]
    weight = 0.5
    for _ in range(ITERATIONS):
        shares = [weight * one / total for one, other in pairs if (total := weight * one + (1 - weight) * other)]
        weight = sum(shares) / len(shares)
    return weight


def prune(model: NGram, threshold: float) -> NGram:
    """Leave out n-grams whose absence, each by itself, raises the perplexity by less than ``threshold``, as a share.

    How often a history occurs is taken from the model, where Kneser-Ney's lower orders are no exact account of it.
    """
    levels = [{gram: 10**value for gram, (value, _) in table.items()} for table in model.tables]
    needed: set[Gram] = set()
    for size in range(model.order, 1, -1):
        kept: dict[Gram, float] = {}
        for history, entries in _by_history(levels[size - 1]).items():
            lower = {gram: probability(model, gram[1:]) for gram in entries}
            free, free_below = max(1 - sum(entries.values()), TINY), max(1 - sum(lower.values()), TINY)
            share = _share(model, history)
            kept |= {
                gram: value
                for gram, value in entries.items()
                if gram in needed or share * _loss(value, lower[gram], free, free_below) >= threshold
            }
        levels[size - 1] = kept
        needed = {gram[:-1] for gram in kept}
    return _normalize(levels)


def probability(model: NGram, gram: Gram) -> float:
    """The probability of the last symbol after the others, backed off as far as needed; 0 for an unknown symbol."""
    backoff, gram = 0.0, gram[-model.order :]
    while gram:
        if entry := model.tables[len(gram) - 1].get(gram):
            return float(10 ** (backoff + entry[0]))
        if len(gram) > 1:
            backoff += model.tables[len(gram) - 2].get(gram[:-1], (0.0, 0.0))[1]
        gram = gram[1:]
    return 0.0


def _normalize(levels: Sequence[dict[Gram, float]]) -> NGram:
    """A model with these probabilities, and the backoff weights with which those after each history sum to one."""
    model = NGram([])
    for level in levels:
        model.tables.append({gram: (math.log10(p) if p else LOG10_ZERO, 0.0) for gram, p in sorted(level.items())})
        for history, entries in _by_history(level).items() if model.order > 1 else ():
            free = max(1 - sum(entries.values()), TINY)
            free_below = max(1 - sum(probability(model, gram[1:]) for gram in entries), TINY)
            table = model.tables[-2]
            table[history] = (table[history][0], math.log10(free / free_below))
    return model


def _loss(value: float, lower: float, free: float, free_below: float) -> float:
    """The relative entropy, in nats, between a history's distribution and that without one of its n-grams.

    ``value`` and ``lower`` are the probability of the n-gram's last symbol and that after the shorter history; ``free`` and
    ``free_below`` what the history's n-grams leave of both distributions.
    """
    backoff, without = free / free_below, (free + value) / (free_below + lower)
    return value * math.log(value / (lower * without)) + free * math.log(backoff / without)


def _share(model: NGram, history: Gram) -> float:
    """The share of all symbols before which the model has a history. An utterance begins as often as one ends."""
    shares = (
        probability(model, (END,) if history[:n] == (BEGIN,) else history[:n]) for n in range(1, len(history) + 1)
    )
    return math.prod(shares)


def _by_history(level: dict[Gram, float]) -> dict[Gram, dict[Gram, float]]:
    grouped: defaultdict[Gram, dict[Gram, float]] = defaultdict(dict)
    for gram, value in level.items():
        grouped[gram[:-1]][gram] = value
    return grouped


def _predictions(text: Sequence[str], order: int) -> Iterator[Gram]:
    """Each symbol of an utterance, and its end, with what precedes it."""
    symbols = (BEGIN, *text, END)
    for end in range(2, len(symbols) + 1):
        yield symbols[max(0, end - order) : end]
