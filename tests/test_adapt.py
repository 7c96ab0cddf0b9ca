"""Adaptation: it learns what it is given, the guard keeps the rest, and the same seed gives the same model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.errors import InputError
from asr.features.dataset import Item
from asr.inference.bundle import Bundle, load_bundle, save_bundle
from asr.inference.evaluate import load_dataset
from asr.training import adapt as adaptation
from asr.training.adapt import adapt
from tests.test_bundle import make_bundle
from tests.test_pretrained import bundle_with


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_bundle(make_bundle("features.normalization=utterance"), tmp_path / "model", "# the card before\n")
    return tmp_path / "model"


def ctc(bundle: Bundle, cuts: Path) -> float:
    """torch's CTC loss of a model on a manifest, per phone."""
    dataset, losses, phones = load_dataset(bundle, cuts), 0.0, 0
    for index, tokens in enumerate(dataset.tokens):
        features = dataset.features(Item(index, 1.0))[None]
        with torch.no_grad():
            log_probs, lengths = bundle.log_probs(features, torch.tensor([features.shape[1]]))
        target, count = torch.tensor([tokens]), torch.tensor([len(tokens)])
        losses += float(functional.ctc_loss(log_probs.transpose(0, 1), target, lengths, count, reduction="sum"))
        phones += len(tokens)
    return losses / phones


def distance(first: Path, second: Path, cuts: Path) -> float:
    """Mean divergence of two models' posteriors on a manifest."""
    one, other = load_bundle(first), load_bundle(second)
    dataset, total = load_dataset(one, cuts), 0.0
    for index in range(len(dataset)):
        features = dataset.features(Item(index, 1.0))[None]
        lengths = torch.tensor([features.shape[1]])
        with torch.no_grad():
            before, after = one.log_probs(features, lengths)[0], other.log_probs(features, lengths)[0]
        total += float((before.exp() * (before - after)).sum(2).mean())
    return total / len(dataset)


def test_it_learns_and_the_guard_keeps(model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    cuts, moved = tone_corpus / "cuts_train.jsonl.gz", []
    for guard in (0.0, 0.7, 1.0):
        done = adapt(model, cuts, tmp_path / f"guard{guard}", guard)
        assert done.epochs == adaptation.EPOCHS[1]
        moved.append(distance(model, tmp_path / f"guard{guard}", cuts))
    assert ctc(load_bundle(tmp_path / "guard0.0"), cuts) < 0.95 * ctc(load_bundle(model), cuts)
    assert moved[0] > moved[1] > moved[2]
    assert "the card before" in (tmp_path / "guard0.0" / "README.md").read_text()


def test_the_same_seed_gives_the_same_model(model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    cuts = tone_corpus / "cuts_dev.jsonl.gz"
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        adapt(model, cuts, tmp_path / name, seed=seed)
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_an_encoder_stays_as_it_is(tone_corpus: Path, tmp_path: Path) -> None:
    save_bundle(bundle_with("whisper", trained_layers=-1), tmp_path / "model", "# a card\n")
    (tmp_path / "model" / "confidence.yaml").write_text("temperature: 1.5\n")
    adapt(tmp_path / "model", tone_corpus / "cuts_train.jsonl.gz", tmp_path / "out")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "out"))
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"recurrent", "output"}
    assert (tmp_path / "out" / "confidence.yaml").read_text() == "temperature: 1.5\n"


def test_what_is_refused(model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    cuts = tone_corpus / "cuts_dev.jsonl.gz"
    with pytest.raises(InputError, match="exists already, expected a new folder"):
        adapt(model, cuts, model)
    with pytest.raises(InputError, match="guard is 2, expected 0 to 1"):
        adapt(model, cuts, tmp_path / "out", guard=2)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    model: Path, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation, "recognize", None)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: cannot be written"):
        adapt(model, tone_corpus / "cuts_dev.jsonl.gz", tmp_path / "file" / "out")


def write_cuts(folder: Path, utterances: list[Utterance]) -> Path:
    write_corpus(folder, {"train": utterances}, {})
    return folder / "cuts_train.jsonl.gz"


def test_an_utterance_without_frames_enough_is_named_and_left_out(
    model: Path, tone_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    utterances = read_manifest(tone_corpus / "cuts_dev.jsonl.gz")
    crowded = replace(utterances[0], id="crowded", phones=("AA",) * 500)
    adapt(model, write_cuts(tmp_path / "both", [crowded, replace(crowded, id="silent", phones=())]), tmp_path / "with")
    assert [record.message.split(":")[0] for record in caplog.records] == ["utterance crowded is left out"]
    with pytest.raises(InputError, match="no utterance has frames enough for its phones, expected at least one"):
        adapt(model, write_cuts(tmp_path / "crowded", [crowded]), tmp_path / "none")


def test_utterances_of_no_length_or_too_long_for_the_encoder_are_named(tone_corpus: Path, tmp_path: Path) -> None:
    save_bundle(bundle_with("whisper", trained_layers=-1), tmp_path / "model", "# a card\n")
    utterance = read_manifest(tone_corpus / "cuts_dev.jsonl.gz")[0]
    for duration_s, found in (
        (0.0, "expected to contain 0 s to 0 s"),
        (4.5, f"{utterance.id} lasts 4.50 s, expected at most 4 s"),
    ):
        cuts = write_cuts(tmp_path / str(duration_s), [replace(utterance, duration_s=duration_s)])
        with pytest.raises(InputError, match=found):
            adapt(tmp_path / "model", cuts, tmp_path / "out")
