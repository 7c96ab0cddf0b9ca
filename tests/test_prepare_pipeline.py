"""The pipeline that all readers share, on synthetic audio: splits, spelling, what is left out, interruptions, size."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut
from typer.testing import CliRunner

from asr.cli.app import app
from asr.corpus.audio import AudioInfo
from asr.corpus.manifest import Utterance, cut_line, read_manifest, write_corpus
from asr.corpus.phones import read_inventory
from asr.corpus.pronunciations import strip_punctuation
from asr.errors import InputError, Interrupted
from data_prep import parts, pronouncing
from data_prep.entries import Entry, LeftOut
from data_prep.listing import list_corpus
from data_prep.pipeline import PrepareOptions, prepare
from data_prep.pronouncing import Pronouncing
from data_prep.recordings import find_zeros, place_utterance
from data_prep.spelling import Speller
from data_prep.splits import SpeakerCounts, SplitRequest, assign, draw_speakers, parse_splits

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
ALL_TRAIN = SplitRequest(whole="train")
OUTPUTS = ("cuts_train.jsonl.gz", "cuts_dev.jsonl.gz", "cuts_test.jsonl.gz", "stats.json", "phones.txt")

Items = Iterable[Entry | LeftOut]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of noise at 16 kHz."""
    path = tmp_path_factory.mktemp("audio") / "noise.wav"
    soundfile.write(path, NOISE, 16000)
    return path


def entry(audio: Path, number: int = 0, **values: object) -> Entry:
    """An utterance of two phones; every fourth speaker is the same."""
    standard = Entry(f"u{number:03}", audio, f"s{number % 4}", f"list: line {number}", "a b", ("AH", "B"))
    return replace(standard, **values)  # type: ignore[arg-type]


def run(items: Items, out: Path, **options: object) -> dict[str, list[Utterance]]:
    """Prepare in this process and read the manifests back."""
    kept = list(items)
    prepare(lambda: kept, out, PrepareOptions(**{"jobs": 1, "split": ALL_TRAIN, **options}))  # type: ignore[arg-type]
    return {path.name[5:-9]: read_manifest(path) for path in sorted(out.glob("cuts_*.jsonl.gz"))}


def statistics(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "stats.json").read_text()))


def refused(items: Items, out: Path, *expected: str, **options: object) -> None:
    """Preparation fails with one line that has all of ``expected``."""
    with pytest.raises(InputError) as error:
        run(items, out, **options)
    assert "\n" not in str(error.value)
    for text in expected:
        assert text in str(error.value)


