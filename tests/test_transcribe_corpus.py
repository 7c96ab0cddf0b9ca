"""Manifests and shards to transcripts: result files, what is done already, and what cannot be used."""

import gzip
import hashlib
import json
import multiprocessing
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

from asr.cli import alignment, evaluation, transcribe
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.shard_writer import ShardOptions, write_shards
from asr.corpus.shards import INDEX, Shards
from asr.corpus.tar_members import list_members
from asr.errors import InputError
from asr.inference import sources, write_transcripts
from asr.inference.catalog import find_model
from asr.inference.evaluate_corpus import EvaluationRequest, evaluate_corpus
from asr.inference.recognizer import Recognizer, load
from asr.inference.result_files import (
    DoneList,
    ErrorsFile,
    Problem,
    UnitResult,
    digest_folder,
    lock_output,
    read_errors,
    write_result,
)
from asr.inference.sources import UnitReader
from asr.inference.units import run_here
from asr.inference.write_transcripts import Job
from asr.scoring.results import read_json
from tests.conftest import settings

MODEL = "speechocean762-small"


@pytest.fixture
def manifest(tone_corpus: Path) -> Path:
    """12 utterances of tones."""
    return tone_corpus / "cuts_train.jsonl.gz"


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "UNIT_UTTERANCES", 5)


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(transcribe.commands, ["--model", MODEL, *map(str, arguments)])
    error = f"{result.stderr}{result.exception or ''}" if isinstance(result.exception, InputError) else result.stderr
    return result.exit_code, result.stdout, error


def read_lines(manifest: Path) -> list[str]:
    return gzip.decompress(manifest.read_bytes()).decode().splitlines()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_run_has_a_file_of_each_format(manifest: Path, tmp_path: Path) -> None:
    status, output, _ = run(manifest, "--out", tmp_path, *("--format", "text", "--format", "json", "--format", "ctm"))
    assert (status, output) == (0, f"12 utterances -> {tmp_path}\n")
    endings = [f"cuts_train.00000{number}.{suffix}" for number in range(3) for suffix in ("ctm", "jsonl", "txt")]
    assert names(tmp_path) == sorted([*endings, "done.jsonl"])
    utterances = read_manifest(manifest)
    recognizer = load(find_model(MODEL))
    expected = recognizer.transcribe_batch([utterance.audio_path for utterance in utterances])
    texts = "".join((tmp_path / f"cuts_train.00000{number}.txt").read_text() for number in range(3)).splitlines()
    assert texts == [f"{u.id}\t{' '.join(t.symbols)}" for u, t in zip(utterances, expected, strict=True)]
    first = json.loads((tmp_path / "cuts_train.000000.jsonl").read_text().splitlines()[0])
    assert (first["id"], [phone["symbol"] for phone in first["phones"]]) == (utterances[0].id, expected[0].symbols)
    assert first["duration_s"] == pytest.approx(utterances[0].duration_s)
    lines = [line.split() for number in range(3) for line in (tmp_path / f"cuts_train.00000{number}.ctm").open()]
    phones = [(u.id, "1", phone) for u, t in zip(utterances, expected, strict=True) for phone in t.symbols]
    assert [(name, channel, phone) for name, channel, _, _, phone, _ in lines] == phones


def test_what_is_done_is_kept_and_what_is_lost_or_cut_off_is_done_again(manifest: Path, tmp_path: Path) -> None:
    run(manifest, "--out", tmp_path)
    files = [tmp_path / f"cuts_train.00000{number}.txt" for number in range(3)]
    wanted = [file.read_bytes() for file in files]
    times = files[0].stat().st_mtime_ns
    files[1].unlink()
    files[2].write_bytes(wanted[2][:-3])
    (tmp_path / "old.host.1.2.unit.partial").touch()
    with (tmp_path / "done.jsonl").open("a") as done:
        done.write('{"unit": 0, "utt')  # a command was killed here
    status, output, errors = run(manifest, "--out", tmp_path)
    assert (status, output) == (0, f"12 utterances -> {tmp_path}\n")
    assert f"{tmp_path}: 1 units are done already, going on" in errors
    assert [file.read_bytes() for file in files] == wanted
    assert files[0].stat().st_mtime_ns == times
    assert names(tmp_path) == sorted([*(file.name for file in files), "done.jsonl"])
    units = [json.loads(line)["unit"] for line in (tmp_path / "done.jsonl").read_text().splitlines()[1:]]
    assert sorted(units) == [0, 1, 2]


