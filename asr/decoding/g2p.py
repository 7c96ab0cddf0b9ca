"""A trained grapheme-to-phoneme model: a spelling -> its most probable pronunciations.

The model is a joint-sequence n-gram: p(letters, phones) is a sum over alignments, each a sequence of graphones
(`asr.decoding.g2p_alignment`) with the probability of an n-gram over graphones.

Source: Bisani and Ney, "Joint-sequence models for grapheme-to-phoneme conversion", 2008.

A file is a NumPy archive without pickled objects, followed by its SHA-256.
"""

import hashlib
import io
import json
import math
import unicodedata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.decoding.g2p_alignment import Graphone
from asr.decoding.g2p_search import BEAM, DTYPES, MARGIN, GraphoneNGram, search
from asr.errors import InputError
from asr.system.files import write_bytes

FORMAT = 1
"""Increase it when files of earlier versions can no longer be read."""

DIGEST_BYTES = hashlib.sha256().digest_size


class Pronunciation(NamedTuple):
    """Phones, and ln p(phones | spelling), as far as the beam holds the pronunciations of the spelling."""

    phones: tuple[str, ...]
    log_prob: float


@dataclass(frozen=True)
class G2P:
    """A model: graphone i + 1 of the n-gram is ``graphones[i]``; they are sorted."""

    graphones: tuple[Graphone, ...]
    ngram: GraphoneNGram

    def pronounce(self, word: str, count: int = 1) -> list[tuple[str, ...]]:
        """The ``count`` most probable pronunciations of a word, best first; none if the training data lack a letter."""
        return [hypothesis.phones for hypothesis in self.hypotheses(word, count)]

    def hypotheses(self, word: str, count: int = 1) -> list[Pronunciation]:
        """The same with their probabilities. Case makes no difference."""
        letters, beam = spell(word), max(BEAM, count)
        pairs = [letters[i : i + 2] if i + 1 < len(letters) else "" for i in range(len(letters))]
        nothing = (0, 0)
        spans = [
            (self._spans.get(one, nothing), self._spans.get(two, nothing))
            for one, two in zip(letters, pairs, strict=True)
        ]
        if not spans:
            return []
        scores, graphones, origins = search(np.array(spans, np.int32), self._phones, self.ngram, beam, MARGIN)
        found = []
        total = np.logaddexp.reduce(scores) if len(scores) else 0.0
        for place, score in enumerate(scores):
            phones = self._trace_back(len(letters), place, beam, graphones, origins)
            if phones:
                found.append(Pronunciation(phones, float(score - total)))
        return found[:count]

    def _trace_back(
        self, row: int, place: int, beam: int, graphones: np.ndarray, origins: np.ndarray
    ) -> tuple[str, ...]:
        """The phones of the hypothesis in a row and place."""
        path = []
        while row > 0:
            path.append(self.graphones[int(graphones[row, place]) - 1].phones)
            row, place = divmod(int(origins[row, place]), beam)
        return tuple(phone for phones in reversed(path) for phone in phones)

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int]]:
        """Letters -> their first graphone and the one after the last."""
        spans: dict[str, tuple[int, int]] = {}
        for number, graphone in enumerate(self.graphones, 1):
            spans[graphone.letters] = (spans.get(graphone.letters, (number, 0))[0], number + 1)
        return spans

    @cached_property
    def _phones(self) -> np.ndarray:
        """Numbers of the phones of each graphone, from 1, (graphones + 1, 2)."""
        numbers = {phone: 0 for graphone in self.graphones for phone in graphone.phones}
        numbers = {phone: number for number, phone in enumerate(numbers, 1)}
        table = np.zeros((len(self.graphones) + 1, 2), np.int32)
        for row, graphone in zip(table[1:], self.graphones, strict=True):
            row[: len(graphone.phones)] = [numbers[phone] for phone in graphone.phones]
        return table


def spell(word: str) -> str:
    """The letters of a word as models know them: lower case, Unicode's form NFC."""
    return unicodedata.normalize("NFC", word.lower())


def save_g2p(model: G2P, path: Path) -> None:
    """Write a model to a file.

    Raises:
        InputError: it cannot be written.
    """
    header = json.dumps({"format": FORMAT, "graphones": model.graphones}).encode()
    content = io.BytesIO()
    arrays: dict[str, Any] = {"header": np.frombuffer(header, np.uint8), **model.ngram._asdict()}
    np.savez_compressed(content, **arrays)
    write_bytes(path, content.getvalue() + hashlib.sha256(content.getbuffer()).digest())


def load_g2p(path: Path) -> G2P:
    """Read a model.

    Raises:
        InputError: the file is missing, damaged, or no model of this version.
    """
    expected = "expected a model of `asr g2p train`"
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}), {expected}") from error
    content, digest = whole[:-DIGEST_BYTES], whole[-DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise InputError(f"{path}: {len(whole)} bytes that do not agree with their checksum, {expected}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("header", *GraphoneNGram._fields)}
        header = json.loads(arrays.pop("header").tobytes())
        if header["format"] != FORMAT:
            raise InputError(f"{path}: format {header['format']!r}, expected {FORMAT}")
        graphones = tuple(Graphone(letters, tuple(phones)) for letters, phones in header["graphones"])
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}), {expected}") from error
    problem = _find_problem(graphones, arrays)
    if problem:
        raise InputError(f"{path}: {problem}, {expected}")
    return G2P(graphones, GraphoneNGram(**arrays))


def _find_problem(graphones: tuple[Graphone, ...], arrays: Mapping[str, np.ndarray]) -> str:
    """What does not fit together in a file: the search, which is compiled, relies on it. "" if all fits."""
    ngram = GraphoneNGram(**arrays)
    states, arcs = len(ngram.backoffs), len(ngram.symbols)
    sizes = (states + 1, arcs, arcs, arcs, states, states, 1)
    for name, array, dtype, size in zip(ngram._fields, ngram, DTYPES, sizes, strict=True):
        if array.dtype != dtype or array.shape != (size,) or not np.isfinite(array).all():
            return f"{name} {array.dtype}{list(array.shape)}"
    if any(not 1 <= len(letters) <= 2 or len(phones) > 2 for letters, phones in graphones):
        return "graphones of more than two letters or phones"
    if list(graphones) != sorted(set(graphones)):
        return "graphones out of order"
    in_range = (
        states > 0
        and np.array_equal(ngram.symbols[: len(graphones) + 1], np.arange(len(graphones) + 1))
        and ngram.arc_starts[0] == 0
        and len(graphones) < ngram.arc_starts[1]
        and ngram.arc_starts[-1] == arcs
        and (np.diff(ngram.arc_starts) >= 0).all()
        and (ngram.symbols <= len(graphones)).all()
        and (ngram.backoff_states[1:] < np.arange(1, states)).all()
        and min(array.min() for array in (ngram.symbols, ngram.next_states, ngram.backoff_states, ngram.start)) >= 0
        and max(array.max() for array in (ngram.next_states, ngram.start)) < states
        and (ngram.log_probs <= math.log(1.001)).all()
    )
    return "" if in_range else "numbers out of range"
