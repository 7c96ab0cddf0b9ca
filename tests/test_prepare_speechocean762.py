import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance, read_manifest
from asr.errors import InputError
from data_prep.checking import read_speakers
from data_prep.speechocean762 import DEV_LIST, prepare_speechocean762

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 1600).astype(np.float32)

# Speaker -> part, age and sex; 0104 is one of the dev speakers.
SPEAKERS = {"0001": ("train", "6", "m"), "0104": ("train", "6", "f"), "0120": ("test", "19", "f")}


def make_corpus(root: Path) -> Path:
    """Three speakers with one utterance each, in the official layout."""
    for name in ("train", "test", "resource"):
        (root / name).mkdir(parents=True)
    for speaker, (part, age, sex) in SPEAKERS.items():
        utterance, folder = f"0{speaker}0011", f"WAVE/SPEAKER{speaker}"
        (root / folder).mkdir(parents=True)
        soundfile.write(root / folder / f"{utterance}.WAV", NOISE, 16000, format="WAV")
        append(root / part / "wav.scp", f"{utterance}\t{folder}/{utterance}.WAV")
        append(root / part / "text", f"{utterance}\tA BEAR")
        append(root / part / "utt2spk", f"{utterance} {speaker}")
        append(root / part / "spk2age", f"{speaker}\t{age}")
        append(root / part / "spk2gender", f"{speaker}\t{sex}")
        append(root / "resource" / "text-phone", f"{utterance}.0\tAH0_S", f"{utterance}.1\tB_B EH1_I R_E")
    return root


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(line + "\n" for line in lines)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "speechocean762")


@pytest.fixture
def wav(corpus: Path) -> Path:
    return corpus / "WAVE/SPEAKER0001/000010011.WAV"


def prepare(source: Path, out: Path) -> dict[str, list[Utterance]]:
    prepare_speechocean762(source, out, 2)
    return {name: read_manifest(out / f"cuts_{name}.jsonl.gz") for name in ("train", "dev", "test")}


def refused(source: Path, *expected: str) -> None:
    """Preparation fails with one line that has all of ``expected``, and writes nothing."""
    out = source.parent / "out"
    with pytest.raises(InputError) as error:
        prepare(source, out)
    message = str(error.value)
    assert "\n" not in message
    for text in expected:
        assert text in message
    assert not out.exists()


@pytest.mark.parametrize("parent", [False, True])
def test_the_official_layout(corpus: Path, tmp_path: Path, parent: bool, capsys: pytest.CaptureFixture[str]) -> None:
    splits = prepare(corpus.parent if parent else corpus, tmp_path / "out")
    assert {name: [utterance.id for utterance in split] for name, split in splits.items()} == {
        "train": ["000010011"],
        "dev": ["001040011"],
        "test": ["001200011"],
    }
    utterance = splits["train"][0]
    assert utterance.phones == ("AH", "B", "EH", "R")
    assert utterance.phone_times_s is None
    assert (utterance.words, utterance.speaker, utterance.sex) == ("A BEAR", "0001", "m")
    assert utterance.details == {"age": "6"}
    assert (utterance.sample_rate_hz, utterance.duration_s) == (16000, 0.1)
    statistics = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert statistics["left_out"] == {}
    assert statistics["notes"] == [
        "split train has 1 utterances of 1 speakers, the standard split has 2240 of 112",
        "split dev has 1 utterances of 1 speakers, the standard split has 260 of 13",
        "split test has 1 utterances of 1 speakers, the standard split has 2500 of 125",
    ]
    assert capsys.readouterr().err == "".join(f"warning: {note}\n" for note in statistics["notes"])


def test_audio_that_no_part_lists_is_counted(corpus: Path, wav: Path, tmp_path: Path) -> None:
    shutil.copy(wav, wav.with_name("000019999.WAV"))
    prepare(corpus, tmp_path / "out")
    statistics = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert statistics["left_out"] == {"audio files in neither train nor test": 1}


def test_other_sample_rates_are_noted(corpus: Path, wav: Path, tmp_path: Path) -> None:
    soundfile.write(wav, NOISE, 8000, format="WAV")
    assert prepare(corpus, tmp_path / "out")["train"][0].duration_s == 0.2
    statistics = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert "sample rates: 1 at 8000 Hz, 2 at 16000 Hz; the standard rate is 16000 Hz" in statistics["notes"]


def test_no_corpus(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "absent: no speechocean762 found", "expected a folder with WAVE, train, test")


def test_missing_audio(corpus: Path, wav: Path) -> None:
    wav.unlink()
    refused(corpus, str(wav), "no such file", "expected an audio file")


def test_bad_audio(corpus: Path, wav: Path) -> None:
    soundfile.write(wav, 0 * NOISE, 16000, format="WAV")
    refused(corpus, str(wav), "all 1600 samples are zero")


@pytest.mark.parametrize("phone", ["<unk>", "SPN", "AX_B", "B_X", "b_B"])
def test_an_unknown_phone(corpus: Path, phone: str) -> None:
    replace(corpus / "resource/text-phone", "B_B", phone)
    refused(corpus, "text-phone: utterance 000010011", f"unknown phone {phone!r}", "expected one of the 39")


