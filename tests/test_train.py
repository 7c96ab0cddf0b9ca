"""The training loop on small corpora: it learns, resumes to identical weights, and stops when it must."""

import itertools
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import asr.training.loop
from asr.cli.compose import compose
from asr.config import TrainConfig
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.phones import inventory
from asr.errors import InputError, Interrupted, TrainingError
from asr.features.dataset import Batch, Dataset, Item
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.evaluate import recognize
from asr.inference.evaluate_corpus import evaluate
from asr.scoring.alignment import count_errors
from asr.system.signals import StopRequest
from asr.training.checkpoint_files import load_checkpoint, save_checkpoint
from asr.training.data import plan_updates
from asr.training.distillation import Teachers, merge_frames
from asr.training.loop import prepare, train
from asr.training.optimization import weight_noise
from asr.training.run import Run
from asr.training.run_folder import stored_settings, write_config
from tests.conftest import TINY_MODEL, make_utterances
from tests.faults import kill_and_resume

FAST = (
    *TINY_MODEL,
    "trainer.epochs=2",
    "trainer.flat_start_epochs=1",
    "trainer.batch_utterances=4",
    "trainer.trackers=[]",
    "trainer.aligner_epochs=0",
)


def config(corpus: Path, run_dir: Path, *overrides: str) -> TrainConfig:
    return compose(["experiment=speechocean762", f"corpus.dir={corpus}", f"run_dir={run_dir}", *FAST, *overrides])


def run(corpus: Path, run_dir: Path, *overrides: str) -> Path:
    train(config(corpus, run_dir, *overrides), run_dir)
    return run_dir / "model"


