"""Every layout gives the manifests of the corpus; what is wrong in a layout is refused or left out with a reason."""

import gzip
import importlib
import json
import os
import pathlib
import re
import sys
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance, read_manifest
from asr.errors import InputError
from data_prep import auto
from data_prep.auto import detect
from data_prep.commonvoice import read_commonvoice
from data_prep.entries import SPLITS, Entry, LeftOut, Reader
from data_prep.fields import parse_split
from data_prep.kaldi import read_kaldi
from data_prep.lhotse_cuts import read_cuts
from data_prep.librispeech import read_librispeech
from data_prep.lines import MAX_LINE_BYTES
from data_prep.pipeline import PrepareOptions, prepare
from data_prep.pronouncing import Pronouncing
from data_prep.speechocean762 import prepare_speechocean762
from data_prep.splits import SplitRequest
from data_prep.table import read_table
from tests.layouts import (
    BUCKEYE,
    BUCKEYE_MARGIN_S,
    COLUMNS,
    L2_ARCTIC,
    WRITERS,
    equal_edges,
    name_speakers,
    write_lines,
)
from tests.test_prepare_speechocean762 import real  # noqa: F401  a fixture

CHOSEN = {"train": ("0001", "0005", "0006"), "dev": ("0104", "1033"), "test": ("0120", "0736")}
"""Speakers of speechocean762, in the splits of `asr prepare speechocean762`."""

PER_SPEAKER = 6

DECOMPOSED = unicodedata.normalize("NFD", "Zoë Müller")


@pytest.fixture(scope="module")
def chosen(real: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:  # noqa: F811
    """Some utterances of real speech in the official layout, and a lexicon with a single pronunciation of each word."""
    root = tmp_path_factory.mktemp("chosen") / "speechocean762"
    pronunciations: dict[str, list[str]] = {}
    for line in (real / "resource/text-phone").read_text().splitlines():
        key, phones = line.split("\t")
        pronunciations.setdefault(key.split(".")[0], []).append(re.sub(r"[0-2]?_[BIES]", "", phones))
    lexicon: dict[str, str] = {}
    kept: set[str] = set()
    for part in ("train", "test"):
        tables = {name: _split_lines(real / part / name) for name in ("text", "utt2spk", "wav.scp")}
        for speaker in (name for split in CHOSEN.values() for name in split):
            own = [utterance for utterance, name in tables["utt2spk"].items() if name == speaker]
            consistent: list[str] = []
            for utterance in own:
                words = dict(zip(tables["text"][utterance].split(), pronunciations[utterance], strict=True))
                if len(consistent) < PER_SPEAKER and all(lexicon.get(w, p) == p for w, p in words.items()):
                    lexicon |= words
                    consistent.append(utterance)
            kept.update(consistent)
        for name, table in tables.items():
            write_lines(root / part / name, [f"{key}\t{value}" for key, value in table.items() if key in kept])
        for name in ("spk2age", "spk2gender"):
            write_lines(root / part / name, (real / part / name).read_text().splitlines())
        for file in (tables["wav.scp"][key] for key in tables["wav.scp"] if key in kept):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).symlink_to((real / file).resolve())
    lines = (real / "resource/text-phone").read_text().splitlines()
    write_lines(root / "resource/text-phone", [line for line in lines if line.split(".")[0] in kept])
    return root, lexicon


def _split_lines(path: Path) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in path.read_text().splitlines())


@pytest.fixture(scope="module")
def expected(
    chosen: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Utterance]]:
    """What `asr prepare speechocean762` makes of the chosen utterances."""
    out = tmp_path_factory.mktemp("expected")
    prepare_speechocean762(chosen[0], out, 1)
    return read_splits(out)


def read_splits(out: Path) -> dict[str, list[Utterance]]:
    return {split: read_manifest(out / f"cuts_{split}.jsonl.gz") for split in SPLITS}


TABLE_COLUMNS = {**COLUMNS, "phones": "phones", "age": "age"}

READERS: dict[str, Callable[[Path], Iterable[Entry | LeftOut]]] = {
    "kaldi_phones": lambda source: read_kaldi(source, text_is_phones=True),
    **{name: lambda source: read_table(source, TABLE_COLUMNS) for name in ("csv", "tsv", "jsonl", "parquet")},
}
"""Layouts whose reader needs to be told something; `detect` finds the others."""

