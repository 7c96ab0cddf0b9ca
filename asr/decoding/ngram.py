"""Phone n-grams: interpolated Kneser-Ney, ARPA files, and the automaton that a decoder walks through.

Sources: Kneser and Ney, "Improved backing-off for m-gram language modeling", 1995; Chen and Goodman, "An empirical
study of smoothing techniques for language modeling", 1999, for its interpolated form.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.corpus.phones import PhoneInventory
from asr.errors import InputError
from asr.system.files import read_text, write_text

BEGIN, END = "<s>", "</s>"
MAX_ORDER = 6
LARGEST = 1e6
"""Of log probabilities and weights in a file, either way; -99 is the usual zero."""
UNSEEN_DISCOUNT = 0.5
"""Where no n-gram, or none but such as occur once or twice, is there to estimate the discount from."""
NEVER = -99.0
"""log10 probability of what is never predicted (the sentence's begin), as ARPA files have it."""

LARGEST_TABLE = 80_000_000
"""Scores in an automaton, which takes less than 2 GiB while it is made; that of the package's model has one million."""

Gram = tuple[str, ...]


@dataclass(frozen=True)
class NGram:
    """A backoff n-gram as an ARPA file has it.

    ``tables[n - 1]`` takes each n-gram to its log10 probability and its log10 backoff weight.
    """

    tables: list[dict[Gram, tuple[float, float]]]

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.tables)


@dataclass(frozen=True)
class Automaton:
    """An n-gram over the symbols of an inventory as a table: one row for each history it tells apart.

    ``scores`` (states, symbols) float32, natural-log probability of a symbol after a history; column 0, the blank's, is the
    end of the utterance. ``following`` (states, symbols) int32, the state that a symbol leads to. ``start`` is the state at
    the begin of an utterance.
    """

    scores: np.ndarray
    following: np.ndarray
    start: int

    def score(self, tokens: Iterable[int]) -> float:
        """Natural-log probability of a whole utterance's symbol ids, its end included."""
        state, total = self.start, 0.0
        for token in tokens:
            total += float(self.scores[state, token])
            state = int(self.following[state, token])
        return total + float(self.scores[state, 0])

    def perplexity(self, utterances: Sequence[Sequence[int]]) -> float:
        """Of utterances' symbol ids; each utterance's end counts as a symbol."""
        predicted = sum(len(tokens) + 1 for tokens in utterances)
        return math.exp(-sum(self.score(tokens) for tokens in utterances) / predicted)


def estimate(utterances: Iterable[Sequence[str]], order: int, phones: Sequence[str]) -> NGram:
    """An interpolated Kneser-Ney model of phone sequences, every one of ``phones`` being possible everywhere.

    Raises:
        InputError: the order is not 1 to 6, or there is nothing to learn from.
    """
    if not 1 <= order <= MAX_ORDER:
        raise InputError(f"order of the n-gram is {order}, expected 1 to {MAX_ORDER}")
    counts = _counts(utterances, order)
    if not counts[0]:
        raise InputError("0 utterances to estimate an n-gram from, expected at least 1")
    known = [*phones, END]
    lower: dict[Gram, float] = {(): 1 / len(known)}
    probabilities: list[dict[Gram, float]] = []
    backoffs: dict[Gram, float] = {}
    for level in counts:
        discount = _discount(level)
        totals: Counter[Gram] = Counter()
        kinds: Counter[Gram] = Counter()
        for gram, count in level.items():
            totals[gram[:-1]] += count
            kinds[gram[:-1]] += 1
        left = {history: discount * kinds[history] / total for history, total in totals.items()}
        if not probabilities:
            grams: Iterable[Gram] = ((phone,) for phone in known)
        else:
            grams = level
        lower = {
            gram: max(level[gram] - discount, 0) / totals[gram[:-1]] + left[gram[:-1]] * lower[gram[1:]]
            for gram in grams
        }
        backoffs.update(left)
        probabilities.append(lower)
    probabilities[0][(BEGIN,)] = 10**NEVER
    return NGram(
        [
            {gram: (math.log10(p), math.log10(backoffs.get(gram, 1.0))) for gram, p in sorted(table.items())}
            for table in probabilities
        ]
    )


def _counts(utterances: Iterable[Sequence[str]], order: int) -> list[Counter[Gram]]:
    """For each length, how often an n-gram occurs (the longest, and those at an utterance's begin) or after how many
    different phones (the others).
    """
    counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for utterance in utterances:
        phones = (BEGIN, *utterance, END)
        for size, level in enumerate(counts, 1):
            # The begin itself is given, not predicted.
            level.update(phones[i : i + size] for i in range(size == 1, len(phones) - size + 1))
    for size in range(1, order):
        after = Counter(gram[1:] for gram in counts[size])
        counts[size - 1] = Counter(
            {gram: count if gram[0] == BEGIN else after[gram] for gram, count in counts[size - 1].items()}
        )
    return counts