def test_a_missing_word(corpus: Path) -> None:
    replace(corpus / "resource/text-phone", "000010011.1\tB_B EH1_I R_E\n", "")
    refused(corpus, "utterance 000010011: 1 words in resource/text-phone, expected the 2 of train/text")


def test_an_utterance_without_phones(corpus: Path) -> None:
    replace(corpus / "resource/text-phone", "000010011.0\tAH0_S\n000010011.1\tB_B EH1_I R_E\n", "")
    refused(corpus, "utterance 000010011: 0 words in resource/text-phone, expected the 2 of train/text")


def test_words_out_of_order(corpus: Path) -> None:
    replace(corpus / "resource/text-phone", "000010011.0", "000010011.2")
    refused(corpus, "utterance 000010011: word 000010011.2, expected 000010011.0")


def test_a_word_without_phones(corpus: Path) -> None:
    replace(corpus / "resource/text-phone", "\tAH0_S", "")
    refused(corpus, "text-phone: line 1: '000010011.0' has no value")


@pytest.mark.parametrize("table", ["wav.scp", "text", "utt2spk"])
def test_an_utterance_that_a_table_lacks(corpus: Path, table: str) -> None:
    path = corpus / "train" / table
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    refused(corpus, f"utterance 000010011: 000010011 is not in train/{table}")


@pytest.mark.parametrize("table", ["spk2age", "spk2gender"])
def test_a_speaker_that_a_table_lacks(corpus: Path, table: str) -> None:
    path = corpus / "train" / table
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    refused(corpus, f"utterance 000010011: 0001 is not in train/{table}")


def test_a_missing_table(corpus: Path) -> None:
    (corpus / "test/utt2spk").unlink()
    refused(corpus, "test/utt2spk: no such file")


def test_an_unknown_gender(corpus: Path) -> None:
    replace(corpus / "train/spk2gender", "m", "x")
    refused(corpus, "utterance 000010011: gender of speaker 0001 is 'x', expected f or m")


def test_an_id_that_occurs_twice(corpus: Path) -> None:
    append(corpus / "train/text", "000010011\tA BEAR")
    refused(corpus, "train/text: line 3: '000010011' occurs twice, expected once")


def test_a_speaker_in_both_parts(corpus: Path) -> None:
    for table in ("wav.scp", "text", "utt2spk", "spk2age", "spk2gender"):
        append(corpus / "test" / table, (corpus / "train" / table).read_text().splitlines()[0])
    refused(corpus, "speaker 0001 is in train and in test, expected in one of them")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real corpus, or the part of it that is stored next to the repository, in the official layout."""
    if "ASR_SPEECHOCEAN762" in os.environ:
        return Path(os.environ["ASR_SPEECHOCEAN762"])
    kept = Path(__file__).parents[2] / "shared" / "corpora" / "speechocean762"
    if not kept.is_dir():
        pytest.skip("NOT TESTED ON REAL SPEECH: set ASR_SPEECHOCEAN762 to the folder of speechocean762")
    root = tmp_path_factory.mktemp("real") / "speechocean762"
    for name in ("train", "test", "resource"):
        shutil.copytree(kept / name, root / name)
    for flac in kept.glob("WAVE/*/*.flac"):  # the content decides the format, so a link with the official name works
        link = (root / flac.relative_to(kept)).with_suffix(".WAV")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(flac)
    return root


@pytest.mark.slow
def test_the_counts_of_the_real_corpus(real: Path, tmp_path: Path) -> None:
    splits = prepare(real, tmp_path / "out")
    official_train = splits["train"] + splits["dev"]
    assert len(official_train) == 2500
    assert len({utterance.speaker for utterance in official_train}) == 125
    assert sum(len(utterance.phones) for utterance in official_train) == 47_076
    assert len({phone for utterance in official_train for phone in utterance.phones}) == 39
    counts = {name: (len(split), len({utterance.speaker for utterance in split})) for name, split in splits.items()}
    assert counts["train"] == (2240, 112)
    assert counts["dev"] == (260, 13)
    assert counts["test"] in [(200, 10), (2500, 125)]  # the part next to the repository, or the whole


def test_the_dev_speakers_follow_the_rule(real: Path) -> None:
    tables = [(real / "train" / name).read_text().splitlines() for name in ("spk2gender", "spk2age")]
    sexes, ages = (dict(line.split() for line in table) for table in tables)
    ordered = sorted(ages, key=lambda speaker: (sexes[speaker], int(ages[speaker]), speaker))
    assert len(ordered) == 125
    middles = {ordered[number] for number in (4, 14, 24, 33, 43, 52, 62, 72, 81, 91, 100, 110, 120)}
    assert read_speakers(DEV_LIST) == middles
    # The rule is meant to balance: 58 of all 125 are 15 or younger, 67 are female.
    assert sum(int(ages[speaker]) <= 15 for speaker in middles) == 6
    assert sum(sexes[speaker] == "f" for speaker in middles) == 7