HAS_PHONES = {"folder_textgrid", "kaldi_phones", "csv", "tsv", "jsonl", "parquet", "lhotse", "lhotse_several"}
HAS_PHONES |= {"l2arctic", "buckeye"}
HAS_TIMES = {"folder_textgrid", "lhotse_several", "l2arctic", "buckeye"}
HAS_AGE = {"csv", "tsv", "jsonl", "parquet", "lhotse", "lhotse_several", "commonvoice"}
HAS_LONG_RECORDINGS = {"kaldi_segments", "lhotse_several", "buckeye"}
LAYOUT_NAMES = {"folder_lab": "folder", "folder_textgrid": "folder", "libritts": "librispeech"}
LAYOUT_NAMES |= {"kaldi_segments": "kaldi", "lhotse_several": "lhotse"}
OWN_SPEAKERS: dict[str, Mapping[str, Sequence[str]]] = {"l2arctic": L2_ARCTIC, "buckeye": BUCKEYE}
"""Layouts that have speakers of their own, and no splits."""


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_gives_the_same_manifests(
    name: str, chosen: tuple[Path, dict[str, str]], expected: dict[str, list[Utterance]], tmp_path: Path
) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="PARQUET IS NOT TESTED: pip install pyarrow")
    root = tmp_path / "corpus"
    root.mkdir()
    source = WRITERS[name](root, expected)
    if name in READERS:
        reader: Reader | None = lambda: READERS[name](source)  # noqa: E731
    else:
        found = detect(source)
        assert found.name == LAYOUT_NAMES.get(name, name)
        reader = found.reader
    assert reader is not None
    lexicon = tmp_path / "lexicon.txt"
    write_lines(lexicon, [f"{word} {phones}" for word, phones in chosen[1].items()])
    pronouncing = Pronouncing() if name in HAS_PHONES else Pronouncing(lexicon=lexicon)
    names = name_speakers(expected, OWN_SPEAKERS[name]) if name in OWN_SPEAKERS else {}
    lists = {split: tuple(names[each] for each in CHOSEN[split]) for split in ("dev", "test")} if names else {}
    prepare(reader, tmp_path / "out", PrepareOptions(split=SplitRequest(lists=lists), pronouncing=pronouncing, jobs=1))
    splits = read_splits(tmp_path / "out")
    for split, utterances in expected.items():
        renamed = [replace(u, speaker=names.get(u.speaker, u.speaker)) for u in utterances]
        described, wanted = describe(splits[split], name), describe(renamed, name)
        assert [fields for fields, _ in described] == [fields for fields, _ in wanted]
        for (_, utterance), (_, original) in zip(described, wanted, strict=True):
            check_audio(utterance, original, name)
            check_times(utterance, name)
    counts = {split: len(utterances) for split, utterances in splits.items()}
    assert counts == {split: PER_SPEAKER * len(speakers) for split, speakers in CHOSEN.items()}
    long = [utterance.start_s > 0 for utterances in splits.values() for utterance in utterances]
    assert any(long) == (name in HAS_LONG_RECORDINGS)


def describe(utterances: Iterable[Utterance], name: str) -> list[tuple[tuple, Utterance]]:
    """What the layout called ``name`` can hold of the utterances: all but the path of the audio, words of phones, age.

    Utterances of the Buckeye corpus are called after their times, so their order by speaker and text tells which is which.
    """

    def fields(utterance: Utterance) -> tuple:
        phones = tuple(phone.upper() for phone in utterance.phones) if name == "buckeye" else utterance.phones
        return (
            "" if name == "buckeye" else re.split("[-_]", utterance.id)[-1] if name in RENAMED else utterance.id,
            utterance.speaker,
            "" if name == "kaldi_phones" else utterance.words,
            phones,
            utterance.sample_rate_hz,
            round(utterance.duration_s, 6),
            "" if name in WITHOUT_SEX else utterance.sex,
            utterance.details.get("age") if name in HAS_AGE else None,
        )

    return sorted(((fields(utterance), utterance) for utterance in utterances), key=lambda pair: pair[0])


RENAMED = {"folder_lab", "folder_textgrid", "l2arctic"}
"""Layouts whose ids have the folder or the speaker before the name."""

WITHOUT_SEX = {"folder_lab", "folder_textgrid", "buckeye"}


def check_audio(utterance: Utterance, original: Utterance, name: str) -> None:
    """The samples of a cut are those of the corpus; MP3 changes them a little."""
    samples, wanted = (read_audio(u.audio_path, 16000, u.start_s, u.duration_s) for u in (utterance, original))
    if name == "commonvoice":
        assert np.corrcoef(samples, wanted)[0, 1] > 0.9
    else:
        np.testing.assert_array_equal(samples, wanted)


def check_times(utterance: Utterance, name: str) -> None:
    """Phone times are the equal intervals that the writers give, from the start of the cut."""
    if name not in HAS_TIMES:
        assert utterance.phone_times_s is None
        return
    margin_s = BUCKEYE_MARGIN_S if name == "buckeye" else 0
    edges = equal_edges(margin_s, utterance.duration_s - margin_s, len(utterance.phones))
    assert utterance.phone_times_s is not None
    np.testing.assert_allclose(utterance.phone_times_s, list(pairwise(edges)), atol=1e-6)


def split(items: Iterable[Entry | LeftOut]) -> tuple[dict[str, Entry], list[tuple[str, str]]]:
    """Entries by id, and what is left out, as (the end of its place, reason)."""
    listed = list(items)
    entries = {item.id: item for item in listed if isinstance(item, Entry)}
    assert len(entries) == sum(isinstance(item, Entry) for item in listed)
    return entries, [(item.where.rpartition("/")[2], item.reason) for item in listed if isinstance(item, LeftOut)]


def refused(items: Callable[[], Iterable[Entry | LeftOut]], *expected: str) -> None:
    """Reading fails with one line that has all of ``expected``."""
    with pytest.raises(InputError) as error:
        list(items())
    assert "\n" not in str(error.value)
    for text in expected:
        assert text in str(error.value)


def write_tables(folder: Path, **tables: str) -> Path:
    """Write Kaldi tables, whose lines are given with commas between them; ``scp`` is wav.scp."""
    for name, lines in tables.items():
        write_lines(folder / {"scp": "wav.scp"}.get(name, name), lines.split(", "))
    return folder


def peak_bytes(items: Iterable[object]) -> int:
    """Memory that Python objects take while the items pass, looked at 10 times.

    Not counted is what pathlib allocates: it interns the parts of names, and the table of all interned strings of this
    process doubles, to megabytes, at whatever moment it is full.
    """
    without_pathlib = [tracemalloc.Filter(inclusive=False, filename_pattern=pathlib.__file__)]
    sizes = []
    tracemalloc.start()
    try:
        for number, _ in enumerate(items):
            if number % 500 == 0:
                traces = tracemalloc.take_snapshot().filter_traces(without_pathlib)
                sizes.append(sum(trace.size for trace in traces.statistics("filename")))
    finally:
        tracemalloc.stop()
    return max(sizes)


