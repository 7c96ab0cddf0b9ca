"""Mixtures and pruning of n-grams, against their definitions."""

import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr.cli import app, prepare, tuning
from asr.corpus.phones import inventory
from asr.decoding.ngram import BEGIN, END, NGram, compile_ngram, estimate, read_arpa, write_arpa
from asr.decoding.ngram_mixture import choose_weight, mix, probability, prune
from asr.errors import InputError

PHONES = inventory("arpabet39")
SYMBOLS = PHONES.symbols[1:]


def texts(seed: int, count: int = 60) -> list[list[str]]:
    """Random texts in which some phones are likely after some others."""
    generator = np.random.default_rng(seed)
    follow = generator.dirichlet(np.full(len(SYMBOLS), 0.1), len(SYMBOLS))
    made = []
    for length in generator.integers(1, 12, count):
        text = [int(generator.integers(len(SYMBOLS)))]
        for _ in range(length):
            text.append(int(generator.choice(len(SYMBOLS), p=follow[text[-1]])))
        made.append([SYMBOLS[index] for index in text])
    return made


FIRST, SECOND = estimate(texts(1), 4, SYMBOLS), estimate(texts(2, 200), 3, SYMBOLS)


def contexts(*models: NGram) -> list[tuple[str, ...]]:
    """All histories of models, and some that no model has."""
    seen = {gram[:-1] for model in models for table in model.tables for gram in table}
    return sorted({*seen, ("AA", "ZH", "OY"), (BEGIN, "ZH")})


def after(model: NGram, history: tuple[str, ...]) -> np.ndarray:
    return np.array([probability(model, (*history, symbol)) for symbol in (*SYMBOLS, END)])


def perplexity(model: NGram, utterances: list[list[str]]) -> float:
    return compile_ngram(model, PHONES).perplexity([PHONES.encode(text, "x") for text in utterances])


def test_the_probability_is_that_of_the_automaton() -> None:
    automaton = compile_ngram(FIRST, PHONES)
    for text in texts(3, 20):
        symbols = (BEGIN, *text, END)
        total = sum(math.log(probability(FIRST, symbols[:end])) for end in range(2, len(symbols) + 1))
        assert total == pytest.approx(automaton.score(PHONES.encode(text, "x")), abs=1e-3)
    assert probability(FIRST, ("AA", "unknown")) == 0


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_mixture_has_the_weighted_probability_of_each_ngram(weight: float) -> None:
    mixture = mix(FIRST, SECOND, weight)
    assert mixture.order == 4
    for table in mixture.tables:
        for gram in table:
            if gram != (BEGIN,):
                expected = weight * probability(FIRST, gram) + (1 - weight) * probability(SECOND, gram)
                assert probability(mixture, gram) == pytest.approx(expected, rel=1e-9), gram
    assert {*mixture.tables[1]} == {*FIRST.tables[1], *SECOND.tables[1]}
    for history in contexts(mixture):
        assert after(mixture, history).sum() == pytest.approx(1, abs=1e-6), history


def test_the_weight_fits_the_texts_best() -> None:
    dev = [*texts(1)[:30], *texts(2, 200)[:15]]
    weight = choose_weight(FIRST, SECOND, dev)
    assert 0.3 < weight < 0.95
    grid = {w: mix_perplexity(w, dev) for w in (weight - 0.1, weight - 0.03, weight, weight + 0.03, weight + 0.1)}
    assert min(grid, key=lambda w: grid[w]) == weight
    mixture = perplexity(mix(FIRST, SECOND, weight), dev)
    assert mixture < min(perplexity(FIRST, dev), perplexity(SECOND, dev))


def mix_perplexity(weight: float, dev: list[list[str]]) -> float:
    """Of the mixed probabilities themselves, without a backoff model."""
    grams = [(BEGIN, *text, END)[:end] for text in dev for end in range(2, len(text) + 3)]
    mixed = [weight * probability(FIRST, gram) + (1 - weight) * probability(SECOND, gram) for gram in grams]
    return math.exp(-sum(map(math.log, mixed)) / len(mixed))


