"""A bundle, a pronunciation lexicon, a word n-gram and a manifest -> word error rate."""

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
from asr.inference.evaluate import iterate_log_probs, load_dataset
from asr.system.files import write_text


@dataclass(frozen=True)
class WordErrors:
    """Word errors of a set, and the hypotheses by utterance id."""

    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    hypotheses: dict[str, str]

    @property
    def wer(self) -> float:
        """Word error rate as a fraction; infinite if there are errors but no reference words."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.reference_words if self.reference_words else (math.inf if errors else 0.0)


def evaluate_words(
    model: Path, cuts: Path, lexicon: Path, arpa: Path, weight: float = WEIGHT, bonus: float = WORD_BONUS
) -> WordErrors:
    """Count the word errors of a bundle on a manifest with jiwer. Case and spelling must match.

    Raises:
        InputError: a file cannot be used, an utterance has no words, or flashlight-text is missing.
    """
    bundle = load_bundle(model, precision="auto")
    search = WordSearch(read_lexicon(lexicon, bundle.inventory), arpa, bundle.inventory, weight, bonus)
    dataset = load_dataset(bundle, cuts)
    references = {utterance.id: " ".join(utterance.words.split()) for utterance in dataset.utterances}
    without_words = [name for name, words in references.items() if not words]
    if without_words:
        raise InputError(f"{cuts}: utterance {without_words[0]} has no words, expected a text for each")
    hypotheses: dict[str, str] = {}
    for ids, log_probs, lengths in iterate_log_probs(bundle, dataset):
        hypotheses |= dict(zip(ids, _decode_batch(search, log_probs, lengths), strict=True))
    result = jiwer.process_words(list(references.values()), [hypotheses[name] for name in references])
    count = sum(len(words.split()) for words in references.values())
    return WordErrors(result.substitutions, result.deletions, result.insertions, count, hypotheses)


def word_error_lines(result: WordErrors) -> list[str]:
    """Word error rate and counts as lines of text."""
    counts = f"S {result.substitutions} D {result.deletions} I {result.insertions} N {result.reference_words}"
    return [f"WER {100 * result.wer:.2f} %: {counts}, {len(result.hypotheses)} utterances"]


def write_word_errors(result: WordErrors, path: Path) -> None:
    """Write counts and hypotheses as JSON. ``wer`` is a fraction, or null if there are no reference words."""
    wer = result.wer if result.reference_words else None
    write_text(path, json.dumps({"wer": wer, **asdict(result)}, indent=1) + "\n")


def _decode_batch(search: WordSearch, log_probs: Tensor, lengths: Tensor) -> list[str]:
    batch = zip(log_probs.float().cpu().numpy(), lengths.tolist(), strict=True)
    return [" ".join(search.decode(padded[:length])) for padded, length in batch]