WRONG_ENCODINGS = {
    b"text in Latin-1: Z\xfcrich\n": "byte 0xFC, expected UTF-8",
    "Zürich\n".encode("utf-16"): "UTF-16, expected UTF-8",
    "Zürich\n".encode("utf-16-le"): "expected UTF-8",
    "plain ASCII\n".encode("utf-16-be"): "a NUL character, expected UTF-8 (this may be UTF-16)",
}


# Kaldi


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.wav").touch()
    return write_tables(
        tmp_path / "data", scp="u1 a.wav, u2 a.wav", utt2spk="u1 s, u2 s", text="u1 A BEAR, u2  B", spk2gender="s f"
    )


def test_a_kaldi_directory(kaldi: Path) -> None:
    entries, left_out = split(read_kaldi(kaldi))
    assert left_out == []
    where = f"{kaldi}: utterance u1"
    assert entries["u1"] == Entry("u1", kaldi / "a.wav", "s", where, "A BEAR", sex="f")
    assert entries["u2"].words == "B"
    phones, _ = split(read_kaldi(kaldi, text_is_phones=True))
    assert (phones["u1"].phones, phones["u1"].words) == (("A", "BEAR"), "")


def test_kaldi_ids_that_some_tables_lack(kaldi: Path) -> None:
    write_tables(
        kaldi, scp="a a.wav, b a.wav, c a.wav, d, e a.wav, f a.wav", utt2spk="a s, b s, d s, e s, f s, h s, i s"
    )
    write_tables(kaldi, text="a A, c C, d D, e E, e F, f, g G, i I")
    entries, left_out = split(read_kaldi(kaldi))
    assert list(entries) == ["a"]
    assert left_out == [
        ("data: utterance b", "audio without text"),
        ("data: utterance c", "no speaker in utt2spk"),
        ("data: utterance d", "text without audio"),
        ("data: utterance e", "id that occurs twice in text"),
        ("data: utterance f", "audio without text"),
        ("data: utterance g", "text without audio"),
        ("data: utterance h", "speaker without audio and text"),
        ("data: utterance i", "text without audio"),
    ]


def test_kaldi_tables_that_are_not_sorted(kaldi: Path) -> None:
    ordered = list(read_kaldi(kaldi))
    write_tables(kaldi, text="u2  B, u1 A BEAR", utt2spk="u2 s, u1 s")
    assert list(read_kaldi(kaldi)) == ordered


def test_a_kaldi_utterance_with_a_fault_uses_its_recording(kaldi: Path) -> None:
    write_tables(kaldi, scp="r a.wav", utt2spk="u1 s", text="u1", segments="u1 r 0 1")
    assert split(read_kaldi(kaldi)) == ({}, [("data: utterance u1", "audio without text")])


def test_train_dev_is_no_training_data() -> None:
    names = {"train_nodev": "train", "train_dev": "dev", "train-valid": "dev", "train-clean-100": "train", "devel": ""}
    assert {name: parse_split(name) for name in names} == names


def test_kaldi_segments(kaldi: Path) -> None:
    write_tables(kaldi, scp="r a.wav, q a.wav, r b.wav", utt2spk=", ".join(f"u{n} s" for n in range(1, 9)))
    write_tables(kaldi, text=", ".join(f"u{n} W{n}" for n in range(1, 9)))
    write_tables(
        kaldi, segments="u1 r 0.5 1.25, u2 r 2 -1, u3 x 0 1, u4 r 1 1, u5 r 0 nan, u6 r -1 2, u7 r 1, u8 r 1 2 3"
    )
    entries, left_out = split(read_kaldi(kaldi))
    times = {name: (entry.start_s, entry.end_s) for name, entry in entries.items()}
    assert times == {"u1": (0.5, 1.25), "u2": (2.0, None)}
    assert left_out == [
        ("wav.scp: r", "id that occurs twice in wav.scp"),
        ("data: utterance u3", "segment of a recording that wav.scp lacks"),
        *((f"data: utterance u{number}", "malformed segment") for number in range(4, 9)),
        ("data: recording q", "recording without segments"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sph2pipe -f wav a.sph |", "is a command, expected an audio file"),
        ("| cat", "is a command"),
        ("a.ark:123", "is a place in an archive, expected an audio file"),
        ("a.ark:123[0:9]", "is a place in an archive"),
        ("b.wav", "b.wav is neither in"),
    ],
)
@pytest.mark.parametrize("segmented", [False, True])
def test_kaldi_audio_that_is_no_file(kaldi: Path, path: str, expected: str, segmented: bool) -> None:
    write_tables(kaldi, scp=f"u1 {path}", **({"segments": "u1 u1 0 1"} if segmented else {}))
    refused(lambda: read_kaldi(kaldi), "data/wav.scp: ", expected)


def test_a_kaldi_command_after_many_files(kaldi: Path) -> None:
    write_tables(kaldi, scp=", ".join([*(f"u{number:03} a.wav" for number in range(200)), "u200 touch run |"]))
    write_tables(kaldi, utt2spk="u200 s", text="u200 A")
    refused(lambda: read_kaldi(kaldi), "'touch run |' is a command")


def test_kaldi_paths_relative_to_a_folder_above(
    kaldi: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kaldi / "sub").mkdir()
    for name in ("wav.scp", "utt2spk", "text"):
        (kaldi / name).rename(kaldi / "sub" / name)
    (kaldi / "a.wav").rename(tmp_path / "a.wav")
    for _ in range(2):  # said once, although a corpus is read twice
        assert {item.audio_path for item in read_kaldi(kaldi / "sub") if isinstance(item, Entry)} == {
            tmp_path / "a.wav"
        }
    assert capsys.readouterr().err == f"warning: {kaldi / 'sub/wav.scp'}: paths are relative to {tmp_path}\n"


