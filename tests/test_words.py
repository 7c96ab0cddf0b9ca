import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.corpus.lexicon import Lexicon, read_lexicon
from asr.corpus.manifest import read_manifest
from asr.corpus.phones import inventory
from asr.decoding.ngram import BEGIN, END, NGram, estimate, write_arpa
from asr.decoding.words import WordSearch, estimate_word_ngram
from asr.errors import InputError
from asr.inference.evaluate_words import WordErrors, evaluate_words, word_error_lines
from tests.test_train import run

PHONES = inventory("arpabet39")
LEXICON: Lexicon = {"AT": [("AE", "T")], "A": [("AH",), ("EY",)], "CAT": [("K", "AE", "T")]}


@pytest.fixture(scope="module", autouse=True)
def flashlight() -> None:
    pytest.importorskip("flashlight.lib.text.decoder", reason="no flashlight-text: words are not decoded")


def test_a_lexicon_with_stress_comments_and_two_pronunciations(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(";;; comment\n# another\nA AH0\nA EY1\nA AH2\n\nCAT\tK AE1 T\n")
    assert read_lexicon(path, PHONES) == {"A": [("AH",), ("EY",)], "CAT": [("K", "AE", "T")]}
    for text, complaint in (
        ("CAT K AE1 T\nDOG D AO1 GG\n", "line 2: unknown phone 'GG', expected a word and its phones of arpabet39"),
        ("CAT\n", "line 1: no phones"),
        ("", "0 words"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=complaint):
            read_lexicon(path, PHONES)


def sentence_score(model: NGram, words: tuple[str, ...]) -> float:
    """Natural-log probability of a sentence, by the definition of backing off."""
    history: tuple[str, ...] = (BEGIN,)
    total = 0.0
    for word in (*words, END):
        gram: tuple[str, ...] = (*history, word)
        backoff = 0.0
        while gram not in (table := model.tables[len(gram) - 1]):
            backoff += model.tables[len(gram) - 2].get(gram[:-1], (0.0, 0.0))[1]
            gram = gram[1:]
        total += backoff + table[gram][0]
        history = (*history, word)[-(model.order - 1) :]
    return total * math.log(10)


def best_path_score(log_probs: np.ndarray, words: list[list[int]]) -> float:
    """The best path through these words' phones, where the last phone of a word has one frame (flashlight's rule)."""
    tokens = [(token, index < len(word) - 1) for word in words for index, token in enumerate(word)]
    phone = np.full(len(tokens) + 1, -np.inf)  # the path ends in phone i (from 1)
    blank = np.full(len(tokens) + 1, -np.inf)  # the path ends in a blank after phone i; 0: before the first
    blank[0] = 0.0
    for frame in log_probs:
        before, blank_before = phone.copy(), blank.copy()
        blank = np.maximum(before, blank_before) + frame[0]
        for i, (token, may_repeat) in enumerate(tokens, 1):
            direct = before[i - 1] if i > 1 and tokens[i - 2][0] != token else -np.inf
            stay = before[i] if may_repeat else -np.inf
            phone[i] = max(stay, direct, blank_before[i - 1]) + frame[token]
    return float(max(phone[-1], blank[-1]))


@pytest.mark.parametrize("seed", range(10))
def test_the_best_words_are_those_of_all_sentences(seed: int, tmp_path: Path) -> None:
    model = estimate([["A", "CAT"], ["AT", "A", "CAT"], ["CAT"], ["A", "A"]], 3, sorted(LEXICON))
    write_arpa(model, tmp_path / "words.arpa")
    weight, bonus = 0.7, 0.3
    all_pronunciations = [phones for pronunciations in LEXICON.values() for phones in pronunciations]
    known = [0, *sorted({token for phones in all_pronunciations for token in PHONES.encode(phones, "")})]
    logits = np.full((7, len(PHONES.symbols)), -30.0)
    logits[:, known] = 2.0 * np.random.default_rng(seed).standard_normal((7, len(known)))
    log_probs = torch.from_numpy(logits).float().log_softmax(1)

    def score(words: tuple[str, ...]) -> float:
        pronunciations = itertools.product(*(LEXICON[word] for word in words))
        encoded = ([PHONES.encode(phones, "") for phones in chosen] for chosen in pronunciations)
        best = max(best_path_score(log_probs.numpy(), tokens) for tokens in encoded)
        return best + weight * sentence_score(model, words) + bonus * len(words)

    sentences = [words for size in range(1, 5) for words in itertools.product(LEXICON, repeat=size)]
    found = WordSearch(LEXICON, tmp_path / "words.arpa", PHONES, weight, bonus).decode(log_probs.numpy())
    assert tuple(found) == max(sentences, key=score)


def test_a_test_set_is_evaluated_in_words(tone_corpus: Path, tmp_path: Path) -> None:
    model = run(tone_corpus, tmp_path / "run", "trainer.epochs=60", "trainer.flat_start_epochs=10", "model.hidden=32",
                "optimizer.learning_rate=0.01", "augment=none", "model.time_reduction=2")  # fmt: skip
    cuts = tone_corpus / "cuts_train.jsonl.gz"
    utterances = read_manifest(cuts)
    assert {utterance.words for utterance in utterances} == {"some words"}
    arpa, lexicon = tmp_path / "words.arpa", tmp_path / "lexicon.txt"
    write_arpa(estimate_word_ngram(cuts, 2), arpa)
    lines = [f"some {' '.join(u.phones[:2])}\nwords {u.phones[2]}\n" for u in utterances]
    lexicon.write_text("".join(lines))
    result = evaluate_words(model, cuts, lexicon, arpa)
    assert result.reference_words == 24
    assert result.wer < 0.2
    assert word_error_lines(result)[0].startswith(f"WER {100 * result.wer:.2f} %: S {result.substitutions} D ")
    lexicon.write_text("OTHER AH\n")
    with pytest.raises(InputError, match="none of the lexicon's 1 words"):
        evaluate_words(model, cuts, lexicon, arpa)


def test_rates_of_nothing() -> None:
    assert WordErrors(0, 0, 0, 0, {}).wer == 0
    assert WordErrors(0, 0, 1, 0, {}).wer == math.inf


def test_without_flashlight_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    with pytest.raises(InputError, match=r"words need flashlight-text .*pip install 'asr-phones\[words\]'"):
        WordSearch(LEXICON, tmp_path / "words.arpa", PHONES)