def test_the_results_of_another_request_are_refused_or_replaced(manifest: Path, tmp_path: Path) -> None:
    run(manifest, "--out", tmp_path)
    status, _, error = run(manifest, "--out", tmp_path, "--notation", "ipa")
    assert status == 1
    assert (
        f"{tmp_path}: results of another request (notation), expected a new folder, or --force to replace them" in error
    )
    before = (tmp_path / "cuts_train.000000.txt").read_text()
    assert run(manifest, "--out", tmp_path, "--notation", "ipa", "--force")[0] == 0
    assert (tmp_path / "cuts_train.000000.txt").read_text() != before


def hold_lock(out: Path, held: object, release: object) -> None:
    with lock_output(out):
        held.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["manifest", "files"])
def test_a_second_command_for_the_same_folder_is_refused(kind: str, manifest: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold_lock, args=(tmp_path, held, release))
    process.start()
    held.wait()
    given = manifest if kind == "manifest" else read_manifest(manifest)[0].audio_path
    status, _, error = run(given, "--out", tmp_path)
    release.set()
    process.join()
    assert status == 1
    assert f"in use by process {process.pid}, expected that process to end first" in error
    assert names(tmp_path) == []
    assert run(given, "--out", tmp_path)[0] == 0


def test_what_cannot_be_used_is_in_a_table(tone_corpus: Path, tmp_path: Path) -> None:
    """A file is missing, and one is no audio. They are tried again, and the table follows."""
    utterances = read_manifest(tone_corpus / "cuts_train.jsonl.gz")
    write_corpus(tmp_path, {"test": utterances}, {})
    lines = read_lines(tmp_path / "cuts_test.jsonl.gz")
    bad = {1: tmp_path / "missing.wav", 11: tmp_path / "broken.wav"}
    bad[11].write_bytes(b"no audio")
    for index, path in bad.items():
        lines[index] = lines[index].replace(str(utterances[index].audio_path), str(path))
    manifest, out = tmp_path / "some.jsonl", tmp_path / "out"
    manifest.write_text("\n".join(lines) + "\n")
    status, output, _ = run(manifest, "--out", out)
    assert (status, output) == (1, f"10 utterances -> {out}\nleft out: 2 -> {out / 'errors.tsv'}\n")
    found = read_errors(out)
    assert [problem[:3] for problem in found] == [
        (utterances[index].id, str(path), "audio that cannot be used") for index, path in bad.items()
    ]
    assert "no such file, expected an audio file" in found[0].detail
    written = "".join(path.read_text() for path in sorted(out.glob("*.txt")))
    assert [line.split("\t")[0] for line in written.splitlines()] == [
        utterance.id for index, utterance in enumerate(utterances) if index not in bad
    ]
    assert run(manifest, "--out", out)[0] == 1
    assert read_errors(out) == found


def test_cuts_need_no_phones(manifest: Path, tmp_path: Path) -> None:
    cuts = [json.loads(line) for line in read_lines(manifest)]
    for cut in cuts:
        cut["supervisions"] = []
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    assert run(bare, "--out", tmp_path / "bare")[0] == 0
    assert run(manifest, "--out", tmp_path / "all")[0] == 0
    for number in range(3):
        text = (tmp_path / "all" / f"cuts_train.00000{number}.txt").read_text()
        assert (tmp_path / "bare" / f"bare.00000{number}.txt").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{manifest}"], "without --out, expected a folder for the transcripts"),
        (
            ["{manifest}", "--out", "{out}", "--format", "phn"],
            "format phn with manifests or shards, expected text",
        ),
        (["{manifest}", "{audio}", "--out", "{out}"], "expected audio alone, or manifests and shards"),
        (["{manifest}", "{manifest}", "--out", "{out}"], "the same result files as"),
        (["{audio}", "--cluster", "local"], "--cluster without --out"),
        (["-", "--out", "{out}", "--cluster", "local"], "--cluster without --out, or with -"),
    ],
)
def test_bad_input_is_one_line(arguments: Sequence[str], message: str, manifest: Path, tmp_path: Path) -> None:
    places = {"manifest": manifest, "out": tmp_path / "out", "audio": read_manifest(manifest)[0].audio_path}
    status, _, error = run(*(argument.format(**places) for argument in arguments))
    assert status == 1
    assert message in error


