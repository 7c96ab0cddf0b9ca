"""A bundle, a pronunciation lexicon and a word n-gram -> word error rate on a manifest."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
from torch import Tensor

from asr.corpus.lexicon import read_lexicon
from asr.decoding.words import WEIGHT, WORD_BONUS, WordSearch
from asr.errors import InputError
from asr.inference.bundle import load_bundle
from asr.inference.evaluate import dataset_of, log_probs_of
from asr.system.files import write_text


@dataclass(frozen=True)
class WordErrors:
    """Word errors of a set, and what was recognized by utterance id."""

    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    hypotheses: dict[str, str]

    @property
    def wer(self) -> float:
        """Word error rate as a fraction; infinite where there is no reference word but errors."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.reference_words if self.reference_words else (math.inf if errors else 0.0)


def evaluate_words(
    model: Path, cuts: Path, lexicon: Path, arpa: Path, weight: float = WEIGHT, bonus: float = WORD_BONUS
) -> WordErrors:
    """Word errors of a bundle on a manifest, by jiwer. Words are compared as they are written, case and all.

    Raises:
        InputError: a file cannot be used, an utterance has no words, or flashlight-text is missing.
    """
    bundle = load_bundle(model, precision="auto")
    search = WordSearch(read_lexicon(lexicon, bundle.inventory), arpa, bundle.inventory, weight, bonus)
    dataset = dataset_of(bundle, cuts)
    silent = [one.id for one in dataset.utterances if not one.words.split()]
    if silent:
        raise InputError(f"{cuts}: utterance {silent[0]} has no words, expected a text for each")
    said = {one.id: " ".join(one.words.split()) for one in dataset.utterances}
    heard: dict[str, str] = {}
    for ids, log_probs, lengths in log_probs_of(bundle, dataset):
        heard |= dict(zip(ids, _decode_all(search, log_probs, lengths), strict=True))
    result = jiwer.process_words(list(said.values()), [heard[name] for name in said])
    count = sum(len(words.split()) for words in said.values())
    return WordErrors(result.substitutions, result.deletions, result.insertions, count, heard)


def word_lines(result: WordErrors) -> list[str]:
    """The figures in words."""
    counts = f"S {result.substitutions} D {result.deletions} I {result.insertions} N {result.reference_words}"
    return [f"WER {100 * result.wer:.2f} %: {counts}, {len(result.hypotheses)} utterances"]


def write_words(result: WordErrors, path: Path) -> None:
    """The figures and hypotheses as JSON; ``wer`` is a fraction, or null where there is no reference word."""
    wer = result.wer if result.reference_words else None
    write_text(path, json.dumps({"wer": wer, **asdict(result)}, indent=1) + "\n")


def _decode_all(search: WordSearch, log_probs: Tensor, lengths: Tensor) -> list[str]:
    rows = zip(log_probs.float().cpu().numpy(), lengths.tolist(), strict=True)
    return [" ".join(search.decode(row[:length])) for row, length in rows]
