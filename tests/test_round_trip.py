"""A folder of recordings and texts -> tiers -> tiers corrected by hand -> an adapted model, by the commands alone."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from praatio import textgrid
from typer.testing import CliRunner

from asr.cli.app import app
from asr.corpus.manifest import Utterance, read_manifest
from asr.training import adapt
from tests.test_align_corpus import MODEL, folder, lexicon, made, read_tiers

__all__ = ["folder", "lexicon", "made"]

Corrected = Mapping[str, list[tuple[str, float, float]]]


def asr(*arguments: object) -> str:
    """Run a command; returns what it prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def correct(path: Path) -> list[tuple[str, float, float]]:
    """Do what a phonetician does in Praat: move boundaries, change a phone, delete one, insert one and a pause.

    Returns the phones that are left, with their times.
    """
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    phones = [[label, start, end] for start, end, label in grid.getTier("phones").entries]
    middle = (phones[2][1] + phones[2][2]) / 2
    phones[2][1] = phones[1][2] = round(middle, 4)  # the boundary between the second and the third phone
    phones[3][0] = "UW" if phones[3][0] != "UW" else "AA"
    gap = phones.pop(5)
    half = round((gap[1] + gap[2]) / 2, 4)
    phones.insert(5, ["AH", gap[1], half])
    phones.insert(6, ["sil", half, gap[2]])
    entries = [(start, end, label) for label, start, end in phones]
    grid.replaceTier("phones", textgrid.IntervalTier("phones", entries, 0, grid.maxTimestamp))
    grid.save(str(path), "short_textgrid", includeBlankSpaces=True)
    return [(label, start, end) for label, start, end in phones if label != "sil"]


@pytest.fixture(scope="module")
def tiers(folder: Path, lexicon: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corrected]:
    """The tiers of a folder, and by name the phones of those that were corrected."""
    out = tmp_path_factory.mktemp("tiers") / "tiers"
    asr("align", MODEL, folder, "--lexicon", lexicon, "--out", out)
    paths = sorted(out.rglob("*.TextGrid"))
    assert len(paths) == len(list(folder.rglob("*.wav")))
    return out, {path.stem: correct(path) for path in paths[::2]}


def check(utterances: list[Utterance], out: Path, corrected: Corrected, folder: Path) -> None:
    """The manifest has the intervals of the tiers, corrected or not, and the audio and the words of the folder."""
    for utterance in utterances:
        stem = utterance.audio_path.stem
        tier = corrected.get(stem) or read_tiers(out / utterance.speaker / f"{stem}.TextGrid")["phones"]
        assert utterance.phone_times_s is not None
        given = zip(utterance.phones, utterance.phone_times_s, strict=True)
        assert [(label, start, end) for label, (start, end) in given] == [
            (label, pytest.approx(start, abs=1e-9), pytest.approx(end, abs=1e-9)) for label, start, end in tier
        ]
        assert utterance.audio_path == folder / utterance.speaker / f"{stem}.wav"
        assert utterance.words == utterance.audio_path.with_suffix(".lab").read_text()


def test_corrected_tiers_adapt_a_model(
    folder: Path, tiers: tuple[Path, Corrected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "SPEECH_S", 0.0)  # the fewest repetitions
    out, corrected = tiers
    for path in out.rglob("*.TextGrid"):
        if path.stem in corrected:
            target = tmp_path / "corrected" / path.relative_to(out)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    options = ("--tiers", tmp_path / "corrected", "--split", "train", "--jobs", 1)
    printed = asr("prepare", "folder", folder, tmp_path / "data", *options)
    assert f"left out: {len(list(folder.rglob('*.wav'))) - len(corrected)} (audio without text)" in printed
    cuts = tmp_path / "data" / "cuts_train.jsonl.gz"
    utterances = read_manifest(cuts)
    assert {utterance.audio_path.stem for utterance in utterances} == set(corrected)
    check(utterances, out, corrected, folder)
    asr("adapt", MODEL, cuts, "--out", tmp_path / "model")
    before, after = (asr("evaluate", model, cuts).split()[1] for model in (MODEL, tmp_path / "model"))
    assert float(after) < float(before)


def test_tiers_beside_the_audio_are_read_too(folder: Path, tiers: tuple[Path, Corrected], tmp_path: Path) -> None:
    out, corrected = tiers
    corpus = tmp_path / "corpus"
    for path in [*folder.rglob("*.wav"), *folder.rglob("*.lab")]:
        target = corpus / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
        if path.suffix == ".wav":
            target.with_suffix(".TextGrid").write_bytes(
                (out / path.relative_to(folder).with_suffix(".TextGrid")).read_bytes()
            )
    printed = asr("prepare", "auto", corpus, tmp_path / "data", "--split", "train", "--jobs", 1)
    assert f"left out: {len(list(folder.rglob('*.lab')))} (second text of a recording)" in printed
    utterances = read_manifest(tmp_path / "data" / "cuts_train.jsonl.gz")
    assert len(utterances) == len(list(folder.rglob("*.wav")))
    check(utterances, out, corrected, corpus)