def test_a_worker_that_writes_to_another_disk_is_found_out(tmp_path: Path) -> None:
    done = DoneList(tmp_path, {})
    with pytest.raises(InputError, match="no x.txt, which a worker wrote, expected a folder that all workers share"):
        done.add(0, UnitResult(files={"x.txt": 3}))
    write_result(tmp_path / "x.txt", b"abc")
    done.add(0, UnitResult(files={"x.txt": 3}, problems=[Problem("a", "b", "c")]))
    done.close()
    assert DoneList(tmp_path, {}).results[0].problems == [("a", "b", "c", "")]


@pytest.mark.parametrize(("stored", "model", "same"), [("running", "none", False), ("none", "utterance", True)])
def test_stored_features_have_digital_silence_as_the_model_expects_it(stored: str, model: str, same: bool) -> None:
    """Running normalization keeps silence out; the others have a quiet frame there, and differ only later."""
    config = settings("experiment=speechocean762").features
    head = {"content": "features", "features": asdict(replace(config, normalization=stored))}
    reader = UnitReader(replace(config, normalization=model), need_phones=False)
    with (
        nullcontext() if same else pytest.raises(InputError, match=f"normalization is '{stored}', expected the model's")
    ):
        reader._check_features(Shards("shards", head, [], ""))


def test_hidden_files_are_no_part_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a")
    before = digest_folder(tmp_path)
    (tmp_path / ".DS_Store").write_text("b")
    assert digest_folder(tmp_path) == before
    (tmp_path / "other.yaml").write_text("b")
    assert digest_folder(tmp_path) != before


def test_a_problem_is_noted_once(tmp_path: Path) -> None:
    """What an earlier command has noted is met again by the one that resumes."""
    problem, other = Problem("u1", "a.wav", "words without phones"), Problem("u2", "a.wav", "words without phones")
    errors = ErrorsFile(tmp_path, [problem])
    for met in (problem, other, other):
        errors.add(met)
    assert read_errors(tmp_path) == errors.problems == [problem, other]


def test_exit_status_2_if_nothing_can_be_used(tone_corpus: Path, tmp_path: Path) -> None:
    lines = read_lines(tone_corpus / "cuts_dev.jsonl.gz")
    manifest = tmp_path / "some.jsonl"
    manifest.write_text("\n".join(line.replace(".wav", ".none") for line in lines) + "\n")
    status, output, _ = run(manifest, "--out", tmp_path / "out")
    assert (status, output.splitlines()[0]) == (2, f"0 utterances -> {tmp_path / 'out'}")


def test_lines_end_at_line_feeds_alone(tone_corpus: Path, tmp_path: Path) -> None:
    """An id may have what Unicode calls a line separator; it is found again when a command resumes."""
    utterances = [replace(one, id=f"{one.id}\u2028\x85") for one in read_manifest(tone_corpus / "cuts_dev.jsonl.gz")]
    write_corpus(tmp_path, {"test": utterances}, {})
    status, _, error = evaluate(tmp_path / "cuts_test.jsonl.gz", tmp_path / "out")
    assert status == 0, error
    assert read_json(tmp_path / "out.json").headline.utterances[0].id == utterances[0].id
    (tmp_path / "list").mkdir()
    done = DoneList(tmp_path / "list", {"a": "b"})
    done.add(0, UnitResult(1, unusual=[utterances[0].id], problems=[Problem(utterances[0].id, "a.wav", "x")]))
    done.close()
    assert DoneList(tmp_path / "list", {"a": "b"}).results == done.results


