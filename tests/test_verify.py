"""Transcripts that do not match their audio: real and made speech with swapped transcripts."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from asr.cli import alignment
from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from asr.inference.catalog import find_model
from asr.inference.recognizer import Recognizer, load
from asr.inference.verify import THRESHOLD, compute_fit, phone_weights, recognize_tokens, verify
from tests.test_align_corpus import MODEL, lexicon, made

__all__ = ["lexicon", "made"]


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return load(find_model(MODEL))


def likelihood(log_probs: torch.Tensor, tokens: Sequence[int]) -> float:
    """Natural-log likelihood of symbol ids, summed over every path."""
    frames, symbols = log_probs.shape
    total = 0.0
    for path in product(range(symbols), repeat=frames):
        if [label for label, _ in groupby(path) if label] == list(tokens):
            total += math.exp(sum(float(log_probs[frame, label]) for frame, label in enumerate(path)))
    return math.log(total)


def test_the_fit_is_that_of_likelihoods_over_all_paths() -> None:
    log_probs = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).mul(2).log_softmax(1)
    weights = np.array([0.0, 1.0, 0.0])  # random sequences are all of symbol 1
    recognized = recognize_tokens(log_probs)
    reference = [2, 1]
    best = max(likelihood(log_probs, recognized), likelihood(log_probs, reference))
    zero = likelihood(log_probs, [1, 1])
    fit = compute_fit(log_probs, reference, recognized, weights)
    assert fit.value == pytest.approx((likelihood(log_probs, reference) - zero) / (best - zero), abs=1e-4)
    assert fit.loss == pytest.approx((best - likelihood(log_probs, reference)) / max(2, len(recognized)), abs=1e-4)


def test_the_recognized_phones_fit_and_impossible_ones_do_not() -> None:
    log_probs = torch.randn(20, 6, generator=torch.Generator().manual_seed(2)).mul(5).log_softmax(1)
    weights = phone_weights({1: 5, 2: 3}, 6)
    recognized = recognize_tokens(log_probs)
    assert compute_fit(log_probs, recognized, recognized, weights).value == 1.0
    assert compute_fit(log_probs, [1, 1] * 10, recognized, weights).value < 0.1
    assert compute_fit(log_probs, [], recognized, weights).value == 0.0
    assert compute_fit(torch.zeros(0, 6), [1], [], weights).value == 0.0
    assert math.isfinite(compute_fit(log_probs, [3], recognized, weights).value)


def test_phone_weights_are_relative_frequencies() -> None:
    assert phone_weights({1: 3, 2: 1}, 3).tolist() == [0.0, 4 / 6, 2 / 6]
    assert phone_weights({}, 3).tolist() == [0.0, 0.5, 0.5]


def suspicious_share(recognizer: Recognizer, utterances: Sequence[Utterance]) -> float:
    return float(np.mean([verdict.fit.value < THRESHOLD for verdict in verify(recognizer, utterances)]))


def test_swapped_transcripts_of_real_speech_are_found(recognizer: Recognizer, real_utterances: list[Utterance]) -> None:
    phones = [" ".join(utterance.phones) for utterance in real_utterances]
    utterances = [replace(u, words=text) for u, text in zip(real_utterances, phones, strict=True)]
    order = np.random.default_rng(0).permutation(len(utterances))
    rolled = [utterances[order[(int(np.flatnonzero(order == i)[0]) + 1) % len(order)]] for i in range(len(order))]
    swapped = [
        replace(u, phones=other.phones) for u, other in zip(utterances, rolled, strict=True) if u.words != other.words
    ]
    assert suspicious_share(recognizer, utterances) <= 0.025
    assert suspicious_share(recognizer, swapped) >= 0.95


def test_swapped_transcripts_of_made_speech_are_found(recognizer: Recognizer, made: list[Utterance]) -> None:
    usable = [u for u in made if len(swap_candidates(made, u)) > 0]
    assert len(usable) >= 12
    assert suspicious_share(recognizer, made) <= 0.05
    generator = np.random.default_rng(1)
    swapped = []
    for utterance in usable:
        candidates = swap_candidates(made, utterance)
        swapped.append(replace(utterance, phones=candidates[int(generator.integers(len(candidates)))].phones))
    assert suspicious_share(recognizer, swapped) >= 0.9


def swap_candidates(utterances: Sequence[Utterance], utterance: Utterance) -> list[Utterance]:
    """Utterances that share at most the article with this one."""
    own = set(utterance.words.split()) - {"THE"}
    return [other for other in utterances if not own & set(other.words.split())]


def test_an_utterance_is_judged_alone(recognizer: Recognizer, made: list[Utterance]) -> None:
    both = list(verify(recognizer, made[:6]))
    parts = [*verify(recognizer, made[:3]), *verify(recognizer, made[3:6])]
    for together, apart in zip(both, parts, strict=True):
        assert together.fit.loss == pytest.approx(apart.fit.loss, abs=1e-3)


def test_the_command_lists_the_worst_first(made: list[Utterance], tmp_path: Path) -> None:
    wrong = replace(made[1], phones=("S", "K", "UW", "L", "R", "IH", "V", "ER", "B", "UH", "K"), phone_times_s=None)
    write_corpus(tmp_path, {"train": [made[0], wrong, *made[2:6]]}, {})
    arguments = ["verify", MODEL, str(tmp_path / "cuts_train.jsonl.gz"), "--json", str(tmp_path / "v.json")]
    result = CliRunner().invoke(alignment.commands, [*arguments, "--tsv", str(tmp_path / "v.tsv")])
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert lines[1][0] == made[1].id
    assert lines[1][3] == "yes"
    table = [line.split("\t") for line in (tmp_path / "v.tsv").read_text().splitlines()]
    assert len(table) == 7
    assert [float(row[1]) for row in table[1:]] == sorted(float(row[1]) for row in table[1:])
    content = json.loads((tmp_path / "v.json").read_text())
    assert content["threshold"] == THRESHOLD
    assert content["suspicious"] == len(lines) - 1
    assert content["utterances"][0]["id"] == made[1].id
    assert content["utterances"][0]["reference"] == list(wrong.phones)


def test_what_cannot_be_judged_is_named_and_the_rest_is_judged(
    recognizer: Recognizer, made: list[Utterance], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "zeros.wav", np.zeros(160000), 16000)
    unknown = replace(made[1], phones=("Ø",), phone_times_s=None)
    silent = replace(made[2], audio_path=tmp_path / "zeros.wav")
    right, wrong, mute, last = verify(recognizer, [made[0], unknown, silent, made[3]])
    assert (right.problem, last.problem) == ("", "")
    assert "unknown phone 'Ø'" in wrong.problem
    assert wrong.recognized
    assert "samples are zero" in mute.problem
    assert (wrong.fit.value, mute.fit.value) == (0.0, 0.0)
    alone = list(verify(recognizer, [made[0], made[3]]))
    assert [each.recognized for each in alone] == [right.recognized, last.recognized]


def test_a_missing_manifest_is_one_line(tmp_path: Path) -> None:
    error = CliRunner().invoke(alignment.commands, ["verify", MODEL, str(tmp_path / "none.jsonl.gz")]).exception
    assert isinstance(error, InputError)
    assert "no such file, expected a manifest" in str(error)
    assert "\n" not in str(error)
