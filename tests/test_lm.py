import math
from pathlib import Path

import numpy as np
import pytest

from asr.corpus.phones import PhoneInventory, make_inventory
from asr.decoding.ngram import BEGIN, END, Gram, NGram, compile_ngram, estimate, read_arpa, write_arpa
from asr.errors import InputError
from tests.faults.fuzz import limits

ABC = make_inventory("abc", {"a": "a", "b": "b", "c": "c"})
UTTERANCES = [("a", "b"), ("a", "b"), ("a", "c")]


def random_utterances(count: int, phones: str = "abc", seed: int = 0) -> list[tuple[str, ...]]:
    """Phone sequences in which each phone depends on the previous ones."""
    generator = np.random.default_rng(seed)
    utterances = []
    for _ in range(count):
        utterance = [phones[0]]
        for _ in range(int(generator.integers(0, 12))):
            index = (phones.index(utterance[-1]) + len(utterance) % 2 + int(generator.random() < 0.3)) % len(phones)
            utterance.append(phones[index])
        utterances.append(tuple(utterance))
    return utterances


def backed_off(model: NGram, history: Gram, word: str) -> float:
    """log10 p(word | history), by the definition of ARPA files."""
    gram = (*history, word)
    if gram in model.tables[len(gram) - 1]:
        return model.tables[len(gram) - 1][gram][0]
    weight = model.tables[len(history) - 1].get(history, (0.0, 0.0))[1]
    return weight + backed_off(model, history[1:], word)


def utterance_score(model: NGram, phones: Gram) -> float:
    """Natural-log probability of an utterance, by the definition of ARPA files."""
    words = (BEGIN, *phones, END)
    total = 0.0
    for index in range(1, len(words)):
        total += backed_off(model, words[max(0, index + 1 - model.order) : index], words[index])
    return total * math.log(10)


def probabilities(table: dict[Gram, tuple[float, float]]) -> dict[Gram, float]:
    return {gram: 10**value for gram, (value, _) in table.items()}


def test_a_bigram_worked_out_by_hand() -> None:
    model = estimate(UTTERANCES, 2, ["a", "b", "c"])
    # Unigrams: a, b and c follow one phone each, the end two; discount 3 / (3 + 2); a uniform share of 0.48 / 4.
    unigrams = probabilities(model.tables[0])
    assert unigrams[("a",)] == pytest.approx(0.4 / 5 + 0.12)
    assert unigrams[(END,)] == pytest.approx(1.4 / 5 + 0.12)
    assert unigrams[(BEGIN,)] == pytest.approx(0)
    # Bigrams: two occur once, two twice, one three times; discount 2 / (2 + 4).
    bigrams = probabilities(model.tables[1])
    assert bigrams[("a", "b")] == pytest.approx((2 - 1 / 3) / 3 + 2 / 9 * 0.2)
    assert bigrams[("a", "c")] == pytest.approx((1 - 1 / 3) / 3 + 2 / 9 * 0.2)
    assert bigrams[(BEGIN, "a")] == pytest.approx((3 - 1 / 3) / 3 + 1 / 9 * 0.2)
    assert 10 ** model.tables[0][("a",)][1] == pytest.approx(2 / 9)


def test_a_trigrams_lower_orders_count_what_came_before() -> None:
    model = estimate([("a", "b", "c"), ("b", "b", "c"), ("c", "b", "c")], 3, ["a", "b", "c"])
    bigrams = probabilities(model.tables[1])
    # "b c" occurs three times, after three different phones: a b c, b b c, c b c. "a b" occurs only after the begin.
    # Bigrams: <s> a 1, <s> b 1, <s> c 1, a b 1, b b 1, c b 1, b c 3, c </s> 1; no count is 2, so the discount is 0.5.
    unigrams = probabilities(model.tables[0])
    assert bigrams[("b", "c")] == pytest.approx((3 - 0.5) / 4 + 0.5 * 2 / 4 * unigrams[("c",)])


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 6])
def test_probabilities_after_every_history_sum_to_one(order: int) -> None:
    automaton = compile_ngram(estimate(random_utterances(50), order, ["a", "b", "c"]), ABC)
    np.testing.assert_allclose(np.exp(automaton.scores.astype(float)).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 6])
def test_the_automaton_agrees_with_backing_off(order: int) -> None:
    model = estimate(random_utterances(40), order, ["a", "b", "c"])
    automaton = compile_ngram(model, ABC)
    for phones in [(), *random_utterances(60, "cba", seed=1), ("a",) * 9]:
        assert automaton.score(ABC.encode(phones, "u")) == pytest.approx(utterance_score(model, phones), abs=1e-4)


