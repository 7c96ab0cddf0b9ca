"""Training of a grapheme-to-phoneme model on a lexicon."""

from typing import NamedTuple

import numpy as np

from asr.corpus.lexicon import Lexicon
from asr.decoding.g2p import G2P, spell
from asr.decoding.g2p_alignment import Pair, align
from asr.decoding.g2p_search import compile_graphones
from asr.decoding.ngram import MAX_ORDER, estimate
from asr.errors import InputError

ORDER = 6


class Trained(NamedTuple):
    """A model, the number of pairs of word and pronunciation it learned from, and the pairs that cannot be aligned."""

    model: G2P
    pairs: int
    left_out: list[Pair]


def train_g2p(lexicon: Lexicon, order: int = ORDER) -> Trained:
    """Align each spelling with each of its pronunciations, and estimate the n-gram of the graphones.

    Raises:
        InputError: the order is not 1 to 6, or no word can be aligned with a pronunciation.
    """
    if not 1 <= order <= MAX_ORDER:
        raise InputError(f"n-gram order is {order}, expected 1 to {MAX_ORDER}")
    merged = [(spell(word), phones) for word, pronunciations in lexicon.items() for phones in pronunciations]
    pairs = list(dict.fromkeys(merged))
    alignments = align(pairs)
    left_out = [pair for pair, alignment in zip(pairs, alignments, strict=True) if not alignment]
    if len(left_out) == len(pairs):
        raise InputError(f"0 of {len(pairs)} pronunciations can be aligned, expected at most two phones a letter")
    graphones = tuple(sorted({graphone for alignment in alignments for graphone in alignment}))
    numbers = {graphone: str(number) for number, graphone in enumerate(graphones, 1)}
    sequences = ([numbers[graphone] for graphone in alignment] for alignment in alignments if alignment)
    ngram = compile_graphones(estimate(sequences, order, list(numbers.values())))
    return Trained(G2P(graphones, ngram), len(pairs) - len(left_out), left_out)


def split_lexicon(lexicon: Lexicon, held_out: float, seed: int) -> tuple[Lexicon, Lexicon]:
    """Draw a share of the words, each with all its pronunciations: (for training, held out).

    Raises:
        InputError: the share is not from 0 to below 1, or leaves a part without words.
    """
    if not 0 <= held_out < 1:
        raise InputError(f"held-out share is {held_out}, expected 0 to below 1")
    merged: Lexicon = {}
    for word, pronunciations in lexicon.items():
        known = merged.setdefault(spell(word), [])
        known += [phones for phones in pronunciations if phones not in known]
    words = sorted(merged)
    count = round(held_out * len(words))
    if held_out and not 0 < count < len(words):
        raise InputError(f"held-out share {held_out} of {len(words)} words is {count}, expected at least 1 and not all")
    drawn = {words[index] for index in np.random.default_rng(seed).permutation(len(words))[:count]}
    return {word: merged[word] for word in words if word not in drawn}, {word: merged[word] for word in sorted(drawn)}
