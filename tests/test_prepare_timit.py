import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance, read_manifest
from asr.errors import InputError
from data_prep import timit as prepare_module
from data_prep.checking import read_speakers
from data_prep.timit import PhoneSegment, find_timit, prepare_timit, read_phn
from tests.made_timit import make_timit as make_synthetic_timit

NUM_SAMPLES = 1600
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, NUM_SAMPLES).astype(np.float32)
PHN = "0 400 h#\n400 800 sh\n800 1200 iy\n1200 1600 h#\n"
WRD = "400 800 she\n800 1200 don't\n"
TXT = "0 1600 She had, don't ask me.\n"

# One speaker each of train, dev and core test, and one only in the full test set.
SPEAKERS = {"FCJF0": "TRAIN/DR1", "FADG0": "TEST/DR4", "FDHC0": "TEST/DR7", "MXYZ0": "TEST/DR2"}


def riff(path: Path, samples: np.ndarray = NOISE, rate: int = 16000, subtype: str = "PCM_16") -> None:
    soundfile.write(path, samples, rate, format="WAV", subtype=subtype)


def sphere(path: Path, coding: str = "pcm", claimed: int = NUM_SAMPLES) -> None:
    samples = (NOISE * 32767).astype("<i2").tobytes()
    fields = [
        f"sample_count -i {claimed}",
        "sample_n_bytes -i 2",
        "channel_count -i 1",
        "sample_byte_format -s2 01",
        "sample_rate -i 16000",
        f"sample_coding -s{len(coding)} {coding}",
        "end_head",
    ]
    path.write_bytes(("NIST_1A\n   1024\n" + "\n".join(fields) + "\n").encode().ljust(1024) + samples)


def make_timit(root: Path, lower: bool = False, audio: Callable[[Path], None] = riff) -> Path:
    """Write a TIMIT of the four speakers, with one SX and one SA sentence each."""
    for speaker, folder in SPEAKERS.items():
        for sentence in ("SX7", "SA1"):
            contents: dict[str, Callable[[Path], object]] = {
                "WAV": audio,
                "PHN": lambda path: path.write_text(PHN),
                "WRD": lambda path: path.write_text(WRD),
                "TXT": lambda path: path.write_text(TXT),
            }
            for ending, write in contents.items():
                name = f"{folder}/{speaker}/{sentence}.{ending}"
                path = root / (name.lower() if lower else name)
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path)
    return root


@pytest.fixture
def timit(tmp_path: Path) -> Path:
    return make_timit(tmp_path / "TIMIT")


@pytest.fixture
def wav(timit: Path) -> Path:
    return timit / "TRAIN/DR1/FCJF0/SX7.WAV"


@pytest.fixture
def phn(wav: Path) -> Path:
    return wav.with_suffix(".PHN")


def prepare(source: Path, jobs: int = 2) -> dict[str, list[Utterance]]:
    out = source.parent / "out"
    prepare_timit(source, out, jobs)
    return {name: read_manifest(out / f"cuts_{name}.jsonl.gz") for name in ("train", "dev", "test", "fulltest")}


def statistics(source: Path) -> dict:
    return json.loads((source.parent / "out" / "stats.json").read_text())


def refused(source: Path, *expected: str) -> None:
    """Preparation fails with one line that has all of ``expected``, and writes nothing."""
    with pytest.raises(InputError) as error:
        prepare(source)
    message = str(error.value)
    assert "\n" not in message
    for text in expected:
        assert text in message
    assert not (source.parent / "out").exists()


def ids(utterances: Sequence[Utterance]) -> list[str]:
    return [utterance.id for utterance in utterances]


@pytest.mark.parametrize("lower", [False, True], ids=["upper case", "lower case"])
@pytest.mark.parametrize("audio", [riff, sphere])
@pytest.mark.parametrize("below", ["", "TIMIT", "data/lisa/data/timit"])
def test_common_layouts(tmp_path: Path, lower: bool, audio: Callable[[Path], None], below: str) -> None:
    source = tmp_path / "source"
    make_timit(source / below, lower, audio)
    splits = prepare(source)
    assert {name: ids(split) for name, split in splits.items()} == {
        "train": ["FCJF0_SX7"],
        "dev": ["FADG0_SX7"],
        "test": ["FDHC0_SX7"],
        "fulltest": ["MXYZ0_SX7", "FADG0_SX7", "FDHC0_SX7"],
    }
    utterance = splits["train"][0]
    assert utterance.phones == ("h#", "sh", "iy", "h#")
    assert utterance.phone_times_s == ((0.0, 0.025), (0.025, 0.05), (0.05, 0.075), (0.075, 0.1))
    assert (utterance.words, utterance.speaker, utterance.sex) == ("she don't", "FCJF0", "f")
    assert utterance.details == {"dialect": "DR1"}
    assert (utterance.sample_rate_hz, utterance.duration_s) == (16000, 0.1)
    assert splits["fulltest"][0].sex == "m"


