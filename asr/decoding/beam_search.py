"""CTC prefix beam search, with or without a phone n-gram.

Source: Hannun et al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs",
2014.
`asr.decoding.prefix_search` has the loops, which threads run for several utterances at once.

The tuned decoder of a model is stored in the model's folder:

    decoder.yaml   beam, weight and bonus
    ngram.arpa     the n-gram
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from asr.config import BeamConfig, from_mapping, to_yaml
from asr.corpus.phones import PhoneInventory
from asr.decoding.ngram import Automaton, NGram, compile_ngram, read_arpa, write_arpa
from asr.decoding.prefix_search import advance, labels_to, score_beam, start_search
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
        lm_scores, next_states, start = self.language_model(log_probs.shape[1])
        search = start_search(self.beam, log_probs.shape[1], len(log_probs), start)
        frames = np.ascontiguousarray(log_probs, dtype=np.float64)
        advance(search, frames, lm_scores, next_states, SYMBOL_MARGIN)
        scores = score_beam(search, lm_scores[:, BLANK_ID])
        best = np.argsort(-scores, kind="stable")[:count]
        tree = search.tree
        return [Hypothesis(labels_to(tree, int(search.beam.node[i])), float(scores[i])) for i in best]

    def language_model(self, symbols: int) -> tuple[np.ndarray, np.ndarray, int]:
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