def spelled(
    words: str, lexicon: Mapping[str, list[tuple[str, ...]]] | None = None, **request: object
) -> tuple[str, ...]:
    """The units of some words, by a lexicon that needs no file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.spelling.load_lexicon", lambda path, known: lexicon)
        path = None if lexicon is None else Path("lexicon")
        speller = Speller(Pronouncing(**{"lexicon": path, **request}))  # type: ignore[arg-type]
    return speller.spell(Entry("u", Path("a.wav"), "s", "here", words)).units


# Lines and statistics


def utterances(folder: Path) -> list[Utterance]:
    strange = 'Ünder \u2028 "quoted" x\\y'
    return [
        Utterance(
            "é-1",
            folder / "ö.wav",
            16000,
            1.2345678,
            "ś",
            ("a", "b"),
            strange,
            ((0.0, 0.5), (0.5, 1.2)),
            "f",
            {"age": "6"},
        ),
        Utterance("part", folder / "y.wav", 44100, 1 / 3, "s", ("a",), "", None, "", {}, 0.1),
    ]


def test_lines_are_those_that_lhotse_writes(tmp_path: Path) -> None:
    for utterance in utterances(tmp_path):
        for language in ("English", ""):
            line = cut_line(utterance, language)
            cut = MonoCut.from_dict(json.loads(line))
            CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
            assert (tmp_path / "cuts.jsonl").read_text() == line
            assert cut.supervisions[0].language == (language or None)
            assert cut.recording.duration == pytest.approx(utterance.start_s + utterance.duration_s)


def test_manifests_and_statistics_are_those_of_write_corpus(audio: Path, tmp_path: Path) -> None:
    items = [
        entry(audio, number, end_s=0.5, start_s=0.1 * (number % 3), sex="f", details={"age": "6"})
        for number in range(7)
    ]
    splits = run(items, tmp_path / "a", part_items=2, pronouncing=Pronouncing(language="English"))
    write_corpus(tmp_path / "b", splits, {})
    a, b = (gzip.decompress((tmp_path / name / "cuts_train.jsonl.gz").read_bytes()) for name in "ab")
    assert a == b
    ours, theirs = (dict(statistics(tmp_path / name)) for name in "ab")
    ours_train, theirs_train = ours["splits"]["train"], theirs["splits"]["train"]  # type: ignore[index]
    assert {name: ours_train[name] for name in theirs_train} == theirs_train
    assert {name: ours[name] for name in theirs if name != "splits"} == {n: theirs[n] for n in theirs if n != "splits"}
    assert (ours_train["words"], ours_train["channels"]) == (14, {"1": 7})
    assert [u.start_s for u in splits["train"]] == [0.1 * (number % 3) for number in range(7)]
    assert splits["train"][1].duration_s == 0.4


def test_phones_are_composed_sorted_and_those_of_all_splits(audio: Path, tmp_path: Path) -> None:
    run(
        [
            entry(audio, 0, split="train", phones=("o\u0308", "a", "ɔ")),
            entry(audio, 1, split="dev", phones=("z",)),
            entry(audio, 2, split="test", phones=("a",)),
        ],
        tmp_path,
        split=SplitRequest(),
    )
    assert (tmp_path / "phones.txt").read_text(encoding="utf-8") == "a\nz\n\u00f6\nɔ\n"
    assert "1 phones are in dev or test alone: z" in str(statistics(tmp_path)["notes"])
    known = read_inventory(tmp_path / "phones.txt")
    for name in ("train", "dev", "test"):
        for utterance in read_manifest(tmp_path / f"cuts_{name}.jsonl.gz"):
            assert known.encode(utterance.phones, utterance.id)


def test_files_of_an_earlier_preparation_go(audio: Path, tmp_path: Path) -> None:
    run([entry(audio, 0), entry(audio, 1, phones=())], tmp_path)
    assert (tmp_path / "left_out.tsv").is_file()
    run([entry(audio, 0)], tmp_path, split=SplitRequest(whole="test"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cuts_test.jsonl.gz", "phones.txt", "stats.json"]


# What is left out


def make_audio(folder: Path) -> dict[str, Path]:
    paths = {
        name: folder / f"{name}.wav" for name in ("silent", "nan", "empty", "short", "text", "part", "missing", "fine")
    }
    soundfile.write(paths["silent"], 0 * NOISE, 16000)
    soundfile.write(paths["nan"], np.where(np.arange(16000) == 9, np.nan, NOISE), 16000, subtype="FLOAT")
    paths["empty"].touch()
    soundfile.write(paths["short"], NOISE, 16000)
    paths["short"].write_bytes(paths["short"].read_bytes()[:9000])
    paths["text"].write_text("no audio")
    soundfile.write(paths["part"], np.concatenate([NOISE, 0 * NOISE]), 16000)
    soundfile.write(paths["fine"], NOISE, 16000)
    return paths


def test_what_cannot_be_used_is_left_out_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_audio(tmp_path)
    fine = paths["fine"]
    cases: list[tuple[dict[str, object], str]] = [
        ({"audio_path": paths["missing"]}, "audio missing"),
        ({"audio_path": tmp_path}, "audio missing"),
        ({"audio_path": tmp_path / ("x" * 300)}, "audio missing"),
        ({"audio_path": paths["empty"]}, "audio empty"),
        ({"audio_path": paths["short"]}, "audio truncated"),
        ({"audio_path": paths["text"]}, "audio not readable"),
        ({"audio_path": paths["silent"]}, "audio silent"),
        ({"audio_path": paths["part"], "start_s": 1.0, "end_s": 1.9}, "audio silent"),
        ({"audio_path": paths["nan"]}, "samples not finite, or far too large"),
        ({"end_s": 1.011}, "end beyond the audio"),
        ({"start_s": 1.0, "end_s": 1.001}, "end beyond the audio"),
        ({"start_s": 0.5, "end_s": 0.5}, "it ends before it starts, or starts before its audio"),
        ({"start_s": -0.1}, "it ends before it starts, or starts before its audio"),
        ({"start_s": float("nan")}, "it ends before it starts, or starts before its audio"),
        ({"start_s": 0.5, "end_s": 0.50001}, "shorter than a sample"),
        ({"phones": ()}, "no phones"),
        ({"phones": ("a b",)}, "a phone that is empty or has white space"),
        ({"phones": None, "words": " \t"}, "empty text"),
        ({"speaker": ""}, "no speaker"),
        ({"phone_times_s": ((0.0, 0.5), (0.4, 0.6))}, "phone times overlap or go back"),
        ({"phone_times_s": ((0.0, 0.5), (0.5, 1.02))}, "phone times beyond the audio"),
        ({"phone_times_s": ((0.0, 0.5),)}, "phones and their times differ in number"),
        ({"words": "x\udcff"}, "a name or text that is not UTF-8"),
        ({"words": "x" * 2**24}, "too long for a manifest"),
    ]
    items: list[Entry | LeftOut] = [entry(fine, 900)]
    items += [entry(fine, number, **values) for number, (values, _) in enumerate(cases)]
    items += [LeftOut("a\tb.lab", "text without audio"), entry(fine, 901)]
    splits = run(items, tmp_path / "out")
    assert [utterance.id for utterance in splits["train"]] == ["u900", "u901"]
    rows = [line.split("\t") for line in (tmp_path / "out/left_out.tsv").read_text(encoding="utf-8").splitlines()]
    assert [reason for _, reason in rows] == [*(reason for _, reason in cases), "text without audio"]
    assert all(where.split(":")[:2] == ["list", f" line {number}"] for number, (where, _) in enumerate(rows[:-1]))
    assert rows[-1][0] == "a b.lab"
    assert rows[4][0] == f"list: line 4: {paths['short']}: truncated, 9000 bytes, its header says 32044"
    assert rows[9][0] == "list: line 9: 0 s to 1.011 s of 1 s"
    counts = statistics(tmp_path / "out")["left_out"]
    assert isinstance(counts, dict)
    assert (counts["audio missing"], counts["audio silent"], sum(counts.values())) == (3, 2, 25)
    warnings = capsys.readouterr().err.splitlines()
    assert warnings[0].startswith("warning: left out: 3 (audio missing), the first: list: line 0: ")
    assert len([line for line in warnings if "left out" in line]) == len(counts) == 19


def test_ends_just_beyond_the_audio_are_moved_to_its_end(audio: Path, tmp_path: Path) -> None:
    (first,) = run([entry(audio, 0, end_s=1.009, phone_times_s=((0.0, 0.5), (0.5, 1.009)))], tmp_path)["train"]
    assert (first.duration_s, first.phone_times_s) == (1.0, ((0.0, 0.5), (0.5, 1.0)))
    assert statistics(tmp_path)["notes"] == ["1 utterances end less than 0.01 s beyond their audio, now at its end"]


def test_no_utterance_ends_after_the_last_sample(audio: Path) -> None:
    # From sample 1.5 to 5, of 5: start and length round to 2 and 4 samples, one too many.
    place = place_utterance(entry(audio, start_s=1.5 / 16000), AudioInfo(16000, 5, 1))
    assert place.duration_s == 3 / 16000


def test_headers_alone(tmp_path: Path) -> None:
    paths = make_audio(tmp_path)
    items = [entry(paths[name], number) for number, name in enumerate(("silent", "nan", "short", "fine"))]
    splits = run(items, tmp_path / "out", check="headers")
    assert [utterance.id for utterance in splits["train"]] == ["u000", "u001", "u003"]


def test_mixed_rates_and_channels_are_noted(audio: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.stack([NOISE, NOISE], axis=1), 8000)
    splits = run([entry(audio), entry(tmp_path / "stereo.wav", 1)], tmp_path / "out")
    assert [utterance.sample_rate_hz for utterance in splits["train"]] == [16000, 8000]
    assert splits["train"][1].duration_s == 2.0
    assert statistics(tmp_path / "out")["notes"] == [
        "mixed sample rates: 1 at 8000 Hz, 1 at 16000 Hz; audio is resampled when it is read",
        "channels: 1 with 1, 1 with 2; channels are averaged when audio is read",
    ]


def test_nothing_is_left(audio: Path, tmp_path: Path) -> None:
    refused([], tmp_path / "a", "no utterance in the corpus, expected at least 1")
    assert not (tmp_path / "a").exists()
    refused([LeftOut("a.wav", "audio without text")], tmp_path / "b", "all 1 left out (see left_out.tsv)")
    refused([entry(audio, phones=())], tmp_path / "b", "all 1 left out (see left_out.tsv)")
    assert (tmp_path / "b/left_out.tsv").read_text() == "list: line 0\tno phones\n"
    assert not list((tmp_path / "b").glob("cuts_*"))


def test_a_split_that_has_nothing_left_is_noted(audio: Path, tmp_path: Path) -> None:
    items = [entry(audio, number, split=split) for number, split in enumerate(("train", "dev", "test"))]
    items[1] = replace(items[1], phones=())
    assert set(run(items, tmp_path, split=SplitRequest(own=True))) == {"train", "test"}
    assert statistics(tmp_path)["notes"] == ["split dev has no utterance left"]


def test_ids_occur_once(audio: Path, tmp_path: Path) -> None:
    items = [entry(audio, 3), *(entry(audio, number) for number in range(5))]
    refused(items, tmp_path / "out", "list: line 3: id 'u003' is also that of list: line 3, expected it once")
    assert not (tmp_path / "out").exists()


class Colliding(str):
    """A string whose hash is that of every other."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