def test_omissions_and_deviations_are_counted(timit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    riff(timit / "TRAIN/DR1/FCJF0/SX7 copy.WAV")
    (timit / "TRAIN/DR1/FCJF0/._SX7.WAV").write_bytes(b"left by a file manager")
    prepare(timit)
    found = statistics(timit)
    assert found["left_out"] == {"SA sentences": 4, "audio files not named as a sentence": 1}
    assert found["distinct_utterances"] == 4
    expected = "split train has 1 utterances of 1 speakers, the standard split has 3696 of 462"
    assert expected in found["notes"]
    assert len(found["notes"]) == 4
    assert f"warning: {expected}\n" in capsys.readouterr().err


def test_the_standard_counts_of_a_whole_timit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = tmp_path / "contents"
    contents.mkdir()
    riff(contents / "WAV", NOISE[:160])
    (contents / "PHN").write_text("0 160 h#\n")
    (contents / "WRD").write_text(WRD)
    listed = sorted(name.upper() for name in read_speakers("timit_dev.txt") | read_speakers("timit_core_test.txt"))
    parts = {"TEST": listed + [f"MZZ{chr(65 + i % 26)}{i // 26}" for i in range(94)]}
    parts["TRAIN"] = [f"F{chr(65 + i // 260)}{chr(65 + i // 10 % 26)}X{i % 10}" for i in range(462)]
    for part, speakers in parts.items():
        for speaker in speakers:
            folder = tmp_path / "TIMIT" / part / "DR3" / speaker
            folder.mkdir(parents=True)
            for sentence in ("SA1", "SA2", "SI1", "SI2", "SI3", "SX1", "SX2", "SX3", "SX4", "SX5"):
                for ending in ("WAV", "PHN", "WRD"):
                    os.link(contents / ending, folder / f"{sentence}.{ending}")
    prepare_timit(tmp_path / "TIMIT", tmp_path / "out", 2)
    found = statistics(tmp_path / "TIMIT")
    assert {name: (split["utterances"], split["speakers"]) for name, split in found["splits"].items()} == {
        "train": (3696, 462),
        "dev": (400, 50),
        "test": (192, 24),
        "fulltest": (1344, 168),
    }
    assert found["left_out"] == {"SA sentences": 1260}
    notes = [f"split {name} has {count} phones to score" for name, count in (("dev", "400"), ("test", "192"))]
    wanted = [f"{note}, the standard split has {count}" for note, count in zip(notes, ("15057", "7215"), strict=True)]
    assert found["notes"] == wanted
    assert capsys.readouterr().err == "".join(f"warning: {note}\n" for note in wanted)


def test_the_standard_number_of_phones_is_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "STANDARD_COUNTS", {"dev": (2, 1), "test": (1, 1)})
    monkeypatch.setattr(prepare_module, "STANDARD_SCORED_PHONES", {"dev": 5, "test": 3})
    two = [Utterance(f"A_{n}", Path("x"), 16000, 1.0, "A", ("h#", "q", "ix", "h#")[: 4 - n], "") for n in (0, 1)]
    assert prepare_module.compare_scored_phones({"dev": two, "test": two[:1]}) == []  # q is not scored
    assert prepare_module.compare_scored_phones({"dev": two[:1], "test": two[1:]}) == [
        "split test has 2 phones to score, the standard split has 3"
    ]


def test_no_timit(tmp_path: Path) -> None:
    (tmp_path / "source" / "train").mkdir(parents=True)
    (tmp_path / "source" / "test").mkdir()
    refused(tmp_path / "source", "source: 0 folders with TIMIT", "expected 1 folder with TRAIN/DR1")
    refused(tmp_path / "absent", "absent: no such folder")


def test_two_timits(tmp_path: Path) -> None:
    make_timit(tmp_path / "source" / "a")
    make_timit(tmp_path / "source" / "b", lower=True)
    refused(tmp_path / "source", "source: 2 folders with TIMIT", "source/a", "source/b", "expected 1")


def test_links_are_followed_once(tmp_path: Path) -> None:
    make_timit(tmp_path / "elsewhere")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "loop").symlink_to(tmp_path / "source")
    (tmp_path / "source" / "timit").symlink_to(tmp_path / "elsewhere")
    assert find_timit(tmp_path / "source") == tmp_path / "source" / "timit"


def test_a_converted_copy_next_to_the_original(timit: Path, wav: Path) -> None:
    riff(wav.with_name("SX7.WAV.wav"))
    assert [utterance.audio_path for utterance in prepare(timit)["train"]] == [wav]


