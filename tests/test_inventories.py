"""Phone inventories from data: tables, notations, graphemes, phone feature errors, and made-up IPA from end to end."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from asr.config import INVENTORIES
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.notation import detect, ipa_letters, ipa_to_xsampa, manner, split_ipa, translate, xsampa_to_ipa
from asr.corpus.phones import BLANK, PhoneInventory, inventory, make_inventory, read_folding, read_inventory
from asr.errors import InputError
from asr.inference.bundle import Bundle, build_model, load_bundle, save_bundle
from asr.reports.error_analysis import articulation, phone_errors, sort_by_manner
from asr.scoring.comparison import compare
from asr.scoring.error_rate import Score, score
from asr.scoring.feature_error_rate import edit_distance, feature_errors
from asr.scoring.results import Evaluation, evaluate_hypotheses, headline, read_json, report_lines, write_json
from asr.scoring.transcripts import read_transcripts
from tests.conftest import TINY_MODEL, make_utterances, settings
from tests.test_commands import Command, asr, refused  # noqa: F401

IPA = {"AA": "a", "AE": "aɪ", "AH": "t͡s", "AO": "ʃ", "AW": "ɲ", "AY": "kʼ"}
"""Phones of the made-up language, for those of the tone corpus."""
TRAIN = (
    "experiment=speechocean762",
    *TINY_MODEL,
    "trainer.epochs=1",
    "trainer.trackers=[]",
    "corpus.inventory=phones.txt",
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- tables ----------------------------------------------------------------------------------------------------------


def test_a_table_of_phones(tmp_path: Path) -> None:
    path = write(tmp_path / "phones.txt", "t͡s\na\nsil\n#\n-\nʃ\n")
    found = inventory("phones.txt", tmp_path)
    assert found == inventory(str(path), tmp_path / "elsewhere") == read_inventory(path)
    assert found.symbols == (BLANK, "#", "-", "a", "sil", "t͡s", "ʃ")
    assert (found.name, found.notation) == ("phones.txt", "")  # neither # nor - is a letter of the IPA
    assert found.decode(found.encode(["ʃ", "-", "a"], "u")) == ["ʃ", "-", "a"]
    with pytest.raises(
        InputError, match="utterance u: unknown phone 'x', expected one of the 6 phones of inventory phones.txt"
    ):
        found.encode(["x"], "u")


def test_a_table_folds_and_drops(tmp_path: Path) -> None:
    found = read_inventory(write(tmp_path / "folding.tsv", "# of my own\naː\ta\nʔ\t-\na\nn̩\tən\n"))
    assert found.symbols == (BLANK, "a", "ən")
    assert found.mapping == {"aː": "a", "ʔ": None, "a": "a", "n̩": "ən", "ən": "ən"}
    assert found.reference(["ʔ", "aː", "n̩", "ən"], "u") == ["a", "ən", "ən"]
    timit = inventory("timit48")
    assert timit.reference(["bcl", "q"], "u") == ["bcl", "q"]  # the scoring conventions fold it


def test_decomposed_letters_are_composed(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "ç")
    assert len(decomposed) == 2
    found = read_inventory(write(tmp_path / "phones.txt", f"\ufeff{decomposed}\na\n"))
    assert found.symbols == (BLANK, "a", "ç")
    assert found.encode([decomposed, "ç"], "u") == [2, 2]
    with pytest.raises(InputError, match=r"phones.txt:2: phone 'ç' occurs twice"):
        read_inventory(write(tmp_path / "phones.txt", f"ç\n{decomposed}\n"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a\nb\na\n", r"phones.txt:3: phone 'a' occurs twice, expected a phone on each line, or"),
        ("a\n\nb\n", r"phones.txt:2: an empty line, expected"),
        ("a\n   \n", r"phones.txt:2: white space in '   '"),
        ("a b\n", r"phones.txt:1: white space in 'a b'"),
        ("a\u3000\n", r"phones.txt:1: white space in 'a\\u3000'"),
        ("a\tb\tc\n", r"phones.txt:1: white space in 'b\\tc'"),
        ("a\t\n", r"phones.txt:1: a phone is missing beside the tab"),
        ("\ta\n", r"phones.txt:1: a phone is missing beside the tab"),
        (f"a\n{BLANK}\n", r"phones.txt:2: '<blank>' stands for the CTC blank"),
        (f"a\t{BLANK}\n", r"phones.txt:1: '<blank>' stands for the CTC blank"),
        ("</s>\n", r"phones.txt:1: '</s>' stands for the end in n-grams"),
        ("a\tb\nb\tc\n", r"phones.txt: 'a' is folded to 'b', and that to 'c', expected modelled phones that stay"),
        ("a\t-\n", r"phones.txt: 0 phones"),
        ("", r"phones.txt: 0 phones"),
        ("# units: words\na\n", r"phones.txt: units is 'words', expected one of phones, graphemes"),
        ("# notation: sampa\na\n", r"phones.txt: notation is 'sampa', expected one of timit, arpabet, ipa, xsampa"),
        ("# units: graphemes\n# notation: ipa\na\n", r"phones.txt: units are graphemes and notation is ipa"),
        ("# notation: xsampa\na\nß\n", r"phone 'ß': no X-SAMPA from 'ß' on"),
    ],
)
def test_other_tables_are_refused_in_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        read_inventory(write(tmp_path / "phones.txt", text))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.txt: not readable \(No such file or directory\), expected a phone on"):
        inventory("none.txt", tmp_path)
    (tmp_path / "latin.txt").write_bytes("ä\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.txt: not text in UTF-8"):
        inventory("latin.txt", tmp_path)
    assert settings("corpus=folder").corpus.inventory == "phones.txt"
    for name in ("phones.csv", "phones"):
        with pytest.raises(
            InputError, match=rf"corpus.inventory is '{name}', expected one of timit61, .*, \*.txt, \*.tsv"
        ):
            settings(f"corpus.inventory={name}")


# --- notations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phones", "notation"),
    [
        (["AA", "T", "sil"], "arpabet"),
        (["AA1", "AH0", "T"], "arpabet"),
        (["iy", "t", "h#"], "timit"),
        (["a", "ɪ", "t͡s", "pʰ", "ã", "g", "sil"], "ipa"),
        (["a", "ç", "˥˩"], "ipa"),
        (["a", "e", "t"], ""),  # IPA or not, nothing tells
        (["a", "@", "S"], ""),
        (["zh", "ang1", "lü4"], ""),
        (["ф", "ы"], ""),
        ([], ""),
    ],
)
def test_notations_are_told_from_the_phones(phones: list[str], notation: str) -> None:
    assert detect(phones) == notation


def test_comments_of_a_table_decide(tmp_path: Path) -> None:
    path = tmp_path / "phones.txt"
    for text, expected in (
        ("# notation: ipa\na\ne\n", ("ipa", "phone")),
        ("# notation: xsampa\n@\nt_s\n", ("xsampa", "phone")),
        ("# notation: other\nʃ\n", ("other", "phone")),
        ("# units: graphemes\na\n|\nʃ\n", ("graphemes", "grapheme")),
        ("# units: phones\nAA\n", ("arpabet", "phone")),
    ):
        found = read_inventory(write(path, text))
        assert (found.notation, score([], "plain", found.notation).unit) == expected


def test_xsampa_by_hand_and_there_and_back() -> None:
    # "speech sounds" of several languages, after the chart of Wells (1995).
    pairs = {
        "@": "ə",
        "r\\": "ɹ",
        "a~": "ã",
        "i:": "iː",
        "t_h": "tʰ",
        "d`": "ɖ",
        "b_<": "ɓ",
        "|\\|\\": "ǁ",
        "{": "æ",
        "n=": "n̩",
    }
    pairs |= {"J": "ɲ", "J\\": "ɟ", "tS": "tʃ", "k_>": "kʼ", "@`": "ɚ", "9~": "œ̃", "s\\": "ɕ", "aI_^": "aɪ̯", "C": "ç"}
    for xsampa, ipa in pairs.items():
        assert xsampa_to_ipa(xsampa) == ipa
        assert ipa_to_xsampa(ipa) == xsampa
    assert xsampa_to_ipa("t_s") == "t͡s"
    assert ipa_to_xsampa("t͡s") == "ts"
    assert xsampa_to_ipa("a_~_k") == unicodedata.normalize("NFC", "ã̰")
    for ipa, letter in ipa_letters().items():
        if letter.xsampa and letter.manner != "mark":
            assert ipa_to_xsampa(ipa) == letter.xsampa
            assert unicodedata.normalize("NFD", xsampa_to_ipa(letter.xsampa)) == ipa
    for phone, complaint in (("t#", "no X-SAMPA from '#' on"), ("", "no X-SAMPA")):
        with pytest.raises(InputError, match=complaint):
            xsampa_to_ipa(phone)
    with pytest.raises(InputError, match="X-SAMPA has no symbol for '˥'"):
        ipa_to_xsampa("˥")


def test_translations_and_those_that_do_not_exist() -> None:
    assert translate(["AH0", "T", "sil"], "arpabet", "ipa") == {"AH0": "ʌ", "T": "t", "sil": None}
    assert translate(["AY"], "arpabet", "xsampa") == {"AY": "aI"}
    assert translate(["ʃ", "sil"], "ipa", "ipa") == {"ʃ": "ʃ", "sil": "sil"}
    assert translate(["S", "sil"], "xsampa", "ipa") == {"S": "ʃ", "sil": None}
    for source, target, complaint in (
        ("ipa", "arpabet", "notation 'arpabet' for a model with phones in ipa, expected model, ipa or xsampa"),
        ("", "ipa", "notation 'ipa' for a model with phones in a notation of their own, expected model"),
        ("graphemes", "ipa", "notation 'ipa' for a model with phones in graphemes, expected model"),
    ):
        with pytest.raises(InputError, match=complaint):
            translate(["a"], source, target)


def test_manners_of_ipa_by_the_chart() -> None:
    expected = {
        "front vowels": ["i", "ã", "eː"],
        "central vowels": ["ə"],
        "back vowels": ["ɑ", "u"],
        "diphthongs": ["aɪ", "oʊ̯"],
        "approximants": ["j", "ɹ"],
        "laterals": ["ʎ"],
        "nasals": ["ɲ"],
        "trills": ["r"],
        "flaps": ["ɾ"],
        "fricatives": ["ç", "ʃ", "ɬ"],
        "affricates": ["t͡s", "tʃʰ", "ntʃ"],
        "stops": ["kʼ", "k͡p", "ⁿd", "mb", "g"],
        "implosives": ["ɓ"],
        "clicks": ["ǃ", "ŋǀ"],
        "tones": ["˥˩"],
        "silences": ["sil", "|"],
        "other": ["ф"],
    }
    for name, phones in expected.items():
        assert {phone: manner(phone)[1] for phone in phones} == dict.fromkeys(phones, name)
    listed = [phone for phones in expected.values() for phone in phones]
    in_order = [manner(phone)[1] for phone in sort_by_manner(listed, "ipa")]
    assert list(dict.fromkeys(in_order)) == list(expected)
    assert split_ipa("t͡ʃʰ") == ["t", "͡", "ʃ", "ʰ"]


def test_order_and_groups_fall_back(tmp_path: Path) -> None:
    assert articulation(["y", "a", "ʃ"])["y"][1] == "front vowels"  # in TIMIT a semivowel
    assert articulation(["y", "iy"])["y"][1] == "semivowels"
    assert articulation(["@", "S"], "xsampa")["S"][1] == "fricatives"
    assert articulation(["AH0"], "arpabet")["AH0"][1] == "central vowels"
    assert articulation(["b", "a"], "graphemes")["b"][1] == "other"
    assert sort_by_manner(["ü4", "b", "ang1"], "other") == ["ang1", "b", "ü4"]
    assert articulation(["#!"], "ipa")["#!"][1] == articulation(["#!"], "xsampa")["#!"][1] == "other"
    rows = phone_errors(score([("u", "s", ["t͡s", "ŋ"], ["ʃ", "ŋ"])], "plain", "ipa"))
    assert [(row.phone, row.manner) for row in rows] == [("ŋ", "nasals"), ("ʃ", "fricatives"), ("t͡s", "affricates")]


# --- bundles ---------------------------------------------------------------------------------------------------------


def bundle_of(phones: PhoneInventory) -> Bundle:
    config = settings(*TINY_MODEL)
    model = build_model(config.model, config.features, phones)
    return Bundle(model, config.model, config.features, phones, "plain")


def test_a_bundle_is_self_contained(tmp_path: Path) -> None:
    table = write(tmp_path / "phones.txt", "# notation: ipa\naː\ta\nʔ\t-\na\n-\nʃ\n")
    phones = read_inventory(table)
    save_bundle(bundle_of(phones), tmp_path / "model", "card")
    table.unlink()
    assert load_bundle(tmp_path / "model").inventory == phones
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"config.yaml", "model.safetensors", "phones.txt", "phone_map.tsv", "README.md", "checksums.txt"}
    assert (tmp_path / "model" / "phones.txt").read_text(encoding="utf-8") == f"{BLANK}\n-\na\nʃ\n"
    assert read_folding(tmp_path / "model" / "phone_map.tsv")[0] == phones.mapping
    write(tmp_path / "model" / "phone_map.tsv", "aː\tb\na\n")
    with pytest.raises(InputError, match=r"phone_map.tsv: does not agree with its checksum"):
        load_bundle(tmp_path / "model")
    (tmp_path / "model" / "checksums.txt").unlink()
    with pytest.raises(InputError, match=r"phone_map.tsv: other modelled phones, expected the 3 of phones.txt"):
        load_bundle(tmp_path / "model")


@pytest.mark.parametrize("name", INVENTORIES)
def test_bundles_of_known_inventories_have_no_new_parts(name: str, tmp_path: Path) -> None:
    save_bundle(bundle_of(inventory(name)), tmp_path / "model", "card")
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert files == {"config.yaml", "model.safetensors", "phones.txt", "README.md", "checksums.txt"}
    keys = [line.split(":")[0] for line in (tmp_path / "model" / "config.yaml").read_text().splitlines()]
    assert [key for key in keys if not key.startswith((" ", "-"))] == [
        "format",
        "inventory",
        "convention",
        "features",
        "model",
    ]


# --- graphemes -------------------------------------------------------------------------------------------------------


def test_the_rate_of_graphemes_is_the_character_error_rate(tmp_path: Path) -> None:
    texts = [("u1", "s1", "the cat sat", "the bat sa"), ("u2", "s2", "on a mat", "on mat")]
    pairs = [(name, who, [*one.replace(" ", "|")], [*two.replace(" ", "|")]) for name, who, one, two in texts]
    evaluation = evaluate_hypotheses(pairs, ["plain"], notation="graphemes")
    expected = jiwer.cer([one for _, _, one, _ in texts], [two for _, _, _, two in texts])
    assert evaluation.headline.total.per == pytest.approx(expected)
    lines = report_lines(evaluation)
    assert lines[0].startswith(f"CER {100 * expected:.2f} % (plain")
    assert not any("PER" in line for line in lines)
    write_json(evaluation, tmp_path / "cer.json")
    content = json.loads((tmp_path / "cer.json").read_text())
    assert (content["rate"], content["units"], content["pfer"]) == ("CER", "graphemes", None)
    assert content["per"] == pytest.approx(expected)
    again = read_json(tmp_path / "cer.json")
    assert headline(again.headline) == headline(evaluation.headline)
    phones = evaluate_hypotheses(pairs, ["plain"])
    with pytest.raises(InputError, match="graphemes and phones, expected the same for both systems"):
        compare(evaluation.headline, phones.headline)


# --- phone feature errors --------------------------------------------------------------------------------------------


def brute_force(reference: Sequence[int], hypothesis: Sequence[int], costs: np.ndarray) -> float:
    if not reference or not hypothesis:
        return float(len(reference) + len(hypothesis))
    return min(
        brute_force(reference[1:], hypothesis[1:], costs) + costs[reference[0], hypothesis[0]],
        brute_force(reference[1:], hypothesis, costs) + 1,
        brute_force(reference, hypothesis[1:], costs) + 1,
    )


def test_the_distance_is_the_least_of_all_alignments() -> None:
    generator = np.random.default_rng(0)
    for _ in range(40):
        costs = generator.random((5, 5))
        reference, hypothesis = (generator.integers(0, 5, generator.integers(0, 6)) for _ in range(2))
        expected = brute_force(reference.tolist(), hypothesis.tolist(), costs)
        assert edit_distance(reference, hypothesis, costs) == pytest.approx(expected)


@pytest.fixture
def panphon() -> None:
    pytest.importorskip("panphon", reason="PHONE FEATURES ARE NOT TESTED: pip install 'asr-phones[ipa]'")


def pfer_of(reference: str, hypothesis: str, notation: str, convention: str = "plain") -> tuple[float, int]:
    errors = feature_errors(score([("u", "s", reference.split(), hypothesis.split())], convention, notation))
    assert errors is not None
    return errors.distance, errors.reference_segments


@pytest.mark.usefixtures("panphon")
def test_pfer_by_hand() -> None:
    # Of panphon's 24 features, p and b differ in voi alone, s and ʃ in ant and distr, i and y in lab and round.
    assert pfer_of("p a s m", "b a ʃ", "ipa") == (pytest.approx(1 / 24 + 2 / 24 + 1), 4)
    assert pfer_of("aɪ p", "aɪ", "ipa") == (pytest.approx(1), 3)  # a diphthong has two segments
    assert pfer_of("sil p sil", "b", "ipa") == (pytest.approx(1 / 24), 1)  # silences have none
    assert pfer_of("ˈi g", "y ɡ", "ipa") == (pytest.approx(2 / 24), 2)
    assert pfer_of("p s", "b S", "xsampa") == (pytest.approx(3 / 24), 2)
    assert pfer_of("P AH0 S", "B AH1 SH", "arpabet") == (pytest.approx(3 / 24), 3)
    # Folded by the convention, TIMIT's closures are silence and zh is sh.
    assert pfer_of("h# tcl p zh", "b sh h#", "timit", "kaldi") == (pytest.approx(1 / 24), 2)
    assert pfer_of("", "p", "ipa") == (1, 0)
    errors = feature_errors(score([("u", "s", ["p", "ф", "b"], ["p", "ж", "b"])], "plain", "ipa"))
    assert errors is not None
    assert (errors.distance, errors.reference_segments, errors.unread) == (1, 3, ("ж", "ф"))
    assert feature_errors(score([("u", "s", ["a1"], ["a2"])], "plain", "other")) is None
    assert feature_errors(score([("u", "s", ["a"], ["a"])], "plain")) is None


@pytest.mark.usefixtures("panphon")
def test_pfer_is_panphons(tmp_path: Path) -> None:
    from panphon.distance import Distance

    reference_program, generator = Distance(), np.random.default_rng(1)
    phones = [
        "p",
        "b",
        "t",
        "d",
        "k",
        "ɡ",
        "m",
        "n",
        "ŋ",
        "s",
        "ʃ",
        "t͡s",
        "aː",
        "i",
        "u",
        "ə",
        "ɲ",
        "kʼ",
        "tʰ",
        "ã",
        "ǀ",
        "r",
    ]
    pairs = []
    for number in range(30):
        sides = [
            [phones[index] for index in generator.integers(0, len(phones), size)]
            for size in generator.integers(0, 12, 2)
        ]
        pairs.append((f"u{number}", f"s{number % 3}", sides[0], sides[1]))
    evaluation = evaluate_hypotheses(pairs, ["plain"], notation="ipa")
    errors = evaluation.feature_errors
    assert errors is not None
    distances = [
        reference_program.hamming_feature_edit_distance("".join(reference), "".join(hypothesis))
        for _, _, reference, hypothesis in pairs
    ]
    assert errors.distance == pytest.approx(sum(distances))
    assert errors.reference_segments == sum(len(reference) for _, _, reference, _ in pairs)
    assert errors.unread == ()
    assert errors.interval is not None
    assert errors.interval[0] < errors.pfer < errors.interval[1]
    assert errors.pfer < evaluation.headline.total.per
    line = report_lines(evaluation)[1]
    assert line.startswith(
        f"PFER {100 * sum(distances) / errors.reference_segments:.2f} % (features of panphon, 95 % interval"
    )
    write_json(evaluation, tmp_path / "per.json")
    assert json.loads((tmp_path / "per.json").read_text())["pfer"]["pfer"] == errors.pfer
    again = read_json(tmp_path / "per.json").feature_errors
    assert again is not None
    assert again.pfer == errors.pfer


@pytest.mark.usefixtures("panphon")
def test_every_known_phone_has_features() -> None:
    for name in INVENTORIES:
        phones = inventory(name)
        symbols = [*phones.symbols[1:]]
        errors = feature_errors(score([("u", "s", symbols, symbols)], "plain", phones.notation))
        assert errors is not None
        # An unreleased stop is read as a stop: of all marks, panphon lacks this one alone.
        assert all("cl" in phone for phone in errors.unread), errors.unread
        assert errors.distance == 0


def test_without_panphon_there_is_no_pfer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.scoring.feature_error_rate._feature_table", lambda: None)
    evaluation = Evaluation({"plain": score([("u", "s", ["ʃ"], ["s"])], "plain", "ipa")})
    assert evaluation.feature_errors is None
    assert not any("PFER" in line for line in report_lines(evaluation))


def test_transcripts_in_xsampa_are_scored(tmp_path: Path) -> None:
    path = write(tmp_path / "plain", "u1 { t @ }\n")  # in NIST's trn, these are alternatives and the empty word
    assert read_transcripts(path) == {"u1": ["{", "t", "@", "}"]}
    with pytest.raises(InputError, match="plain.trn:1: '{', expected phones only"):
        read_transcripts(write(tmp_path / "plain.trn", "{ t @ } (u1)\n"))


# --- a corpus from end to end ----------------------------------------------------------------------------------------


def write_as(folder: Path, symbols: dict[str, str], table: str) -> Path:
    """The tone corpus with other phones."""

    def renamed(utterance: Utterance) -> Utterance:
        return replace(utterance, phones=tuple(symbols[phone] for phone in utterance.phones))

    splits = {"train": ["a", "b"], "dev": ["d"], "test": ["e", "f"]}
    made = {name: [renamed(one) for one in make_utterances(folder / name, ids, 4)] for name, ids in splits.items()}
    write_corpus(folder, made, {})
    write(folder / "phones.txt", table)
    return folder


@pytest.mark.slow
def test_ipa_end_to_end(asr: Command, refused: Command, tmp_path: Path) -> None:  # noqa: F811
    onnx = pytest.importorskip("onnx")
    # aɪ is folded to a, and the glottal stop, which replaces ts in the corpus, is dropped.
    corpus = write_as(tmp_path / "corpus", IPA | {"AH": "ʔ"}, "a\naɪ\ta\nʔ\t-\nʃ\nɲ\nkʼ\n")
    run, cuts = tmp_path / "run", corpus / "cuts_test.jsonl.gz"
    trained = asr("train", *TRAIN, f"corpus.dir={corpus}", f"run_dir={run}", "trainer.aligner_epochs=1")
    assert trained.code == 0, trained.err
    model = run / "model"
    bundle = load_bundle(model)
    assert bundle.inventory.symbols == (BLANK, "a", "kʼ", "ɲ", "ʃ")
    assert bundle.inventory.notation == "ipa"
    assert "| phones | phones.txt, 4 and the CTC blank |" in (model / "README.md").read_text(encoding="utf-8")
    write(corpus / "phones.txt", "a\naɪ\nʔ\t-\nʃ\tɲ\nɲ\nkʼ\n")  # as many phones, but others
    resume = ("train", *TRAIN, f"corpus.dir={corpus}", f"run_dir={run}", "trainer.aligner_epochs=1", "resume=true")
    refused("phones.txt: other phones, expected those that the run began with", *resume)
    (corpus / "phones.txt").unlink()

    evaluated = asr("evaluate", model, cuts, "--json", tmp_path / "per.json", "--report", tmp_path / "report")
    assert evaluated.code == 0, evaluated.err
    content = json.loads((tmp_path / "per.json").read_text(encoding="utf-8"))
    modelled = [phone for one in read_manifest(cuts) for phone in one.phones if phone != "ʔ"]
    assert content["reference_phones"] == len(modelled)
    assert (content["rate"], content["units"], content["notation"]) == ("PER", "phones", "ipa")
    assert "aɪ" not in " ".join(content["references"].values()).split()
    assert (content["pfer"] is None) == (util.find_spec("panphon") is None)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "nasals" in page
    assert "Errors by phone" in page

    audio = str(read_manifest(cuts)[0].audio_path)
    for notation in ("model", "ipa", "xsampa"):
        assert asr("transcribe", audio, "--model", model, "--notation", notation).code == 0
    refused(
        "notation 'arpabet' for a model with phones in ipa",
        "transcribe",
        audio,
        "--model",
        model,
        "--notation",
        "arpabet",
    )
    aligned = asr("align", model, audio, "--phones", "ɲ aɪ ʔ ʃ", "--notation", "xsampa")
    assert [line.split()[4] for line in aligned.out.splitlines()] == ["J", "a", "S"]
    refused("unknown phone 'AA'", "align", model, audio, "--phones", "AA")

    assert asr("export", model, tmp_path / "phones.onnx").code == 0
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "phones.onnx").metadata_props}
    assert metadata["phones"].split() == [BLANK, "a", "kʼ", "ɲ", "ʃ"]


def test_lm_decoder_adaptation_and_explanation(asr: Command, tmp_path: Path) -> None:  # noqa: F811
    corpus = write_as(tmp_path / "corpus", IPA, "".join(f"{phone}\n" for phone in IPA.values()))
    cuts, model = corpus / "cuts_dev.jsonl.gz", tmp_path / "model"
    torch.manual_seed(0)
    save_bundle(bundle_of(inventory("phones.txt", corpus)), model, "card")
    built = asr("lm", cuts, tmp_path / "p.arpa", "--order", "2", "--inventory", corpus / "phones.txt")
    assert built.code == 0, built.err
    for arguments in (
        ("tune-decoder", model, cuts, "--lm", tmp_path / "p.arpa", "--beam", "4"),
        ("evaluate", model, cuts, "--decoder", "beam"),
        ("adapt", model, cuts, "--out", tmp_path / "adapted"),
        ("explain", model, read_manifest(cuts)[0].audio_path, "--out", tmp_path / "explained"),
    ):
        done = asr(*arguments)
        assert done.code == 0, (arguments[0], done.err)
    assert load_bundle(tmp_path / "adapted").inventory == load_bundle(model).inventory


@pytest.mark.slow
def test_graphemes_end_to_end(asr: Command, tmp_path: Path) -> None:  # noqa: F811
    letters = {"AA": "ä", "AE": "|", "AH": "c", "AO": "d", "AW": "-", "AY": "'"}
    table = "# units: graphemes\n" + "".join(f"{letter}\n" for letter in letters.values())
    corpus = write_as(tmp_path / "corpus", letters, table)
    run, cuts = tmp_path / "run", corpus / "cuts_test.jsonl.gz"
    trained = asr("train", *TRAIN, f"corpus.dir={corpus}", f"run_dir={run}", "trainer.aligner_epochs=1")
    assert trained.code == 0, trained.err
    assert "dev CER" in (run / "train.log").read_text(encoding="utf-8")
    evaluated = asr("evaluate", run / "model", cuts, "--json", run / "test.json", "--report", tmp_path / "report")
    assert evaluated.out.startswith("CER ")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "Character error rate" in page
    assert "Errors by grapheme" in page
    assert "PER" not in page.replace("SUPER", "")
    assert asr("report", run, "--out", tmp_path / "runs").code == 0
    runs = (tmp_path / "runs" / "index.html").read_text(encoding="utf-8")
    assert "CER by run" in runs
    assert "training loss, nats per grapheme" in runs
    audio = read_manifest(cuts)[0].audio_path
    assert asr("explain", run / "model", audio, "--out", tmp_path / "inside").code == 0
    assert "where each grapheme begins" in (tmp_path / "inside" / "index.html").read_text(encoding="utf-8")
    aligned = asr("align", run / "model", audio, "--phones", "ä | c", "--format", "textgrid")
    assert aligned.code == 0, aligned.err
    assert '"ä"' in aligned.out
    refused_notation = asr("transcribe", audio, "--model", run / "model", "--notation", "ipa")
    assert refused_notation.code == 2
    assert "notation 'ipa' for a model with phones in graphemes, expected model" in refused_notation.err


def test_import_of_a_model_with_a_table(tmp_path: Path) -> None:
    from asr.export.state_dict import output_symbols

    write(tmp_path / "phones.txt", "# notation: ipa\nb\na\naː\ta\n")
    phones, order = output_symbols("phones.txt", None, tmp_path)
    assert (phones.symbols, order) == ((BLANK, "a", "b"), [0, 1, 2])
    outputs = write(tmp_path / "outputs.txt", f"b\n{BLANK}\na\n")
    phones, order = output_symbols("phones.txt", outputs, tmp_path)
    assert (phones.mapping["aː"], order) == ("a", [1, 2, 0])
    own, _ = output_symbols("arpabet39", write(tmp_path / "timit61.txt", f"{BLANK}\nʃ\na\n"), tmp_path)
    assert (own.name, own.notation, own.symbols) == ("timit61.txt", "ipa", (BLANK, "ʃ", "a"))
    assert make_inventory("x", {"a": "a"}).notation == ""
    assert isinstance(score([], "plain"), Score)
