"""Folders of recordings in the layout of the Montreal Forced Aligner: names, texts, tiers, and what is wrong with them."""

import os
import re
import sys
import unicodedata
from pathlib import Path

import pytest

from asr.errors import InputError
from data_prep.entries import Entry, LeftOut
from data_prep.folder import read_folder
from data_prep.pipeline import PrepareOptions, prepare
from data_prep.pronouncing import Pronouncing
from tests.test_prepare_tiers import LONG, write_grid


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write files of a folder. A reader does not look into audio, so that any content will do."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def read(source: Path) -> list[Entry]:
    """The entries of a folder of which nothing is left out."""
    found = list(read_folder(source))
    assert [item for item in found if isinstance(item, LeftOut)] == []
    return [item for item in found if isinstance(item, Entry)]


def left_out(source: Path) -> list[tuple[str, str]]:
    """(path in the folder and what follows, reason) of all that is left out."""
    root = f"{source.absolute()}/"
    return [
        (found.where.removeprefix(root), found.reason) for found in read_folder(source) if isinstance(found, LeftOut)
    ]


def speakers(source: Path) -> dict[str, str]:
    return {entry.id: entry.speaker for entry in read(source)}


def refused(source: Path, *expected: str) -> None:
    with pytest.raises(InputError) as error:
        list(read_folder(source))
    message = str(error.value)
    assert "\n" not in message
    for text in expected:
        assert text in message


# Names: recordings, speakers, splits, ids.


def test_recordings_beside_texts(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "ann/b.WAV": "",
            "ann/b.lab": "one two\n  three \n\n",
            "ann/c.Flac": "",
            "ann/c.TXT": "four",
            "bob/a.opus": "",
            "bob/a.txt": "five\u00a0six",
            "bob/notes.pdf": "",
            ".hidden/d.wav": "",
            "bob/.e.wav": "",
        },
    )
    assert read(tmp_path) == [
        Entry("ann-b", tmp_path / "ann/b.WAV", "ann", str(tmp_path / "ann/b.lab"), "one two three"),
        Entry("ann-c", tmp_path / "ann/c.Flac", "ann", str(tmp_path / "ann/c.TXT"), "four"),
        Entry("bob-a", tmp_path / "bob/a.opus", "bob", str(tmp_path / "bob/a.txt"), "five six"),
    ]


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus", "MP3"])
def test_kinds_of_audio(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, {f"ann/a.{suffix}": "", "ann/a.lab": "one"})
    assert read(tmp_path)[0].audio_path == tmp_path / f"ann/a.{suffix}"


def write_recordings(root: Path, *names: str) -> Path:
    return write(root, {f"{name}{suffix}": "one" for name in names for suffix in (".wav", ".lab")})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("ann/a", "bob/a"), ["ann", "bob"]),
        (("wav/ann/1/a", "wav/ann/2/a", "wav/bob/1/a"), ["ann", "ann", "bob"]),
        (("wav/ann/a", "wav/bob/1/a"), ["ann", "bob"]),
        (("ann/wav/a", "bob/wav/a"), ["ann", "bob"]),
        (("ann/a", "ann/b"), ["ann", "ann"]),
        (("ann/a", "ann/1/b"), ["ann", "ann"]),
        (("ann_1", "ann_2_3", "bob-1"), ["ann", "ann", "bob"]),
        (("ann_1", "bob"), ["ann_1", "bob"]),
        (("_1", "bob_1"), ["_1", "bob_1"]),
        (("ann/a", "zoe"), ["zoe", "ann"]),
    ],
)
def test_speakers(tmp_path: Path, names: tuple[str, ...], expected: list[str]) -> None:
    assert list(speakers(write_recordings(tmp_path, *names)).values()) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train/ann/a", "dev/bob/a", "test/cem/a"), {"ann": "train", "bob": "dev", "cem": "test"}),
        (("x/Training/ann_a", "x/validation/bob_a"), {"ann": "train", "bob": "dev"}),
        (("train/ann/a", "train/bob/a"), {"ann": "", "bob": ""}),
        (("train/a_1", "train/b_1"), {"train": ""}),
        (("train/a", "trainer/a"), {"train": "", "trainer": ""}),
        (("test1/a", "test2/a"), {"test1": "", "test2": ""}),
    ],
)
def test_splits_of_the_corpus(tmp_path: Path, names: tuple[str, ...], expected: dict[str, str]) -> None:
    assert {entry.speaker: entry.split for entry in read(write_recordings(tmp_path, *names))} == expected


