from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.errors import InputError
from data_prep.made import prepare_made
from data_prep.readers import draw_voice
from data_prep.spreading import in_processes, record_elsewhere

pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")

LEXICON = "THE DH AH0\nCAT K AE1 T\nSAT S AE1 T\nSAT S AO1 T\nIT'S IH1 T S\n"
PHONES = {"THE": ["DH", "AH"], "CAT": ["K", "AE", "T"], "SAT": ["S", "AE", "T"], "IT'S": ["IH", "T", "S"]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest of three sentences and a lexicon."""
    folder = tmp_path_factory.mktemp("source")
    soundfile.write(folder / "a.wav", np.full(16000, 0.1), 16000)
    texts = ["THE CAT SAT", "IT'S THE CAT", "SAT SAT"]
    utterances = [
        Utterance(f"u{i}", folder / "a.wav", 16000, 1.0, "s", ("K", "AE", "T"), text) for i, text in enumerate(texts)
    ]
    write_corpus(folder, {"train": utterances}, {})
    (folder / "lexicon.txt").write_text(LEXICON)
    return folder


def make(
    source: Path, out: Path, speakers: int = 4, utterances: int = 5, seed: int = 1, jobs: int = 2
) -> list[Utterance]:
    prepare_made(
        source / "cuts_train.jsonl.gz", source / "lexicon.txt", out, speakers, utterances, seed, in_processes(jobs)
    )
    return read_manifest(out / "cuts_train.jsonl.gz")


@pytest.fixture(scope="module")
def corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return make(source, tmp_path_factory.mktemp("made") / "out", speakers=8, utterances=10)


def test_the_phones_are_the_lexicons(corpus: list[Utterance]) -> None:
    assert len(corpus) == 80
    for utterance in corpus:
        assert list(utterance.phones) == [phone for word in utterance.words.split() for phone in PHONES[word]]
    assert {word for utterance in corpus for word in utterance.words.split()} == PHONES.keys()


def test_sentences_are_old_and_new(corpus: list[Utterance]) -> None:
    texts = [utterance.words for utterance in corpus]
    assert "THE CAT SAT" in texts
    assert len(set(texts)) > 40


def test_audio_agrees_with_the_manifest_and_has_silence_at_both_ends(corpus: list[Utterance]) -> None:
    for utterance in corpus:
        samples, rate_hz = soundfile.read(utterance.audio_path)
        assert (rate_hz, len(samples) / rate_hz) == (16000, utterance.duration_s)
        assert 0.1 < np.abs(samples).max() < 1
        power = np.convolve(samples**2, np.ones(800) / 800, "valid")
        assert power[0] < 0.1 * power.max()
        assert power[-1] < 0.1 * power.max()


def test_half_of_the_voices_are_childrens() -> None:
    kinds = [draw_voice(index, 1)[0] for index in range(200)]
    assert 70 < kinds.count("child") < 130
    assert min(kinds.count("female"), kinds.count("male")) > 25
    assert len({draw_voice(index, 1)[1] for index in range(200)}) == 200


def test_same_seed_same_bytes_whatever_the_jobs(source: Path, tmp_path: Path) -> None:
    first, second = make(source, tmp_path / "a", jobs=1), make(source, tmp_path / "b", jobs=3)
    assert [u.words for u in first] == [u.words for u in second]
    assert [u.audio_path.read_bytes() for u in first] == [u.audio_path.read_bytes() for u in second]
    assert [u.words for u in make(source, tmp_path / "c", seed=2)] != [u.words for u in first]


@pytest.mark.parametrize(
    ("lexicon", "message"),
    [
        (LEXICON.replace("CAT", "DOG"), "word 'CAT' is not in .*lexicon.txt"),
        ("THE DH AH0\nCAT K XX1 T\n", "line 2: unknown phone 'XX1'"),
        ("THE DH AH0\nCAT\n", "line 2: no phones"),
        ("", "0 words"),
    ],
)
def test_a_lexicon_that_does_not_fit_is_refused(source: Path, tmp_path: Path, lexicon: str, message: str) -> None:
    (tmp_path / "lexicon.txt").write_text(lexicon)
    with pytest.raises(InputError, match=message):
        prepare_made(
            source / "cuts_train.jsonl.gz", tmp_path / "lexicon.txt", tmp_path / "out", 1, 1, 1, in_processes(1)
        )
    assert not (tmp_path / "out").exists()


def test_utterances_without_words_are_no_sentences(source: Path, tmp_path: Path) -> None:
    first, *others = read_manifest(source / "cuts_train.jsonl.gz")
    others = [replace(utterance, words="") for utterance in others]
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    write_corpus(tmp_path, {"train": [first, *others]}, {})
    assert all(utterance.words for utterance in make(tmp_path, tmp_path / "out", 2, 6))
    write_corpus(tmp_path, {"train": others}, {})
    with pytest.raises(InputError, match=r"cuts_train.jsonl.gz: 0 words, expected sentences"):
        make(tmp_path, tmp_path / "none")


def test_numbers_and_folders_that_cannot_be_used_are_refused(source: Path, tmp_path: Path) -> None:
    for numbers, message in (
        ((0, 1, 1, 1), "speakers is 0"),
        ((1, 0, 1, 1), "utterances is 0"),
        ((1, 1, -1, 1), "seed is -1"),
        ((1, 1, 1, 0), "jobs is 0"),
    ):
        with pytest.raises(InputError, match=message):
            make(source, tmp_path / "out", *numbers)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="expected a new or an empty folder"):
        make(source, tmp_path / "out")
    with pytest.raises(InputError, match="cannot be written"):
        make(source, tmp_path / "out" / "mine" / "deeper")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_recordings_that_this_machine_does_not_see_are_named(source: Path, tmp_path: Path) -> None:
    def elsewhere(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Generator[tuple[Any, Any]]:
        for task in tasks:
            yield task, [(Path("/none/0.flac"), 16000)] * 5

    files = source / "cuts_train.jsonl.gz", source / "lexicon.txt"
    with pytest.raises(InputError, match=r"^/none/0\.flac: written, but not seen on this machine"):
        prepare_made(*files, tmp_path / "out", 2, 5, 1, elsewhere)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("no babble.flac")])
def test_what_fails_on_another_machine_is_one_line(error: Exception) -> None:
    def fail(_: object) -> None:
        raise error

    with pytest.raises(
        InputError, match=r"^/out/a: cannot be recorded \(.*(No space|no babble).*\), expected a folder"
    ):
        record_elsewhere(fail, SimpleNamespace(folder=Path("/out/a")))