def test_kaldi_directories_and_their_splits(kaldi: Path, tmp_path: Path) -> None:
    for name in ("train_clean", "dev", "eval92", "lang"):
        write_tables(tmp_path / "all" / name, scp=f"{name} {kaldi}/a.wav", utt2spk=f"{name} s", text=f"{name} A")
    entries, left_out = split(read_kaldi(tmp_path / "all"))
    assert {entry.id: entry.split for entry in entries.values()} == {
        "train_clean": "train",
        "dev": "dev",
        "eval92": "test",
    }
    assert left_out == [("lang", "data directory not named train, dev or test")]


def test_kaldi_names_with_spaces_and_decomposed_letters(kaldi: Path) -> None:
    (kaldi / f"{DECOMPOSED}.wav").touch()
    composed = unicodedata.normalize("NFC", DECOMPOSED)
    key = composed.replace(" ", "-")
    write_tables(kaldi, scp=f"{key} {composed}.wav", text=f"{unicodedata.normalize('NFD', key)} {DECOMPOSED}")
    write_tables(kaldi, utt2spk=f"{key} s")
    entries, _ = split(read_kaldi(kaldi))
    assert entries[key].audio_path.exists()
    assert entries[key].words == "Zoë Müller"


def test_a_kaldi_table_is_missing(kaldi: Path) -> None:
    (kaldi / "utt2spk").unlink()
    refused(lambda: read_kaldi(kaldi), "data/utt2spk: no such file")
    refused(lambda: read_kaldi(kaldi / "absent"), "absent: no wav.scp")


def test_an_unknown_gender_in_kaldi(kaldi: Path) -> None:
    write_tables(kaldi, spk2gender="s x")
    refused(lambda: read_kaldi(kaldi), "gender of speaker s is 'x', expected f or m")


@pytest.mark.parametrize("content", WRONG_ENCODINGS)
def test_kaldi_text_in_another_encoding(kaldi: Path, content: bytes) -> None:
    (kaldi / "text").write_bytes(content)
    refused(lambda: read_kaldi(kaldi), "data/text: ", WRONG_ENCODINGS[content])


def test_a_kaldi_line_of_a_million_characters(kaldi: Path) -> None:
    (kaldi / "text").write_text("\ufeffu1 " + "A " * 500_000 + "\nu2 B\r\n", encoding="utf-8")
    entries, left_out = split(read_kaldi(kaldi))
    assert [entry.words for entry in entries.values()] == ["B"]
    too_long = ("text: line 1", f"line of more than {MAX_LINE_BYTES} bytes")
    assert sorted(left_out) == [("data: utterance u1", "audio without text"), too_long]


def test_sorted_kaldi_tables_take_little_memory(kaldi: Path) -> None:
    numbers = range(100_000, 102_000)
    write_tables(kaldi, scp=", ".join(f"u{number} a.wav" for number in numbers))
    write_tables(kaldi, utt2spk=", ".join(f"u{number} s" for number in numbers))
    write_tables(kaldi, text=", ".join(f"u{number} SOME WORDS" for number in numbers))
    in_step = peak_bytes(read_kaldi(kaldi))
    write_tables(kaldi, text=", ".join(f"u{number} SOME WORDS" for number in reversed(numbers)))
    assert in_step < 200_000 < peak_bytes(read_kaldi(kaldi))


# LibriSpeech


