"""The precision of trainings and models: chosen once, logged, and kept when a run is resumed on another machine."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import asr
from asr.errors import InputError
from asr.inference.bundle import load_bundle
from asr.inference.evaluate_corpus import evaluate
from asr.scoring.results import read_json, write_json
from asr.system import processor
from asr.training.distributed import common_precision
from tests.test_train import killed_after_two_epochs, run


def machine(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Imitate a machine that computes in bfloat16 with ``source``, or does not if that is empty."""
    monkeypatch.setattr(processor, "bfloat16_source", lambda *_: source)


@pytest.mark.parametrize(("source", "other"), [("the processor has AMX", ""), ("", "the processor has AMX")])
def test_a_run_goes_on_in_the_precision_it_began_with(
    source: str, other: str, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, unlike = ("bfloat16", "float32") if source else ("float32", "bfloat16")
    settings = ("trainer.epochs=3", "trainer.average=none")
    machine(monkeypatch, source)
    whole = run(tone_corpus, tmp_path / "whole", *settings)
    assert f"precision {name}: " in (tmp_path / "whole" / "train.log").read_text()
    assert f"| training precision | {name}: " in (whole / "README.md").read_text()

    killed_after_two_epochs(tone_corpus, tmp_path / "parts", *settings)
    machine(monkeypatch, other)
    parts = run(tone_corpus, tmp_path / "parts", *settings, "resume=true")
    log = (tmp_path / "parts" / "train.log").read_text()
    assert f"precision {name}: the run began with it; {unlike} would be chosen here: " in log
    assert ("only emulates" in log) == (name == "bfloat16")
    assert f"| training precision | {name}: the run began with it; " in (parts / "README.md").read_text()
    expected = load_file(whole / "model.safetensors")
    for key, tensor in load_file(parts / "model.safetensors").items():
        assert torch.equal(tensor, expected[key]), key

    machine(monkeypatch, other)
    elsewhere = run(tone_corpus, tmp_path / "elsewhere", *settings)
    found = load_file(elsewhere / "model.safetensors")
    assert any(not torch.equal(tensor, expected[key]) for key, tensor in found.items())


def test_emulated_bfloat16_is_obeyed_with_a_warning(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, "")
    model = run(tone_corpus, tmp_path / "run", "trainer.precision=bfloat16", "trainer.epochs=1")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "precision bfloat16: set explicitly\n" in log
    assert "only emulates" in log
    caplog.clear()
    assert load_bundle(model, precision="bfloat16").precision == "bfloat16"
    assert "only emulates" in caplog.text


def test_teachers_follow_in_the_precision_the_run_began_with(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, "")
    teacher = run(tone_corpus, tmp_path / "teacher")
    settings = (f"trainer.teachers=[{teacher}]", "trainer.epochs=3", "trainer.average=none")
    whole = run(tone_corpus, tmp_path / "whole", *settings)
    killed_after_two_epochs(tone_corpus, tmp_path / "parts", *settings)
    machine(monkeypatch, "the processor has AMX")
    parts = run(tone_corpus, tmp_path / "parts", *settings, "resume=true")
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


def test_a_run_of_settings_by_name_is_taken_up_by_auto_and_not_by_another(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, "")
    run(tone_corpus, tmp_path / "run", "trainer.precision=float32", "trainer.epochs=1")
    assert "precision: float32" in (tmp_path / "run" / "config.yaml").read_text()
    run(tone_corpus, tmp_path / "run", "trainer.epochs=1", "resume=true")
    with pytest.raises(InputError, match=r"trainer.precision is bfloat16, expected float32 as in the run to resume"):
        run(tone_corpus, tmp_path / "run", "trainer.precision=bfloat16", "trainer.epochs=1", "resume=true")


@pytest.mark.parametrize(("source", "name"), [("the processor has AMX", "bfloat16"), ("", "float32")])
def test_a_model_is_used_in_what_its_device_computes_in(
    source: str, name: str, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = run(tone_corpus, tmp_path / "run")
    machine(monkeypatch, source)
    assert asr.load(model).bundle.precision == name
    assert asr.load(model, precision="float32").bundle.precision == "float32"
    assert load_bundle(model, precision="auto").precision == name
    evaluation = evaluate(model, tone_corpus / "cuts_test.jsonl.gz")
    write_json(evaluation, tmp_path / "per.json")
    assert read_json(tmp_path / "per.json").precision == name


@pytest.mark.parametrize(("able", "name"), [(1, "float32"), (2, "bfloat16")])
def test_processes_agree_on_what_all_compute_in(able: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "the processor has AMX")
    pair: Any = SimpleNamespace(num_processes=2, device=torch.device("cpu"), reduce=lambda _: torch.tensor(able))
    assert common_precision("auto", pair).name == name
    assert common_precision("float32", pair).name == "float32"


def test_what_was_asked_for_is_not_put_to_the_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "the processor has AMX")
    pair: Any = SimpleNamespace(num_processes=2, device=torch.device("cpu"), reduce=lambda _: torch.tensor(1))
    assert common_precision("bfloat16", pair).name == "bfloat16"