def test_a_run_leaves_what_it_promises(tone_corpus: Path, tmp_path: Path) -> None:
    model = run(tone_corpus, tmp_path / "run", "trainer.trackers=[tensorboard]", "trainer.aligner_epochs=1")
    assert {"aligner.safetensors", "confidence.yaml", "model.safetensors"} <= {path.name for path in model.iterdir()}
    assert {"config.yaml", "train.log", "history.json", "checkpoints", "tensorboard"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [(record["epoch"], record["objective"]) for record in history] == [(1, "flat start"), (2, "CTC")]
    log = (tmp_path / "run" / "train.log").read_text()
    assert "train 12 utterances" in log
    assert "epoch 2 (CTC)" in log
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    card = (model / "README.md").read_text()
    assert "12 utterances, 3 speakers" in card
    assert "dev set | PER" in card
    result = evaluate(model, tone_corpus / "cuts_test.jsonl.gz").headline
    assert (result.total.reference_phones, len(result.utterances), len(result.speakers)) == (12, 4, 1)


def test_it_learns_to_recognize_tones(tone_corpus: Path, tmp_path: Path) -> None:
    model = run(
        tone_corpus,
        tmp_path / "run",
        "trainer.epochs=60",
        "trainer.flat_start_epochs=10",
        "model.hidden=32",
        "optimizer.learning_rate=0.01",
        "augment=none",
        "model.time_reduction=2",
        "trainer.precision=float32",  # bfloat16 rounds differently on each kind of processor, and 36 phones are few
    )
    assert evaluate(model, tone_corpus / "cuts_train.jsonl.gz").headline.total.per < 0.1


def killed_after_two_epochs(corpus: Path, run_dir: Path, *overrides: str) -> None:
    """Run a training that is killed after two epochs: no message, no model."""
    epoch, calls = asr.training.loop.train_epoch, iter([None, None])

    class KilledError(Exception):
        pass

    def train_or_die(run: Run, stop: StopRequest) -> None:
        if next(calls, "end"):
            raise KilledError
        epoch(run, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asr.training.loop, "train_epoch", train_or_die)
        with pytest.raises(KilledError):
            run(corpus, run_dir, *overrides)
    assert not (run_dir / "model").exists()


def start(corpus: Path, run_dir: Path, *overrides: str) -> Run:
    return prepare(config(corpus, run_dir, *overrides), run_dir)


def train_set_of(parts: Run) -> Dataset:
    assert parts.sections.whole is not None
    return parts.sections.whole


def test_training_starts_from_another_models_weights(tone_corpus: Path, tmp_path: Path) -> None:
    first = run(tone_corpus, tmp_path / "first")
    second = start(tone_corpus, tmp_path / "second", f"init_from={first}", "seed=2")
    for name, weight in load_bundle(first).model.state_dict().items():
        assert torch.equal(second.plain_model.state_dict()[name], weight), name
    assert second.uninitialized == []


def test_what_does_not_fit_is_named_and_stays_fresh(tone_corpus: Path, tmp_path: Path) -> None:
    first = run(tone_corpus, tmp_path / "first")
    wider = ("model.layers=2", "corpus.inventory=arpabet39", f"init_from={first}")
    train(config(tone_corpus, tmp_path / "second", *wider), tmp_path / "second")
    log = (tmp_path / "second" / "train.log").read_text()
    assert (
        f"weights initialized from {first}; not initialized: recurrent.weight_ih_l1 [64, 32], not in the bundle; "
        in log
    )
    assert "output" not in log
    other = start(tone_corpus, tmp_path / "third", "model.hidden=8", f"init_from={first}")
    assert "recurrent.weight_hh_l0 [32, 8], in the bundle [64, 16]" in (other.uninitialized or [])
    theirs = load_bundle(first).model.state_dict()
    assert torch.equal(other.plain_model.state_dict()["front_end.norm.weight"], theirs["front_end.norm.weight"])


def test_frozen_weights_stay_as_they_are(tone_corpus: Path, tmp_path: Path) -> None:
    first = run(tone_corpus, tmp_path / "first")
    frozen = ["trainer.frozen=[front_end,recurrent.weight_hh]", "trainer.weight_noise=0.05", "trainer.epochs=3"]
    second = run(tone_corpus, tmp_path / "second", f"init_from={first}", *frozen)
    before, after = (load_bundle(path).model.state_dict() for path in (first, second))
    for name in before:
        stays = name.startswith(("front_end", "recurrent.weight_hh"))
        assert torch.equal(before[name], after[name]) == stays, name


def test_freezing_nothing_or_everything_is_refused(tone_corpus: Path, tmp_path: Path) -> None:
    for setting, complaint in (
        ("[decoder]", "trainer.frozen has 'decoder', expected the beginning of one of front_end.layers.0.weight, "),
        ("['']", "trainer.frozen leaves no weight to train"),
    ):
        with pytest.raises(InputError, match=complaint):
            start(tone_corpus, tmp_path / "run", f"trainer.frozen={setting}")


def test_a_training_starts_from_a_model_by_its_name(tone_corpus: Path, tmp_path: Path) -> None:
    wide = ("model.hidden=136", "model.layers=3", "model.convolution_channels=[32,32]", "model.time_reduction=4")
    begun = start(tone_corpus, tmp_path / "run", "init_from=speechocean762-small", *wide)
    assert begun.uninitialized == []


def test_the_output_layer_of_other_phones_stays_fresh(tone_corpus: Path, tmp_path: Path) -> None:
    first = run(tone_corpus, tmp_path / "first")
    phones = (first / "phones.txt").read_text().replace("AA", "AX").replace("Z\nZH", "ZH\nZX")
    (first / "phones.txt").write_text(phones)
    (first / "checksums.txt").unlink()
    text = (first / "config.yaml").read_text()
    (first / "config.yaml").write_text(text.replace("inventory: arpabet39", "inventory: mine"))
    left = start(tone_corpus, tmp_path / "second", f"init_from={first}").uninitialized or []
    assert left == [f"output.{name}, in the bundle for other phones" for name in ("weight [40, 32]", "bias [40]")]


def test_a_run_that_is_taken_up_does_not_start_again(tone_corpus: Path, tmp_path: Path) -> None:
    first = run(tone_corpus, tmp_path / "first")
    overrides = (f"init_from={first}", "trainer.epochs=3")
    whole = run(tone_corpus, tmp_path / "whole", *overrides)
    killed_after_two_epochs(tone_corpus, tmp_path / "parts", *overrides)
    parts = run(tone_corpus, tmp_path / "parts", *overrides, "resume=true")
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


def test_a_model_of_which_nothing_fits_is_refused(tone_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a model folder"):
        start(tone_corpus, tmp_path / "run", f"init_from={tmp_path / 'none'}")


VARIANTS = {
    "default": (),
    "plain BLSTM on 123 features, SGD, weight noise": (
        "features=fbank_delta",
        "model=blstm",
        "model.hidden=8",
        "optimizer=sgd",
        "trainer.weight_noise=0.05",
        "trainer.loss_reduction=sum",
        "trainer.gradient_clip=0",
        "trainer.precision=float32",
    ),
    "EMA, newbob, speaker normalization, MFCC": (
        "features=mfcc",
        "trainer.average=ema",
        "schedule=newbob",
        "trainer.loss_reduction=utterance",
        "optimizer=adadelta",
    ),
    "last epochs, accumulation, plateau": (
        "trainer.average=last",
        "trainer.accumulation=2",
        "schedule=plateau",
        "trainer.threads=2",
    ),
    "two views": ("trainer.consistency=0.2",),
    "two views, a teacher": (
        "trainer.consistency=0.2",
        "trainer.teachers=[speechocean762-small]",
        "model.time_reduction=4",
    ),
    "no average, attention, librosa": ("trainer.average=none", "model=cnn_blstm_attention", "features=librosa_mel"),
}


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=list(VARIANTS))
def test_a_resumed_run_ends_with_the_same_weights(
    tone_corpus: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    settings = (*overrides, "model.dropout=0.2", "trainer.epochs=4", "trainer.average_count=2", "model.hidden=16")
    whole = run(tone_corpus, tmp_path / "whole", *settings)

    killed_after_two_epochs(tone_corpus, tmp_path / "parts", *settings)
    torch.manual_seed(99)  # the global generator must not matter
    parts = run(tone_corpus, tmp_path / "parts", *settings, "resume=true")
    assert "resumed after epoch 2" in (tmp_path / "parts" / "train.log").read_text()
    expected = load_file(whole / "model.safetensors")
    for name, tensor in load_file(parts / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)
    kept = sorted(path.name for path in (tmp_path / "whole" / "checkpoints").iterdir())
    assert kept == sorted(path.name for path in (tmp_path / "parts" / "checkpoints").iterdir())


def same_frames(corpus: Path, run_dir: Path, *overrides: str) -> Path:
    """Run a training without augmentation, so that a model always sees the same frames of an utterance."""
    return run(corpus, run_dir, "augment=none", "trainer.precision=float32", "trainer.average=none", *overrides)


def losses_of(model: Path) -> list[float]:
    return [record["train_loss"] for record in json.loads((model.parent / "history.json").read_text())]


def test_a_student_is_held_against_the_mean_of_its_teachers(tone_corpus: Path, tmp_path: Path) -> None:
    teachers = [
        same_frames(tone_corpus, tmp_path / f"{seed}", f"seed={seed}", "optimizer.learning_rate=0.01")
        for seed in (1, 2)
    ]
    still = ("optimizer.learning_rate=0", f"init_from={teachers[0]}", "trainer.flat_start_epochs=0", "trainer.epochs=1")
    both = (*still, f"trainer.teachers=[{teachers[0]},{teachers[1]}]")
    (ctc,) = losses_of(same_frames(tone_corpus, tmp_path / "ctc", *still))
    alone = (f"trainer.teachers=[{teachers[0]}]", "trainer.distillation=1")
    (itself,) = losses_of(same_frames(tone_corpus, tmp_path / "itself", *still, *alone))
    assert abs(itself) < 1e-3 < ctc  # teachers are kept as 16-bit numbers
    (half,) = losses_of(same_frames(tone_corpus, tmp_path / "half", *both, "trainer.distillation=0.5"))

    bundles = [load_bundle(teacher) for teacher in teachers]
    utterances = read_manifest(tone_corpus / "cuts_train.jsonl.gz")
    dataset = Dataset(utterances, bundles[0].features, bundles[0].inventory, cache_gib=1)
    apart, phones = 0.0, sum(len(tokens) for tokens in dataset.tokens)
    for index in range(len(dataset)):
        (batch,) = dataset.batches([[Item(index, 1.0)]])
        with torch.no_grad():
            student, other = (one.model(batch.features, batch.feature_lengths)[0][0].double() for one in bundles)
        mean = (student.exp() + other.exp()) / 2
        apart += float((mean * (mean.log() - student)).sum())
    assert half == pytest.approx(0.5 * ctc + 0.5 * apart / phones, rel=1e-2)
    assert apart / phones > 0.01
    (none,) = losses_of(same_frames(tone_corpus, tmp_path / "none", *both, "trainer.distillation=0"))
    assert none == ctc


def test_teachers_know_each_speed(tone_corpus: Path, tmp_path: Path) -> None:
    teacher = run(tone_corpus, tmp_path / "teacher")
    parts = start(tone_corpus, tmp_path / "run", f"trainer.teachers=[{teacher}]", "trainer.consistency=0.2")
    assert parts.teachers
    items = [Item(0, 0.9), Item(3, 1.1)]
    (batch,) = train_set_of(parts).batches([items], parts.config.augment, (1, 0), views=2)
    assert batch.items == (*items, *items)
    found = parts.teachers.posteriors(batch)
    _, lengths = parts.plain_model(batch.features, batch.feature_lengths)
    assert found.shape == (4, int(lengths.max()), 40)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :length].sum(1), torch.ones(length), atol=2e-3, rtol=0)
        assert found[row, length:].abs().sum() == 0