def _discount(level: Counter[Gram]) -> float:
    """What is taken from each count: n1 / (n1 + 2 n2), of how many n-grams there are with the counts 1 and 2."""
    sizes = Counter(level.values())
    return sizes[1] / (sizes[1] + 2 * sizes[2]) if sizes[1] and sizes[2] else UNSEEN_DISCOUNT


def compile_ngram(model: NGram, phones: PhoneInventory) -> Automaton:
    """The automaton of a model over the symbols of an inventory.

    Raises:
        InputError: the model lacks a phone of the inventory.
    """
    symbols = (END, *phones.symbols[1:])
    missing = [symbol for symbol in symbols if (symbol,) not in model.tables[0]]
    if missing:
        raise InputError(f"n-gram has no phone {missing[0]!r}, expected all of inventory {phones.name}")
    columns = {symbol: column for column, symbol in enumerate(symbols)}
    extensions: defaultdict[Gram, list[tuple[int, float]]] = defaultdict(list)
    for table in model.tables:
        for gram, (probability, _) in table.items():
            if gram[-1] in columns:
                extensions[gram[:-1]].append((columns[gram[-1]], probability))
    histories = _closed_under_suffixes(extensions)
    if len(histories) * len(symbols) > LARGEST_TABLE:
        size = f"{len(histories)} histories of {len(symbols)} symbols"
        raise InputError(f"n-gram has {size}, expected at most {LARGEST_TABLE} pairs of them")
    states = {history: state for state, history in enumerate(histories)}
    scores = np.zeros((len(histories), len(symbols)))
    following = np.zeros((len(histories), len(symbols)), dtype=np.int32)
    for history, state in states.items():  # shorter histories come first
        if history:
            shorter = states[history[1:]]
            backoff = model.tables[len(history) - 1].get(history, (0.0, 0.0))[1]
            scores[state], following[state] = scores[shorter] + backoff, following[shorter]
        for column, probability in extensions[history]:
            scores[state, column] = probability
            following[state, column] = states.get((*history, symbols[column]), following[state, column])
    start = states.get((BEGIN,), 0)
    return Automaton((scores * math.log(10)).astype(np.float32), following, start)


def _closed_under_suffixes(histories: Iterable[Gram]) -> list[Gram]:
    """The histories and all their endings, shorter ones first."""
    closed = {history[start:] for history in histories for start in range(len(history) + 1)}
    return sorted(closed, key=lambda history: (len(history), history))


def write_arpa(model: NGram, path: Path) -> None:
    """Write a model in the ARPA format."""
    lines = ["\\data\\", *(f"ngram {size}={len(table)}" for size, table in enumerate(model.tables, 1))]
    for size, table in enumerate(model.tables, 1):
        lines += ["", f"\\{size}-grams:"]
        for gram, (probability, backoff) in table.items():
            weight = f"\t{backoff:.7f}" if size < model.order else ""
            lines.append(f"{probability:.7f}\t{' '.join(gram)}{weight}")
    lines += ["", "\\end\\", ""]
    write_text(path, "\n".join(lines))


def read_arpa(path: Path) -> NGram:
    """Read an ARPA file of any tool.

    Raises:
        InputError: it cannot be read or is not in that format; the line is named.
    """
    lines = read_text(path, "an ARPA file").splitlines()
    tables: list[dict[Gram, tuple[float, float]]] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text == f"\\{len(tables) + 1}-grams:":
            tables.append({})
        elif text == "\\end\\":
            break
        elif tables and text:
            gram, values = _parse_entry(text, len(tables), f"{path}: line {number}")
            tables[-1][gram] = values
    else:
        raise InputError(f"{path}: no \\end\\ found, expected an ARPA file")
    if not tables or len(tables) > MAX_ORDER:
        raise InputError(f"{path}: n-grams of {len(tables)} lengths, expected 1 to {MAX_ORDER}")
    return NGram(tables)


def _parse_entry(text: str, size: int, where: str) -> tuple[Gram, tuple[float, float]]:
    """One line of a table: log10 probability, so many words, and perhaps a backoff weight."""
    fields = text.split()
    try:
        probability, backoff = float(fields[0]), float(fields[size + 1]) if len(fields) == size + 2 else 0.0
    except ValueError:
        probability, backoff = math.inf, math.inf
    if len(fields) not in (size + 1, size + 2) or not (abs(probability) <= LARGEST and abs(backoff) <= LARGEST):
        raise InputError(f"{where}: {text!r}, expected a log probability, {size} phones and perhaps a backoff weight")
    return tuple(fields[1 : size + 1]), (probability, backoff)