def test_workers_compute_in_the_precision_that_is_reported(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto is decided by the command, not by each worker's processor."""
    given: list[EvaluationRequest] = []

    def somewhere_else(make: Any, units: Any, total: int) -> Generator[Any]:
        given.append(make.args[0])
        return run_here(make, units, total)

    result = evaluate_corpus(EvaluationRequest(find_model(MODEL), str(manifest)), run=somewhere_else)
    assert given[0].precision in ("float32", "bfloat16")
    assert result.precision == given[0].precision


# Shards.


@pytest.fixture
def shards(manifest: Path, tmp_path: Path) -> Path:
    write_shards(manifest, tmp_path / "shards", ShardOptions(shard_utterances=5))
    return tmp_path / "shards"


def test_shards_have_the_transcripts_of_their_manifest(manifest: Path, shards: Path, tmp_path: Path) -> None:
    assert run(manifest, "--out", tmp_path / "a")[0] == 0
    assert run(shards, "--out", tmp_path / "b")[0] == 0
    for number in range(3):
        text = (tmp_path / "a" / f"cuts_train.00000{number}.txt").read_text()
        assert (tmp_path / "b" / f"shards.00000{number}.txt").read_text() == text


def test_a_bad_shard_ends_the_command_or_is_named(shards: Path, tmp_path: Path) -> None:
    data = sorted(shards.glob("recording.*.tar"))[1]
    whole = data.read_bytes()
    data.write_bytes(whole[:1000] + b"x" + whole[1001:])
    status, _, error = run(shards, "--out", tmp_path / "out")
    assert status == 1
    assert "recording.000001.tar: SHA-256" in error
    assert "shards.000000.txt" in names(tmp_path / "out")
    status, output, error = run(shards, "--out", tmp_path / "out", "--skip-bad")
    assert (status, output.splitlines()[0]) == (1, f"7 utterances -> {tmp_path / 'out'}")
    assert "skipped, 1 so far" in error
    assert [problem[:3] for problem in read_errors(tmp_path / "out")] == [("shards.000001", str(shards), "bad shard")]
    data.write_bytes(whole)
    assert run(shards, "--out", tmp_path / "out")[:2] == (0, f"12 utterances -> {tmp_path / 'out'}\n")
    assert names(tmp_path / "out") == ["done.jsonl", *(f"shards.00000{number}.txt" for number in range(3))]


def test_shards_have_the_error_rates_of_their_manifest(manifest: Path, shards: Path, tmp_path: Path) -> None:
    written = []
    for given in (manifest, shards):
        arguments = ["evaluate", MODEL, str(given), "--json", str(tmp_path / "per.json"), "--precision", "float32"]
        result = CliRunner().invoke(evaluation.commands, arguments)
        assert result.exit_code == 0, result.output
        written.append(json.loads((tmp_path / "per.json").read_text()))
    assert written[0] == written[1]


def evaluate(given: Path, out: Path, *options: str) -> tuple[int, str, str]:
    arguments = ["evaluate", MODEL, str(given), "--json", str(out.with_suffix(".json")), "--out", str(out), *options]
    result = CliRunner().invoke(evaluation.commands, arguments)
    return result.exit_code, result.stdout, f"{result.stderr}{result.exception or ''}"


@pytest.mark.parametrize("kind", ["manifest", "missing file", "shards"])
def test_an_evaluation_without_what_cannot_be_used(kind: str, tone_corpus: Path, tmp_path: Path) -> None:
    """Named, counted, and the others have the scores that they have without it; nothing is left out unasked."""
    utterances = []
    for one in read_manifest(tone_corpus / "cuts_train.jsonl.gz"):
        utterances.append(replace(one, audio_path=tmp_path / one.audio_path.name))
        utterances[-1].audio_path.write_bytes(one.audio_path.read_bytes())
    write_corpus(tmp_path, {"test": utterances, "dev": utterances[:5] + utterances[6:], "train": utterances[5:6]}, {})
    good, given, alone = (tmp_path / f"cuts_{split}.jsonl.gz" for split in ("dev", "test", "train"))
    if kind == "shards":
        for split in ("test", "train"):
            write_shards(tmp_path / f"cuts_{split}.jsonl.gz", tmp_path / split, ShardOptions(shard_utterances=5))
            spoil_audio(tmp_path / split, utterances[5].id)
        given, alone = tmp_path / "test", tmp_path / "train"
    elif kind == "missing file":
        utterances[5].audio_path.unlink()
    else:
        utterances[5].audio_path.write_bytes(b"no audio")
    assert evaluate(good, tmp_path / "good")[0] == 0
    status, _, error = evaluate(given, tmp_path / "out")
    message = f"{utterances[5].audio_path} is missing" if kind == "missing file" else "not readable as audio"
    assert (status, error.count(message)) == (1, 1)
    status, output, error = evaluate(given, tmp_path / "out", "--skip-bad")
    assert (status, output.splitlines()[1]) == (1, "without 1 utterances, whose audio cannot be used"), error
    assert f"asr: {utterances[5].id}: " in error
    assert error.count("left out, 1 so far") == 1
    assert [problem.id for problem in read_errors(tmp_path / "out")] == [utterances[5].id]
    figures = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("good", "out")]
    assert [one.pop("left_out") for one in figures] == [0, 1]
    assert figures[0] == figures[1]
    assert read_json(tmp_path / "out.json").left_out == 1
    status, _, error = evaluate(given, tmp_path / "out")
    assert status == 1
    assert (message if kind == "missing file" else f"evaluated without {utterances[5].id} (") in error
    status, _, error = evaluate(alone, tmp_path / "alone", "--skip-bad")
    assert "no utterance whose audio can be used" in error
    if kind == "shards":
        (alone / "recording.000000.tar").unlink()
        status, _, error = evaluate(alone, tmp_path / "no shard", "--skip-bad")
        assert "no utterance whose audio can be used" in error


