"""TextGrids, tiers, and the corpora whose labels have times: L2-ARCTIC and Buckeye, in small files written by hand."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from praatio import textgrid as praatio_textgrid

from asr.errors import InputError
from data_prep.buckeye import read_buckeye, read_labels
from data_prep.entries import Entry, LeftOut, Reader
from data_prep.l2arctic import perceive, read_l2arctic
from data_prep.textgrid import Interval, Tier, read_text, read_textgrid
from data_prep.tiers import cut_at_pauses, find_fault, group_tiers, is_too_long, relative_times, within

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "Ann"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.25
            text = "say ""item [2]:"" xmin = 7"
        intervals [3]:
            xmin = 1.25
            xmax = 1.5
            text = "été"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.75
            mark = "!"
"""

SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
1.5
<exists>
2
"IntervalTier"
"Ann"
0
1.5
3
0
0.5
""
0.5
1.25
"say ""item [2]:"" xmin = 7"
1.25
1.5
"été"
"TextTier"
"clicks"
0
1.5
1
0.75
"!"
"""

ANN = Tier("Ann", (Interval(0, 0.5, ""), Interval(0.5, 1.25, 'say "item [2]:" xmin = 7'), Interval(1.25, 1.5, "été")))


def write_grid(path: Path, end_s: float, **tiers: Sequence[tuple[float, float, str]]) -> Path:
    """Write the short text form. The name of a tier has ``_`` for white space."""
    lines = ['"ooTextFile"', '"TextGrid"', "0", str(end_s), "<exists>", str(len(tiers))]
    for name, intervals in tiers.items():
        lines += ['"IntervalTier"', f'"{name.replace("_", " ")}"', "0", str(end_s), str(len(intervals))]
        for start, end, label in intervals:
            lines += [str(start), str(end), f'"{label}"']
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(path: Path, *expected: str) -> None:
    with pytest.raises(InputError) as error:
        read_textgrid(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for text in expected:
        assert text in message


# Praat's file formats.


@pytest.mark.parametrize("form", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_the_two_text_forms_in_all_encodings(tmp_path: Path, form: str, ends: str, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "a.TextGrid").write_bytes((mark + form).replace("\n", ends).encode(encoding))
    grid = read_textgrid(tmp_path / "a.TextGrid")
    assert (grid.start_s, grid.end_s, grid.tiers) == (0, 1.5, (ANN,))


def test_the_older_header_comments_and_decomposed_letters(tmp_path: Path) -> None:
    text = SHORT.replace('File type = "ooTextFile"', '"ooTextFile short" ! a "comment" 7').replace(
        "Object class = ", ""
    )
    (tmp_path / "a.TextGrid").write_text(unicodedata.normalize("NFD", text), encoding="utf-8")
    assert read_textgrid(tmp_path / "a.TextGrid").tiers == (ANN,)


@pytest.mark.parametrize("form", ["short_textgrid", "long_textgrid"])
def test_what_praatio_writes(tmp_path: Path, form: str) -> None:
    entries = [(0.1, 0.35, "θ"), (0.35, 0.4, 'a "b"'), (0.5, 0.625, "!")]
    grid = praatio_textgrid.Textgrid()
    grid.addTier(praatio_textgrid.IntervalTier("phones", entries, 0, 2))
    grid.addTier(praatio_textgrid.PointTier("points", [(0.2, "x")], 0, 2))
    grid.save(str(tmp_path / "a.TextGrid"), format=form, includeBlankSpaces=True)
    (tier,) = read_textgrid(tmp_path / "a.TextGrid").tiers
    assert tier.name == "phones"
    assert [tuple(interval) for interval in tier.intervals if interval.label] == entries
    assert [tuple(interval) for interval in tier.intervals if not interval.label] == [
        (0, 0.1, ""),
        (0.4, 0.5, ""),
        (0.625, 2, ""),
    ]


def test_a_label_of_a_million_characters(tmp_path: Path) -> None:
    path = write_grid(tmp_path / "a.TextGrid", 1, phones=[(0, 1, "x" * 1_000_000)])
    assert len(read_textgrid(path).tiers[0].intervals[0].label) == 1_000_000


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"TextGrid"', '"PitchTier"', "'PitchTier'"),
        ("<exists>\n2", "<exists>\n3", "ends early, expected the class of a tier"),
        ("<exists>\n2", "<exists>\n1", "expected nothing after the last tier"),
        ("0.5\n1.25", "0.5\nhalf", "expected the end of an interval, a number"),
        ("1.5\n3\n", "1.5\n1e999\n", "line 12: '1e999', expected the number of labels"),
        ('"IntervalTier"', '"StrangeTier"', "'StrangeTier'"),
        ('"été"', '"ét"é', "expected a text in double quotes"),
        ('"été"', '"été', "expected a text in double quotes"),
    ],
)
def test_grids_that_do_not_follow_the_format(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in SHORT
    (tmp_path / "a.TextGrid").write_text(SHORT.replace(old, new, 1), encoding="utf-8")
    refused(tmp_path / "a.TextGrid", expected)


def test_a_grid_that_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "a.TextGrid").write_text(SHORT[: SHORT.index('"été"')], encoding="utf-8")
    refused(tmp_path / "a.TextGrid", "ends early, expected the label of an interval")


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"ooBinaryFile\x08TextGrid" + bytes(16))
    refused(tmp_path / "binary", "a binary TextGrid, expected a text file")
    (tmp_path / "empty").write_bytes(b"")
    refused(tmp_path / "empty", "ends early")
    refused(tmp_path / "missing", "no such file")
    refused(tmp_path, "not readable")


def test_encodings_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(SHORT.encode("latin-1"))
    refused(tmp_path / "latin", f"byte 0xE9 at position {SHORT.index('été')} is not UTF-8, expected UTF-8, or UTF-16")
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbf" + "é".encode() + b"\xff")
    refused(tmp_path / "marked", "byte 0xFF at position 5 is not UTF-8")
    (tmp_path / "unmarked").write_bytes("ab".encode("utf-16-le"))
    refused(tmp_path / "unmarked", "character 0 at position 1, expected text in UTF-8, or UTF-16")
    (tmp_path / "odd").write_bytes("ab".encode("utf-16") + b"\x00")
    refused(tmp_path / "odd", "byte 0x00 at position 6 is not UTF-16")


def test_a_text_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "a.lab").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert read_text(tmp_path / "a.lab") == "one\r\ntwo"


# Tiers.


@pytest.mark.parametrize(
    ("intervals", "reason"),
    [
        ([(0, 1, "a"), (0.5, 2, "b")], "tier with overlapping intervals"),
        ([(1, 2, "a"), (0, 1, "b")], "tier that runs backwards"),
        ([(1, 0.5, "a")], "tier that runs backwards"),
        ([(0, 1, "a"), (1, 1, "b")], "tier with an interval of no length"),
        ([(0, 1, "a"), (1, 2.1, "b")], "tier that runs past the end"),
        ([(-0.5, 1, "a")], "tier that runs backwards"),
    ],
)
def test_faults_of_tiers(intervals: list[tuple[float, float, str]], reason: str) -> None:
    fault = find_fault("a.TextGrid", Tier("phones", tuple(Interval(*interval) for interval in intervals)), 2.0)
    assert fault is not None
    assert fault.reason == reason
    assert fault.where.startswith("a.TextGrid: tier 'phones': ")


def test_tiers_that_touch_round_or_have_gaps_are_in_order() -> None:
    intervals = ((0, 1, "a"), (0.9995, 1.2, "b"), (1.2, 1.2, ""), (1.5, 2.0005, "c"))
    tier = Tier("phones", tuple(Interval(*interval) for interval in intervals))
    assert find_fault("", tier, 2.0) is None
    assert relative_times([tier.intervals[0], tier.intervals[1]], 0, None) == ((0, 1), (1, 1.2))


def test_pairs_of_tiers() -> None:
    names = ["Ann - words", "Ann - phones", "tones", "Bob - phones", "Ann", "Bob - phones", "Notes"]
    tiers = [Tier(name, ()) for name in names]
    groups, doubled = group_tiers(tiers)
    assert [(group.speaker, [tier.name for tier in group.tiers]) for group in groups] == [
        ("Ann", ["Ann", "Ann - words", "Ann - phones"]),
        ("Bob", ["Bob - phones"]),
    ]
    assert doubled == [tiers[5]]
    assert doubled[0] is tiers[5]


def test_tiers_of_speakers_and_of_maus() -> None:
    groups, _ = group_tiers([Tier("Ann B.", ()), Tier("Bob", ()), Tier("notes", ())])
    assert [(group.speaker, group.utterances is not None) for group in groups] == [("Ann B.", True), ("Bob", True)]
    (group,), _ = group_tiers([Tier("ORT-MAU", ()), Tier("KAN-MAU", ()), Tier("MAU", ())])
    assert [tier.name for tier in group.tiers] == ["ORT-MAU", "MAU"]


def test_what_lies_within() -> None:
    phones = [Interval(0, 1, "a"), Interval(1, 2, "b"), Interval(2, 3, "c")]
    assert [phone.label for phone in within(phones, 0.4, 2.4)] == ["a", "b"]
    assert [phone.label for phone in within(phones, 0.5, 2.5)] == ["a", "b"]
    assert within(phones, 3, 4) == []


def test_cutting_at_pauses() -> None:
    # Pauses of 0.3, 0.5 and 2 s; 0.05 s of silence before the first phone.
    times = [(0.05, 1), (1.3, 2), (2.5, 3), (5, 6)]
    pieces = list(cut_at_pauses([Interval(start, end, "a") for start, end in times], 0.0, 6.05))
    assert [(start, end, len(part)) for start, end, part in pieces] == [
        (0.0, pytest.approx(2.1), 2),
        (pytest.approx(2.4), pytest.approx(3.1), 1),
        (pytest.approx(4.9), 6.05, 1),
    ]
    assert list(cut_at_pauses([], 0.0, 1.0)) == []


def test_long_speech_is_cut_at_its_longest_pauses() -> None:
    # 36 s: pauses of 0.2 s after 10 s, 0.4 s after 14 s, 0.1 s after 30 s. Cut at 14 s; the rest, 21.6 s, at 30 s.
    times = [(0, 10), (10.2, 14), (14.4, 30), (30.1, 36)]
    pieces = list(cut_at_pauses([Interval(start, end, "a") for start, end in times], 0.0, 36.0))
    assert [(start, end) for start, end, _ in pieces] == [
        (0, pytest.approx(14.1)),
        (pytest.approx(14.3), pytest.approx(30.05)),
        (pytest.approx(30.05), 36),
    ]
    ((_, end, part),) = cut_at_pauses([Interval(0, 15, "a"), Interval(15, 30, "b")], 0.0, 30.0)
    assert (end, len(part)) == (30, 2)
    # The first pause comes after 25 s: a piece that is too long, and one that is not.
    pieces = list(cut_at_pauses([Interval(0, 25, "a"), Interval(25.2, 30, "b")], 0.0, 30.0))
    assert [is_too_long(start, end) for start, end, _ in pieces] == [True, False]


def test_pauses_of_the_same_length_make_long_pieces() -> None:
    """1,800 phones of 1.9 s with pauses of 0.1 s: ten in a piece, 19.9 s, since eleven would have 21.9 s."""
    pieces = list(cut_at_pauses([Interval(2 * i, 2 * i + 1.9, "a") for i in range(1800)], 0.0, 3600.0))
    assert [len(part) for _, _, part in pieces] == [10] * 180


# L2-ARCTIC.


@pytest.mark.parametrize(
    ("label", "phone"),
    [
        ("TH,S,s", "S"),
        ("AH0", "AH"),
        ("AH,sil,d", None),
        ("sil,R,a", "R"),
        ("ER,ER*,s", "ER"),
        ("D, T), s", "T"),
        ("IY1,AX,S", "AH"),
        ("sil", None),
        ("sp", None),
        ("", None),
    ],
)
def test_what_annotators_heard(label: str, phone: str | None) -> None:
    assert perceive(label) == (phone, "")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("R,err,s", "perceived phone that the annotator could not name (err)"),
        ("err", "perceived phone that the annotator could not name (err)"),
        ("TH,S", "label other than CPL,PPL,TYPE"),
        ("TH,S,x", "label other than CPL,PPL,TYPE"),
        ("TH,Q,s", "phone that is not in ARPAbet"),
        ("TH,,s", "phone that is not in ARPAbet"),
    ],
)
def test_labels_that_cannot_be_used(label: str, reason: str) -> None:
    assert perceive(label) == (None, reason)


@pytest.fixture
def l2arctic(tmp_path: Path) -> Path:
    """Two speakers: an utterance without and one with annotation."""
    root = tmp_path / "l2arctic_release_v5.0"
    canonical = [(0, 0.1, "sil"), (0.1, 0.2, "TH"), (0.2, 0.3, "IH1"), (0.3, 0.4, "NG"), (0.4, 0.5, "")]
    heard = [(0, 0.1, "sil"), (0.1, 0.2, "TH,S,s"), (0.2, 0.3, "IH1"), (0.3, 0.35, "NG,sil,d"), (0.35, 0.4, "sil,K*,a")]
    for speaker in ("ABA", "TNI"):
        for name in ("arctic_a0001", "arctic_a0002"):
            for folder, text in (("wav", ""), ("transcript", "A thing.\n")):
                (root / speaker / folder).mkdir(parents=True, exist_ok=True)
                (root / speaker / folder / f"{name}{'.wav' if folder == 'wav' else '.txt'}").write_text(text)
            write_grid(
                root / speaker / "textgrid" / f"{name}.TextGrid", 0.5, words=[(0.1, 0.4, "thing")], phones=canonical
            )
    write_grid(
        root / "TNI/annotation/arctic_a0002.TextGrid",
        0.5,
        words=[(0.1, 0.4, "thing")],
        phones=heard,
        IPA=[(0, 0.5, "")],
        comments=[(0, 0.5, "err")],
    )
    return root


@pytest.mark.parametrize("parent", [False, True])
def test_the_layout_of_l2arctic(l2arctic: Path, parent: bool) -> None:
    entries = list(read_l2arctic(l2arctic.parent if parent else l2arctic))
    assert all(isinstance(entry, Entry) for entry in entries)
    first, _, _, last = (entry for entry in entries if isinstance(entry, Entry))
    assert first == Entry(
        id="ABA_arctic_a0001",
        audio_path=l2arctic / "ABA/wav/arctic_a0001.wav",
        speaker="ABA",
        where=str(l2arctic / "ABA/textgrid/arctic_a0001.TextGrid"),
        words="A thing.",
        phones=("TH", "IH", "NG"),
        phone_times_s=((0.1, 0.2), (0.2, 0.3), (0.3, 0.4)),
        sex="m",
        details={"native_language": "Arabic", "annotated": "no"},
    )
    assert (last.id, last.phones, last.sex) == ("TNI_arctic_a0002", ("S", "IH", "K"), "f")
    assert last.phone_times_s == ((0.1, 0.2), (0.2, 0.3), (0.35, 0.4))
    assert last.details == {"native_language": "Hindi", "annotated": "yes"}


def left_out(reader: Reader) -> list[tuple[str, str]]:
    """(last part of the path and what follows, reason) of all that is left out."""
    return [(found.where.rpartition("/")[2], found.reason) for found in reader() if isinstance(found, LeftOut)]


def test_what_is_left_out_of_l2arctic(l2arctic: Path) -> None:
    phones = [(0, 0.1, "TH,err,s")]
    write_grid(l2arctic / "ABA/annotation/arctic_a0001.TextGrid", 0.5, phones=phones)
    write_grid(l2arctic / "ABA/textgrid/arctic_a0002.TextGrid", 0.5, phones=[(0, 0.4, "AH"), (0.3, 0.5, "B")])
    (l2arctic / "TNI/wav/arctic_a0001.wav").unlink()
    (l2arctic / "TNI/transcript/arctic_a0002.txt").write_bytes("Été".encode("latin-1"))
    (l2arctic / "suitcase_corpus/wav").mkdir(parents=True)
    (l2arctic / "XYZ/wav").mkdir(parents=True)
    found = left_out(lambda: read_l2arctic(l2arctic))
    assert [reason for _, reason in found] == [
        "perceived phone that the annotator could not name (err)",
        "tier with overlapping intervals",
        "text without audio",
        "text that is not readable",
        "folder that is none of the speakers",
        "spontaneous speech",
    ]
    assert found[0][0] == "arctic_a0001.TextGrid: 'TH,err,s' at 0 s"
    assert "byte 0xC9 at position 0" in found[3][0]


def test_l2arctic_that_cannot_be_read(l2arctic: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        next(read_l2arctic(l2arctic / "missing"))
    with pytest.raises(InputError, match="none of the speakers of L2-ARCTIC"):
        next(read_l2arctic(l2arctic / "ABA/transcript"))
    (l2arctic / "TNI.zip").write_bytes(b"PK")
    assert len(list(read_l2arctic(l2arctic))) == 4
    (l2arctic / "HKK.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"HKK.zip: a zip archive, expected it unpacked into HKK"):
        next(read_l2arctic(l2arctic))


# Buckeye.

PHONES = """signal s0101a
type 0
comment created using xlabel Fri Jan  1 00:00:00 1999
color 121
font -*-times-medium-r-*-*-17-*-*-*-*-*-*-*
separator ;
nfields 1
#
    0.000000  121 {B_TRANS}
    0.300000  121 SIL
    0.400000  121 ah ; *
    0.500000  121 tq
    0.600000  121 SIL
    0.700000  121 nx; *
    1.400000  121 VOCNOISE
    1.500000  121 s
    1.600000  121 IVER
    1.700000  121 ow
    1.800000  121 UNKNOWN
    1.900000  121 k
    3.000000  121 SIL
    3.100000  121 aa
    3.100000  121 m
    4.000000  121 <NOISE>
    4.100000  121 iy
    4.050000  121 d
    4.200000  121 z
    6.000000  121 {E_TRANS}