def test_white_space_letters_and_accents_in_names(tmp_path: Path) -> None:
    """On disk, letters are decomposed, as macOS writes them; the text has them composed."""
    folder, recording = (unicodedata.normalize("NFD", name) for name in ("Zoë  Müller", "한국어 1"))
    write(
        tmp_path,
        {f"{folder}/{recording}.wav": "", f"{folder}/한국어 1.lab": unicodedata.normalize("NFD", "né Ångström")},
    )
    write(tmp_path, {"анна/привет\u3000мир.wav": "", "анна/привет\u3000мир.txt": "привет"})
    first, second = read(tmp_path)
    assert (first.id, first.speaker, first.words) == ("Zoë_Müller-한국어_1", "Zoë_Müller", "né Ångström")
    assert first.audio_path.name == f"{recording}.wav" != "한국어 1.wav"
    assert first.audio_path.is_file()
    assert (second.id, second.speaker, second.words) == ("анна-привет_мир", "анна", "привет")


def test_tiers_in_a_folder_of_their_own(tmp_path: Path) -> None:
    """They take the place of the texts, also inside of the corpus; what has no counterpart is counted."""
    source = write_recordings(tmp_path / "corpus", "ann/1", "ann/2", "bob/Ünder 3")
    tiers = source / "tiers"
    for name in ("ann/1", "ann/4", f"bob/{unicodedata.normalize('NFD', 'Ünder 3')}", "cid/5"):
        phones = [(0.25, 0.5, "a"), (0.5, 0.75, "b")]
        write_grid(tiers / f"{name}.TextGrid", 1.0, phones=phones, words=[(0.25, 0.75, "ab")])
    write(tiers, {"errors.tsv": "utterance\n", "ann/2.lab": "words"})
    found = list(read_folder(source, tiers))
    entries = [item for item in found if isinstance(item, Entry)]
    assert [(entry.id, entry.speaker, entry.words, entry.phones) for entry in entries] == [
        (name, speaker, "ab", ("a", "b")) for name, speaker in (("ann-1", "ann"), ("bob-Ünder_3", "bob"))
    ]
    assert [entry.phone_times_s for entry in entries] == [((0.25, 0.5), (0.5, 0.75))] * 2
    assert [entry.audio_path.parent.parent for entry in entries] == [source] * 2
    assert [(Path(item.where).relative_to(source), item.reason) for item in found if isinstance(item, LeftOut)] == [
        (Path("ann/2.wav"), "audio without text"),
        (Path("tiers/ann/4.TextGrid"), "text without audio"),
        (Path("tiers/cid/5.TextGrid"), "text without audio"),
    ]
    with pytest.raises(InputError, match="none: no such folder, expected one with TextGrids"):
        list(read_folder(source, tmp_path / "none"))


def test_ids_and_speakers_that_collide(tmp_path: Path) -> None:
    for name, paths, found in (
        ("ids", ("a/b/c", "a/b-c", "d/e"), "a/b/c.lab: id 'a-b-c' is also that of"),
        ("spaces", ("a/b c", "a/b_c"), "a/b_c.lab: id 'a-b_c' is also that of"),
    ):
        root = write_recordings(tmp_path / name, *paths)
        with pytest.raises(InputError, match=re.escape(found)):
            prepare(
                lambda root=root: read_folder(root),
                tmp_path / "out",
                PrepareOptions(pronouncing=Pronouncing(units="graphemes")),
            )
    refused(write_recordings(tmp_path / "speakers", "a b/c", "a_b/d"), "speakers 'a b' and 'a_b' are both a_b")
    refused(write_recordings(tmp_path / "missing") / "nothing", "no such folder, expected one with recordings")
    refused(write(tmp_path / "texts", {"a/b.lab": "one"}), "no recordings in it, expected some (.wav .flac")