def test_what_is_wrong_in_librispeech(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech/dev-other/84/121"
    write_lines(
        chapter / "84-121.trans.txt", ["84-121-0 A B", "84-121-0 A", "84-121-1", "84-121-2 C", "", "84-121-3 D"]
    )
    for name in ("84-121-0.flac", "84-121-1.flac", "84-121-3.flac", "84-121-3.wav", "84-121-4.flac", ".84-121-2.flac"):
        (chapter / name).touch()
    other = tmp_path / "LibriSpeech/dev-other/85/1"
    other.mkdir(parents=True)
    (other / "85-1.trans.txt").write_bytes(b"85-1-0 \xc4\n")
    (other / "85-1-0.flac").touch()
    write_lines(tmp_path / "LibriSpeech/SPEAKERS.TXT", [";ID | SEX", "84   | F | dev-other | 8.1 | Ann | B"])
    entries, left_out = split(read_librispeech(tmp_path))
    entry = entries["84-121-0"]
    assert (entry.speaker, entry.sex, entry.split, entry.words) == ("84", "f", "dev", "A B")
    assert entry.details == {"part": "dev-other"}
    assert list(entries) == ["84-121-0", "84-121-3"]
    assert left_out == [
        ("84-121-3.wav", "audio in two formats"),
        ("84-121.trans.txt: line 2: 84-121-0", "id that occurs twice"),
        ("84-121.trans.txt: line 3: 84-121-1", "empty text"),
        ("84-121.trans.txt: line 4: 84-121-2", "text without audio"),
        ("84-121-4.flac", "audio without text"),
        ("85-1.trans.txt: line 1: byte 0xC4, expected UTF-8", "transcript that is not readable as UTF-8"),
        ("85-1-0.flac", "audio without text"),
    ]
    assert list(read_librispeech(tmp_path / "LibriSpeech/dev-other")) == list(read_librispeech(tmp_path))


def test_folders_beside_the_parts_of_librispeech_are_named(tmp_path: Path) -> None:
    chapter = tmp_path / "train-clean/1/2"
    write_lines(chapter / "1-2.trans.txt", ["1-2-0 A"])
    (chapter / "1-2-0.flac").touch()
    (tmp_path / "dev_clean").mkdir()
    entries, left_out = split(read_librispeech(tmp_path))
    assert list(entries) == ["1-2-0"]
    assert left_out == [("dev_clean", "folder that is no part")]


def test_no_part_of_librispeech(tmp_path: Path) -> None:
    refused(lambda: read_librispeech(tmp_path), "no part of LibriSpeech, expected folders such as train-clean-100")


# Common Voice


def write_language(root: Path, header: str, *rows: str, table: str = "train.tsv") -> Path:
    (root / "clips").mkdir(parents=True, exist_ok=True)
    write_lines(root / table, [line.replace("|", "\t") for line in (header, *rows)])
    return root


def test_an_old_release_of_common_voice(tmp_path: Path) -> None:
    client = "0123456789abcdef" * 8
    header = "client_id|path|sentence|up_votes|down_votes|age|gender|accent"
    root = write_language(
        tmp_path / "cv/de",
        header,
        f'{client}|a|"Ja", sagt {DECOMPOSED}.|2|0|fifties|male|austria',
        f"{client}|b.mp3|Mit|Tab|2|0|||",
        f"{client}|c.mp3||2|0|||",
        f"{client}||Ohne Ton|2|0|||",
        f'{client}|d.mp3|"Nur vorn|2|0||other|',
    )
    write_lines(root / "validated.tsv", ["client_id\tpath\tsentence", "x\ta\tb", "x\tc\td"])
    entries, left_out = split(read_commonvoice(tmp_path / "cv"))
    first = entries["a"]
    assert (first.words, first.speaker, first.sex) == ('"Ja", sagt Zoë Müller.', "0123456789abcdef", "m")
    assert first.details == {"age": "fifties", "accent": "austria"}
    assert (first.audio_path, first.split) == (root / "clips/a.mp3", "train")
    assert (entries["d"].words, entries["d"].sex, entries["d"].details) == ('"Nur vorn', "", {})
    assert left_out == [
        ("train.tsv: line 3: 9 fields, the header has 8", "wrong number of fields"),
        ("train.tsv: line 4", "audio without text"),
        ("train.tsv: line 5", "text without audio"),
        ("validated.tsv: 2 clips", "table of clips other than train, dev and test"),
    ]


def test_common_voice_cannot_be_read(tmp_path: Path) -> None:
    refused(lambda: read_commonvoice(tmp_path), "no clips with train.tsv", "expected the folder of one language")
    root = write_language(tmp_path / "de", "client_id|sentence")
    refused(lambda: read_commonvoice(root), "train.tsv: no column 'path'", "among: client_id, sentence")
    write_language(root, "client_id|path|sentence", f"{'a' * 16}0|a|A", f"{'a' * 16}1|b|B")
    refused(lambda: read_commonvoice(root), "line 3: client_id aaaaaaaaaaaaaaaa1 begins as aaaaaaaaaaaaaaaa0")
    write_language(tmp_path / "fr", "client_id|path|sentence")
    refused(lambda: read_commonvoice(tmp_path), "2 languages (de, fr)")


# Tables


def table(path: Path, *lines: str) -> Path:
    write_lines(path, lines)
    return path


def test_columns_of_a_table(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv",
        "\ufeffaudio,sentence,speaker,start,end,language,room,split",
        'my files/a b.wav,"Yes, ""now""",Ann B,1.5,2.5,de,kitchen,validation',
        "my files/a b.wav,No,Ann B,,,,,",
    )
    entries, left_out = split(read_table(path, {"words": "sentence", "place": "room", "end": ""}))
    assert left_out == []
    assert list(entries) == ["my_files_a_b_1.5", "my_files_a_b"]
    first, second = entries.values()
    assert first.audio_path == tmp_path / "my files/a b.wav"
    assert (first.words, first.speaker, first.split) == ('Yes, "now"', "Ann_B", "dev")
    assert (first.start_s, first.end_s, first.phones) == (1.5, None, None)
    assert first.details == {"language": "de", "place": "kitchen"}
    assert (second.start_s, second.split, second.details) == (0.0, "", {})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"speaker": "who"},
            "no column for words or phones, expected its name by asr prepare table --column words=NAME; "
            "the columns are: audio, sentence, who",
        ),
        ({"words": "text"}, "no column 'text', expected it for words; the columns are: audio, sentence, who"),
        ({"words": "sentence"}, "no column for speaker"),
        ({"words": "sentence", "speaker": "who", "audio": ""}, "no column for audio"),
    ],
)
def test_a_missing_column(tmp_path: Path, columns: dict[str, str], expected: str) -> None:
    refused(lambda: read_table(table(tmp_path / "t.csv", "audio,sentence,who", "a,b,c"), columns), "t.csv", expected)
    rows = table(tmp_path / "t.jsonl", '{"audio": "a", "sentence": "b"}', '{"who": "c"}')
    refused(lambda: read_table(rows, columns), "t.jsonl", expected)


