"""The pure parts of the comparison with other systems: units and words to phones, what is scored, the table."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from benchmarks.out_of_domain import (
    EvaluationSet,
    System,
    compare_with_peers,
    markdown_table,
    own_systems,
    read_json_lines,
    read_lines,
    read_set,
    run_system,
    score_system,
    take_evenly,
    to_record,
    unknown_words_lines,
    write_audio,
)
from benchmarks.peers.pocketsphinx_allphone import to_arpabet
from benchmarks.peers.whisper_words import normalize, pronounce

DICTIONARY = {
    "hello": [["HH", "AH0", "L", "OW1"], ["HH", "EH0", "L", "OW1"]],
    "'em": [["AH0", "M"]],
    "a.m.": [["EY2", "EH1", "M"]],
    "twenty": [["T", "W", "EH1", "N", "T", "IY0"]],
    "one": [["W", "AH1", "N"]],
}


def utterance(name: str, speaker: str, phones: str) -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), 16_000, 1.5, speaker, tuple(phones.split()))


TWO = {"00000.wav": utterance("a", "s1", "W AH N"), "00001.wav": utterance("b", "s2", "T UW")}
SET = EvaluationSet("digits dev", tuple(TWO.values()), 5)


def peer(name: str = "Whisper tiny.en and CMUdict") -> System:
    return System(name, [], read_json_lines)


def output(*lines: tuple[str, str, str]) -> str:
    """The JSON lines of a peer: phones, words and unknown words of the files 0, 1, ..."""
    return "".join(
        json.dumps(
            {"file": f"{index:05d}.wav", "phones": phones.split(), "words": words.split(), "unknown": no.split()}
        )
        + "\n"
        for index, (phones, words, no) in enumerate(lines)
    )


# --- PocketSphinx ----------------------------------------------------------------------------------------------------


def test_silence_and_noise_are_no_phones() -> None:
    units = ["SIL", "HH", "AH", "+SPN+", "L", "OW", "SIL", "+NSN+", "ZH", "SIL"]
    assert to_arpabet(units) == ["HH", "AH", "L", "OW", "ZH"]
    assert to_arpabet(["SIL"]) == to_arpabet([]) == []


# --- Whisper ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (' It’s, well... "good"!', "it's well good"),
        ("twenty-one — café/bar", "twenty one cafe bar"),
        ("At 9 a.m., in the U.S. I'm.", "at nine a.m. in the u.s. i'm"),
        ("7", "seven"),
        ("0 10 13 20 42", "zero ten thirteen twenty forty two"),
        ("100 110 999", "one hundred one hundred ten nine hundred ninety nine"),
        ("1,250,000", "one million two hundred fifty thousand"),
        ("2001", "two thousand one"),
        ("007", "zero zero seven"),
        ("3.05 50%.", "three point zero five fifty percent"),
        ("2nd $5 9:30", "2nd $5 9:30"),
        (" . -", ""),
    ],
)
def test_a_transcript_is_split_into_words(text: str, words: str) -> None:
    assert normalize(text) == words.split()


def test_words_get_their_first_pronunciation_without_stress() -> None:
    assert pronounce(["'hello'", "a.m.", "'em"], DICTIONARY) == (
        ["HH", "AH", "L", "OW", "EY", "EH", "M", "AH", "M"],
        [],
    )


def test_unknown_words_are_listed_and_have_no_phones() -> None:
    phones, unknown = pronounce(normalize("Zyx: 21 zyx, $5"), DICTIONARY)
    assert phones == ["T", "W", "EH", "N", "T", "IY", "W", "AH", "N"]
    assert unknown == ["zyx", "zyx", "$5"]


# --- what is measured ------------------------------------------------------------------------------------------------


def test_a_limit_takes_utterances_evenly() -> None:
    ten = [utterance(str(index), "s", "T") for index in range(10)]
    assert [taken.id for taken in take_evenly(ten, 4)] == ["0", "2", "5", "7"]
    assert take_evenly(ten, 11) == take_evenly(ten, None) == ten


def test_a_set_is_named_after_folder_and_split(tone_corpus: Path, tmp_path: Path) -> None:
    found = read_set(tone_corpus / "cuts_dev.jsonl.gz", 1)
    assert found.name == f"{tone_corpus.name} dev"
    assert len(found.utterances) == 1 < found.available
    assert found.audio_s == found.utterances[0].duration_s
    (name,) = write_audio(found.utterances, tmp_path)
    assert (tmp_path / name).is_file()


def test_other_phones_than_arpabet_are_refused(tone_corpus: Path, tmp_path: Path) -> None:
    first = read_set(tone_corpus / "cuts_dev.jsonl.gz", 1).utterances[0]
    timit = Utterance("x", first.audio_path, 16_000, first.duration_s, "s", ("h#", "iy", "h#"))
    write_corpus(tmp_path, {"dev": [timit]}, {})
    with pytest.raises(InputError, match="unknown phone 'h#'"):
        read_set(tmp_path / "cuts_dev.jsonl.gz", None)


def test_systems_read_the_part_of_the_recording_in_16_bits(tmp_path: Path) -> None:
    integers = np.array([-(2**15), 2**15 - 1, 1, -2, 300, 0], dtype=np.int16).repeat(4000)
    soundfile.write(tmp_path / "a.wav", integers, 16_000)
    part = Utterance("a", tmp_path / "a.wav", 16_000, 0.75, "s", ("T",), start_s=0.25)
    assert list(write_audio([part], tmp_path)) == ["00000.wav"]
    written, rate_hz = soundfile.read(tmp_path / "00000.wav", dtype="int16")
    assert rate_hz == 16_000
    np.testing.assert_array_equal(written, integers[4000:16_000])


def test_audio_at_another_rate_is_resampled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(4000, 0.5), 8000)
    write_audio([Utterance("a", tmp_path / "a.wav", 8000, 0.5, "s", ("T",))], tmp_path)
    assert soundfile.info(tmp_path / "00000.wav").frames == 8000
    assert soundfile.info(tmp_path / "00000.wav").samplerate == 16_000


def test_a_model_runs_by_best_path_and_with_its_n_gram(tmp_path: Path) -> None:
    with_ngram, without = tmp_path / "with", tmp_path / "without"
    for model in (with_ngram, without):
        model.mkdir()
    (with_ngram / "decoder.yaml").write_text("beam: 50\n", encoding="utf-8")
    systems = own_systems([with_ngram, without])
    assert [(system.name, system.command[-1]) for system in systems] == [
        (f"{with_ngram}, best path", "best_path"),
        (f"{with_ngram}, n-gram", "beam"),
        (f"{without}, best path", "best_path"),
    ]
    assert read_lines("audio/00000.wav\tW AH N\naudio/00001.wav\t\n") == {
        "00000.wav": (["W", "AH", "N"], (), ()),
        "00001.wav": ([], (), ()),
    }


def test_a_system_that_fails_is_one_line(tmp_path: Path) -> None:
    printed, wall_s, processor_s = run_system(System("x", [sys.executable, "-c", "print(7)"], read_lines), tmp_path)
    assert printed == "7\n"
    assert wall_s > 0
    assert processor_s > 0
    failing = System("x", [sys.executable, "-c", "import sys; sys.exit('no\\nweights')"], read_lines)
    with pytest.raises(InputError, match=r"^x: exit status 1 \(weights\), expected 0$"):
        run_system(failing, tmp_path)
    with pytest.raises(
        InputError, match=r"^x: /no/python cannot be run \(No such file or directory\), expected a Python$"
    ):
        run_system(System("x", ["/no/python"], read_lines), tmp_path)


# --- what is printed -------------------------------------------------------------------------------------------------

RUNS = [
    # W AH N -> W AH M EH: one substitution, one insertion; T UW -> UW: one deletion
    (output(("W AH M EH", "won meh", ""), ("UW", "zyx ooh zyx 2nd", "zyx zyx 2nd")), 9.0, 3.0),
    (output(), 2.0, 1.2),
    (output(), 1.0, 0.5),
]


def test_a_row_has_the_counts_of_the_first_run_and_the_median_times() -> None:
    result = score_system(SET, peer(), TWO, RUNS)
    header, rule, row = markdown_table([result])
    assert header.split(" | ")[2:10] == ["PER, %", "95 % interval", "S", "D", "I", "N", "utterances", "speakers"]
    assert header.count("|") == rule.count("|") == row.count("|") == 13
    # 3 errors in 5 phones; the speakers have 2/3 and 1/2; 3 s of audio in 2 s and in 1.2 s
    assert row == (
        "| digits dev | Whisper tiny.en and CMUdict | 60.00 | 50.00 to 66.67 | 1 | 1 | 1 | 5 | 2 of 5 | 2 | 1.5 | 2.5 |"
    )
    record = to_record(result)
    assert (record["set"], record["wall_s"], record["processor_s"], record["audio_s"]) == ("digits dev", 2.0, 1.2, 3.0)
    assert record["hypotheses"] == {"a": "W AH M EH", "b": "UW"}


def test_unknown_words_are_counted_and_named() -> None:
    results = [score_system(SET, peer(), TWO, RUNS), score_system(SET, peer("x"), TWO, [(output(*PERFECT), 1.0, 1.0)])]
    assert unknown_words_lines(results) == [
        "Whisper tiny.en and CMUdict on digits dev: 3 of 6 words have no phones: zyx (2), 2nd (1)"
    ]


PERFECT = (("W AH N", "", ""), ("T UW", "", ""))


def test_ratios_above_one_mean_that_ours_is_better() -> None:
    ours = score_system(SET, peer("ours"), TWO, [(output(("W AH M", "", ""), ("T UW", "", "")), 0.5, 0.6)])
    other = score_system(SET, peer(), TWO, RUNS)
    name = "digits dev: ours over Whisper tiny.en and CMUdict"
    assert compare_with_peers([ours, other], "ours") == pytest.approx(
        {f"{name}, PER": 3.0, f"{name}, speed": 4.0, f"{name}, speed by processor time": 2.0}
    )
    perfect = score_system(SET, peer("ours"), TWO, [(output(*PERFECT), 0.5, 0.6)])
    assert f"{name}, PER" not in compare_with_peers([perfect, other], "ours")


def test_a_missing_file_or_a_foreign_phone_is_refused() -> None:
    with pytest.raises(InputError, match=r"^x on digits dev: 1 of 2 files missing, expected all$"):
        score_system(SET, peer("x"), TWO, [(output(("W AH N", "", "")), 1.0, 1.0)])
    with pytest.raises(InputError, match="b by x: unknown phone 'SIL'"):
        score_system(SET, peer("x"), TWO, [(output(("W AH N", "", ""), ("SIL", "", "")), 1.0, 1.0)])