"""

WORDS = """signal s0101a
type 0
nfields 1
#
    0.000000  122 {B_TRANS}; B; B; null
    0.300000  122 <SIL>; S; S; null
    0.500000  122 it; ih t; ah tq; PRP
    0.600000  122 <SIL>; S; S; null
    0.700000  122 <EXT-in>; ih n; nx; IN
    1.400000  122 <VOCNOISE>; U; U; null
    1.500000  122 <CUTOFF-s=so>; s ow; s; null
"""


@pytest.fixture
def buckeye(tmp_path: Path) -> Path:
    folder = tmp_path / "buckeye" / "s01"
    folder.mkdir(parents=True)
    for suffix, text in {".wav": "", ".phones": PHONES, ".words": WORDS, ".txt": "it in s"}.items():
        (folder / f"s0101a{suffix}").write_text(text)
    return tmp_path / "buckeye"


def test_the_layout_of_buckeye(buckeye: Path) -> None:
    entries = [entry for entry in read_buckeye(buckeye) if isinstance(entry, Entry)]
    first = entries[0]
    # Speech from 0.3 to 0.7 s, with 0.1 s of silence around it; phones in the silence of 0.1 s inside are kept together.
    assert first.id == "s0101a-00000200-00000800"
    assert first.audio_path == buckeye / "s01/s0101a.wav"
    assert (first.speaker, first.words) == ("s01", "it in")
    assert (first.start_s, first.end_s) == (pytest.approx(0.2), pytest.approx(0.8))
    assert first.phones == ("ah", "tq", "nx")
    assert first.phone_times_s is not None
    assert [time for span in first.phone_times_s for time in span] == pytest.approx([0.1, 0.2, 0.2, 0.3, 0.4, 0.5])
    # The interviewer ends an utterance at once, without a margin of silence; so does speech without phones.
    rest = [(entry.phones, entry.start_s, entry.end_s) for entry in entries[1:]]
    assert rest == [
        (("s",), pytest.approx(1.3), pytest.approx(1.5)),
        (("ow",), pytest.approx(1.6), pytest.approx(1.7)),
        (("k",), pytest.approx(1.8), pytest.approx(2.0)),
    ]


def test_what_is_left_out_of_buckeye(buckeye: Path) -> None:
    for suffix in (".phones", ".words"):
        (buckeye / f"s01/s0101b{suffix}").write_text(PHONES)
    (buckeye / "s01/s0102a.wav").write_text("")
    (buckeye / "s01/s0102a.words").write_text(WORDS)
    for suffix in (".wav", ".words", ".phones"):
        (buckeye / f"s01/s0102b{suffix}").write_text(WORDS.replace("#", ""))
    assert left_out(lambda: read_buckeye(buckeye)) == [
        ("s0101a.phones: 'UNKNOWN' from 1.7 s to 1.8 s", "speech without phones"),
        ("s0101a.phones: 2.9 s to 3.2 s: 'm' from 3.1 s to 3.1 s", "phone of no length"),
        ("s0101a.phones: 3.9 s to 4.3 s: 'd' from 4.1 s to 4.05 s", "phone that runs backwards"),
        ("s0101b.wav", "text without audio"),
        ("s0102a.phones", "recording without .phones"),
        ("s0102b.words: no line with # alone, expected one after the header", "labels that are not readable"),
    ]


def test_long_speech_without_a_pause(buckeye: Path) -> None:
    (buckeye / "s01/s0101a.phones").write_text("#\n 1 121 SIL\n 25 121 aa\n 25.6 121 SIL\n 26 121 b\n")
    assert [
        (type(found), found[0] if isinstance(found, LeftOut) else found.phones) for found in read_buckeye(buckeye)
    ] == [
        (LeftOut, f"{buckeye}/s01/s0101a.phones: 0.9 s to 25.1 s"),
        (Entry, ("b",)),
    ]


def test_labels_start_where_the_latest_one_ended(buckeye: Path) -> None:
    labels = read_labels(buckeye / "s01/s0101a.phones")
    assert labels[0] == Interval(0.0, 0.0, "{B_TRANS}")
    assert labels[2:4] == [Interval(0.3, 0.4, "ah"), Interval(0.4, 0.5, "tq")]
    assert labels[-4:-1] == [Interval(4.0, 4.1, "iy"), Interval(4.1, 4.05, "d"), Interval(4.1, 4.2, "z")]


def test_a_line_that_is_no_label(buckeye: Path) -> None:
    (buckeye / "s01/s0101a.phones").write_text("#\n 1 121 SIL\n two 121 aa\n")
    ((where, reason),) = left_out(lambda: read_buckeye(buckeye))
    assert (where, reason) == (
        "s0101a.phones: line 3: 'two 121 aa', expected: end, color, label",
        "labels that are not readable",
    )


def test_buckeye_that_cannot_be_read(buckeye: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        next(read_buckeye(buckeye / "missing"))
    (buckeye / "s01.zip").write_bytes(b"PK")
    assert list(read_buckeye(buckeye))
    (buckeye / "s02.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"s02.zip: a zip archive, expected it unpacked into s02"):
        next(read_buckeye(buckeye))
    (buckeye / "s02.zip").unlink()
    os.rename(buckeye / "s01/s0101a.wav", buckeye / "s01/a.wav")
    with pytest.raises(InputError, match=r"no recording of the Buckeye corpus, expected files such as s01/s0101a.wav"):
        next(read_buckeye(buckeye))