def test_rows_that_are_left_out(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.tsv",
        "id\taudio\twords\tspeaker\tstart\tend\tsplit",
        "a\ta.wav\tA\ts\t\t\t",
        "b\tb.wav\tB\twith a tab\ts\t\t\t",
        "c\tc.wav\tC",
        "",
        "d\td.wav\t\ts\t\t\t",
        "e\t\tE\ts\t\t\t",
        "f\t\t\ts\t\t\t",
        "g\tg.wav\tG\t\t\t\t",
        "\th.wav\tH\ts\t\t\t",
        "i\ti.wav\tI\ts\tone\t\t",
        "j\tj.wav\tJ\ts\t0\tinf\t",
        "k\tk.wav\tK\ts\t2\t1\t",
        "l\tl.wav\tL\ts\t\t\tdevil",
        'm\tm.wav\t"M\ts\t\t\t',
    )
    entries, left_out = split(read_table(path, {}))
    assert {name: entry.words for name, entry in entries.items()} == {"a": "A", "m": '"M'}
    assert left_out == [
        ("t.tsv: line 3: 8 fields, the header has 7", "wrong number of fields"),
        ("t.tsv: line 4: 3 fields, the header has 7", "wrong number of fields"),
        ("t.tsv: line 6", "audio without text"),
        ("t.tsv: line 7", "text without audio"),
        ("t.tsv: line 8", "neither audio nor text"),
        ("t.tsv: line 9", "no speaker"),
        ("t.tsv: line 10", "no id"),
        ("t.tsv: line 11", "start or end that is no time in seconds"),
        ("t.tsv: line 12", "start or end that is no time in seconds"),
        ("t.tsv: line 13", "end that is not after the start"),
        ("t.tsv: line 14", "split other than train, dev and test"),
    ]


def test_quotes_and_commas_in_csv(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv",
        "audio,words,speaker",
        'a,"two\nlines",s',
        "b,one, two,s",
        'c,"no "end",s',
        "d,D,s",
        "e," + "E" * 1_000_000 + ",s",
        "f," + "F" * 200_000 + ",s",
        "g,G,s",
        'h,"opened,s',
        "i,I,s",
    )
    entries, left_out = split(read_table(path, {}))
    assert {name: entry.words for name, entry in entries.items()} == {"a": "two lines", "d": "D", "g": "G"}
    assert left_out == [
        ("t.csv: line 4: 4 fields, the header has 3", "wrong number of fields"),
        ("t.csv: line 5", "quotes that do not match"),
        ("t.csv: line 7", f"line of more than {MAX_LINE_BYTES} bytes"),
        ("t.csv: line 8", "field too long"),
        ("t.csv: line 10", "quotes that do not match"),
        ("t.csv: line 11", "quotes that do not match"),
    ]


@pytest.mark.parametrize("content", WRONG_ENCODINGS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_table_in_another_encoding(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    refused(lambda: read_table(path, {}), f"t{suffix}: ", WRONG_ENCODINGS[content])


def test_a_table_that_is_latin_1_further_down(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"audio,words,speaker\n" + b"a,A,s\n" * 1000 + b"b,\xc4,s\n")
    refused(lambda: read_table(path, {}), "t.csv: line 1002: byte 0xC4, expected UTF-8")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "", "t.csv: empty, expected a header"),
        ("t.csv", "a" * 1_000_000, f"t.csv: line 1: line of more than {MAX_LINE_BYTES} bytes, expected a header"),
        ("t.csv", "audio,words,speaker,words\n", "column 'words' occurs 2 times, expected once"),
        ("t.csv", '"audio,words\n', "t.csv: line 1: unexpected end of data, expected a header"),
        ("t.jsonl", "[]\n" * 200, "no JSON object in the first 100 lines"),
        ("t.xlsx", "", "name ends in '.xlsx', expected .csv, .tsv, .jsonl, .parquet"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path: Path, name: str, content: str, expected: str) -> None:
    (tmp_path / name).write_text(content)
    refused(lambda: read_table(tmp_path / name, {}), expected)
    refused(lambda: read_table(tmp_path / f"absent{name[1:]}", {}), "absent")


def test_values_and_lines_of_json(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.jsonl",
        '{"audio": "a", "words": ["A", "B"], "phones": ["AH", "B"], "speaker": 7, "end": 1.5, "sex": null}',
        "{",
        '"text"',
        '{"audio": "b", "words": {"text": "B"}, "speaker": 7}',
        '{"audio": "c", "words": "\\ud800", "speaker": 7}',
        '{"audio": "d", "words": "' + "D" * 1_000_000 + '", "speaker": 7}',
        "[" * 5000,
        '{"audio": "e", "words": "E", "speaker": 7, "more": 1}',
    )
    entries, left_out = split(read_table(path, {}))
    assert list(entries) == ["a", "e"]
    first = entries["a"]
    assert (first.words, first.phones, first.speaker, first.end_s, first.sex) == ("A B", ("AH", "B"), "7", 1.5, "")
    assert left_out == [
        ("t.jsonl: line 2", "line that is no JSON object"),
        ("t.jsonl: line 3", "line that is no JSON object"),
        ("t.jsonl: line 4: column 'words'", "value that is no text, number or list of them"),
        ("t.jsonl: line 5", "line that is no JSON object"),
        ("t.jsonl: line 6", f"line of more than {MAX_LINE_BYTES} bytes"),
        ("t.jsonl: line 7", "line that is no JSON object"),
    ]


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(lambda: read_table(tmp_path / "t.parquet", {}), "t.parquet: Parquet needs pyarrow", "pip install pyarrow")


def test_values_of_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="PARQUET IS NOT TESTED: pip install pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    rows = [
        {"audio": "a.wav", "words": "A", "speaker": 7, "phones": ["AH"], "embedded": {"bytes": b"1", "path": "a"}},
        {"audio": "b.wav", "words": "B" * 1_000_000, "speaker": 7, "phones": None, "embedded": None},
        {"audio": "c.wav", "words": None, "speaker": 8, "phones": [], "embedded": None},
    ]
    path = tmp_path / "t.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    entries, left_out = split(read_table(path, {}))
    assert [(entry.speaker, entry.phones) for entry in entries.values()] == [("7", ("AH",))]
    too_long = f"line of more than {MAX_LINE_BYTES} bytes"
    assert left_out == [("t.parquet: row 2", too_long), ("t.parquet: row 3", "audio without text")]
    refused(lambda: read_table(path, {"audio": "embedded"}), "column 'embedded' is struct<bytes: binary, path: string>")
    path.write_bytes(path.read_bytes()[:100])
    refused(lambda: read_table(path, {}), "t.parquet: not readable as Parquet")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_table_is_read_in_little_memory(tmp_path: Path, suffix: str) -> None:
    delimiter = {".csv": ",", ".tsv": "\t"}.get(suffix)
    lines = [delimiter.join(("audio", "words", "speaker"))] if delimiter else []
    for number in range(5000):
        row = {"audio": f"{number}.wav", "words": "some words " * 10, "speaker": str(number)}
        lines.append(delimiter.join(row.values()) if delimiter else json.dumps(row))
    path = table(tmp_path / f"t{suffix}", *lines)
    assert path.stat().st_size > 500_000
    assert peak_bytes(read_table(path, {})) < 200_000