def test_a_teacher_has_the_padding_of_its_student(tone_corpus: Path, tmp_path: Path) -> None:
    teacher = run(tone_corpus, tmp_path / "teacher")
    padded = shutil.copytree(teacher, tmp_path / "padded")
    (padded / "checksums.txt").unlink()
    config = (padded / "config.yaml").read_text()
    (padded / "config.yaml").write_text(config.replace("padding_ms: 0.0", "padding_ms: 250.0"))
    assert load_bundle(padded).features.padding_ms == 250
    found = []
    for number, model in enumerate((teacher, padded)):
        parts = start(tone_corpus, tmp_path / str(number), f"trainer.teachers=[{model}]")
        assert parts.teachers
        (batch,) = train_set_of(parts).batches([[Item(0, 1.0), Item(3, 1.0)]])
        found.append(parts.teachers.posteriors(batch))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_merged_frames_have_the_output_of_the_frames(count: int) -> None:
    """Against every path through the frames: those that output one symbol or none, by what they output."""
    blank_is_best = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    posteriors = (torch.rand(6, 4, dtype=torch.float64) + blank_is_best).softmax(1)
    merged = merge_frames(posteriors, count)
    for number, group in enumerate(posteriors.split(count)):
        sums = torch.zeros(4, dtype=torch.float64)
        for path in itertools.product(range(4), repeat=count):
            output = [symbol for symbol, _ in itertools.groupby(path) if symbol]
            if len(output) < 2:
                sums[output[0] if output else 0] += math.prod(float(group[i, symbol]) for i, symbol in enumerate(path))
        torch.testing.assert_close(merged[number], sums / sums.sum())
    (last,) = merge_frames(posteriors[:1], 2)
    torch.testing.assert_close(last, posteriors[0])
    sure = torch.eye(4)[[1, 2]]
    assert merge_frames(sure, 2).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("best", "merged"),
    [
        ([0, 0, 0, 1, 2, 0, 0, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 0, 0, 0, 3, 0], [1, 2, 0, 3]),  # 2 comes later
        ([0, 0, 0, 0, 1, 2, 3, 0], [0, 1, 2, 3]),  # 1 comes earlier
        ([1, 2, 3, 1, 0, 0, 0, 0], [1, 2, 3, 1]),
        ([0, 2, 0, 2, 0, 0, 0, 0], [2, 0, 2, 0]),  # a blank keeps them apart
        ([3, 3, 3, 3, 1, 0, 0, 0], [3, 3, 1, 0]),
        ([0, 3, 3, 2, 0, 0, 0, 0], [3, 2, 0, 0]),
    ],
)
def test_merged_frames_keep_every_symbol_of_the_best_path(best: list[int], merged: list[int]) -> None:
    assert merge_frames(0.96 * torch.eye(4)[best] + 0.01, 2).argmax(1).tolist() == merged


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_merged_frames_lose_symbols_only_if_there_are_too_many(count: int) -> None:
    random = np.random.default_rng(count)
    fitting = 0
    for _ in range(500):
        best = np.where(random.random(30) < random.random(), random.integers(1, 5, 30), 0)
        merged = merge_frames(0.95 * torch.eye(5)[best] + 0.01, count)
        assert merged.shape == (math.ceil(30 / count), 5)
        torch.testing.assert_close(merged.sum(1), torch.ones(len(merged)))
        path, kept = (
            [symbol for symbol, _ in itertools.groupby(ids) if symbol] for ids in (best, merged.argmax(1).tolist())
        )
        if len(path) + sum(a == b for a, b in itertools.pairwise(path)) <= len(merged):
            fitting += 1
            assert kept == path
    assert fitting > 100


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        (("model.time_reduction=1", "features=librosa_mel"), ()),
        (("features.frame_length_ms=60",), ()),
        ((), ("features.frame_length_ms=60",)),
    ],
    ids=["shorter frames", "one frame fewer", "one frame more"],
)
def test_a_teacher_with_other_frames_is_fitted(
    tone_corpus: Path, tmp_path: Path, teacher: tuple[str, ...], student: tuple[str, ...]
) -> None:
    model = run(tone_corpus, tmp_path / "teacher", "model.time_reduction=4", *teacher)
    parts = start(tone_corpus, tmp_path / "run", f"trainer.teachers=[{model}]", "model.time_reduction=4", *student)
    assert parts.teachers
    items = [Item(index, speed) for index in range(12) for speed in (0.9, 1.0, 1.1)]
    (batch,) = train_set_of(parts).batches([items])
    found = parts.teachers.posteriors(batch)
    _, lengths = parts.plain_model(batch.features, batch.feature_lengths)
    assert found.shape == (len(items), int(lengths.max()), 40)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :length].sum(1), torch.ones(length), atol=2e-3, rtol=0)
        assert found[row, length:].abs().sum() == 0


