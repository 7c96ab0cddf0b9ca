"""Word decoding with a pronunciation lexicon and a word n-gram, by flashlight-text.

An extra (`pip install 'asr-phones[words]'`); flashlight-text has wheels up to Python 3.12.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.corpus.lexicon import Lexicon
from asr.corpus.manifest import read_manifest
from asr.corpus.phones import PhoneInventory
from asr.decoding.ngram import NGram, estimate, read_arpa
from asr.errors import InputError
from asr.nn.ctc import BLANK_ID

UNKNOWN = "<unk>"
BEAM, BEAM_THRESHOLD = 100, 30.0
WEIGHT, WORD_BONUS = 1.0, 0.0


class WordSearch:
    """Search for the best word sequence, given log-probabilities of phones.

    score = ln p(best path of the words | audio) + ``weight`` * ln p(words) of the n-gram + ``bonus`` * number of words.
    flashlight-text limits the last phone of a word to one frame, which fits most of CTC's short peaks.
    """

    def __init__(
        self, lexicon: Lexicon, arpa: Path, phones: PhoneInventory, weight: float = WEIGHT, bonus: float = WORD_BONUS
    ) -> None:
        """``arpa`` is a word n-gram; words of the lexicon that it lacks cannot be recognized."""
        flashlight, kenlm, dictionaries = _import_flashlight()
        in_ngram = {gram[0] for gram in read_arpa(arpa).tables[0]}
        words = [word for word in lexicon if word in in_ngram]
        if not words:
            raise InputError(f"{arpa}: none of the lexicon's {len(lexicon)} words, expected a word n-gram")
        self._words = dictionaries.Dictionary([*words, UNKNOWN])
        ngram = kenlm.KenLM(str(arpa), self._words)
        trie, start = flashlight.Trie(len(phones.symbols), BLANK_ID), ngram.start(False)
        for index, word in enumerate(words):
            score = ngram.score(start, index)[1]
            for pronunciation in lexicon[word]:
                trie.insert(phones.encode(pronunciation, word), index, score)
        trie.smear(flashlight.SmearingMode.MAX)
        options = flashlight.LexiconDecoderOptions(
            beam_size=BEAM,
            beam_size_token=len(phones.symbols),
            beam_threshold=BEAM_THRESHOLD,
            lm_weight=weight * math.log(10),  # KenLM's scores are log10
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
        """Recognize the words of (frames, symbols) natural-log probabilities."""
        frames = np.ascontiguousarray(log_probs, dtype=np.float32)
        results = self._search.decode(frames.ctypes.data, *frames.shape)
        return [self._words.get_entry(word) for word in results[0].words if word >= 0] if results else []


def estimate_word_ngram(cuts: Path, order: int) -> NGram:
    """Estimate a word n-gram from the texts of a manifest.

    Raises:
        InputError: the manifest cannot be used, or the order is not 1 to 6.
    """
    texts: Sequence[Sequence[str]] = [utterance.words.split() for utterance in read_manifest(cuts)]
    return estimate(texts, order, sorted({word for text in texts for word in text}))


def _import_flashlight() -> tuple[Any, Any, Any]:
    try:
        from flashlight.lib.text import decoder, dictionary
        from flashlight.lib.text.decoder import kenlm
    except ImportError as error:
        raise InputError(
            f"words need flashlight-text ({error}), expected: pip install 'asr-phones[words]', on Python 3.11 or 3.12"
        ) from error
    return decoder, kenlm, dictionary
