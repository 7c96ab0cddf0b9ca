"""The commands as a user types them: their output, and one line and exit status 2 for a mistake."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import app as cli
from asr.cli.compose import compose
from asr.config import to_yaml
from asr.corpus.manifest import read_manifest, write_corpus
from asr.inference.bundle import load_bundle
from asr.scoring.calibration import load_calibration
from tests.conftest import TINY_MODEL, make_utterances

TRAIN = ("experiment=speechocean762", *TINY_MODEL, "trainer.epochs=1", "trainer.trackers=[]")


@dataclass
class Result:
    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def asr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The ``asr`` command, run in this process."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["asr", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def refused(asr: Command) -> Callable[..., None]:
    """Check that a command prints a single line, on stderr, that contains ``message``, and exits with status 2."""

    def check(message: str, *arguments: object) -> None:
        result = asr(*arguments)
        assert result.code == 2, result
        assert len(result.err.strip().splitlines()) == 1, result.err
        assert result.err.startswith("asr: ")
        assert message in result.err
        assert result.out == ""

    return check


@pytest.fixture(scope="module")
def model(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "-m", "asr", "train", *TRAIN, f"corpus.dir={tone_corpus}", f"run_dir={run_dir}"]
    subprocess.run(command, check=True, capture_output=True)
    return run_dir / "model"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "prepare synth",
        "prepare timit",
        "prepare speechocean762",
        "prepare made",
        "prepare voices",
        "adapt",
        "train",
        "evaluate",
        "score",
        "compare",
        "report",
        "evaluate-words",
        "lm",
        "tune-decoder",
        "calibrate",
        "transcribe",
        "align",
        "models",
        "export",
        "import-lstm",
        "explain",
    ],
)
def test_every_command_has_help_with_an_example(asr: Command, command: str) -> None:
    result = asr(*command.split(), "--help")
    assert result.code == 0
    if command:
        assert "Example" in result.out
        assert f"asr {command}" in result.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "synth", "out", "--speaker", "3"),
        ("prepare", "synth", "out", "--speakers", "2"),
        ("prepare", "timit", "source"),
        ("evaluate", "model", "cuts", "--jsonn", "x"),
        ("transcribe", "a.wav", "--format", "xml"),
        ("transcribe",),
        ("learn",),
        ("listen", "--look-ahead-ms", "-5"),
    ],
)
def test_wrong_options_are_refused(asr: Command, arguments: tuple[str, ...]) -> None:
    assert asr(*arguments).code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "english", "cuts", "--threshold", "nan"),
        ("evaluate-words", "english", "cuts", "--lexicon", "words", "--lm", "arpa", "--weight", "nan"),
        ("prepare", "voices", "out", "--hours", "inf"),
        ("serve", "--upload-mb", "nan"),
        ("shard", "cuts", "out", "--retry-seconds", "nan"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(asr: Command, arguments: tuple[str, ...]) -> None:
    result = asr(*arguments)
    assert (result.code, f"{arguments[-1]} is not a finite number" in result.err) == (2, True)


def test_evaluate(asr: Command, model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    result = asr("evaluate", model, tone_corpus / "cuts_test.jsonl.gz", "--json", tmp_path / "per.json")
    assert result.code == 0, result.err
    figures = json.loads((tmp_path / "per.json").read_text())
    errors = figures["substitutions"] + figures["deletions"] + figures["insertions"]
    assert figures["per"] == errors / figures["reference_phones"]
    assert (figures["reference_phones"], figures["utterances"], figures["speakers"]) == (12, 4, 1)
    assert figures["per_speaker"]["e"]["reference_phones"] == 12
    headline, *_, table, speaker = result.out.splitlines()
    counts = f"S {figures['substitutions']} D {figures['deletions']} I {figures['insertions']} N 12"
    assert headline == f"PER {100 * figures['per']:.2f} % (plain): {counts}, 4 utterances, 1 speakers"
    assert table.split() == ["speaker", "PER", "%", "S", "D", "I", "N"]
    assert speaker.split()[0] == "e"
    again = asr("evaluate", model, tone_corpus / "cuts_test.jsonl.gz")
    assert again.out == result.out


def test_figures_of_a_model_of_transcripts_and_of_two_systems(
    asr: Command, model: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    cuts = tone_corpus / "cuts_train.jsonl.gz"
    evaluated = asr("evaluate", model, cuts, "--json", tmp_path / "per.json")
    figures = json.loads((tmp_path / "per.json").read_text())
    for name in ("references", "hypotheses"):
        lines = [f"{one} {phones}\n" for one, phones in figures[name].items()]
        (tmp_path / name).write_text("".join(lines))
    scored = asr("score", tmp_path / "references", tmp_path / "hypotheses", "--json", tmp_path / "again.json")
    assert scored.out == evaluated.out
    assert json.loads((tmp_path / "again.json").read_text()) == figures | {"decoder": None, "precision": None}
    assert len(figures["interval"]) == 2

    for command in (["compare", tmp_path / "per.json", tmp_path / "again.json"], ["compare", model, model, cuts]):
        compared = asr(*command)
        assert compared.out.splitlines()[2].startswith("difference +0.00 points, 95 % interval +0.00 to +0.00")


def test_reports_of_a_model_and_of_runs(asr: Command, model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    cuts = tone_corpus / "cuts_test.jsonl.gz"
    result = asr("evaluate", model, cuts, "--report", tmp_path / "page", "--json", model.parent / "test.json")
    assert result.out.splitlines()[-1] == f"report: {tmp_path / 'page' / 'index.html'}"
    assert result.out.splitlines()[:-1] == asr("evaluate", model, cuts).out.splitlines()
    compared = asr("report", model.parent, "--out", tmp_path / "runs")
    assert compared.out == f"report: {tmp_path / 'runs' / 'index.html'}\n"
    assert (tmp_path / "runs" / "index.html").exists()


def test_reports_refuse(refused: Callable[..., None], model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused("cannot be written", "evaluate", model, tone_corpus / "cuts_test.jsonl.gz", "--report", tmp_path / "file")
    refused("expected the folder of a finished training run", "report", tmp_path)
    bad = make_utterances(tmp_path / "audio", ["b"], 1)
    write_corpus(tmp_path, {"test": bad}, {})
    bad[0].audio_path.write_bytes(b"RIFF")  # the folder is refused before audio is read
    cuts = tmp_path / "cuts_test.jsonl.gz"
    refused("file: cannot be written", "evaluate", model, cuts, "--report", tmp_path / "file")


def test_score_and_compare_refuse(refused: Callable[..., None], model: Path, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("u1 xx\n")
    (tmp_path / "two").write_text("u2 xx\n")
    refused("two: lacks u1", "score", tmp_path / "one", tmp_path / "two")
    refused("unknown TIMIT phone 'xx'", "score", tmp_path / "one", tmp_path / "one", "--folding", "timit")
    refused("not readable", "score", tmp_path / "one", tmp_path / "none")
    refused("not JSON", "compare", tmp_path / "one", tmp_path / "one")
    refused("a model folder without a manifest", "compare", model, model)
    refused("english: a model folder without a manifest", "compare", "english", "streaming")
    refused("none.json: not readable", "compare", "none.json", model)
    refused("none: not needed for two JSON files", "compare", tmp_path / "one", tmp_path / "one", tmp_path / "none")


def test_what_would_have_no_effect_is_refused(refused: Callable[..., None], model: Path, tmp_path: Path) -> None:
    refused("--workers 2 without --cluster", "transcribe", "--model", model, tmp_path, "--workers", "2")
    refused("--workers 2 without --cluster", "prepare", "synth", tmp_path / "out", "--workers", "2")
    refused("--workers 2 without --cluster", "prepare", "kaldi", tmp_path, tmp_path / "out", "--workers", "2")
    refused("--sample-rate 8000 without --stream", "transcribe", "--model", model, tmp_path, "--sample-rate", "8000")
    refused("'': an empty path", "transcribe", "--model", model, "")
    refused("a folder, expected a manifest for --report", "evaluate", model, tmp_path, "--report", tmp_path / "page")


@pytest.mark.slow
def test_lm_and_tune_decoder(asr: Command, model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "model"
    shutil.copytree(model, tuned)
    train, dev = tone_corpus / "cuts_train.jsonl.gz", tone_corpus / "cuts_dev.jsonl.gz"
    result = asr("lm", train, tmp_path / "p.arpa", "--order", "2", "--test", dev)
    assert result.code == 0, result.err
    tables, on_train, on_dev = result.out.splitlines()
    assert tables.startswith(f"{tmp_path / 'p.arpa'}: 41 1-grams, ")  # 39 phones, begin and end
    for line, name in ((on_train, train), (on_dev, dev)):
        assert re.fullmatch(rf"perplexity \d+\.\d\d on {re.escape(str(name))}", line)
    result = asr("tune-decoder", tuned, dev, "--lm", tmp_path / "p.arpa", "--beam", "8")
    assert result.code == 0, result.err
    headline = result.out.split(": ", 1)[1].strip()
    evaluated = asr("evaluate", tuned, dev, "--decoder", "beam", "--json", tmp_path / "beam.json")
    assert evaluated.out.splitlines()[0] == headline
    asr("evaluate", tuned, dev, "--json", tmp_path / "best.json")
    per = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("beam", "best")}
    assert per["beam"]["per"] <= per["best"]["per"]
    assert [per[name]["decoder"] for name in ("beam", "best")] == ["beam", "best_path"]


def test_lm_and_tune_decoder_refuse(
    refused: Callable[..., None], model: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    cuts = tone_corpus / "cuts_dev.jsonl.gz"
    refused("expected 1 to 6", "lm", cuts, tmp_path / "p.arpa", "--order", "7")
    refused("unknown phone inventory", "lm", cuts, tmp_path / "p.arpa", "--inventory", "ipa")
    refused("expected one of the 61 phones", "lm", cuts, tmp_path / "p.arpa", "--inventory", "timit61")
    refused("cannot be written", "lm", cuts, tmp_path / "none" / "p.arpa")
    refused("named like a manifest", "lm", cuts, cuts)
    assert read_manifest(cuts)
    refused("--words with --test", "lm", cuts, tmp_path / "p.arpa", "--words", "--test", cuts)
    refused("p.arpa: not readable", "tune-decoder", model, cuts, "--lm", tmp_path / "p.arpa")
    refused("ships with the package", "tune-decoder", "english", cuts, "--lm", tmp_path / "p.arpa")
    refused("no decoder.yaml", "evaluate", model, cuts, "--decoder", "beam")
    refused("ships with the package", "calibrate", "english", cuts)
    refused("none.jsonl.gz: no such file", "calibrate", model, tmp_path / "none.jsonl.gz")


def test_calibrate(asr: Command, model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    sets = [tone_corpus / f"cuts_{part}.jsonl.gz" for part in ("dev", "test")]
    result = asr("calibrate", tmp_path / "model", *sets)
    assert result.code == 0, result.err
    first, *errors = result.out.splitlines()
    calibration = load_calibration(tmp_path / "model")
    assert calibration is not None
    assert first == f"temperature {calibration.temperature:.3f}"
    for line, name in zip(errors, sets, strict=True):
        assert re.fullmatch(rf"expected calibration error \d+\.\d points on {re.escape(str(name))}", line)


def test_calibrate_says_so_if_no_phones_are_recognized(
    asr: Command, model: Path, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / "model")
    monkeypatch.setattr("asr.inference.calibrate._recognize", lambda bundle, dataset: [([], [])])
    cuts = tone_corpus / "cuts_dev.jsonl.gz"
    assert asr("calibrate", tmp_path / "model", cuts).out == f"temperature 1.000\nno phones recognized on {cuts}\n"


def test_serve_says_where_it_is_only_if_it_listens(model: Path) -> None:
    """In a process of its own: a browser of other tests may keep an event loop in this one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "asr", "serve", "--model", str(model), "--port", str(port)]
        result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "http://" not in result.stderr
    found = result.stderr.splitlines()[-1]
    assert found.startswith(f"asr: 127.0.0.1:{port}: cannot listen there, expected a free port")