def test_perplexity_counts_the_ends() -> None:
    automaton = compile_ngram(estimate(UTTERANCES, 1, ["a", "b", "c"]), ABC)
    tokens = [ABC.encode(phones, "u") for phones in UTTERANCES]
    total = sum(utterance_score(estimate(UTTERANCES, 1, ["a", "b", "c"]), phones) for phones in UTTERANCES)
    assert automaton.perplexity(tokens) == pytest.approx(math.exp(-total / 9), rel=1e-5)


def test_a_longer_history_predicts_better() -> None:
    train, test = random_utterances(300), [ABC.encode(phones, "u") for phones in random_utterances(50, seed=2)]
    one, two = (compile_ngram(estimate(train, order, ["a", "b", "c"]), ABC).perplexity(test) for order in (1, 2))
    assert two < 0.9 * one


def test_a_phone_that_never_occurred_is_possible() -> None:
    automaton = compile_ngram(estimate([("a", "b")], 3, ["a", "b", "c"]), ABC)
    assert math.isfinite(automaton.score(ABC.encode(("c", "c", "a"), "u")))


@pytest.mark.parametrize("order", [1, 3, 6])
def test_an_arpa_file_gives_the_model_back(order: int, tmp_path: Path) -> None:
    model = estimate(random_utterances(40), order, ["a", "b", "c"])
    write_arpa(model, tmp_path / "m.arpa")
    again = read_arpa(tmp_path / "m.arpa")
    assert [set(table) for table in again.tables] == [set(table) for table in model.tables]
    for phones in random_utterances(20, "cba", seed=3):
        assert utterance_score(again, phones) == pytest.approx(utterance_score(model, phones), abs=1e-4)


def test_kenlm_gives_the_same_scores(tmp_path: Path) -> None:
    kenlm = pytest.importorskip(
        "kenlm", reason="kenlm is not installed (it needs a compiler): its scores are not compared"
    )
    model = estimate(random_utterances(200), 4, ["a", "b", "c"])
    write_arpa(model, tmp_path / "m.arpa")
    reference, automaton = kenlm.Model(str(tmp_path / "m.arpa")), compile_ngram(model, ABC)
    for phones in random_utterances(200, "cba", seed=4):
        expected = reference.score(" ".join(phones)) * math.log(10)
        assert automaton.score(ABC.encode(phones, "u")) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no \\end\\ found"),
        ("\\data\\\n\\1-grams:\n-1 a\n", r"no \\end\\ found"),
        ("\\data\\\n\\end\\\n", "0 n-gram orders"),
        ("\\data\\\n\\1-grams:\nx a\n\\end\\\n", "line 3"),
        ("\\data\\\n\\1-grams:\n-1 a b c\n\\end\\\n", "line 3"),
        ("\\data\\\n\\1-grams:\nnan a\n\\end\\\n", "line 3"),
    ],
)
def test_a_broken_arpa_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.arpa").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_arpa(tmp_path / "m.arpa")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.arpa: not readable"):
        read_arpa(tmp_path / "none.arpa")
    with pytest.raises(InputError, match="cannot be written"):
        write_arpa(estimate(UTTERANCES, 1, ["a"]), tmp_path / "none" / "m.arpa")


def test_an_automaton_that_would_not_fit_in_memory_is_refused() -> None:
    many = [f"p{number}" for number in range(10_000)]
    unigrams: dict[Gram, tuple[float, float]] = {(symbol,): (-1.0, 0.0) for symbol in (*many, BEGIN, END)}
    bigrams: dict[Gram, tuple[float, float]] = {(symbol, END): (-1.0, 0.0) for symbol in many}
    phones = make_inventory("many", {phone: phone for phone in many})
    with limits(), pytest.raises(InputError, match="n-gram has 10001 histories of 10001 symbols, expected at most"):
        compile_ngram(NGram([unigrams, bigrams]), phones)


def test_what_cannot_be_estimated_is_refused() -> None:
    for order in (0, 7):
        with pytest.raises(InputError, match="expected 1 to 6"):
            estimate(UTTERANCES, order, ["a"])
    with pytest.raises(InputError, match="0 utterances"):
        estimate([], 2, ["a"])
    other: PhoneInventory = make_inventory("other", {"z": "z"})
    with pytest.raises(InputError, match="no phone 'z'"):
        compile_ngram(estimate(UTTERANCES, 2, ["a", "b", "c"]), other)
