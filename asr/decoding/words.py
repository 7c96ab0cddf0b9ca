"""Words instead of phones: a pronunciation lexicon, a word n-gram, and flashlight-text's search over both.

An extra (`pip install 'asr-phones[words]'`); flashlight-text has wheels up to Python 3.12.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from torch import Tensor

from asr.corpus.lexicon import Lexicon, read_lexicon
from asr.corpus.manifest import read_manifest
from asr.corpus.phones import PhoneInventory
from asr.decoding.ngram import NGram, estimate, read_arpa
from asr.errors import InputError
from asr.inference.bundle import load_bundle
from asr.inference.evaluate import dataset_of, log_probs_of
from asr.nn.ctc import BLANK_ID
from asr.system.files import write_text

UNKNOWN = "<unk>"
BEAM, BEAM_THRESHOLD = 100, 30.0
WEIGHT, WORD_BONUS = 1.0, 0.0


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


class WordSearch:
    """The best words of log-probabilities over phones.

    score = ln p(best path of the words | audio) + ``weight`` * ln p(words) of the n-gram + ``bonus`` * number of words.
    flashlight-text lets the last phone of a word have one frame only, which CTC's short peaks mostly have.
    """

    def __init__(
        self, lexicon: Lexicon, arpa: Path, phones: PhoneInventory, weight: float = WEIGHT, bonus: float = WORD_BONUS
    ) -> None:
        """``arpa`` is a word n-gram that has every word of the lexicon it should ever recognize."""
        flashlight, kenlm, dictionaries = _flashlight()
        in_ngram = {gram[0] for gram in read_arpa(arpa).tables[0]}
        words = [word for word in lexicon if word in in_ngram]
        if not words:
            raise InputError(f"{arpa}: none of the lexicon's {len(lexicon)} words, expected a word n-gram")
        self._words = dictionaries.Dictionary([*words, UNKNOWN])
        ngram = kenlm.KenLM(str(arpa), self._words)
        trie, start = flashlight.Trie(len(phones.symbols), BLANK_ID), ngram.start(False)
        for number, word in enumerate(words):
            score = ngram.score(start, number)[1]
            for pronunciation in lexicon[word]:
                trie.insert(phones.encode(pronunciation, word), number, score)
        trie.smear(flashlight.SmearingMode.MAX)
        options = flashlight.LexiconDecoderOptions(
            beam_size=BEAM,
            beam_size_token=len(phones.symbols),
            beam_threshold=BEAM_THRESHOLD,
            lm_weight=weight * math.log(10),  # KenLM's scores are decadic
            word_score=bonus,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=flashlight.CriterionType.CTC,
        )
        self._search = flashlight.LexiconDecoder(
            options, trie, ngram, BLANK_ID, BLANK_ID, self._words.get_index(UNKNOWN), [], False
        )

    def decode(self, log_probs: np.ndarray) -> list[str]:
        """The words of (frames, symbols) natural-log probabilities."""
        frames = np.ascontiguousarray(log_probs, dtype=np.float32)
        found = self._search.decode(frames.ctypes.data, *frames.shape)
        return [self._words.get_entry(word) for word in found[0].words if word >= 0] if found else []


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


def estimate_words(cuts: Path, order: int) -> NGram:
    """The word n-gram of a manifest's texts.

    Raises:
        InputError: the manifest cannot be used, or the order is not 1 to 6.
    """
    texts: Sequence[Sequence[str]] = [one.words.split() for one in read_manifest(cuts)]
    return estimate(texts, order, sorted({word for text in texts for word in text}))


def _flashlight() -> tuple[Any, Any, Any]:
    try:
        from flashlight.lib.text import decoder, dictionary
        from flashlight.lib.text.decoder import kenlm
    except ImportError as error:
        raise InputError(
            f"words need flashlight-text ({error}), expected: pip install 'asr-phones[words]', on Python 3.11 or 3.12"
        ) from error
    return decoder, kenlm, dictionary