def test_ids_of_equal_hashes_are_no_equal_ids(audio: Path) -> None:
    items = [entry(audio, number, id=Colliding(f"u{number}")) for number in range(3)]
    assert list_corpus(lambda: items, lambda _: None, 2).utterances == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs: 0, expected at least 1"),
        ({"part_items": 0}, "part_items: 0, expected at least 1"),
        ({"check": "all"}, "check: 'all', expected one of samples, headers"),
        ({"pronouncing": Pronouncing(oov="skip")}, "oov: 'skip', expected one of error, g2p, drop"),
        ({"pronouncing": Pronouncing(units="bytes")}, "units: 'bytes', expected one of phones, graphemes"),
        ({"pronouncing": Pronouncing(Path("x"), units="graphemes")}, "units: graphemes with a lexicon"),
        ({"pronouncing": Pronouncing(oov="g2p")}, "oov: g2p, but g2p is not given"),
        ({"pronouncing": Pronouncing(g2p="espeak", language="de")}, "oov: error, but g2p is given, expected oov g2p"),
        ({"pronouncing": Pronouncing(g2p="espeak", oov="g2p")}, "language: not given, expected one of espeak-ng's"),
    ],
)
def test_settings_that_cannot_be(audio: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    refused([entry(audio)], tmp_path / "out", message, **options)
    assert not (tmp_path / "out").exists()


def test_each_recording_is_read_once(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def read_blocks(path: Path, sample_rate_hz: int) -> list[np.ndarray]:
        read.append(path)
        return [NOISE]

    monkeypatch.setattr("data_prep.recordings.read_blocks", read_blocks)
    items = [entry(audio, number, start_s=number / 100, end_s=number / 100 + 0.1) for number in range(50)]
    run(items, tmp_path, part_items=7)
    assert read == [audio]


@pytest.mark.parametrize("size", [1, 3, 4, 1000])
def test_stretches_of_zeros(size: int) -> None:
    samples = np.array([0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0], np.float32)
    blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
    assert find_zeros(blocks, 3).tolist() == [[0, 3], [7, 12], [14, 17]]
    assert find_zeros([], 3).tolist() == []


# Splits


def count(speakers: Mapping[str, tuple[str, int]]) -> SpeakerCounts:
    """Speaker -> (own split, utterances)."""
    counts = SpeakerCounts()
    for speaker, (split, number) in speakers.items():
        for _ in range(number):
            counts.add(Entry("u", Path("a.wav"), speaker, "here", split=split))
    return counts


def test_shares_are_of_utterances_by_whole_speakers() -> None:
    counts = {f"s{number:03}": number % 7 + 1 for number in range(200)}
    drawn = draw_speakers(counts, {"dev": 0.1, "test": 0.2}, 1)
    sizes = {split: sum(counts[name] for name in drawn if drawn[name] == split) for split in ("dev", "test")}
    total = sum(counts.values())
    assert total == 794  # 28 rounds of 1 to 7, then 1 to 4
    assert abs(sizes["dev"] - 79.4) <= 3.5  # half of the largest speaker
    assert abs(sizes["test"] - 158.8) <= 3.5
    assert draw_speakers(dict(reversed(counts.items())), {"test": 0.2, "dev": 0.1}, 1) == drawn
    assert draw_speakers(counts, {"dev": 0.1, "test": 0.2}, 2) != drawn


def test_every_split_gets_a_speaker_and_no_giant() -> None:
    assert sorted(draw_speakers({"a": 10, "b": 11, "c": 12}, {"dev": 0.01, "test": 0.01}, 1).items()) == [
        ("a", "dev"),
        ("b", "test"),
    ]
    drawn = draw_speakers({"giant": 1000, "a": 1, "b": 1, "c": 1}, {"dev": 0.05, "test": 0.05}, 1)
    assert "giant" not in drawn
    assert set(drawn.values()) == {"dev", "test"}
    assert len(draw_speakers({"a": 1, "b": 1, "c": 1}, {"dev": 0.9}, 1)) == 2  # one is left to train


def test_too_few_speakers() -> None:
    with pytest.raises(InputError, match="2 speakers for train, dev, test, expected at least 3"):
        assign(count({"a": ("", 5), "b": ("", 5)}), SplitRequest())


def test_the_default_is_the_corpus_own_if_it_has_all() -> None:
    own = {"a": ("train", 9), "b": ("dev", 1), "c": ("test", 1)}
    assignment = assign(count(own), SplitRequest())
    assert {speaker: assignment.split_of(speaker, split) for speaker, (split, _) in own.items()} == {
        "a": "train",
        "b": "dev",
        "c": "test",
    }
    del own["b"]
    assignment = assign(count(own | {"d": ("train", 1)}), SplitRequest())
    assert sorted(assignment.speakers.values()) == ["dev", "test"]
    assert "the corpus's own splits train, test are not used, as it has no dev; with --split own" in assignment.notes[0]


def test_a_speaker_in_two_of_the_corpus_own_splits() -> None:
    counts = count({"a": ("train", 1), "b": ("dev", 1), "c": ("test", 1)})
    for speaker in ("b", "c"):
        counts.add(Entry("u", Path("a.wav"), speaker, "here", split="train"))
    with pytest.raises(InputError, match="speaker b is in the corpus's own splits train and dev, expected in one"):
        assign(counts, SplitRequest())
    assignment = assign(counts, SplitRequest(shared=True))
    assert [assignment.split_of("b", split) for split in ("train", "dev")] == ["train", "dev"]
    assert assignment.notes == ("2 speakers are in two of the corpus's own splits, such as b",)


def test_a_dev_set_from_the_corpus_own_training_speakers(tmp_path: Path) -> None:
    counts = count({"t": ("test", 50), **{f"s{number}": ("train", 10) for number in range(10)}})
    assignment = assign(counts, parse_splits("own,dev=0.2"))
    assert list(assignment.speakers.values()) == ["dev", "dev"]
    assert "t" not in assignment.speakers
    (tmp_path / "dev.txt").write_text("# dev\ns3\ns1\nabsent\n")
    assignment = assign(counts, parse_splits(f"own, dev={tmp_path / 'dev.txt'}"))
    assert assignment.speakers == {"s1": "dev", "s3": "dev", "absent": "dev"}
    assert assignment.notes == ("split dev: 1 of 3 listed speakers are not in the corpus",)
    assert (assignment.split_of("s3", "train"), assignment.split_of("t", "test")) == ("dev", "test")


def test_lists_of_speakers(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("s0\n")
    (tmp_path / "test.txt").write_text("s1\ns2\n")
    items = [entry(audio, number) for number in range(8)]
    splits = run(items, tmp_path / "a", split=parse_splits(f"test={tmp_path / 'test.txt'}"))
    assert {name: [u.id for u in split] for name, split in splits.items()} == {
        "test": ["u001", "u002", "u005", "u006"],
        "train": ["u000", "u003", "u004", "u007"],
    }
    lists = f"train={tmp_path / 'train.txt'},test={tmp_path / 'test.txt'}"
    assert [u.id for u in run(items, tmp_path / "b", split=parse_splits(lists))["train"]] == ["u000", "u004"]
    assert statistics(tmp_path / "b")["left_out"] == {"in no split": 2}


def test_listed_speakers_are_spelled_as_readers_spell_them(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_bytes(b"\xef\xbb\xbfAnn  Lee\nJose\xcc\x81\n")
    assert parse_splits(f"test={tmp_path / 'test.txt'}").lists["test"] == ("Ann_Lee", "Jos\u00e9")


def test_requests_for_splits_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("s1\n")
    lists = f"dev={tmp_path / 'a.txt'},test={tmp_path / 'a.txt'}"
    for text, message in [
        ("dev", None),
        ("half", "has the item 'half', expected once own, train, dev, test, or items like dev=0.05"),
        ("dev=0.1,dev=0.2", "has the item 'dev=0.2'"),
        ("own,own", "has the item 'own'"),
        ("dev=0.1,,test=0.1", "has the item ''"),
        ("valid=0.1", "has the item 'valid=0.1'"),
        ("dev=1.5", "dev=1.5, expected a share between 0 and 1"),
        ("dev=nan", "dev=nan, expected a share between 0 and 1"),
        ("dev=0.5,test=0.5", "leaves nothing to train on"),
        ("train=0.9", "train=0.9, expected shares of dev and test alone"),
        (f"train={tmp_path / 'a.txt'},dev=0.1", "lists train and draws dev, expected one of the two"),
        (lists, "lists speaker s1 in two splits, expected one"),
        ("dev=missing.txt", "missing.txt: no such file"),
    ]:
        if message is None:
            assert parse_splits(text) == SplitRequest(whole="dev")
            continue
        with pytest.raises(InputError) as error:
            parse_splits(text)
        assert message in str(error.value), text
    counts = count({"a": ("", 1), "b": ("", 1)})
    with pytest.raises(InputError, match="no speaker listed for dev is in the corpus"):
        assign(counts, parse_splits(f"dev={tmp_path / 'a.txt'}"))
    with pytest.raises(InputError, match="own, but no utterance of the corpus is in a split"):
        assign(counts, parse_splits("own"))
    with pytest.raises(InputError, match="here: split 'valid', expected one of train, dev, test"):
        count({"a": ("valid", 1)})


# Units


LEXICON: dict[str, list[tuple[str, ...]]] = {
    "bear": [("B", "EH", "R"), ("B", "EY")],
    "Weg": [("v", "eː", "k")],
    "weg": [("v", "ɛ", "k")],
    "don't": [("D", "OW", "N", "T")],
    "<unk>": [("SPN",)],
    "caf\u00e9": [("K", "A")],
    "well": [("W",)],
}


@pytest.mark.parametrize(
    ("words", "units"),
    [
        ("bear", "B EH R"),
        ("BEAR Bear", "B EH R B EH R"),
        ("“bear,” — (bear)!", "B EH R B EH R"),
        ("Weg weg WEG", "v eː k v ɛ k v eː k"),  # in its own case, else the first of the file in any
        ("don't Don’t", "D OW N T D OW N T"),
        ("'bear'", "B EH R"),
        ("cafe\u0301 CAF\u00c9", "K A K A"),
        ("<unk> well", "SPN W"),
        ("well-bear—well", "W B EH R W"),
    ],
)
def test_words_by_a_lexicon(words: str, units: str) -> None:
    assert " ".join(spelled(words, LEXICON)) == units


@pytest.mark.parametrize("word", ["[bear]", "<bear>", "[bear-well]", "bears", "well-read", "bear2"])
def test_words_that_a_lexicon_lacks(word: str) -> None:
    with pytest.raises(Exception, match="a word without a pronunciation") as error:
        spelled(f"bear {word}!" if word[0] not in "[<" else f"bear {word}", LEXICON)
    assert vars(error.value)["detail"] == word


def test_punctuation_is_at_edges_alone() -> None:
    for word, bare in {
        "¿que?": "que",
        "हिन्दी।": "हिन्दी",
        "a.b": "a.b",
        "…": "",
        "3rd.": "3rd",
        "ʼokina": "ʼokina",
    }.items():
        assert strip_punctuation(word) == bare


def test_graphemes(audio: Path, tmp_path: Path) -> None:
    items = [
        entry(audio, 0, words="Don't STOP", phone_times_s=((0.0, 0.1), (0.1, 0.2))),
        entry(audio, 1, words="E\u0301te\u0301 – 7 fois!", phones=None),
        entry(audio, 2, words="हिन्दी।", phones=None),
        entry(audio, 3, words="?!", phones=None),
        entry(audio, 4, words=""),
    ]
    splits = run(items, tmp_path, pronouncing=Pronouncing(units="graphemes"))
    assert [" ".join(utterance.phones) for utterance in splits["train"]] == [
        "d o n t | s t o p",
        "\u00e9 t \u00e9 | 7 | f o i s",
        "ह ि न ् द ी",
    ]
    assert splits["train"][0].phone_times_s is None
    assert splits["train"][0].words == "Don't STOP"
    found = statistics(tmp_path)
    assert found["left_out"] == {"no letters": 1, "empty text": 1}
    assert found["dropped_characters"] == {"!": 2, "'": 1, "?": 1, "–": 1, "।": 1}


class Letters:
    """Pronounces a word by its letters, if they are Latin."""

    def pronounce(self, word: str) -> list[tuple[str, ...]]:
        return [tuple(word)] if word.isascii() else []


@pytest.fixture
def lexicon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A lexicon and a grapheme-to-phoneme model whose readers are replaced: what they read is not tested here."""
    monkeypatch.setattr("data_prep.spelling.load_lexicon", lambda path, known: LEXICON)
    monkeypatch.setattr("data_prep.spelling.load_g2p", lambda name, language: Letters())
    path = tmp_path / "lexicon.txt"
    path.touch()
    return path


def test_a_lexicon_and_espeak_of_their_own(audio: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: asr-phones[synth]")
    (tmp_path / "lexicon.txt").write_text("HELLO HH AH0 L OW1\nCafe\u0301 k a f e\n", encoding="utf-8")
    items = [entry(audio, 0, words="Hello, caf\u00e9!", phones=None), entry(audio, 1, words="Haus <unk>", phones=None)]
    items.append(entry(audio, 2, words="hello Haus", phones=None))
    request = Pronouncing(tmp_path / "lexicon.txt", "espeak", "de", "g2p")
    splits = run(items, tmp_path / "out", pronouncing=request)
    # espeak-ng -v de --ipa=3 --sep=' ' Haus: h ˈaʊ s
    assert [" ".join(u.phones) for u in splits["train"]] == ["HH AH L OW k a f e", "HH AH L OW h a\u028a s"]
    assert (tmp_path / "out/oov.tsv").read_text() == "<unk>\t1\n"
    refused(items, tmp_path / "out", "'tlh'", pronouncing=replace(request, language="tlh"))


def texts(audio: Path) -> list[Entry]:
    """Four utterances of words; the second and third have words that the lexicon lacks, the fourth has phones."""
    words = (["a", "bear"][1], "Bear cub, cub", "Медведь cub", "cub")
    items = [entry(audio, number, words=text, phones=None) for number, text in enumerate(words)]
    items[3] = replace(items[3], phones=("K", "AH", "B"))
    return items


def test_missing_words_are_an_error(audio: Path, lexicon: Path, tmp_path: Path) -> None:
    refused(
        texts(audio),
        tmp_path / "out",
        f"{lexicon}: 2 words of the corpus are missing, 'cub' 3 times, expected all",
        "oov.tsv",
        pronouncing=Pronouncing(lexicon),
    )
    assert (tmp_path / "out/oov.tsv").read_text(encoding="utf-8") == "cub\t3\nмедведь\t1\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["oov.tsv"]


def test_missing_words_are_left_out_with_their_utterances(audio: Path, lexicon: Path, tmp_path: Path) -> None:
    splits = run(texts(audio), tmp_path / "out", pronouncing=Pronouncing(lexicon, oov="drop"))
    assert [utterance.phones for utterance in splits["train"]] == [("B", "EH", "R"), ("K", "AH", "B")]
    assert (tmp_path / "out/oov.tsv").read_text(encoding="utf-8") == "cub\t3\nмедведь\t1\n"
    assert (tmp_path / "out/left_out.tsv").read_text(encoding="utf-8").splitlines() == [
        "list: line 1: cub cub\ta word without a pronunciation",
        "list: line 2: медведь cub\ta word without a pronunciation",
    ]
    found = statistics(tmp_path / "out")
    assert found["words_without_pronunciation"] == {"distinct": 2, "all": 4}
    assert found["pronounced_by"] == {"lexicon": 1}


def test_missing_words_are_pronounced_by_a_model(audio: Path, lexicon: Path, tmp_path: Path) -> None:
    request = Pronouncing(lexicon, g2p="espeak", language="en", oov="g2p")
    splits = run(texts(audio), tmp_path / "out", pronouncing=request)
    assert [" ".join(u.phones) for u in splits["train"]] == ["B EH R", "B EH R c u b c u b", "K AH B"]
    assert splits["train"][1].words == "Bear cub, cub"
    assert (tmp_path / "out/oov.tsv").read_text(encoding="utf-8") == "медведь\t1\n"
    assert statistics(tmp_path / "out")["pronounced_by"] == {"g2p": 2, "lexicon": 2}
    without = run(texts(audio), tmp_path / "without", pronouncing=replace(request, lexicon=None))
    assert " ".join(without["train"][0].phones) == "b e a r"


def test_words_without_phones_need_something(audio: Path, tmp_path: Path) -> None:
    items = [entry(audio, 9, phones=None, words=" "), *texts(audio)[:3]]
    refused(
        items, tmp_path / "out", "list: line 0: words without phones, expected a lexicon, a g2p, or units graphemes"
    )


def test_a_row_without_phones_is_left_out_of_a_corpus_with_phones(audio: Path, tmp_path: Path) -> None:
    items = [entry(audio, 0, phones=None, words="Bear, bear"), entry(audio, 1), entry(audio, 2, phones=None, words="")]
    for jobs in (1, 2):
        splits = run(items, tmp_path / "out", jobs=jobs, part_items=1)
        assert [utterance.id for utterance in splits["train"]] == ["u001"]
        reason = "words without phones, and no lexicon or g2p"
        assert statistics(tmp_path / "out")["left_out"] == {reason: 1, "empty text": 1}
        assert not (tmp_path / "out/oov.tsv").exists()
        assert f"list: line 0\t{reason}\n" in (tmp_path / "out/left_out.tsv").read_text()


def test_a_map_of_phones(audio: Path, lexicon: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.tsv"
    path.write_text("\ufeffAH\tA\nB B\nR -\n\no\u0308 O\nEH E\n", encoding="utf-8")
    items = [
        entry(
            audio, 0, phones=("AH", "R", "B", "\u00f6"), phone_times_s=((0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4))
        ),
        entry(audio, 1, phones=("R",)),
    ]
    request = Pronouncing(phones_map=path)
    (utterance,) = run(items, tmp_path / "out", pronouncing=request)["train"]
    assert utterance.phones == ("A", "B", "O")
    assert utterance.phone_times_s == ((0, 0.1), (0.2, 0.3), (0.3, 0.4))
    assert statistics(tmp_path / "out")["left_out"] == {"no phones": 1}
    refused(
        [entry(audio, 2, phones=("AH", "ZH"))],
        tmp_path / "other",
        f"list: line 2: phone 'ZH' is not in {path}, expected one of the 5 there",
        pronouncing=request,
    )
    request = Pronouncing(lexicon, phones_map=path)
    refused(items, tmp_path / "other", f"{lexicon}: word Weg: phone 'v' is not in {path}", pronouncing=request)


def test_a_map_may_have_the_stress_of_a_lexicon(tmp_path: Path) -> None:
    lexicon, path = tmp_path / "lexicon.txt", tmp_path / "map.tsv"
    lexicon.write_text("hello HH AH0 L OW1\n")
    path.write_text("HH h\nAH0 ə\nL l\nOW1 oʊ\n", encoding="utf-8")
    speller = Speller(Pronouncing(lexicon, phones_map=path))
    assert speller.spell(Entry("u", Path("a.wav"), "s", "here", "Hello!")).units == ("h", "ə", "l", "oʊ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 phones"),
        ("A B C\n", "line 1: 3 phones"),
        ("A\n", "line 1: 1 phones"),
        ("A B\n\nA C\n", "line 3: 'A' occurs twice"),
    ],
)
def test_maps_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "map.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        pronouncing.read_phones_map(tmp_path / "map.tsv")


# Interruptions


def digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir() if path.is_file()}


def corpus(audio: Path, rows: int = 40) -> list[Entry | LeftOut]:
    """Utterances of 20 speakers, every seventh unusable, every eleventh item left out by the reader."""
    items: list[Entry | LeftOut] = []
    for number in range(rows):
        if number % 11 == 5:
            items.append(LeftOut(f"list: line {number}", "audio without text"))
            continue
        phones = () if number % 7 == 3 else ("AH", "B", f"P{number % 5}")
        items.append(entry(audio, number, speaker=f"s{number % 20:02}", phones=phones, start_s=0.01 * (number % 50)))
    return items


def test_any_number_of_processes_gives_the_same_bytes(audio: Path, tmp_path: Path) -> None:
    for jobs in (1, 3):
        prepare(partial(corpus, audio), tmp_path / str(jobs), PrepareOptions(jobs=jobs, part_items=7))
    found = digests(tmp_path / "1")
    assert set(found) == {*OUTPUTS, "left_out.tsv"}
    assert digests(tmp_path / "3") == found
    splits = {name: read_manifest(tmp_path / "3" / f"cuts_{name}.jsonl.gz") for name in ("train", "dev", "test")}
    usable = [item.id for item in corpus(audio) if isinstance(item, Entry) and item.phones]
    assert sorted(utterance.id for split in splits.values() for utterance in split) == usable
    speakers = [{utterance.speaker for utterance in split} for split in splits.values()]
    assert sum(map(len, speakers)) == len(set.union(*speakers))


class Killed(BaseException):
    """What ends a process at once, as far as this test goes."""


def kill(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize(
    "stage", ["first pass", "lines", "counts", "second part", "last part", "joining", "statistics"]
)
def test_an_interrupted_preparation_goes_on(
    audio: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = PrepareOptions(jobs=1, part_items=7)
    prepare(partial(corpus, audio), tmp_path / "whole", options)
    made: list[str] = []

    def interrupt(name: str, ending: str, times: int, original: Callable[[Path, Any], None]) -> None:
        def write(path: Path, content: Any) -> None:
            made.append(path.name)
            if sum(each.endswith(ending) for each in made) == times and path.name.endswith(ending):
                raise Killed
            original(path, content)

        monkeypatch.setattr(name, write)

    if stage == "first pass":
        monkeypatch.setattr("data_prep.pipeline.assign", kill)
    elif stage == "lines":
        interrupt("data_prep.parts.write_bytes", ".gz", 1, parts.write_bytes)
    elif stage == "joining":
        monkeypatch.setattr("shutil.copyfileobj", kill)
    elif stage == "statistics":
        interrupt("data_prep.joining.write_text", "stats.json", 1, parts.write_text)
    else:
        number = {"counts": 1, "second part": 2, "last part": 6}[stage]
        interrupt("data_prep.parts.write_text", ".json", number, parts.write_text)
    out = tmp_path / "out"
    with pytest.raises(Killed):
        prepare(partial(corpus, audio), out, options)
    monkeypatch.undo()
    assert not (out / "stats.json").exists()
    complete = {"second part": 1, "last part": 5, "joining": 6, "statistics": 6}.get(stage, 0)
    written = count_calls(monkeypatch, "data_prep.parts.write_text")
    capsys.readouterr()
    prepare(partial(corpus, audio), out, options)
    assert len(written) == 6 - complete
    message = f"{out}: {complete} of 6 parts are there already, going on"
    assert (message in capsys.readouterr().err) == (complete > 0)
    assert digests(out) == digests(tmp_path / "whole")
    assert not (out / "parts.partial").exists()


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """A list that gets the first argument of each call of a function."""
    calls: list[object] = []
    original = parts.write_text

    def counted(path: Path, text: str) -> None:
        calls.append(path)
        original(path, text)

    monkeypatch.setattr(name, counted)
    return calls


def stop_before_the_end(reader: Callable[[], Items], out: Path, options: PrepareOptions) -> None:
    """Prepare, but not the joining."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.pipeline.join_parts", kill)
        with pytest.raises(Killed):
            prepare(reader, out, options)


@pytest.mark.parametrize("change", ["split", "check", "parts", "pronunciation", "corpus"])
def test_another_request_starts_anew_and_says_so(
    audio: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = PrepareOptions(jobs=1, part_items=7)
    stop_before_the_end(partial(corpus, audio), tmp_path / "out", options)
    rows = 40
    if change == "split":
        options = replace(options, split=SplitRequest(seed=2))
    elif change == "check":
        options = replace(options, check="headers")
    elif change == "parts":
        options = replace(options, part_items=8)
    elif change == "pronunciation":
        options = replace(options, pronouncing=Pronouncing(language="de"))
    else:
        rows = 41
    capsys.readouterr()
    prepare(partial(corpus, audio, rows), tmp_path / "out", options)
    folder = tmp_path / "out/parts.partial"
    differing = "parts, corpus" if change == "parts" else change
    message = f"{folder}: parts of another preparation ({differing} differ), starting anew\n"
    assert capsys.readouterr().err.startswith(message)
    prepare(partial(corpus, audio, rows), tmp_path / "whole", options)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_lexicon_that_was_edited_is_another_request(audio: Path, lexicon: Path, tmp_path: Path) -> None:
    options = PrepareOptions(ALL_TRAIN, Pronouncing(lexicon, oov="drop"), jobs=1)
    stop_before_the_end(partial(texts, audio), tmp_path / "out", options)
    before = json.loads((tmp_path / "out/parts.partial/request.json").read_text())
    lexicon.write_text("CUB K AH B\n")
    stop_before_the_end(partial(texts, audio), tmp_path / "out", options)
    after = json.loads((tmp_path / "out/parts.partial/request.json").read_text())
    assert {name for name in before if before[name] != after[name]} == {"pronunciation"}


def test_audio_that_was_repaired_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.touch()
    items = [entry(path), entry(tmp_path / "b.wav", 1)]
    soundfile.write(tmp_path / "b.wav", NOISE, 16000)
    options = PrepareOptions(ALL_TRAIN, jobs=1, part_items=1)
    stop_before_the_end(lambda: items, tmp_path / "out", options)
    soundfile.write(path, NOISE, 16000)
    with pytest.MonkeyPatch.context() as patch:
        written = count_calls(patch, "data_prep.parts.write_text")
        prepare(lambda: items, tmp_path / "out", options)
    assert [Path(str(path)).name for path in written] == ["000000.json"]
    assert [utterance.id for utterance in read_manifest(tmp_path / "out/cuts_train.jsonl.gz")] == ["u000", "u001"]


def test_a_part_that_was_cut_off_is_written_again(audio: Path, tmp_path: Path) -> None:
    options = PrepareOptions(jobs=1, part_items=7)
    prepare(partial(corpus, audio), tmp_path / "whole", options)
    out = tmp_path / "out"
    stop_before_the_end(partial(corpus, audio), out, options)
    (member,) = (out / "parts.partial").glob("000002.train.gz")
    member.write_bytes(member.read_bytes()[:-5])
    (out / "parts.partial/000003.json").write_text("{")
    prepare(partial(corpus, audio), out, options)
    assert digests(out) == digests(tmp_path / "whole")


def test_a_corpus_that_changes_while_it_is_read(audio: Path, tmp_path: Path) -> None:
    for other in (39, 41, 60):
        lengths = iter((40, other))
        with pytest.raises(InputError, match="the corpus has changed while it was read"):
            prepare(lambda it=lengths: corpus(audio, next(it)), tmp_path / "out", PrepareOptions(jobs=1, part_items=10))


def test_one_preparation_at_a_time(audio: Path, tmp_path: Path) -> None:
    def reader() -> Iterator[Entry | LeftOut]:
        if (tmp_path / "parts.partial").exists():
            refused(corpus(audio), tmp_path, "parts.partial: in use by process", part_items=7)
        yield from corpus(audio)

    prepare(reader, tmp_path, PrepareOptions(jobs=1))


SLOW_CORPUS = """
import signal, sys, time
from pathlib import Path
from data_prep.entries import Entry
from data_prep.pipeline import PrepareOptions, prepare
from data_prep.splits import SplitRequest

def reader():
    for number in range(40):
        if Path(sys.argv[2], "parts.partial").exists() and number == 30:
            print("second pass", flush=True)
            time.sleep(60)
        yield Entry(f"u{number}", Path(sys.argv[1]), "s", f"line {number}", "a", ("AH",), start_s=number / 100)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background
    prepare(reader, Path(sys.argv[2]), PrepareOptions(SplitRequest(whole="train"), jobs=2, part_items=5))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_all_processes_and_leave_parts(audio: Path, tmp_path: Path, number: signal.Signals) -> None:
    script, out = tmp_path / "slow.py", tmp_path / "out"
    script.write_text(SLOW_CORPUS)
    process = subprocess.Popen(
        [sys.executable, script, audio, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "second pass\n"
    children = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(children) >= 2
    wait_until(lambda: len(list((out / "parts.partial").glob("*.json"))) > 1)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    if number == signal.SIGINT:
        assert Interrupted.__name__ in error
        assert "of 8 parts are complete; the same command goes on with the others" in error
    wait_until(lambda: not any(is_running(child) for child in children))


def is_running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# Size


SIZE = """
import resource, sys, time
from pathlib import Path
from data_prep.entries import Entry
from data_prep.pipeline import PrepareOptions, prepare

rows, audio, out = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])

def reader():
    for number in range(rows):
        name, start = f"utt-{number:07}", (number % 90) / 100
        yield Entry(
            name, audio, f"speaker-{number % 20000}", f"table.csv: line {number}", "a bear sat on the mat " + name,
            ("AH", "B", "EH", "R", "S", "AE", "T", "AA", "N", "DH", "AH", "M", "AE", "T"), None, start, start + 0.1
        )

if __name__ == "__main__":
    prepare(reader, out, PrepareOptions(jobs=int(sys.argv[4])))
    seconds = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Not ru_maxrss: it begins with the memory of the process that started this one.
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(seconds, own.split()[1], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def measure(audio: Path, tmp_path: Path, rows: int, jobs: int) -> tuple[float, float, float]:
    """Seconds of processor time, and peak memory in MiB of the main process and of the largest other one."""
    (tmp_path / "size.py").write_text(SIZE)
    done = subprocess.run(
        [sys.executable, tmp_path / "size.py", str(rows), audio, tmp_path / str(rows), str(jobs)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    seconds, own, others = map(float, done.stdout.split())
    return seconds, own / 1024, others / 1024


def test_memory_does_not_grow_with_the_corpus(audio: Path, tmp_path: Path) -> None:
    _, own, _ = measure(audio, tmp_path, 50, 1)
    _, few, _ = measure(audio, tmp_path, 4000, 1)
    _, many, _ = measure(audio, tmp_path, 16000, 1)
    assert few - own < 40  # a part, and its speakers
    assert many - few < 12  # 1 KiB an utterance if they were kept


@pytest.mark.slow
def test_a_million_utterances(audio: Path, tmp_path: Path) -> None:
    small, _, _ = measure(audio, tmp_path, 100_000, 2)
    large, own, others = measure(audio, tmp_path, 1_000_000, 2)
    print(f"{large:.0f} s of processor time, {own:.0f} MiB and twice {others:.0f} MiB")
    assert own + 2 * others < 600
    assert large < 12 * small
    assert statistics(tmp_path / "1000000")["distinct_utterances"] == 1_000_000
    lines = 0
    for path in (tmp_path / "1000000").glob("cuts_*.jsonl.gz"):
        with gzip.open(path) as file:
            lines += sum(1 for _ in file)
    assert lines == 1_000_000


# The command line


def write_table(path: Path, audio: Path) -> None:
    rows = [f"u{number}\t{audio}\ts{number}\tA, b{number}!\t" for number in range(5)]
    path.write_text("\n".join(["id\taudio\tspeaker\ttext\tsplit", *rows]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["table", "auto"])
def test_the_command_line(audio: Path, tmp_path: Path, name: str) -> None:
    table, out = tmp_path / "t.tsv", tmp_path / "out"
    write_table(table, audio)
    if name == "auto":
        table.write_text(table.read_text(encoding="utf-8").replace("text", "words"), encoding="utf-8")
    columns = ["--column", "words=text"] if name == "table" else []
    options = ["--units", "graphemes", "--split", "dev=0.2,test=0.2", "--jobs", "1", *columns]
    result = CliRunner().invoke(app, ["prepare", name, str(table), str(out), *options])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-3].startswith("train: 3 utterances, 3 speakers, 0.00 h, 12 phones -> ")  # a | b 0
    assert (lines[0] == f"{table}: table (a table .tsv)") == (name == "auto")
    head, *phones = (out / "phones.txt").read_text(encoding="utf-8").splitlines()
    assert head == "# units: graphemes"
    assert phones[-3:] == ["a", "b", "|"]
    assert len(phones) == 8


def test_the_command_line_says_what_is_left_out(audio: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "t.tsv", audio)
    with (tmp_path / "t.tsv").open("a") as file:
        file.write(f"u9\t{tmp_path / 'none.wav'}\ts9\ta\t\n")
    arguments = ["prepare", "table", str(tmp_path / "t.tsv"), str(tmp_path / "out"), "--column", "words=text"]
    result = CliRunner().invoke(app, [*arguments, "--units", "graphemes", "--split", "train", "--jobs", "1"])
    assert result.stdout.splitlines()[-1] == f"left out: 1 (audio missing) -> {tmp_path / 'out/left_out.tsv'}"
    result = CliRunner().invoke(app, [*arguments, "--split", "train"])
    assert isinstance(result.exception, InputError)
    assert "words without phones" in str(result.exception)
    result = CliRunner().invoke(app, [*arguments, "--column", "words=b"])
    assert "column: 'words=b', expected ROLE=NAME, each role once" in str(result.exception)