@pytest.mark.parametrize("name", ["SX7.WAV.wav", "sx7.wav.wav"])
def test_a_converted_copy_instead_of_the_original(timit: Path, wav: Path, name: str) -> None:
    wav.rename(wav.with_name(name))
    assert [utterance.audio_path.name for utterance in prepare(timit)["train"]] == [name]


def test_a_converted_copy_next_to_an_unreadable_original(timit: Path, wav: Path) -> None:
    sphere(wav, coding="pcm,embedded-shorten-v2.00")
    riff(wav.with_name("SX7.WAV.wav"))
    assert [utterance.audio_path.name for utterance in prepare(timit)["train"]] == ["SX7.WAV.wav"]
    assert "1 utterances with an unreadable .WAV, taken from .WAV.wav" in statistics(timit)["notes"]


def test_no_audio(timit: Path, wav: Path) -> None:
    wav.unlink()
    refused(timit, str(wav), "no such file", "expected an audio file")


BAD_AUDIO: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "no audio": (lambda path: path.write_bytes(b"no audio" * 100), "not readable as audio"),
    "truncated RIFF": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "truncated"),
    "truncated SPHERE": (lambda path: sphere(path, claimed=NUM_SAMPLES + 50), "truncated"),
    "shorten": (lambda path: sphere(path, coding="pcm,embedded-shorten-v2.00"), "shorten"),
    "zero length": (lambda path: riff(path, NOISE[:0]), "0 samples"),
    "all zero": (lambda path: riff(path, 0 * NOISE), "all 1600 samples are zero"),
    "NaN": (lambda path: riff(path, np.append(NOISE[1:], np.float32("nan")), subtype="FLOAT"), "1599 is nan"),
}


@pytest.mark.parametrize("case", BAD_AUDIO)
def test_bad_audio(timit: Path, wav: Path, case: str) -> None:
    write, expected = BAD_AUDIO[case]
    write(wav)
    refused(timit, str(wav), expected)


GOOD_AUDIO: dict[str, Callable[[Path], object]] = {
    "8 bit": lambda path: riff(path, subtype="PCM_U8"),
    "7 channels": lambda path: riff(path, np.stack([NOISE] * 7, axis=1)),
    "float": lambda path: riff(path, subtype="FLOAT"),
}


@pytest.mark.parametrize("case", GOOD_AUDIO)
def test_unusual_audio_is_accepted(timit: Path, wav: Path, case: str) -> None:
    GOOD_AUDIO[case](wav)
    assert prepare(timit)["train"][0].duration_s == 0.1
    assert not any("sample rates" in note for note in statistics(timit)["notes"])


