"""Pronunciations of a manifest chosen by alignment: a bundled model on synthetic speech."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.errors import InputError
from asr.inference.realign import Realigned, realign
from asr.inference.recognizer import Recognizer
from tests.test_align_corpus import LEXICON, MODEL, Find, find, lexicon, made, recognizer, run

__all__ = ["find", "lexicon", "made", "recognizer"]


def test_realign_takes_the_uttered_pronunciations(made: list[Utterance], tmp_path: Path) -> None:
    wrong = {"THE": "DH UW", "MY": "M IY", "CAT": "K OW T"}
    lines = [*LEXICON.splitlines(), *(f"{word} {phones}" for word, phones in wrong.items())]
    lines = [line for line in lines if line.split()[0] not in ("SCHOOL", "A")] + ["A AH0"]
    (tmp_path / "lexicon.txt").write_text("\n".join(lines))
    spoiled = []
    for utterance in made:
        phones = tuple(" ".join(utterance.phones).replace("M AY", "M IY").split())
        spoiled.append(replace(utterance, phones=phones, phone_times_s=None, details={"note": "ü"}))
    write_corpus(tmp_path, {"train": spoiled}, {})
    out = tmp_path / "new" / "cuts_train.jsonl.gz"
    status, output, _ = run(
        "realign", MODEL, tmp_path / "cuts_train.jsonl.gz", out, "--lexicon", tmp_path / "lexicon.txt"
    )
    assert status == 0, output
    before, after = read_manifest(tmp_path / "cuts_train.jsonl.gz"), read_manifest(out)
    assert [(u.id, u.words, u.details, u.audio_path) for u in before] == [
        (u.id, u.words, u.details, u.audio_path) for u in after
    ]
    kept = [u for u in made if "SCHOOL" in u.words.split()]
    assert f"kept as they are: {len(kept)} utterances (no pronunciation)" in output
    done = [(old, new) for old, new in zip(made, after, strict=True) if "SCHOOL" not in old.words.split()]
    assert all("M IY AH" not in " ".join(new.phones) for _, new in done)
    right = sum(" ".join(new.phones).count("M AY") == " ".join(old.phones).count("M AY") for old, new in done)
    assert right >= 0.9 * len(done)
    with gzip.open(out, "rt", encoding="utf-8") as file:
        assert json.loads(file.readline())["supervisions"][0]["custom"]["note"] == "ü"


def chosen(
    recognizer: Recognizer, utterances: Sequence[Utterance], find: Find, folder: Path
) -> tuple[list[Utterance], Realigned]:
    """Realign a manifest of these utterances."""
    write_corpus(folder, {"train": utterances}, {})
    report = realign(recognizer, folder / "cuts_train.jsonl.gz", folder / "new.jsonl.gz", find)
    return read_manifest(folder / "new.jsonl.gz"), report


def test_pronunciations_with_unknown_phones_are_passed_over(
    recognizer: Recognizer, made: list[Utterance], find: Find, tmp_path: Path
) -> None:
    """Another pronunciation is taken; an utterance with a word that has none keeps its phones."""

    def with_unknown(word: str) -> tuple[tuple[str, ...], ...]:
        return (("Ø", "T"),) if word == "SCHOOL" else (("Ø",), *find(word), ("K", "Ø"))

    kept = [u for u in made if "SCHOOL" in u.words.split()]
    assert 0 < len(kept) < len(made)
    found, report = chosen(recognizer, made, with_unknown, tmp_path / "with")
    without, _ = chosen(recognizer, made, find, tmp_path / "without")
    for utterance, old, expected in zip(found, made, without, strict=True):
        assert utterance.phones == (old if "SCHOOL" in old.words.split() else expected).phones
    assert report.kept == {"no pronunciation": len(kept)}
    assert report.missing == {"SCHOOL": len(kept)}
    assert report.words == sum(len(u.words.split()) for u in made if u not in kept)


def test_audio_that_cannot_be_used_is_counted(
    recognizer: Recognizer, made: list[Utterance], find: Find, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "zeros.wav", np.zeros(160000), 16000)
    silent = replace(made[1], audio_path=tmp_path / "zeros.wav", phones=("T",), phone_times_s=None)
    found, report = chosen(recognizer, [made[0], silent, made[2]], find, tmp_path / "a")
    others, _ = chosen(recognizer, [made[0], made[2]], find, tmp_path / "b")
    assert report.kept == {"audio that cannot be used": 1}
    assert [each.phones for each in found] == [others[0].phones, ("T",), others[1].phones]


def test_the_name_says_whether_a_manifest_is_compressed(made: list[Utterance], lexicon: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path, {"train": made[:2]}, {})
    contents = []
    for name in ("new.jsonl", "new.jsonl.gz"):
        arguments = ["realign", MODEL, tmp_path / "cuts_train.jsonl.gz", tmp_path / name, "--lexicon", lexicon]
        status, output, error = run(*arguments)
        assert status == 0, (output, error)
        content = (tmp_path / name).read_bytes()
        contents.append(gzip.decompress(content) if name.endswith(".gz") else content)
        assert [each.id for each in read_manifest(tmp_path / name)] == [each.id for each in made[:2]]
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"{")


def test_an_output_that_is_a_folder_is_refused_before_the_work(
    recognizer: Recognizer, made: list[Utterance], find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path, {"train": made[:2]}, {})
    monkeypatch.setattr("asr.inference.realign.compute_log_probs", None)
    with pytest.raises(InputError, match=r"cannot be written \(a folder\)"):
        realign(recognizer, tmp_path / "cuts_train.jsonl.gz", tmp_path, find)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--language", "de"], "language: 'de' without --g2p"),
        ([], "no pronunciations, expected --lexicon or --g2p"),
    ],
)
def test_bad_options_are_one_line(options: list[str], message: str, tmp_path: Path) -> None:
    _, _, error = run("realign", MODEL, tmp_path / "cuts_train.jsonl.gz", tmp_path / "new.jsonl.gz", *options)
    assert isinstance(error, InputError)
    assert message in str(error)
    assert "\n" not in str(error)
