"""Phone n-grams: interpolated Kneser-Ney estimation, ARPA files, and the automaton for decoding.

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
MAX_LOG10 = 1e6
"""Largest absolute log10 probability or backoff weight in a file; -99 is the usual value for zero probability."""
DEFAULT_DISCOUNT = 0.5
"""Used if no n-gram has count 1, or none has count 2, so that the discount cannot be estimated."""
LOG10_ZERO = -99.0
"""log10 probability of a symbol that is never predicted (the sentence begin), the convention of ARPA files."""

MAX_SCORES = 80_000_000
"""Scores in an automaton: compiling it takes less than 2 GiB. The automaton of the bundled model has one million."""

Gram = tuple[str, ...]


@dataclass(frozen=True)
class NGram:
    """A backoff n-gram model in the form of ARPA files.

    ``tables[n - 1]`` maps each n-gram to its log10 probability and its log10 backoff weight.
    """

    tables: list[dict[Gram, tuple[float, float]]]

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.tables)


@dataclass(frozen=True)
class Automaton:
    """An n-gram over the symbols of an inventory as a table, with one state for each history of the n-gram.

    ``scores`` (states, symbols) float32 are natural-log probabilities of a symbol after a history; column 0, the blank's,
    is the end of the utterance. ``next_states`` (states, symbols) int32 are the states after a symbol. ``start`` is the
    state at the beginning of an utterance.
    """

    scores: np.ndarray
    next_states: np.ndarray
    start: int

    def score(self, tokens: Iterable[int]) -> float:
        """Natural-log probability of an utterance's symbol ids, the end included."""
        state, total = self.start, 0.0
        for token in tokens:
            total += float(self.scores[state, token])
            state = int(self.next_states[state, token])
        return total + float(self.scores[state, 0])

    def perplexity(self, utterances: Sequence[Sequence[int]]) -> float:
        """Perplexity of utterances' symbol ids; the end of each utterance counts as a symbol."""
        predicted = sum(len(tokens) + 1 for tokens in utterances)
        return math.exp(-sum(self.score(tokens) for tokens in utterances) / predicted)


def estimate(utterances: Iterable[Sequence[str]], order: int, phones: Sequence[str]) -> NGram:
    """Estimate an interpolated Kneser-Ney model of phone sequences; it allows each of ``phones`` after any history.

    Raises:
        InputError: the order is not 1 to 6, or there are no utterances.
    """
    if not 1 <= order <= MAX_ORDER:
        raise InputError(f"n-gram order is {order}, expected 1 to {MAX_ORDER}")
    counts = _kneser_ney_counts(utterances, order)
    if not counts[0]:
        raise InputError("0 utterances for an n-gram, expected at least 1")
    vocabulary = [*phones, END]
    lower: dict[Gram, float] = {(): 1 / len(vocabulary)}
    probabilities: list[dict[Gram, float]] = []
    backoffs: dict[Gram, float] = {}
    for level in counts:
        discount = _estimate_discount(level)
        totals: Counter[Gram] = Counter()
        distinct: Counter[Gram] = Counter()
        for gram, count in level.items():
            totals[gram[:-1]] += count
            distinct[gram[:-1]] += 1
        weights = {history: discount * distinct[history] / total for history, total in totals.items()}
        if not probabilities:
            grams: Iterable[Gram] = ((phone,) for phone in vocabulary)
        else:
            grams = level
        lower = {
            gram: max(level[gram] - discount, 0) / totals[gram[:-1]] + weights[gram[:-1]] * lower[gram[1:]]
            for gram in grams
        }
        backoffs.update(weights)
        probabilities.append(lower)
    probabilities[0][(BEGIN,)] = 10**LOG10_ZERO
    return NGram(
        [
            {gram: (math.log10(p), math.log10(backoffs.get(gram, 1.0))) for gram, p in sorted(table.items())}
            for table in probabilities
        ]
    )