def test_teachers_do_not_bring_back_what_is_left_out(tone_corpus: Path, tmp_path: Path) -> None:
    teacher = run(tone_corpus, tmp_path / "teacher")
    parts = start(tone_corpus, tmp_path / "run", f"trainer.teachers=[{teacher}]", "trainer.flat_start_epochs=0")
    (batch,) = train_set_of(parts).batches([[Item(0, 1.0), Item(1, 1.0)]])
    tokens = torch.nn.functional.pad(batch.tokens, (0, 500), value=1)
    lengths = torch.stack([torch.tensor(500), batch.token_lengths[1]])
    losses = asr.training.loop.batch_losses(parts, replace(batch, tokens=tokens, token_lengths=lengths))
    left_out, kept = losses.tolist()
    assert left_out == 0 < kept


def test_a_teacher_that_does_not_fit_is_refused(tone_corpus: Path, tmp_path: Path) -> None:
    teacher = run(tone_corpus, tmp_path / "teacher")
    reason = r"as the student has, or an integer fraction of it \(time_reduction, frame_shift_ms\)$"
    with pytest.raises(InputError, match=rf"^teacher .*model: an output frame every 40 ms, expected 20 ms {reason}"):
        run(tone_corpus, tmp_path / "run", f"trainer.teachers=[{teacher}]", "model.time_reduction=2")
    wide = run(tone_corpus, tmp_path / "wide", "features.frame_length_ms=150")
    message = r"output frames for utterance \w-\d, expected \d+ as the student has \(time_reduction, frame_shift_ms\)$"
    with pytest.raises(InputError, match=rf"^teacher .*model: \d+ {message}"):
        run(tone_corpus, tmp_path / "run", f"trainer.teachers=[{wide}]")
    parts = start(tone_corpus, tmp_path / "run")
    student = replace(parts.bundle, inventory=inventory("timit61"))
    with pytest.raises(InputError, match="has the 39 phones of arpabet39, expected those of timit61$"):
        Teachers([teacher], student, train_set_of(parts), [1.0], "float32")