def test_mixed_sample_rates_are_noted(timit: Path, wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    riff(wav, rate=8000)
    utterance = prepare(timit)["train"][0]
    assert (utterance.sample_rate_hz, utterance.duration_s) == (8000, 0.2)
    assert utterance.phone_times_s == ((0.0, 0.05), (0.05, 0.1), (0.1, 0.15), (0.15, 0.2))
    expected = "sample rates: 1 at 8000 Hz, 3 at 16000 Hz; the standard rate is 16000 Hz"
    assert expected in statistics(timit)["notes"]
    assert expected in capsys.readouterr().err


BAD_PHN = {
    "empty": ("", "empty"),
    "blank": ("\n \n", "empty"),
    "two fields": ("0 400 h#\n400 800\n", "line 2: '400 800', expected: start end phone"),
    "not a number": ("0 4OO h#\n", "line 1: '0 4OO h#', expected: start end phone"),
    "negative": ("-1 400 h#\n", "line 1: '-1 400 h#', expected: start end phone"),
    "thousands of digits": (f"0 {'9' * 5000} h#\n", "expected: start end phone"),
    "unknown phone": ("0 400 h#\n400 800 SH\n", "line 2: unknown phone 'SH', expected one of the 61"),
    "no length": ("0 400 h#\n400 400 sh\n", "line 2: ends at sample 400, expected after its start at 400"),
    "backwards": ("0 400 h#\n800 400 sh\n", "line 2: ends at sample 400, expected after its start at 800"),
    "overlap": ("0 400 h#\n399 800 sh\n", "line 2: starts at sample 399, expected 400 or later"),
    "out of order": ("400 800 sh\n0 400 h#\n", "line 2: starts at sample 0, expected 800 or later"),
    "beyond": ("0 400 h#\n400 2001 sh\n", "line 2: samples 400 to 2001, expected a range within the audio's 1600"),
    "all beyond": (
        "0 1600 h#\n1600 1700 sh\n",
        "line 2: samples 1600 to 1700, expected a range within the audio's 1600",
    ),
    "beyond, not last": ("0 1700 h#\n1500 1600 sh\n", "line 2: samples 1500 to 1600"),
}


@pytest.mark.parametrize("case", BAD_PHN)
def test_bad_phn(timit: Path, phn: Path, case: str) -> None:
    text, expected = BAD_PHN[case]
    phn.write_text(text)
    refused(timit, str(phn), expected)


def test_no_phn(timit: Path, phn: Path) -> None:
    phn.unlink()
    refused(timit, str(phn), "no such file")


def test_binary_phn(timit: Path, phn: Path) -> None:
    phn.write_bytes(b"0 400 h\xff\n")
    refused(timit, str(phn), "not readable as UTF-8")


def test_gaps_between_phones_are_kept(phn: Path) -> None:
    phn.write_text("10 400 h#\n410 800 sh\n\n")
    assert read_phn(phn, NUM_SAMPLES) == ([PhoneSegment(10, 400, "h#"), PhoneSegment(410, 800, "sh")], 0)


def test_a_last_phone_just_beyond_the_audio_is_cut_and_counted(timit: Path, phn: Path) -> None:
    phn.write_text("0 400 h#\n400 2000 sh\n")
    assert read_phn(phn, NUM_SAMPLES) == ([PhoneSegment(0, 400, "h#"), PhoneSegment(400, 1600, "sh")], 400)
    assert prepare(timit)["train"][0].phone_times_s == ((0.0, 0.025), (0.025, 0.1))
    assert "1 utterances with a last phone beyond the audio, cut at its end" in statistics(timit)["notes"]


def test_words_come_from_the_sentence_without_a_wrd(timit: Path, wav: Path) -> None:
    wav.with_suffix(".WRD").unlink()
    assert prepare(timit)["train"][0].words == "she had don't ask me"
    assert not any("without words" in note for note in statistics(timit)["notes"])


@pytest.mark.parametrize("content", [None, "", "0 400\n"])
def test_utterances_without_words_are_counted(timit: Path, wav: Path, content: str | None) -> None:
    for ending in (".WRD", ".TXT"):
        wav.with_suffix(ending).unlink()
        if content is not None:
            wav.with_suffix(ending).write_text(content)
    assert prepare(timit)["train"][0].words == ""
    assert "1 utterances without words (no usable .WRD or .TXT)" in statistics(timit)["notes"]


def test_a_name_in_both_cases(timit: Path, wav: Path) -> None:
    riff(wav.with_name("sx7.wav"))
    refused(timit, "sx7.wav", "differs from SX7.WAV only in case", "expected one of them")


@pytest.mark.parametrize("place", ["TRAIN/DR2/FCJF0", "TEST/DR1/FCJF0", "TEST/DR1/fcjf0"])
def test_a_speaker_in_two_folders(timit: Path, wav: Path, place: str) -> None:
    (timit / place).mkdir(parents=True)
    for path in wav.parent.glob("SX7.*"):
        (timit / place / path.name).write_bytes(path.read_bytes())
    refused(timit, place, "speaker FCJF0", str(wav.parent), "expected one folder")


@pytest.mark.parametrize("place", ["TRAIN/DR9", "TRAIN/DR1/JOHN"])
def test_an_unknown_folder(timit: Path, place: str) -> None:
    (timit / place).mkdir()
    refused(timit, place, "unknown folder")


def test_no_dev_speaker(timit: Path) -> None:
    (timit / "TEST/DR4/FADG0/SX7.WAV").parent.rename(timit / "TEST/DR4/FABC0")
    refused(timit, "split dev has 0 utterances")


def test_jobs_below_one(timit: Path) -> None:
    with pytest.raises(InputError, match="jobs: 0, expected at least 1"):
        prepare(timit, jobs=0)


@pytest.mark.slow
def test_the_synthetic_corpus_has_timits_layout(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")
    make_synthetic_timit(tmp_path / "TIMIT", train=2, test=75)
    splits = prepare(tmp_path / "TIMIT")
    found = {name: (len(split), len({u.speaker for u in split})) for name, split in splits.items()}
    assert found == {"train": (16, 2), "dev": (400, 50), "test": (192, 24), "fulltest": (600, 75)}


@pytest.mark.slow
def test_the_synthetic_corpus_has_timits_size(tmp_path: Path) -> None:
    make_synthetic_timit(tmp_path / "TIMIT")
    prepare(tmp_path / "TIMIT")
    assert len(list((tmp_path / "TIMIT").rglob("*.WAV"))) == 4620 + 1680
    notes = statistics(tmp_path / "TIMIT")["notes"]  # other sentences than TIMIT's have other numbers of phones
    assert [note.split(" phones to score, ")[1] for note in notes] == [
        f"the standard split has {count}" for count in (15057, 7215)
    ]
    splits = statistics(tmp_path / "TIMIT")["splits"]
    assert {name: split["utterances"] for name, split in splits.items()} == {
        "train": 3696,
        "dev": 400,
        "test": 192,
        "fulltest": 1344,
    }