def test_a_pruned_model_is_smaller_and_sums_to_one() -> None:
    model, own = mix(FIRST, SECOND, 0.6), [*texts(1), *texts(2, 200)]
    sizes, perplexities = [], []
    for threshold in (0.0, 1e-5, 1e-4, 1e-3, math.inf):
        pruned = prune(model, threshold)
        sizes.append(sum(map(len, pruned.tables)))
        perplexities.append(perplexity(pruned, own))
        for history in contexts(model)[::5]:
            assert after(pruned, history).sum() == pytest.approx(1, abs=1e-6)
        for table, shorter in zip(pruned.tables[1:], pruned.tables, strict=False):
            assert all(gram[:-1] in shorter for gram in table)
    assert sizes == sorted(sizes, reverse=True)
    assert perplexities == sorted(perplexities)
    assert sizes[-1] == len(SYMBOLS) + 2
    assert perplexities[0] == pytest.approx(perplexity(model, own), rel=1e-6)


def test_an_ngram_goes_if_the_relative_entropy_without_it_is_below_the_threshold() -> None:
    """A bigram model: what is lost is the divergence of one history's distribution, times how often it occurs."""
    model = estimate(texts(4, 30), 2, SYMBOLS)
    losses = {}
    for gram in model.tables[1]:
        history = gram[:-1]
        kept = {
            other: p
            for other in model.tables[1]
            if other[:-1] == history and other != gram
            for p in [probability(model, other)]
        }
        free = (1 - sum(kept.values())) / (1 - sum(probability(model, other[1:]) for other in kept))
        full = after(model, history)
        without = np.array([kept.get((*history, s), free * probability(model, (s,))) for s in (*SYMBOLS, END)])
        share = probability(model, (END,) if history == (BEGIN,) else history)
        losses[gram] = share * float((full * np.log(full / without)).sum())
    threshold = float(np.median(list(losses.values())))
    assert {*prune(model, threshold).tables[1]} == {gram for gram, loss in losses.items() if loss >= threshold}


def test_a_file_of_another_tool_may_lack_the_history_of_an_ngram() -> None:
    bigrams = {gram: value for gram, value in SECOND.tables[1].items() if gram != ("B", "AH")}
    mixture = mix(FIRST, NGram([SECOND.tables[0], bigrams, {("B", "AH", "DH"): (-0.3, 0.0)}]), 0.5)
    assert ("B", "AH") in mixture.tables[1]
    assert after(mixture, ("B", "AH")).sum() == pytest.approx(1, abs=1e-6)


def test_the_command_mixes_and_prunes(tone_corpus: Path, tmp_path: Path) -> None:
    train, dev = tone_corpus / "cuts_train.jsonl.gz", tone_corpus / "cuts_dev.jsonl.gz"
    (tmp_path / "sentences").write_text("the house is red\nxyzzy\nshe sees a big dog\n")
    invoke = CliRunner().invoke
    made = invoke(prepare.commands, ["texts", str(tmp_path / "texts"), "--sentences", str(tmp_path / "sentences")])
    assert made.stdout == f"{tmp_path / 'texts'}: 2 sentences; left out 1 of 3\n", made.output
    lines = (tmp_path / "texts").read_text().splitlines()
    assert lines[0] == "1 DH AH HH AW S IH Z R EH D"
    other, arpa = tmp_path / "other.arpa", tmp_path / "mixed.arpa"
    assert invoke(tuning.commands, ["lm", str(tmp_path / "texts"), str(other)]).exit_code == 0
    (tmp_path / "dev").write_text("1 DH AH HH AW S IH Z R EH D\n2 M AA M AA\n")
    options = ["--mix", str(other), "--dev", str(tmp_path / "dev"), "--prune", "1e-6", "--order", "3"]
    result = invoke(tuning.commands, ["lm", str(train), str(arpa), *options])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("weights: ")
    assert result.stdout.splitlines()[-1].startswith("perplexity ")
    assert ("DH", "AH") in read_arpa(arpa).tables[1]
    for wrong in (["--mix", str(other)], ["--dev", str(dev)], ["--words", "--prune", "0.1"]):
        assert isinstance(invoke(app.app, ["lm", str(train), str(arpa), *wrong]).exception, InputError)
    write_arpa(NGram([{gram: value for gram, value in FIRST.tables[0].items() if gram != ("AA",)}]), other)
    failed = invoke(tuning.commands, ["lm", str(train), str(arpa), *options]).exception
    assert "no phone 'AA'" in str(failed)