def _kneser_ney_counts(utterances: Iterable[Sequence[str]], order: int) -> list[Counter[Gram]]:
    """Counts of n-grams of each length.

    The longest n-grams, and those that begin an utterance, count their occurrences; the others count the distinct phones
    that precede them.
    """
    counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for utterance in utterances:
        phones = (BEGIN, *utterance, END)
        for size, level in enumerate(counts, 1):
            # The begin symbol is given, not predicted.
            level.update(phones[i : i + size] for i in range(size == 1, len(phones) - size + 1))
    for size in range(1, order):
        predecessors = Counter(gram[1:] for gram in counts[size])
        counts[size - 1] = Counter(
            {gram: count if gram[0] == BEGIN else predecessors[gram] for gram, count in counts[size - 1].items()}
        )
    return counts


def _estimate_discount(level: Counter[Gram]) -> float:
    """Absolute discount n1 / (n1 + 2 n2), from the numbers of n-grams with counts 1 and 2."""
    sizes = Counter(level.values())
    return sizes[1] / (sizes[1] + 2 * sizes[2]) if sizes[1] and sizes[2] else DEFAULT_DISCOUNT


def compile_ngram(model: NGram, phones: PhoneInventory) -> Automaton:
    """Compile a model into an automaton over the symbols of an inventory.

    Raises:
        InputError: the model lacks a phone of the inventory.
    """
    check_phones(model, phones)
    symbols = (END, *phones.symbols[1:])
    columns = {symbol: column for column, symbol in enumerate(symbols)}
    extensions: defaultdict[Gram, list[tuple[int, float]]] = defaultdict(list)
    for table in model.tables:
        for gram, (probability, _) in table.items():
            if gram[-1] in columns:
                extensions[gram[:-1]].append((columns[gram[-1]], probability))
    histories = _with_suffixes(extensions)
    if len(histories) * len(symbols) > MAX_SCORES:
        size = f"{len(histories)} histories of {len(symbols)} symbols"
        raise InputError(f"n-gram has {size}, expected at most {MAX_SCORES} pairs of both")
    states = {history: state for state, history in enumerate(histories)}
    scores = np.zeros((len(histories), len(symbols)))
    next_states = np.zeros((len(histories), len(symbols)), dtype=np.int32)
    for history, state in states.items():  # shorter histories first
        if history:
            shorter = states[history[1:]]
            backoff = model.tables[len(history) - 1].get(history, (0.0, 0.0))[1]
            scores[state], next_states[state] = scores[shorter] + backoff, next_states[shorter]
        for column, probability in extensions[history]:
            scores[state, column] = probability
            next_states[state, column] = states.get((*history, symbols[column]), next_states[state, column])
    start = states.get((BEGIN,), 0)
    return Automaton((scores * math.log(10)).astype(np.float32), next_states, start)


def check_phones(model: NGram, phones: PhoneInventory) -> None:
    """Check that a model has all phones of an inventory, and the end of an utterance.

    Raises:
        InputError: it lacks one.
    """
    missing = [symbol for symbol in (END, *phones.symbols[1:]) if (symbol,) not in model.tables[0]]
    if missing:
        raise InputError(f"n-gram has no phone {missing[0]!r}, expected all phones of inventory {phones.name}")


def _with_suffixes(histories: Iterable[Gram]) -> list[Gram]:
    """The histories and all their suffixes, shorter ones first."""
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
    """Read an ARPA file, written by any tool.

    Raises:
        InputError: the file cannot be read or is not in ARPA format; the message names the line.
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
        raise InputError(f"{path}: {len(tables)} n-gram orders, expected 1 to {MAX_ORDER}")
    return NGram(tables)


def _parse_entry(text: str, size: int, location: str) -> tuple[Gram, tuple[float, float]]:
    """Parse a line of a table: log10 probability, ``size`` symbols, and an optional backoff weight."""
    fields = text.split()
    try:
        probability, backoff = float(fields[0]), float(fields[size + 1]) if len(fields) == size + 2 else 0.0
    except ValueError:
        probability, backoff = math.inf, math.inf
    if len(fields) not in (size + 1, size + 2) or not (abs(probability) <= MAX_LOG10 and abs(backoff) <= MAX_LOG10):
        raise InputError(
            f"{location}: {text!r}, expected a log probability, {size} phones, optionally a backoff weight"
        )
    return tuple(fields[1 : size + 1]), (probability, backoff)