def test_an_id_that_occurs_twice_in_a_table(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "id,audio,phones,speaker", "a,a.wav,A,s", "b,b.wav,B,t", "a,c.wav,C,u")
    with pytest.raises(InputError, match=r"t\.csv: line 4: id 'a' is also that of .*t\.csv: line 2, expected it once"):
        prepare(partial(read_table, path, {}), tmp_path / "out", PrepareOptions(jobs=1))


# Lhotse


def cut(**changes: object) -> dict[str, Any]:
    """A cut from 1 s to 3 s of a recording of 10 s, with one supervision from 1.5 s to 2 s; None removes a field."""
    supervision = {"id": "s", "recording_id": "r", "start": 0.5, "duration": 0.5, "speaker": "Ann", "text": "A B"}
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    recording = {"id": "r", "sources": [source], "sampling_rate": 16000, "num_samples": 160000, "duration": 10.0}
    whole = {"id": "c", "start": 1.0, "duration": 2.0, "channel": 0, "type": "MonoCut"}
    places: dict[str, dict[str, Any]] = {
        "supervision": supervision,
        "source": source,
        "recording": recording,
        "cut": whole,
    }
    whole |= {"supervisions": [supervision], "recording": recording}
    for name, value in changes.items():
        place, _, key = name.partition("_")
        places[place][key] = value
    return whole