def test_text_without_audio_and_audio_without_text(tmp_path: Path) -> None:
    write(
        tmp_path, {"ann/a.lab": "one", "ann/b.wav": "", "ann/c.wav": "", "ann/c.lab": "two", "texts/d.TextGrid": LONG}
    )
    assert left_out(tmp_path) == [
        ("ann/a.lab", "text without audio"),
        ("ann/b.wav", "audio without text"),
        ("texts/d.TextGrid", "text without audio"),
    ]


def test_files_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, {f"ann/a.{suffix}": "one" for suffix in ("flac", "wav", "WAV", "txt", "lab")})
    found = list(read_folder(tmp_path))
    (entry,) = (item for item in found if isinstance(item, Entry))
    assert entry.audio_path.name == "a.WAV"
    assert entry.where.endswith("a.lab")
    assert left_out(tmp_path) == [
        ("ann/a.wav", "second recording of the same name"),
        ("ann/a.flac", "second recording of the same name"),
        ("ann/a.txt", "second text of a recording"),
    ]


def test_links(tmp_path: Path) -> None:
    outside = write_recordings(tmp_path / "outside", "cem/a")
    source = write_recordings(tmp_path / "source", "zoe/a")
    (source / "again").symlink_to("zoe")
    (source / "loop").symlink_to(".")
    (source / "cem").symlink_to(outside / "cem")
    (source / "cem2").symlink_to(outside / "cem")
    (outside / "cem/up").symlink_to(source)
    (source / "zoe/b.wav").symlink_to("nothing.wav")
    (source / "zoe/c.wav").symlink_to(outside / "cem/a.wav")
    (source / "zoe/c.txt").symlink_to(outside / "cem/a.lab")
    assert [item.id for item in read_folder(source) if isinstance(item, Entry)] == ["cem-a", "zoe-a", "zoe-c"]
    assert left_out(source) == [
        ("again", "link to a folder that is read elsewhere"),
        ("cem/up", "link to a folder that is read elsewhere"),
        ("cem2", "link to a folder that is read elsewhere"),
        ("loop", "link to a folder that is read elsewhere"),
        ("zoe/b.wav", "link to a file that does not exist"),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    write_recordings(tmp_path, "ann/a")
    with open(os.fsencode(tmp_path) + b"/ann/\xe9.wav", "wb"):
        pass
    ((where, reason),) = left_out(tmp_path)
    assert "ann/\\udce9.wav" in where
    assert reason == "file name that is not UTF-8"


# Texts.


@pytest.mark.parametrize(
    "text",
    ["Ünïcode один 一".encode(), b"\xef\xbb\xbf" + "Ünïcode один 一".encode(), "Ünïcode один 一".encode("utf-16")],
)
def test_encodings_that_are_read(tmp_path: Path, text: bytes) -> None:
    write(tmp_path, {"ann/a.wav": "", "ann/a.lab": text})
    assert read(tmp_path)[0].words == "Ünïcode один 一"


def test_one_text_among_many_that_cannot_be_read(tmp_path: Path) -> None:
    write_recordings(tmp_path, "ann/a", "ann/b", "ann/c", "ann/d", "ann/e")
    write(tmp_path, {"ann/a.lab": "né".encode("latin-1"), "ann/b.lab": " \n", "ann/c.lab": "né".encode("utf-16-le")})
    write(tmp_path, {"ann/d.lab": "word " * 200_000})
    expected = "expected UTF-8, or UTF-16 with a byte order mark"
    assert left_out(tmp_path) == [
        (f"ann/a.lab: byte 0xE9 at position 1 is not UTF-8, {expected}", "text that is not readable"),
        ("ann/b.lab", "text without words"),
        (f"ann/c.lab: byte 0xE9 at position 2 is not UTF-8, {expected}", "text that is not readable"),
        ("ann/d.lab: 999999 characters", "text too long for an utterance"),
    ]
    assert [item.id for item in read_folder(tmp_path) if isinstance(item, Entry)] == ["ann-e"]


# Tiers.


def with_grid(root: Path, end_s: float, **tiers: list[tuple[float, float, str]]) -> Path:
    """A folder with one recording of speaker ann, called ``a``, and its TextGrid."""
    write_grid(root / "ann/a.TextGrid", end_s, **tiers)
    return write(root, {"ann/a.wav": ""})


def test_a_tier_of_utterances_for_each_speaker(tmp_path: Path) -> None:
    """What the aligner reads. Intervals are utterances; empty ones are gaps."""
    ann = [(0.0, 1.0, ""), (1.0, 2.5, "good  morning"), (2.5, 4.0, "sil"), (4.0, 5.0, "yes")]
    found = read(with_grid(tmp_path, 3600, Ann_B=ann, bob=[(2.0, 3.25, "hm")], Notes=[(0.0, 9.0, "noisy")]))
    assert [(entry.id, entry.speaker, entry.start_s, entry.end_s, entry.words, entry.phones) for entry in found] == [
        ("ann-a-Ann_B-00001000-00002500", "Ann_B", 1.0, 2.5, "good morning", None),
        ("ann-a-Ann_B-00004000-00005000", "Ann_B", 4.0, 5.0, "yes", None),
        ("ann-a-bob-00002000-00003250", "bob", 2.0, 3.25, "hm", None),
    ]
    assert found[0].where == f"{tmp_path}/ann/a.TextGrid: 1 s to 2.5 s"
    assert {entry.audio_path for entry in found} == {tmp_path / "ann/a.wav"}


def test_words_outside_the_utterances_are_counted(tmp_path: Path) -> None:
    ann, words = [(0.0, 1.0, "a"), (1.0, 3.0, "")], [(0.1, 0.5, "a"), (1.5, 2.0, "lost"), (2.0, 2.5, "too")]
    found = list(read_folder(with_grid(tmp_path, 3, **{"Ann": ann, "Ann - words": words})))
    assert [item.words for item in found if isinstance(item, Entry)] == ["a"]
    assert [item.reason for item in found if isinstance(item, LeftOut)] == [
        "labels outside the utterances of their speaker"
    ]


def test_tiers_of_words_and_phones(tmp_path: Path) -> None:
    """What the aligner writes for a short recording of one speaker."""
    phones = [(0.0, 0.1, "sil"), (0.1, 0.2, "h"), (0.2, 0.35, "aɪ"), (0.35, 0.4, ""), (0.4, 0.5, "sp")]
    (entry,) = read(with_grid(tmp_path, 0.5, words=[(0.0, 0.1, ""), (0.1, 0.35, "hi")], phones=phones))
    assert entry == Entry(
        "ann-a",
        tmp_path / "ann/a.wav",
        "ann",
        str(tmp_path / "ann/a.TextGrid"),
        "hi",
        ("h", "aɪ"),
        ((0.1, 0.2), (0.2, 0.35)),
    )


@pytest.mark.parametrize("tier", ["phones", "Phone", "MAU", "segments", "ann - phones"])
def test_a_tier_of_phones_with_words_beside_it(tmp_path: Path, tier: str) -> None:
    write(
        with_grid(tmp_path, 1, **{tier.replace(" ", "_"): [(0.0, 0.5, "<p:>"), (0.5, 1.0, "a")]}), {"ann/a.txt": "ah"}
    )
    (entry,) = read(tmp_path)
    assert (entry.id, entry.speaker, entry.words, entry.phones) == ("ann-a", "ann", "ah", ("a",))


def test_phones_within_utterances(tmp_path: Path) -> None:
    """Times are relative to the utterance; a phone that runs beyond it ends with it."""
    phones = [(1.0, 1.5, "a"), (1.5, 2.1, "b"), (2.1, 3.0, "c"), (3.0, 3.5, "sil")]
    words = [(1.0, 2.1, "ab"), (2.1, 3.0, "c")]
    source = with_grid(tmp_path, 40, utterances=[(1.0, 2.0, "ab?"), (2.0, 4.0, "c!")], words=words, phones=phones)
    first, second = read(source)
    assert (first.id, first.words, first.phones) == ("ann-a-00001000-00002000", "ab", ("a", "b"))
    assert first.phone_times_s == ((0.0, 0.5), (0.5, 1.0))
    assert (second.words, second.phones, second.start_s, second.end_s) == ("c", ("c",), 2.0, 4.0)
    assert second.phone_times_s == ((0.1, 1.0),)


def test_several_speakers_without_utterances_are_cut_at_pauses(tmp_path: Path) -> None:
    tiers = {
        "Ann_-_words": [(0.5, 1.0, "a"), (3.0, 4.0, "b")],
        "Ann_-_phones": [(0.5, 1.0, "A"), (3.0, 3.5, "B"), (3.5, 4.0, "spn")],
        "Bob_-_words": [(1.5, 2.0, "c")],
        "Bob_-_phones": [(1.5, 2.0, "C")],
    }
    source = with_grid(tmp_path, 5, **tiers)
    found = [item for item in read_folder(source) if isinstance(item, Entry)]
    assert [(entry.id, entry.speaker, entry.words, entry.phones) for entry in found] == [
        ("ann-a-Ann-00000400-00001100", "Ann", "a", ("A",)),
        ("ann-a-Bob-00001400-00002100", "Bob", "c", ("C",)),
    ]
    assert found[0].phone_times_s == ((pytest.approx(0.1), pytest.approx(0.6)),)
    assert left_out(source) == [("ann/a.TextGrid: 2.9 s to 4.1 s: 'spn' at 3.5 s", "unknown word (spn)")]


def test_a_long_recording_without_utterances_is_cut_at_pauses(tmp_path: Path) -> None:
    """An hour of tiers does not become an utterance of an hour, nor does it get the words of the whole text."""
    phones = [(float(start), start + 4.0, f"p{start}") for start in range(0, 3600, 5)]
    write(with_grid(tmp_path, 3600, phones=phones), {"ann/a.txt": "the text of an hour"})
    found = [item for item in read_folder(tmp_path) if isinstance(item, Entry)]
    assert [entry.phones for entry in found] == [(label,) for _, _, label in phones]
    assert {entry.words for entry in found} == {""}
    assert left_out(tmp_path) == [("ann/a.txt", "second text of a recording")]


@pytest.mark.parametrize(
    ("tiers", "where", "reason"),
    [
        (
            {"phones": [(0.0, 0.5, "a"), (0.3, 1.0, "b")]},
            ": tier 'phones': 'b' from 0.3 s to 1 s, after one to 0.5 s",
            "tier with overlapping intervals",
        ),
        (
            {"Ann": [(0.0, 1.5, "a")]},
            ": tier 'Ann': 'a' from 0 s to 1.5 s, the end is at 1 s",
            "tier that runs past the end",
        ),
        ({"phones": [(0.0, 1.0, "spn")]}, ": 'spn' at 0 s", "unknown word (spn)"),
        ({"phones": [(0.0, 1.0, "a b")]}, ": 'a b' at 0 s", "phone label with white space"),
        ({"phones": []}, ": 0 phones", "no phones"),
        ({"phones": [(0.0, 1.0, "")]}, ": 0 phones", "no phones"),
        ({"words": []}, "", "text without words"),
        ({"Ann": [(0.0, 1.0, "")]}, ": speaker Ann", "tier without labels"),
        ({"Ann": [(0.0, 1.0, "x" * 1_000_000)]}, ": 0 s to 1 s: 1000000 characters", "text too long for an utterance"),
        ({"KAN-MAU": [(0.0, 1.0, "h aI")]}, "", "TextGrid without a tier of words, phones or utterances"),
        ({}, "", "TextGrid without a tier of words, phones or utterances"),
    ],
)
def test_tiers_that_are_left_out(
    tmp_path: Path, tiers: dict[str, list[tuple[float, float, str]]], where: str, reason: str
) -> None:
    source = with_grid(tmp_path, 1, **tiers)
    assert left_out(source) == [(f"ann/a.TextGrid{where}", reason)]
    assert not [item for item in read_folder(source) if isinstance(item, Entry)]


def test_one_bad_tier_of_two(tmp_path: Path) -> None:
    source = with_grid(tmp_path, 2, Ann=[(0.0, 1.5, "a"), (1.0, 2.0, "b")], Bob=[(0.0, 1.0, "c")])
    assert [reason for _, reason in left_out(source)] == ["tier with overlapping intervals"]
    assert [item.speaker for item in read_folder(source) if isinstance(item, Entry)] == ["Bob"]


def test_tiers_past_the_audio_keep_their_times(tmp_path: Path) -> None:
    """The reader does not know how long the audio is; it hands the times on, and the pipeline compares them."""
    (entry,) = read(with_grid(tmp_path, 9, Ann=[(8.0, 9.0, "late")]))
    assert (entry.start_s, entry.end_s) == (8.0, 9.0)


def test_grids_that_cannot_be_read(tmp_path: Path) -> None:
    write_recordings(tmp_path, "ann/a", "ann/b", "ann/c", "ann/d")
    write(tmp_path, {"ann/a.TextGrid": LONG.encode("latin-1"), "ann/b.TextGrid": LONG[:300], "ann/c.textgrid": ""})
    write_grid(tmp_path / "ann/d.TextGrid", 1, phones=[(0, 1, "a")])
    text = (tmp_path / "ann/d.TextGrid").read_text()
    (tmp_path / "ann/d.TextGrid").write_text(text.replace('"TextGrid"\n0\n', '"TextGrid"\n0.5\n'))
    found = left_out(tmp_path)
    assert [reason for where, reason in found if "TextGrid" in where or "textgrid" in where] == [
        *["TextGrid that is not readable"] * 3,
        "TextGrid that does not start at 0",
    ]
    assert [where for where, reason in found if reason == "second text of a recording"] == [
        "ann/a.lab",
        "ann/b.lab",
        "ann/c.lab",
    ]


def test_words_beside_phones_that_cannot_be_read(tmp_path: Path) -> None:
    write(with_grid(tmp_path, 1, phones=[(0.0, 1.0, "a")]), {"ann/a.lab": b"\xff"})
    entry, unread = sorted(read_folder(tmp_path), key=lambda item: isinstance(item, LeftOut))
    assert isinstance(entry, Entry)
    assert (entry.phones, entry.words) == (("a",), "")
    assert isinstance(unread, LeftOut)
    assert unread.reason == "text that is not readable"


def test_decomposed_labels(tmp_path: Path) -> None:
    phones = [(0.0, 0.5, unicodedata.normalize("NFD", "ɛ̃")), (0.5, 1.0, unicodedata.normalize("NFD", "ç"))]
    (entry,) = read(with_grid(tmp_path, 1, phones=phones))
    assert entry.phones == (unicodedata.normalize("NFC", "ɛ̃"), "\u00e7")


def test_the_order_is_that_of_names_and_the_same_each_time(tmp_path: Path) -> None:
    names = [f"{speaker}/{utterance}" for speaker in "cab" for utterance in (10, 2, 1)]
    write_recordings(tmp_path, *names)
    first, second = read(tmp_path), read(tmp_path)
    assert first == second
    assert [entry.id for entry in first] == sorted(name.replace("/", "-") for name in names)