def test_two_recordings_of_one_name_in_a_ctm(
    refused: Callable[..., None], asr: Command, model: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    source = read_manifest(tone_corpus / "cuts_test.jsonl.gz")[0].audio_path
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / "x.wav")
    refused(
        f"{tmp_path}/b/x.wav: x in a CTM, as {tmp_path}/a/x.wav",
        "transcribe",
        "--model",
        model,
        tmp_path,
        "--format",
        "ctm",
    )
    for name in ("a b.wav", "a_b.wav"):  # a CTM has the second name for both
        shutil.copy(source, tmp_path / name)
    spaced = [tmp_path / "a b.wav", tmp_path / "a_b.wav"]
    refused(f"{spaced[1]}: a_b in a CTM, as {spaced[0]}", "transcribe", "--model", model, *spaced, "--format", "ctm")
    for path in spaced:
        path.unlink()
    again = asr("transcribe", "--model", model, tmp_path / "a" / "x.wav", tmp_path / "a" / "x.wav", "--format", "ctm")
    assert again.code == 0
    assert asr("transcribe", "--model", model, tmp_path, "--format", "ctm", "--out", tmp_path / "out").code == 0


def test_transcribe_text_and_json(asr: Command, model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    files = [u.audio_path for u in read_manifest(tone_corpus / "cuts_test.jsonl.gz")]
    result = asr("transcribe", "--model", model, *files)
    assert result.code == 0
    paths, phones = zip(*(line.split("\t") for line in result.out.splitlines()), strict=True)
    assert [Path(path) for path in paths] == files
    listed = asr("transcribe", "--model", model, files[0].parent, "--format", "json")
    for line, file, expected in zip(listed.out.splitlines(), files, phones, strict=True):
        found = json.loads(line)
        assert (found["path"], [one["symbol"] for one in found["phones"]]) == (str(file), expected.split())
        times = [time for one in found["phones"] for time in (one["start_s"], one["end_s"])]
        assert times == sorted(times)
        assert all(0 <= one["confidence"] <= 1 for one in found["phones"])
    # The same audio in another format, rate and number of channels has the same phones.
    samples, _ = soundfile.read(files[0])
    for name, data, rate in (("a.flac", samples, 16000), ("b.wav", np.stack([samples] * 3, axis=1), 16000)):
        soundfile.write(tmp_path / name, data, rate)
        assert asr("transcribe", "--model", model, tmp_path / name).out == f"{tmp_path / name}\t{phones[0]}\n"


def test_transcribe_agrees_with_evaluate(asr: Command, model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    asr("evaluate", model, tone_corpus / "cuts_test.jsonl.gz", "--json", tmp_path / "per.json")
    hypotheses = json.loads((tmp_path / "per.json").read_text())["hypotheses"]
    for utterance in read_manifest(tone_corpus / "cuts_test.jsonl.gz"):
        assert (
            asr("transcribe", "--model", model, utterance.audio_path).out.split("\t")[1].strip()
            == hypotheses[utterance.id]
        )


def test_a_bad_file_is_named_and_the_rest_transcribed(asr: Command, model: Path, tmp_path: Path) -> None:
    good = make_utterances(tmp_path, ["s"], 2)
    (tmp_path / "s-0b.wav").write_bytes(b"RIFF")
    result = asr("transcribe", "--model", model, tmp_path)
    assert result.code == 1
    assert [line.split("\t")[0] for line in result.out.splitlines()] == [str(u.audio_path) for u in good]
    # Whether tones are unlike those of the training depends on the last bits of the weights.
    named, counted = [line for line in result.err.splitlines() if "unlike the speech" not in line]
    assert f"{tmp_path / 's-0b.wav'}: not readable as audio" in named
    assert counted == "asr: 1 of 3 recordings could not be used"
    alone = asr("transcribe", "--model", model, tmp_path / "s-0b.wav")
    assert (alone.code, alone.out, len(alone.err.splitlines())) == (2, "", 1)


def test_a_file_shorter_than_a_frame_has_no_phones(asr: Command, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.full(100, 0.1), 16000)
    assert asr("transcribe", "--model", model, tmp_path / "short.wav").out == f"{tmp_path / 'short.wav'}\t\n"


def test_transcribe_refuses(refused: Callable[..., None], model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    refused("missing.wav: no such file or folder", "transcribe", "--model", model, tmp_path / "missing.wav")
    refused("0 audio files", "transcribe", "--model", model, tmp_path)
    refused("expected a model folder", "transcribe", "--model", tmp_path, tmp_path / "notes.txt")
    for device in ("gpu", "mps", "xpu"):
        refused(f"device is {device}", "transcribe", "--model", model, tmp_path / "notes.txt", "--device", device)


def test_evaluate_refuses(refused: Callable[..., None], model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    cuts = tone_corpus / "cuts_test.jsonl.gz"
    refused("no such file, expected a manifest", "evaluate", model, tmp_path / "none.jsonl.gz")
    refused("expected a model folder", "evaluate", tmp_path, cuts)
    for command in ("evaluate", "verify"):  # before the model is looked for, let alone a long evaluation lost
        refused("per.json: cannot be written", command, tmp_path, cuts, "--json", tmp_path / "no" / "per.json")
        refused("cannot be written", command, tmp_path, cuts, "--json", "")
    gone = make_utterances(tmp_path / "audio", ["g"], 1)
    write_corpus(tmp_path / "corpus", {"test": gone}, {})
    gone[0].audio_path.unlink()
    refused("is missing, expected a file", "evaluate", model, tmp_path / "corpus" / "cuts_test.jsonl.gz")


def test_a_model_of_other_phones_is_refused(refused: Callable[..., None], model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    timit = [replace(u, phones=("sh", "iy", "h#")) for u in make_utterances(tmp_path / "audio", ["t"], 1)]
    write_corpus(tmp_path / "corpus", {"test": timit}, {})
    cuts = tmp_path / "corpus" / "cuts_test.jsonl.gz"
    refused(
        "utterance t-0: unknown phone 'sh', expected one of the 39 phones of inventory arpabet39",
        "evaluate",
        model,
        cuts,
    )


def test_train_refuses_before_it_writes(refused: Callable[..., None], tone_corpus: Path, tmp_path: Path) -> None:
    run_dir = f"run_dir={tmp_path / 'run'}"
    good = f"corpus.dir={tone_corpus}"
    refused("model.hiden", "train", *TRAIN, good, run_dir, "model.hiden=3")
    refused("model.layers is 0", "train", *TRAIN, good, run_dir, "model.layers=0")
    warp = ("augment.frequency_warp=0.1", "features=mfcc")
    refused("frequency_warp is 0.1 with features mfcc, expected 0 or fbank", "train", *TRAIN, good, run_dir, *warp)
    refused("no such file, expected a manifest", "train", *TRAIN, f"corpus.dir={tmp_path}", run_dir)
    refused("run_dir has no value", "train", *TRAIN, good)
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    refused("cannot be written", "train", *TRAIN, good, f"run_dir={tmp_path / 'file' / 'run'}")
    lines = (tone_corpus / "cuts_dev.jsonl.gz").read_bytes()
    shutil.copytree(tone_corpus, tmp_path / "copy")
    (tmp_path / "copy" / "cuts_dev.jsonl.gz").write_bytes(lines[:40])
    refused("cuts_dev.jsonl.gz: not a manifest", "train", *TRAIN, f"corpus.dir={tmp_path / 'copy'}", run_dir)
    assert not (tmp_path / "run").exists()


def test_hydra_prints_the_configuration(asr: Command, tmp_path: Path) -> None:
    result = asr("train", "experiment=graves2013", "run_dir=x", "--cfg", "job")
    assert result.code == 0
    expected = to_yaml(compose(["experiment=graves2013", "run_dir=x"]))
    assert {line.strip() for line in result.out.splitlines() if line} >= {
        line.strip() for line in expected.splitlines() if line.strip().startswith(("name", "hidden", "weight_noise"))
    }


@pytest.mark.slow
def test_a_sweep_trains_each_combination(tone_corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "asr", "train", "-m", *TRAIN, f"corpus.dir={tone_corpus}"]
    subprocess.run(
        [*command, f"run_dir={tmp_path / 'sweep'}", "seed=1,2"], check=True, capture_output=True, cwd=tmp_path
    )
    for number, seed in (("0", 1), ("1", 2)):
        assert f"seed: {seed}\n" in (tmp_path / "sweep" / number / "config.yaml").read_text()
        load_bundle(tmp_path / "sweep" / number / "model")


def test_prepare_synth_and_its_refusals(asr: Command, refused: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")
    result = asr("prepare", "synth", tmp_path / "corpus", "--speakers", 3, "--utterances", 1)
    assert result.code == 0, result.err
    assert [line.split(":")[0] for line in result.out.splitlines()] == ["train", "dev", "test"]
    refused("exists already", "prepare", "synth", tmp_path / "corpus")


def test_prepare_timit_and_speechocean762_refuse(refused: Callable[..., None], tmp_path: Path) -> None:
    refused("0 folders with TIMIT", "prepare", "timit", tmp_path, tmp_path / "out")
    refused("no speechocean762 found", "prepare", "speechocean762", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_output_into_a_closed_pipe_is_no_error(model: Path, tone_corpus: Path) -> None:
    command = f"'{sys.executable}' -m asr transcribe --model '{model}' '{tone_corpus / 'test'}' | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_output_is_utf8_in_every_locale(model: Path, tmp_path: Path) -> None:
    audio = tmp_path / "Ö.wav"
    soundfile.write(audio, np.full(100, 0.1), 16000)
    command = [sys.executable, "-m", "asr", "transcribe", "--model", str(model), str(audio)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert done.stdout.decode() == f"{audio}\t\n"


def test_a_closed_pipe_has_an_exit_status_of_its_own() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "asr", "models"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_transcribing_imports_nothing_that_only_training_needs(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    program = """
import sys
from asr.cli.app import main
try:
    main()
except SystemExit:
    pass
print(*sys.modules)
"""
    command = [sys.executable, "-c", program, "transcribe", "--model", str(model), str(tmp_path / "a.wav")]
    transcript, modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert transcript.startswith(str(tmp_path))
    loaded = {module.split(".")[0] for module in modules.split()}
    assert "torch" in loaded
    slow = {"accelerate", "data_prep", "hydra", "jiwer", "lhotse", "librosa", "pydantic", "tensorboard", "torchaudio"}
    assert not loaded & slow