def test_seeds_decide(tone_corpus: Path, tmp_path: Path) -> None:
    weights = {
        name: load_file(run(tone_corpus, tmp_path / name, f"seed={seed}") / "model.safetensors")["output.weight"]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    torch.testing.assert_close(weights["a"], weights["b"], atol=0, rtol=0)
    assert not torch.equal(weights["a"], weights["c"])


def test_early_stopping(tone_corpus: Path, tmp_path: Path) -> None:
    run(tone_corpus, tmp_path, "trainer.epochs=30", "trainer.early_stopping_epochs=2", "optimizer.learning_rate=0")
    assert len(json.loads((tmp_path / "history.json").read_text())) == 3


def test_an_earlier_run_is_not_overwritten(tone_corpus: Path, tmp_path: Path) -> None:
    run(tone_corpus, tmp_path / "run")
    with pytest.raises(InputError, match="holds a training already, expected resume=true"):
        run(tone_corpus, tmp_path / "run")
    with pytest.raises(InputError, match=r"model.hidden is 17, expected 16 as in the run to resume"):
        run(tone_corpus, tmp_path / "run", "model.hidden=17", "resume=true")


def test_resuming_starts_where_nothing_is_there_and_ends_where_all_is_done(tone_corpus: Path, tmp_path: Path) -> None:
    first = run(tone_corpus, tmp_path / "first")
    second = run(tone_corpus, tmp_path / "second", "resume=true")
    weights = (first / "model.safetensors").read_bytes()
    assert (second / "model.safetensors").read_bytes() == weights
    again = run(tone_corpus, tmp_path / "second", "resume=true")
    assert (again / "model.safetensors").read_bytes() == weights
    shutil.rmtree(tmp_path / "second" / "checkpoints")
    with pytest.raises(InputError, match="holds a model but no checkpoint to resume from, expected another run_dir"):
        run(tone_corpus, tmp_path / "second", "resume=true")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_where(tone_corpus: Path, tmp_path: Path, number: int) -> None:
    settings = ("trainer.epochs=3", "model.dropout=0.2", "trainer.batch_utterances=2", "trainer.accumulation=2")
    whole = run(tone_corpus, tmp_path / "whole", *settings)
    plain, calls = asr.training.loop.update_weights, iter(range(100))

    def update_and_signal(*arguments: Any) -> float:
        loss = plain(*arguments)
        if next(calls) == 4:  # the second update of the second epoch
            os.kill(os.getpid(), number)
        return loss

    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asr.training.loop, "update_weights", update_and_signal)
        with pytest.raises(
            Interrupted, match="stopped after 5 updates; saved in .*checkpoints, the same command"
        ) as stopped:
            run(tone_corpus, tmp_path / "parts", *settings)
    assert stopped.value.number == number
    assert signal.getsignal(number) == before
    state = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")["progress"]
    assert (state["epoch"], state["groups"]) == (1, 2)
    parts = run(tone_corpus, tmp_path / "parts", *settings, "resume=true")
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    assert kill_and_resume.history(tmp_path / "whole") == kill_and_resume.history(tmp_path / "parts")