def spoil_audio(shards: Path, utterance_id: str) -> None:
    """Replace the audio of an utterance in shards by other bytes, with the checksums that they then have."""
    index = [json.loads(line) for line in (shards / INDEX).read_text().splitlines()]
    for number, line in enumerate(index[1:]):
        path = shards / f"recording.{number:06}.tar"
        for name, member in list(list_members(path)):
            if name.rpartition(".")[0] == utterance_id and not name.endswith(".json"):
                content = bytearray(path.read_bytes())
                _, offset, size = member.path.name.rsplit(":", 2)
                content[int(offset) : int(offset) + int(size)] = b"x" * int(size)
                path.write_bytes(content)
                line["data"] = [len(content), hashlib.sha256(content).hexdigest()]
    (shards / INDEX).write_text("".join(json.dumps(line) + "\n" for line in index))


def test_bad_shards_are_not_aligned(real_utterances: list[Utterance], tmp_path: Path) -> None:
    write_corpus(tmp_path, {"test": real_utterances[:7]}, {})
    write_shards(tmp_path / "cuts_test.jsonl.gz", tmp_path / "shards", ShardOptions(shard_utterances=4))
    (tmp_path / "shards/recording.000001.tar").unlink()
    arguments = ["align", MODEL, str(tmp_path / "shards"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(alignment.commands, arguments)
    assert "recording.000001.tar: not readable" in str(result.exception)
    result = CliRunner().invoke(alignment.commands, [*arguments, "--skip-bad"])
    assert result.exit_code == 1, result.output
    assert "recording.000001.tar: not readable" in result.stderr
    assert [problem[:3] for problem in read_errors(tmp_path / "out")] == [
        ("shards.000001", str(tmp_path / "shards"), "bad shard")
    ]
    assert (tmp_path / "out/shards.000000.tar").is_file()
    result = CliRunner().invoke(
        alignment.commands, ["align", MODEL, str(tmp_path / "none.wav"), "--phones", "AH", "--skip-bad"]
    )
    assert "a single file with --force, --jobs, --cluster or --skip-bad" in str(result.exception)


def test_shards_of_which_nothing_can_be_aligned(tone_corpus: Path, tmp_path: Path) -> None:
    """More phones than a recording has frames for: they are no aligned utterances."""
    utterances = [replace(one, phones=one.phones * 100) for one in read_manifest(tone_corpus / "cuts_dev.jsonl.gz")]
    write_corpus(tmp_path, {"test": utterances}, {})
    write_shards(tmp_path / "cuts_test.jsonl.gz", tmp_path / "shards", ShardOptions(shard_utterances=2))
    arguments = ["align", MODEL, str(tmp_path / "shards"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(alignment.commands, arguments)
    assert (result.exit_code, result.stdout.splitlines()[0][:25]) == (2, "0 shards, 0 utterances, 0")


def test_shards_are_aligned(real_utterances: list[Utterance], tmp_path: Path) -> None:
    """A tar file of the TextGrids that a manifest has in a folder."""
    write_corpus(tmp_path, {"test": real_utterances[:7]}, {})
    write_shards(tmp_path / "cuts_test.jsonl.gz", tmp_path / "shards", ShardOptions(shard_utterances=4))
    for given, out in ((tmp_path / "cuts_test.jsonl.gz", "folder"), (tmp_path / "shards", "tars")):
        arguments = ["align", MODEL, str(given), "--out", str(tmp_path / out)]
        assert CliRunner().invoke(alignment.commands, arguments).exit_code in (0, 1)
    members: dict[str, str] = {}
    for path in sorted((tmp_path / "tars").glob("shards.*.tar")):
        members |= dict(read_tar(path))
    grids = {path.stem: path.read_text() for path in (tmp_path / "folder").rglob("*.TextGrid")}
    assert len(grids) >= 5
    aligned = {utterance.id: grids.get(utterance.audio_path.stem) for utterance in real_utterances[:7]}
    assert members == {f"{name}.TextGrid": grid for name, grid in aligned.items() if grid is not None}


def read_tar(path: Path) -> Iterator[tuple[str, str]]:
    import tarfile

    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            yield member.name, file.read().decode()


# Files.


def test_a_file_that_is_added_changes_no_other_result(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit is recognized as a whole, and only what is lacking is written; what could not be used is tried alone."""
    tried: list[int] = []
    monkeypatch.setattr(write_transcripts, "UNIT_FILES", 3)
    original = write_transcripts.transcribe

    def count(recognizer: Recognizer, unit: Sequence[Job], read: Any) -> Any:
        tried.append(len(unit))
        return original(recognizer, unit, read)

    monkeypatch.setattr(write_transcripts, "transcribe", count)
    audio, out = tmp_path / "audio", tmp_path / "out"
    audio.mkdir()
    for utterance in read_manifest(tone_corpus / "cuts_train.jsonl.gz")[:6]:
        (audio / utterance.audio_path.name).symlink_to(utterance.audio_path)
    (audio / "a-1.wav").unlink()
    (audio / "0.wav").write_bytes(b"no audio")
    assert run(audio, "--out", out)[0] == 1
    assert sorted(tried) == [3, 3]
    (out / "a-0.txt").write_text("mine")
    tried.clear()
    assert run(audio, "--out", out)[0] == 1
    assert tried == [1], "the file that is no audio"
    (out / "a-3.txt").unlink()
    tried.clear()
    assert run(audio, "--out", out)[0] == 1
    assert sorted(tried) == [1, 3]
    assert (out / "a-0.txt").read_text() == "mine"
    assert [problem.id for problem in read_errors(out)] == [str(audio / "0.wav")]
    (audio / "0.wav").unlink()
    soundfile.write(audio / "0.wav", soundfile.read(audio / "a-0.wav")[0], 16000)
    assert run(audio, "--out", out)[0] == 0
    assert not (out / "errors.tsv").exists()
    assert os.listdir(out).count("0.txt") == 1