def cuts(path: Path, *items: object) -> Path:
    lines = "".join(f"{item if isinstance(item, str) else json.dumps(item)}\n" for item in items)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def test_times_phones_and_details_of_a_cut(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    aligned = {"phone": [["AH", 0.5, 0.2, None], {"symbol": "B", "start": 0.7, "duration": 0.3}]}
    path = cuts(
        tmp_path / "cuts.jsonl.gz",
        cut(supervision_alignment=aligned, supervision_custom={"age": 7, "list": []}, supervision_language="de"),
        cut(
            cut_id="d",
            supervision_custom={"phones": ["AH", "B"]},
            supervision_duration=8.5,
            supervision_gender="Female",
        ),
    )
    entries, left_out = split(read_cuts(path))
    assert left_out == []
    first, second = entries["c"], entries["d"]
    assert (first.start_s, first.end_s, first.words) == (1.5, 2.0, "A B")
    assert (first.phones, first.phone_times_s) == (("AH", "B"), ((0.0, 0.2), (0.2, 0.5)))
    assert first.details == {"age": "7", "language": "de"}
    assert first.audio_path == tmp_path / "a.wav"
    assert (second.start_s, second.end_s, second.phones, second.sex) == (1.5, None, ("AH", "B"), "f")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cut_type": "MixedCut"}, "cut that is mixed, padding or of several channels"),
        ({"cut_type": "MultiCut"}, "cut that is mixed, padding or of several channels"),
        ({"cut_recording": None}, "cut without recording"),
        ({"recording_sources": []}, "audio that is not in one file"),
        ({"source_type": "url"}, "audio that is not in one file"),
        ({"source_type": "command"}, "audio that is not in one file"),
        ({"source_channels": [0, 1]}, "one channel of several"),
        ({"recording_transforms": [{"name": "Speed"}]}, "audio with a transform"),
        ({"cut_supervisions": []}, "cut without supervision"),
        ({"supervision_text": None}, "audio without text"),
        ({"supervision_speaker": None}, "no speaker"),
        ({"supervision_start": -1.5}, "start and end that are no times of a recording"),
        ({"supervision_duration": -1}, "start and end that are no times of a recording"),
        ({"supervision_duration": float("nan")}, "start and end that are no times of a recording"),
        ({"supervision_start": "1"}, "line that is no Lhotse cut"),
        ({"supervision_duration": 10**400}, "line that is no Lhotse cut"),
        (
            {"supervision_alignment": {"phone": [["B", 0.5, 0.5]]}, "supervision_custom": {"phones": "A B"}},
            "phones and alignment of different lengths",
        ),
    ],
)
def test_cuts_that_are_left_out(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    good = cut(cut_id="good")
    path = cuts(
        tmp_path / "cuts_train.jsonl", good, cut(**changes), "{", '{"id": 1}', "A" * (2**24 + 1), good | {"id": "g"}
    )
    entries, left_out = split(read_cuts(path))
    assert list(entries) == ["good", "g"]
    assert [found for _, found in left_out] == [
        reason,
        *["line that is no Lhotse cut"] * 2,
        f"line of more than {2**24} bytes",
    ]


def test_a_cut_of_many_supervisions_is_read_whole(tmp_path: Path) -> None:
    long = cut(cut_id="hour")
    (one,) = long["supervisions"]
    long["supervisions"] = [one | {"id": f"s{number}", "text": "A" * 1000} for number in range(1000)]
    entries, left_out = split(read_cuts(cuts(tmp_path / "cuts_train.jsonl", long)))
    assert (len(entries), left_out) == (1000, [])


def test_folders_and_files_of_cuts(tmp_path: Path) -> None:
    for name in ("train", "dev-clean", "fulltest"):
        cuts(tmp_path / f"cuts_{name}.jsonl.gz", cut(cut_id=name))
    entries, left_out = split(read_cuts(tmp_path))
    assert {name: entry.split for name, entry in entries.items()} == {"train": "train", "dev-clean": "dev"}
    assert left_out == [("cuts_fulltest.jsonl.gz", "file of cuts not named train, dev or test")]
    (tmp_path / "empty").mkdir()
    refused(lambda: read_cuts(tmp_path / "empty"), "no file cuts_*.jsonl.gz")
    refused(lambda: read_cuts(cuts(tmp_path / "a.jsonl", '{"audio": "a"}')), "a.jsonl: line 1: no Lhotse cut")
    truncated = cuts(tmp_path / "b.jsonl.gz", *[cut(cut_id=str(number)) for number in range(50)])
    truncated.write_bytes(truncated.read_bytes()[:-20])
    refused(lambda: read_cuts(truncated), "b.jsonl.gz: not readable after line")


# Recognizing a layout

TELL_TALES = {
    "timit": ["TRAIN/DR1/FCJF0/SX1.WAV", "TRAIN/DR1/FCJF0/SX1.TXT", "TEST/DR2/MABC0/SX2.WAV"],
    "speechocean762": ["WAVE/a.WAV", "train/wav.scp", "test/wav.scp", "resource/text-phone"],
    "l2arctic": ["ABA/wav/a.wav", "ABA/transcript/a.txt", "ABA/annotation/a.TextGrid"],
    "buckeye": ["s01/s0101a.wav", "s01/s0101a.words", "s01/s0101a.phones", "s01/s0101a.txt"],
    "kaldi": ["train/wav.scp", "lang/phones.txt"],
    "librispeech": ["LibriSpeech/dev-clean/1/2/1-2.trans.txt", "LibriSpeech/SPEAKERS.TXT"],
    "commonvoice": ["de/clips/a.mp3", "de/dev.tsv"],
    "lhotse": ["cuts_train.jsonl.gz", "stats.json"],
    "folder": [
        "ann/a.WAV",
        "ann/a.TextGrid",
        "ann/b.wav",
        "ann/b.lab",
        "bob/c.flac",
        "bob/c.TextGrid",
        "bob/d.TextGrid",
    ],
}

WHY = {
    "timit": "folders of dialects in TRAIN and TEST",
    "speechocean762": "resource/text-phone and train/wav.scp",
    "l2arctic": "wav, transcript, textgrid and annotation in 1 folder",
    "buckeye": "1 .phones file beside .words",
    "kaldi": "wav.scp in train",
    "librispeech": "transcripts such as dev-clean/1/2/1-2.trans.txt",
    "commonvoice": "dev.tsv and clips",
    "lhotse": "cuts_train.jsonl.gz",
    "folder": "2 .TextGrid files and 1 .lab file beside audio in 2 folders",
}


def touch(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("name", TELL_TALES)
def test_a_layout_is_recognized(tmp_path: Path, name: str) -> None:
    found = detect(touch(tmp_path, TELL_TALES[name]))
    assert (found.name, found.why) == (name, WHY[name])
    assert (found.reader is None) == (name in ("timit", "speechocean762"))


def test_files_are_recognized(tmp_path: Path) -> None:
    assert detect(cuts(tmp_path / "a.jsonl", cut())).name == "lhotse"
    assert detect(table(tmp_path / "b.jsonl", '{"audio": "a"}')).name == "table"
    assert detect(table(tmp_path / "c.csv", "audio")).why == "a table .csv"


def test_layouts_that_are_not_recognized(tmp_path: Path) -> None:
    touch(tmp_path / "none", ["a/a.wav", "a/b.txt"])
    both = touch(tmp_path / "both", [*TELL_TALES["kaldi"], *TELL_TALES["commonvoice"]])
    for source, expected in (
        (tmp_path / "absent", "absent: no such file or folder, expected a corpus"),
        (tmp_path / "none", "none: no layout recognized, expected one of: "),
        (both, "both: wav.scp in train (kaldi), and dev.tsv and clips (commonvoice), expected one layout"),
    ):
        with pytest.raises(InputError, match=re.escape(expected)) as error:
            detect(source)
        assert "\n" not in str(error.value)


def test_recognizing_looks_at_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "MAX_FILES", 20)
    monkeypatch.setattr(auto, "MAX_FOLDERS", 4)
    touch(
        tmp_path,
        [f"{name:02}/{number}.{suffix}" for name in range(9) for number in range(50) for suffix in ("wav", "lab")],
    )
    seen: list[str] = []
    scandir = os.scandir

    @contextmanager
    def counted(place: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(place) as entries:
            yield (seen.append(entry.name) or entry for entry in entries)  # type: ignore[func-returns-value]

    monkeypatch.setattr(auto.os, "scandir", counted)
    found = detect(tmp_path)
    assert len(seen) == 9 + 3 * 21
    assert re.fullmatch(r"at least \d+ .lab files? beside audio in 3 folders", found.why)