def test_a_signal_in_the_last_validation_stops_as_well(tone_corpus: Path, tmp_path: Path) -> None:
    plain = asr.training.loop.validate

    def validate_and_signal(run: Run) -> Any:
        if run.progress.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asr.training.loop, "validate", validate_and_signal)
        with pytest.raises(Interrupted, match="stopped after 6 updates"):
            run(tone_corpus, tmp_path)
    assert not (tmp_path / "model").exists()
    run(tone_corpus, tmp_path, "resume=true")


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(tone_corpus: Path, tmp_path: Path) -> None:
    overrides = [*TINY_MODEL, "trainer.batch_utterances=1", "trainer.epochs=30"]
    assert kill_and_resume.check(tone_corpus, tmp_path, 3, 2, overrides) == []


def test_the_checkpoint_before_stands_in_for_a_damaged_one(
    tone_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(tone_corpus, tmp_path / "whole", "trainer.epochs=4")
    killed_after_two_epochs(tone_corpus, tmp_path / "parts", "trainer.epochs=4")
    last = tmp_path / "parts" / "checkpoints" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    parts = run(tone_corpus, tmp_path / "parts", "trainer.epochs=4", "resume=true")
    log = (tmp_path / "parts" / "train.log").read_text()
    assert f"{last}: {len(content)} bytes that do not agree with their checksum" in log
    assert "the previous checkpoint is used" in log
    assert "resumed after epoch 1" in log
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


def test_a_second_process_is_refused_with_the_first_ones_id(tone_corpus: Path, tmp_path: Path) -> None:
    holder = "import sys, time; from pathlib import Path; from asr.system.lock import open_run_lock\n"
    holder += "with open_run_lock(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        with pytest.raises(InputError, match=f"in use by process {first.pid}, expected that process to end first"):
            run(tone_corpus, tmp_path)
        first.kill()
        first.wait()
    run(tone_corpus, tmp_path)


@pytest.mark.parametrize("setting", [("seed", 2), ("optimizer.learning_rate", 0.5)])
def test_resuming_needs_the_same_settings(tone_corpus: Path, tmp_path: Path, setting: tuple[str, object]) -> None:
    run(tone_corpus, tmp_path)
    key, value = setting
    with pytest.raises(InputError, match=f"{key} is {value}, expected"):
        run(tone_corpus, tmp_path, f"{key}={value}", "resume=true")


def test_a_full_disk_leaves_the_settings_of_a_run(tone_corpus: Path, tmp_path: Path) -> None:
    write_config(config(tone_corpus, tmp_path), "float32", tmp_path)
    settings = (tmp_path / "config.yaml").read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(settings) - 1, hard))
    try:
        with pytest.raises(InputError, match=r"config.yaml: cannot be written \(File too large\)"):
            write_config(config(tone_corpus, tmp_path), "float32", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "config.yaml").read_text() == settings
    (tmp_path / "config.yaml").write_text("seed: [1, 2")
    with pytest.raises(
        InputError, match=r"config.yaml: not readable \(ParserError\), expected the settings of the run"
    ):
        stored_settings(tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    save_checkpoint({"model": {"w": torch.ones(3)}, "epoch": 3}, tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 3
    whole = (tmp_path / "last.pt").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"cos\nsystem\n(S'true'\ntR."):
        (tmp_path / "last.pt").write_bytes(content)
        with pytest.raises(InputError, match=r"last\.pt: \d+ bytes that do not agree with their checksum"):
            load_checkpoint(tmp_path / "last.pt")
    with pytest.raises(InputError, match="No such file"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint({}, tmp_path / "last.pt" / "x" / "y.pt")


def poison(monkeypatch: pytest.MonkeyPatch, after: int, change: str) -> None:
    """Make the loss or the gradient NaN at the update after the first ``after``."""
    import asr.training.loop

    real, calls = asr.training.loop.batch_losses, [0]

    def losses(run: object, batch: Batch) -> torch.Tensor:
        result = real(run, batch)  # type: ignore[arg-type]
        calls[0] += 1
        if calls[0] <= after:
            return result
        if change == "loss":
            return result.index_fill(0, torch.tensor([0]), math.nan)
        result.register_hook(lambda gradient: gradient * math.nan)
        return result

    monkeypatch.setattr(asr.training.loop, "batch_losses", losses)


@pytest.mark.parametrize(
    ("change", "message"), [("loss", r"utterance [abc]-\d \(nan\)"), ("gradient", "gradient norm is nan")]
)
def test_numbers_that_are_not_finite_stop_the_run(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    poison(monkeypatch, 3, change)
    with pytest.raises(TrainingError, match=message + r".*last good checkpoint: .*last\.pt") as error:
        run(tone_corpus, tmp_path)
    assert "-" in str(error.value)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["progress"]["epoch"] == 1
    assert not (tmp_path / "model").exists()


def test_features_that_are_not_finite_are_named(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = Dataset.features, [0]

    def features(dataset: Dataset, item: Item) -> torch.Tensor:
        found = plain(dataset, item).clone()
        if dataset.utterances[item.utterance].id == "b-2":
            calls[0] += 1
            if calls[0] == 2:  # in the second epoch
                found[7, 3] = math.nan
        return found

    monkeypatch.setattr(Dataset, "features", features)
    with pytest.raises(TrainingError, match=r"^features are not finite for utterance b-2; last good checkpoint: "):
        run(tone_corpus, tmp_path, "trainer.consistency=0.2", "augment.time_masks=0", "augment.frequency_masks=0")
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["progress"]["epoch"] == 1


@pytest.mark.parametrize("epoch", [0, 1])  # flat start, then CTC
def test_every_weight_that_is_not_finite_is_named_at_the_step(tone_corpus: Path, tmp_path: Path, epoch: int) -> None:
    everything = ("model=cnn_blstm_attention", "model.projection=8", "model.layer_norm=true")
    parts = start(tone_corpus, tmp_path, *everything, "model.layers=2", "model.hidden=16")
    parts.progress.epoch = epoch
    ((items, _),) = plan_updates(parts, parts.sections.open(0, 0, {}))[0].batches
    (batch,) = train_set_of(parts).batches([items])
    weights = dict(parts.plain_model.named_parameters())
    assert len(weights) > 20
    for name, weight in weights.items():
        values, place = weight.detach(), (-1,) * weight.ndim
        before, values[place] = values[place].clone(), math.nan
        with pytest.raises(TrainingError) as error:
            asr.training.loop.update_weights(parts, [(batch, 1.0)], 1.0, 0.001)
        what = f"{name} (1 of {weight.numel()} values)"
        assert str(error.value) == f"weights are not finite after 0 updates: {what}; there is no checkpoint yet"
        values[place] = before
    asr.training.loop.update_weights(parts, [(batch, 1.0)], 1.0, 0.001)


@pytest.mark.parametrize(("settings", "after"), [((), 6), (("trainer.checkpoint_minutes=1e-9",), 5)])
def test_weights_that_are_not_finite_are_not_saved(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], after: int
) -> None:
    plain = asr.training.loop.update_weights

    def update(parts: Run, *others: Any) -> float:
        loss = plain(parts, *others)
        if parts.progress.update == after:
            parts.plain_model.output.bias.detach()[3] = math.inf
        return loss

    monkeypatch.setattr(asr.training.loop, "update_weights", update)
    message = rf"weights are not finite after {after} updates: output.bias \(1 of 40 values\); last good checkpoint: "
    with pytest.raises(TrainingError, match=message):
        run(tone_corpus, tmp_path, *settings)
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert all(weight.isfinite().all() for weight in saved["model"].values())
    assert saved["progress"]["update"] == (after - 1 if settings else 3)
    assert not (tmp_path / "model").exists()


def test_labels_that_do_not_fit_are_named_and_counted(tmp_path: Path) -> None:
    from dataclasses import replace

    train_set = make_utterances(tmp_path / "audio", ["a"], 4)
    train_set[2] = replace(train_set[2], phones=("AA",) * 40)
    splits = {"train": train_set, "dev": make_utterances(tmp_path / "dev", ["d"], 1)}
    write_corpus(tmp_path / "corpus", splits, {})
    run(tmp_path / "corpus", tmp_path / "run")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "utterance a-2 is left out of the loss" in log
    assert "its phones need 79" in log
    assert "need more frames than they have: 1" in log


def test_speakers_in_train_and_dev_are_refused(tmp_path: Path) -> None:
    utterances = make_utterances(tmp_path / "audio", ["a"], 4)
    write_corpus(tmp_path / "corpus", {"train": utterances[:2], "dev": utterances[2:]}, {})
    with pytest.raises(InputError, match="speaker a is in train and dev"):
        run(tmp_path / "corpus", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_cuda_device_is_said(tone_corpus: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED: there is a CUDA device")
    with pytest.raises(InputError, match="no CUDA device is at hand"):
        run(tone_corpus, tmp_path / "run", "trainer.device=cuda")


def test_weight_noise_is_taken_back() -> None:
    model = torch.nn.Linear(40, 50)
    before = model.weight.detach().clone()
    with weight_noise(model, 0.1):
        assert float((model.weight - before).std()) == pytest.approx(0.1, rel=0.1)
    torch.testing.assert_close(model.weight.detach(), before, atol=0, rtol=0)
    with suppress(InputError), weight_noise(model, 0.1):  # the state is saved after such an error
        raise InputError("a.wav: no such file, expected an audio file")
    torch.testing.assert_close(model.weight.detach(), before, atol=0, rtol=0)


@pytest.mark.slow
def test_eight_real_utterances_are_learned_by_heart(real_utterances: list[Utterance], tmp_path: Path) -> None:
    from dataclasses import replace

    chosen = real_utterances[:8]
    strangers = [replace(utterance, speaker="dev") for utterance in real_utterances[8:9]]
    write_corpus(tmp_path, {"train": chosen, "dev": strangers}, {})
    model = run(
        tmp_path,
        tmp_path / "run",
        "trainer.epochs=110",
        "trainer.flat_start_epochs=15",
        "trainer.batch_utterances=8",
        "trainer.average=last",
        "trainer.average_count=1",
        "augment=none",
        "model.hidden=96",
        "model.convolution_channels=[16,16]",
        "optimizer.learning_rate=0.01",
    )
    bundle: Bundle = load_bundle(model)
    dataset = Dataset(read_manifest(tmp_path / "cuts_train.jsonl.gz"), bundle.features, bundle.inventory, cache_gib=0)
    hypotheses = recognize(bundle, dataset)
    assert sum(count_errors(u.phones, hypotheses[u.id]).errors for u in chosen) == 0


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv[1:] = sys.argv[2:]
from asr.cli.app import main
main()
"""


@pytest.mark.parametrize(("limit", "name"), [(1000, "run"), pytest.param(30000, "checkpoints", marks=pytest.mark.slow)])
def test_no_room_for_the_run_is_one_line(tone_corpus: Path, tmp_path: Path, limit: int, name: str) -> None:
    """A limit on file size replaces a full disk: writing fails at the same points."""
    arguments = [
        "train",
        "experiment=speechocean762",
        *FAST,
        f"corpus.dir={tone_corpus}",
        f"run_dir={tmp_path / 'run'}",
    ]
    command = [sys.executable, "-c", LIMITED, str(limit), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("asr: ")]
    assert len(said) == 1
    assert name in said[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "model").exists()
    assert not list(tmp_path.rglob("*.partial"))
