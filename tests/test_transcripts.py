import re
import unicodedata
from pathlib import Path

import pytest

from asr.errors import InputError
from asr.scoring.alignment import Counts
from asr.scoring.transcripts import evaluate_transcripts, pair_transcripts, read_transcripts


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_both_formats_give_the_same_transcripts(tmp_path: Path) -> None:
    trn = write(tmp_path, "a.trn", ";; a comment\nsh iy (FDHC0_SX209)\n\n(FDHC0_SI1559)\n  q  (MABC0_SA1)\n")
    plain = write(tmp_path, "a.txt", "FDHC0_SX209 sh  iy\nFDHC0_SI1559\nMABC0_SA1\tq\n")
    expected = {"FDHC0_SX209": ["sh", "iy"], "FDHC0_SI1559": [], "MABC0_SA1": ["q"]}
    assert read_transcripts(trn) == read_transcripts(plain) == expected
    plain.write_text("\ufeff" + plain.read_text())  # the mark of some editors
    assert read_transcripts(plain) == expected
    assert [speaker for _, speaker, _, _ in pair_transcripts(trn, plain)] == ["FDHC0", "FDHC0", "MABC0"]


def test_a_letter_and_its_mark_are_the_letter_with_the_mark(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "u1 ã ç t͡s\n") for form in ("NFC", "NFD"))
    assert composed != decomposed
    files = write(tmp_path, "a.txt", composed), write(tmp_path, "b.txt", decomposed)
    for reference, hypothesis in (files, files[::-1]):
        assert evaluate_transcripts(reference, hypothesis).headline.total == Counts(reference_phones=3)


def test_speakers_come_from_a_file_or_the_ids(tmp_path: Path) -> None:
    ids = write(tmp_path, "a.txt", "000010011 a\ns1-2 b\n")
    assert [speaker for _, speaker, _, _ in pair_transcripts(ids, ids)] == ["000010011", "s1"]
    speakers = write(tmp_path, "speakers", "s1-2 x\n000010011 0001\nanother y\n")
    assert [speaker for _, speaker, _, _ in pair_transcripts(ids, ids, speakers)] == ["0001", "x"]
    with pytest.raises(InputError, match="speakers: no speaker for s1-2, expected an id and a speaker on each line"):
        pair_transcripts(ids, ids, write(tmp_path, "speakers", "000010011 0001\ns1-2\n"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty, expected lines of"),
        ("\n \n", "empty, expected lines of"),
        ("a b (u1)\nu2 a b\n", ":2: does not end in (id), expected the same format on all lines"),
        ("u1 a b\na b (u2)\n", ":2: ends in (id), expected the same format"),
        ("u1 a\nu2 b\nu1 c\n", ":3: u1 appears twice, expected each id once"),
        ("{ a / b } c (u1)\n", ":1: '{', expected phones only"),
        ("(sil) c (u1)\n", ":1: '(sil)', expected phones only"),
    ],
)
def test_malformed_lines_are_named(text: str, complaint: str, tmp_path: Path) -> None:
    path = write(tmp_path, "x.trn", text)
    with pytest.raises(InputError, match=re.escape(f"{path}{complaint}" if complaint[0] == ":" else complaint)):
        read_transcripts(path)


def test_ids_of_one_side_only_are_named(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", "u1 a\nu2 b\n"), write(tmp_path, "two", "u1 a\n")
    for paths in ((one, two), (two, one)):
        with pytest.raises(InputError, match="two: lacks u2, expected the ids of the other file"):
            pair_transcripts(*paths)
    many = write(tmp_path, "many", "".join(f"u{number} a\n" for number in range(9)))
    with pytest.raises(InputError, match="two: lacks u0, u2, u3, u4, u5 and 3 more"):
        pair_transcripts(many, two)


def test_timits_conventions_and_the_choice_of_one(tmp_path: Path) -> None:
    reference = write(tmp_path, "reference", "f0_1 h# sh ix h#\nf1_1 h# q ih h#\n")
    hypothesis = write(tmp_path, "hypothesis", "f0_1 h# sh ih h#\nf1_1 h# ih\n")
    result = evaluate_transcripts(reference, hypothesis, timit=True)
    assert list(result.scores) == ["kaldi", "optional-sil", "merged-sil", "no-sil", "61"]
    assert result.headline.total == Counts(0, 1, 0, 7)
    assert result.under("no-sil").total == Counts(0, 0, 0, 3)
    assert result.under("61").total == Counts(1, 2, 0, 8)
    assert evaluate_transcripts(reference, hypothesis, convention="61").headline.convention == "61"
    assert list(evaluate_transcripts(reference, hypothesis).scores) == ["plain"]
    folded = write(tmp_path, "folded", "f0_1 sil sh ih sil\nf1_1 sil ih\n")
    assert list(evaluate_transcripts(reference, folded, timit=True).scores) == [
        "kaldi",
        "optional-sil",
        "merged-sil",
        "no-sil",
    ]
    for timit, name in ((True, "plain"), (False, "sclite")):
        with pytest.raises(InputError, match=f"scoring convention '{name}', expected one of"):
            evaluate_transcripts(reference, hypothesis, timit, name)
    with pytest.raises(InputError, match="utterance f0_1: unknown TIMIT phone"):
        evaluate_transcripts(write(tmp_path, "x", "f0_1 AA\nf1_1\n"), hypothesis, timit=True)
