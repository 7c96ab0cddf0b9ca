"""Training from shards: as from their cuts, resumed bit by bit, in several processes; bad shards, stores that go away."""

import gc
import os
import shutil
import signal
import subprocess
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file

import asr.training.loop
from asr.config import FeatureConfig
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.phones import inventory
from asr.corpus.shard_encoding import StoredFeatures
from asr.corpus.shard_writer import ShardOptions, write_shards
from asr.corpus.shards import Shards, read_utterances
from asr.corpus.spool import Spool
from asr.errors import InputError, Interrupted
from asr.features.dataset import Dataset, Item
from asr.features.filterbanks import extract
from asr.training.checkpoint_files import load_last, save_last
from asr.training.data import plan_updates, remaining_sections, shares
from asr.training.data_checks import UtteranceCheck
from asr.training.run import Run
from tests.conftest import TINY_MODEL, make_utterances
from tests.faults import kill_and_resume, processes
from tests.test_train import config, run, start

T = TypeVar("T")

PART = ("sources.shards_at_once=2", "trainer.batch_utterances=2", "model.dropout=0.2", "trainer.epochs=3")
"""Of the four shards below, two at once: an epoch has two sections."""


@pytest.fixture(scope="session")
def shards(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 12 training utterances of the corpus of tones in four shards."""
    out = tmp_path_factory.mktemp("shards") / "train"
    write_shards(tone_corpus / "cuts_train.jsonl.gz", out, ShardOptions(shard_utterances=3))
    return out


def from_shards(corpus: Path, shards: Path, run_dir: Path, *overrides: str) -> Path:
    return run(corpus, run_dir, f"corpus.train={shards}", *overrides)


def weights_of(model: Path) -> bytes:
    return (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.aligner_epochs=1", "trainer.accumulation=2"),
        ("features=fbank_running", "trainer.consistency=0.2"),
        ("features=mfcc",),  # each speaker's statistics
        ("corpus.dev=cuts_test.jsonl.gz",),
    ],
)
def test_shards_that_fit_one_section_are_trained_as_their_cuts(
    tone_corpus: Path, shards: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    cuts = run(tone_corpus, tmp_path / "cuts", *overrides)
    same = from_shards(tone_corpus, shards, tmp_path / "shards", *overrides)
    assert kill_and_resume.history(tmp_path / "cuts") == kill_and_resume.history(tmp_path / "shards")
    for name in ("model.safetensors", "aligner.safetensors", "statistics.safetensors", "confidence.yaml"):
        if (cuts / name).exists():
            assert (cuts / name).read_bytes() == (same / name).read_bytes(), name
    assert "12 utterances, 0.00 h" in (same / "README.md").read_text()


def epoch_ids(parts: Run, epoch: int) -> list[list[str]]:
    """The utterances that this process trains on in an epoch, batch by batch."""
    parts.progress.epoch, parts.progress.section = epoch, 0
    found = []
    for section in remaining_sections(parts):
        for _, batches in shares(parts, section, plan_updates(parts, section)):
            found += [list(batch.ids) for batch, share in batches if share]
        parts.progress.end_section()
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_utterance_is_trained_on_once_an_epoch(
    tone_corpus: Path, shards: Path, tmp_path: Path, count: int
) -> None:
    parts = start(tone_corpus, tmp_path, f"corpus.train={shards}", "sources.shards_at_once=3", "trainer.epochs=4")
    parts.progress.loss_count = 1
    expected = Counter(one.id for one in read_manifest(tone_corpus / "cuts_train.jsonl.gz"))
    orders = set()
    for epoch in range(4):
        seen: list[list[str]] = []
        for rank in range(count):
            parts.accelerator = Place(rank, count)
            seen += epoch_ids(parts, epoch)
        assert Counter(one for batch in seen for one in batch) == expected
        orders.add(str(seen))
    assert len(orders) == 4
    parts.sections.close()


class Place:
    """An accelerator that says it is one of several processes."""

    def __init__(self, rank: int, count: int) -> None:
        self.process_index, self.num_processes, self.device = rank, count, torch.device("cpu")


class Together:
    """Several processes as threads, for what they exchange. ``gather`` waits for all of them."""

    def __init__(self, count: int) -> None:
        self.count, self.found, self.barrier = count, [None] * count, threading.Barrier(count, timeout=60)

    def gather(self, accelerator: Any, found: Any) -> list[Any]:
        self.found[accelerator.process_index] = found
        self.barrier.wait()
        everyone = list(self.found)
        self.barrier.wait()
        return everyone

    def run(self, work: Callable[[int], T]) -> list[T]:
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(work, range(self.count)))


class OneOf:
    """An accelerator of this process that says it is one of several."""

    def __init__(self, accelerator: Any, rank: int, count: int) -> None:
        self._accelerator, self.process_index, self.num_processes = accelerator, rank, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)


def start_split(corpus: Path, folder: Path, together: Together, *overrides: str) -> list[Run]:
    """The runs of processes that split the shards."""
    runs, real = [], asr.training.loop.make_accelerator
    with pytest.MonkeyPatch.context() as patch:
        for rank in range(together.count):
            patch.setattr(
                asr.training.loop,
                "make_accelerator",
                lambda *given, rank=rank: OneOf(real(*given), rank, together.count),
            )
            runs.append(start(corpus, folder / str(rank), "sources.split=true", *overrides))
            runs[-1].progress.loss_count = 1
    return runs


def updates_left(parts: Run) -> list[tuple[int, float, list[tuple[str, ...]], list[float]]]:
    """The updates of a process that are left in an epoch: section, divisor, ids of each batch, factors of all batches."""
    updates = []
    for section in remaining_sections(parts):
        for update, batches in shares(parts, section, plan_updates(parts, section)):
            ids = [batch.ids for batch, factor in batches if factor]
            updates.append((section.number, update.divisor, ids, [factor for _, factor in batches]))
        parts.progress.end_section()
    return updates


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Together:
    """What two processes exchange."""
    together = Together(2)
    monkeypatch.setattr("asr.training.sections.gather", together.gather)
    monkeypatch.setattr("asr.training.data.gather", together.gather)
    return together


@pytest.mark.parametrize("count", [2, 3])
def test_processes_that_split_the_shards_train_on_each_utterance_once_and_keep_in_step(
    tone_corpus: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Three processes have sections of two shards: one of them borrows an utterance."""
    together = Together(count)
    monkeypatch.setattr("asr.training.sections.gather", together.gather)
    monkeypatch.setattr("asr.training.data.gather", together.gather)
    settings = ("sources.shards_at_once=1", "trainer.batch_utterances=4", "trainer.accumulation=2")
    runs = start_split(tone_corpus, tmp_path, together, f"corpus.train={shards}", *settings)
    fetched: list[set[int]] = [set() for _ in runs]
    for one, numbers in zip(runs, fetched, strict=True):
        spool = one.sections._reader._spool
        monkeypatch.setattr(
            spool, "fetch", lambda index, number, fetch=spool.fetch, n=numbers: (n.add(number), fetch(index, number))[1]
        )

    everyone = together.run(lambda rank: updates_left(runs[rank]))
    expected = {one.id: len(one.phones) for one in read_manifest(tone_corpus / "cuts_train.jsonl.gz")}
    trained = [one for updates in everyone for _, _, ids, _ in updates for batch in ids for one in batch]
    assert sorted(trained) == sorted(expected)
    for same in zip(*everyone, strict=True):  # the updates of all processes
        assert len({(number, divisor, len(factors)) for number, divisor, _, factors in same}) == 1
        tokens = sum(expected[one] for _, _, ids, _ in same for batch in ids for one in batch)
        assert same[0][1] == tokens
        assert all(len(batch) <= 4 // count for _, _, ids, _ in same for batch in ids)
    borrowed = sum(not any(factors) for updates in everyone for _, _, _, factors in updates)
    assert (borrowed > 0) == (count == 3)
    assert sorted(set.union(*fetched)) == [0, 1, 2, 3]
    if count == 2:
        assert [len(numbers) for numbers in fetched] == [2, 2]
    for one in runs:
        one.sections.close()


def test_a_bad_shard_of_one_process_is_left_out_by_all(
    tone_corpus: Path, damaged: Path, tmp_path: Path, two: Together
) -> None:
    settings = (f"corpus.train={damaged}", "sources.shards_at_once=2", "sources.skip_bad=true")
    runs = start_split(tone_corpus, tmp_path, two, *settings)
    found = two.run(lambda rank: len(runs[rank].sections.open(0, 0, runs[rank].progress.bad_shards).dataset))
    assert sum(found) == 9
    assert [[*one.progress.bad_shards] for one in runs] == [[f"{damaged}: shard 000002"]] * 2
    for one in runs:
        one.sections.close()


@pytest.mark.parametrize("at_once", [2, 4])
def test_the_rest_of_an_epoch_is_the_same_after_a_stop_though_a_shard_was_bad(
    tone_corpus: Path, damaged: Path, tmp_path: Path, two: Together, at_once: int
) -> None:
    """A manifest beside the shards. The stop is in the last section; with four shards at once, the bad one is met there."""
    settings = [f"corpus.train=[cuts_test.jsonl.gz,{damaged}]", "sources.weights=[1,2]"]
    settings += [f"sources.shards_at_once={at_once}", "sources.skip_bad=true", "trainer.batch_utterances=2"]
    whole = start_split(tone_corpus, tmp_path / "whole", two, *settings)
    updates = two.run(lambda rank: updates_left(whole[rank]))
    names = [one for part in updates for _, _, ids, _ in part for batch in ids for one in batch]
    manifest = {one.id for one in read_manifest(tone_corpus / "cuts_test.jsonl.gz")}
    assert Counter(Counter(names).values()) == {1: len(manifest), 2: 9}
    assert manifest == {one for one, times in Counter(names).items() if times == 1}
    resumed = start_split(tone_corpus, tmp_path / "resumed", two, *settings)
    last = max(section for section, *_ in updates[0])
    for one, before in zip(resumed, whole, strict=True):
        one.progress.section, one.progress.groups, one.progress.bad_shards = last, 1, dict(before.progress.bad_shards)
    rest = two.run(lambda rank: updates_left(resumed[rank]))
    assert last == (1 if at_once == 2 else 0)
    assert rest == [[update for update in part if update[0] == last][1:] for part in updates]
    assert len(rest[0]) > 1
    for one in (*whole, *resumed):
        one.sections.close()


def test_processes_draw_for_themselves_and_fail_together(
    tone_corpus: Path, shards: Path, tmp_path: Path, two: Together
) -> None:
    runs = start_split(tone_corpus, tmp_path, two, f"corpus.train={shards}", "sources.shards_at_once=2")
    seeds = two.run(lambda rank: [runs[rank].sections.open(epoch, 0, {}).seed for epoch in range(2)])
    assert len({*seeds[0], *seeds[1]}) == 4

    def fail(_: object) -> Dataset:
        raise InputError("utterance x: phone 'q', expected one of the inventory")

    runs[1].sections._make_dataset = fail
    messages = two.run(lambda rank: message_of(lambda: runs[rank].sections.open(0, 0, {})))
    assert messages == ["utterance x: phone 'q', expected one of the inventory"] * 2
    for one in runs:
        one.sections.close()


def message_of(work: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        work()
    return str(error.value)


def test_split_needs_shards_and_within_an_epoch_as_many_processes(
    tone_corpus: Path, shards: Path, tmp_path: Path
) -> None:
    together = Together(2)
    with pytest.raises(InputError, match=r"sources\.split without shards in corpus\.train, expected shards"):
        start_split(tone_corpus, tmp_path / "cuts", together)
    one, _ = start_split(tone_corpus, tmp_path / "two", together, f"corpus.train={shards}")
    alone = start(tone_corpus, tmp_path / "one", f"corpus.train={shards}", "sources.split=true")
    assert (one.sections.sharers, alone.sections.sharers) == (2, 1)
    alone.load_state(one.state())
    one.progress.groups = 1
    with pytest.raises(
        InputError, match=r"sources\.split: 1 processes; the run stopped within epoch 1, expected the 2 that"
    ):
        alone.load_state(one.state())


SPLIT = ("sources.split=true", "sources.shards_at_once=1", "trainer.accumulation=2")


@pytest.mark.slow
def test_two_processes_that_split_the_shards_have_the_loss_of_one(
    tone_corpus: Path, shards: Path, tmp_path: Path
) -> None:
    """With weights that stay and utterances as they are, the mean loss of an epoch does not depend on its batches."""
    still = ["optimizer.learning_rate=1e-12", "trainer.epochs=2", "augment=none", f"corpus.train={shards}", *SPLIT]
    means = []
    for count in (1, 2):
        arguments = processes.train_arguments(tone_corpus, tmp_path / str(count), still)
        subprocess.run(processes.command(count, "asr", arguments), check=True, capture_output=True)
        means.append([record["train_loss"] for record in kill_and_resume.history(tmp_path / str(count))])
    assert means[0] == pytest.approx(means[1], rel=1e-5)


@pytest.mark.slow
def test_processes_that_split_the_shards_go_on_after_a_death(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    overrides = ["trainer.epochs=60", f"corpus.train={shards}", *SPLIT]
    assert processes.kill_and_resume(tone_corpus, tmp_path, 1, 2, overrides) == []


def test_manifests_and_shards_are_mixed_with_weights(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    more = make_utterances(tmp_path / "more", ["x"], 4)
    write_corpus(tmp_path / "cuts", {"train": more}, {})
    mixed = (f"corpus.train=[{shards},{tmp_path}/cuts/cuts_train.jsonl.gz]", "sources.weights=[0.5,2]")
    parts = start(tone_corpus, tmp_path / "run", *mixed, *PART)
    parts.progress.loss_count = 1
    known = {one.id for one in read_manifest(tone_corpus / "cuts_train.jsonl.gz")}
    draws = set()
    for epoch in range(3):
        seen = Counter(one for batch in epoch_ids(parts, epoch) for one in batch)
        assert [seen.pop(one.id) for one in more] == [2] * 4
        assert seen.keys() < known
        assert [*seen.values()] == [1] * 6
        draws.add(str(sorted(seen)))
    assert len(draws) > 1
    parts.sections.close()
    run(tone_corpus, tmp_path / "run", *mixed, *PART)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "train 16 utterances, 0.00 h; dev 4 utterances, 1 speakers" in log


def test_weights_of_manifests_alone(tone_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    more = make_utterances(tmp_path / "more", ["x"], 4)
    write_corpus(tmp_path / "cuts", {"train": more}, {})
    mixed = (f"corpus.train=[cuts_train.jsonl.gz,{tmp_path}/cuts/cuts_train.jsonl.gz]", "sources.weights=[0.25,1.5]")
    parts = start(tone_corpus, tmp_path / "run", *mixed)
    parts.progress.loss_count = 1
    for epoch in range(2):
        seen = Counter(one for batch in epoch_ids(parts, epoch) for one in batch)
        assert sorted(seen.pop(one.id) for one in more) == [1, 1, 2, 2]
        assert [*seen.values()] == [1] * 3


def interrupted(corpus: Path, shards: Path, run_dir: Path, update: int, *overrides: str) -> dict[str, Any]:
    """A run that a signal stops after an update; the progress that it has saved."""
    plain, calls = asr.training.loop.update_weights, iter(range(1, 1000))

    def update_and_signal(*arguments: Any) -> float:
        loss = plain(*arguments)
        if next(calls) == update:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asr.training.loop, "update_weights", update_and_signal)
        with pytest.raises(Interrupted, match=r"stopped after \d+ updates"):
            from_shards(corpus, shards, run_dir, *overrides)
    saved: dict[str, Any] = load_last(run_dir / "checkpoints")["progress"]
    return saved


def test_a_run_stopped_anywhere_in_an_epoch_ends_the_same(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    whole = from_shards(tone_corpus, shards, tmp_path / "whole", *PART)
    places = []
    for update, more in ((2, ()), (1, ("resume=true",)), (5, ("resume=true",)), (5, ("resume=true",))):
        saved = interrupted(tone_corpus, shards, tmp_path / "parts", update, *PART, *more)
        places.append((saved["epoch"], saved["section"], saved["groups"]))
        torch.manual_seed(99)
    assert places == [(0, 0, 2), (0, 0, 3), (1, 0, 2), (2, 0, 1)]
    parts = from_shards(tone_corpus, shards, tmp_path / "parts", *PART, "resume=true")
    assert weights_of(whole) == weights_of(parts)
    assert kill_and_resume.history(tmp_path / "whole") == kill_and_resume.history(tmp_path / "parts")


MANY = ("trainer.batch_utterances=1", "trainer.epochs=20", "sources.shards_at_once=2")


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    overrides = [*TINY_MODEL, *MANY, f"corpus.train={shards}"]
    assert kill_and_resume.check(tone_corpus, tmp_path, 3, 2, overrides) == []


@pytest.mark.slow
def test_killed_many_times_it_ends_the_same(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    mixed = ["corpus.train=[cuts_test.jsonl.gz," + str(shards) + "]", "sources.weights=[1.5,1]"]
    assert kill_and_resume.check(tone_corpus, tmp_path, 12, 1, [*TINY_MODEL, *MANY, *mixed]) == []


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    overrides = [f"corpus.train={shards}", "sources.shards_at_once=2"]
    assert processes.compare_losses(tone_corpus, tmp_path, 12, overrides) <= processes.TOLERANCE


@pytest.mark.slow
def test_the_death_of_one_ends_the_other_and_two_go_on(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    overrides = ["trainer.epochs=60", f"corpus.train={shards}", "sources.shards_at_once=2"]
    for rank, count in ((0, 2), (1, 1), (1, 3)):
        assert processes.kill_and_resume(tone_corpus, tmp_path / f"{rank}_{count}", rank, count, overrides) == []


def test_an_older_checkpoint_is_resumed(tone_corpus: Path, tmp_path: Path) -> None:
    """Releases before shards have no sections in their checkpoints, and fewer settings."""
    whole = run(tone_corpus, tmp_path / "whole", *PART)
    interrupted(tone_corpus, Path("cuts_train.jsonl.gz"), tmp_path / "parts", 4, *PART)
    folder = tmp_path / "parts" / "checkpoints"
    state = load_last(folder)
    for key in ("section", "learning_rate", "bad_shards"):
        del state["progress"][key]
    del state["shards"], state["sharers"]
    save_last(state, folder)
    settings = yaml.safe_load((tmp_path / "parts" / "config.yaml").read_text())
    for key in ("weights", "split", "skip_bad"):
        del settings["sources"][key]
    (tmp_path / "parts" / "config.yaml").write_text(yaml.safe_dump(settings))
    parts = run(tone_corpus, tmp_path / "parts", *PART, "resume=true")
    assert weights_of(whole) == weights_of(parts)


@pytest.fixture
def damaged(shards: Path, tmp_path: Path) -> Path:
    """The shards, with one byte of the third changed."""
    shutil.copytree(shards, tmp_path / "damaged")
    path = tmp_path / "damaged" / "recording.000002.tar"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    return tmp_path / "damaged"


def test_a_bad_shard_ends_the_run_with_its_name(tone_corpus: Path, damaged: Path, tmp_path: Path) -> None:
    message = (
        rf"^{damaged}/recording.000002.tar: SHA-256 \w+, expected \w+; sources.skip_bad=true leaves such shards out"
    )
    with pytest.raises(InputError, match=message):
        from_shards(tone_corpus, damaged, tmp_path / "run", *PART)


def test_bad_shards_are_left_out_named_once_and_counted(tone_corpus: Path, damaged: Path, tmp_path: Path) -> None:
    settings = (*PART, "sources.skip_bad=true")
    whole = from_shards(tone_corpus, damaged, tmp_path / "whole", *settings)
    log = (tmp_path / "whole" / "train.log").read_text()
    assert log.count("recording.000002.tar: SHA-256") == 1
    assert [f"epoch {epoch}: 1 bad shards with 3 utterances left out" in log for epoch in (1, 2, 3)] == [True] * 3
    interrupted(tone_corpus, damaged, tmp_path / "parts", 6, *settings)
    parts = from_shards(tone_corpus, damaged, tmp_path / "parts", *settings, "resume=true")
    assert weights_of(whole) == weights_of(parts)


def test_a_run_that_met_a_bad_shard_goes_on_without_it(tone_corpus: Path, damaged: Path, tmp_path: Path) -> None:
    one = (*PART, "sources.shards_at_once=1")
    with pytest.raises(
        InputError, match=r"recording.000002.tar: .*; saved in .*checkpoints, the same command with resume"
    ):
        from_shards(tone_corpus, damaged, tmp_path / "run", *one, "seed=3")
    skip = (*one, "seed=3", "sources.skip_bad=true")
    parts = from_shards(tone_corpus, damaged, tmp_path / "run", *skip, "resume=true")
    whole = from_shards(tone_corpus, damaged, tmp_path / "whole", *skip)
    assert weights_of(whole) == weights_of(parts)


def test_nothing_but_bad_shards_is_refused(tone_corpus: Path, damaged: Path, tmp_path: Path) -> None:
    for path in damaged.glob("cuts.*.gz"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="^corpus.train: every shard is bad, expected at least one to train on$"):
        from_shards(tone_corpus, damaged, tmp_path / "run", "sources.skip_bad=true")


@pytest.mark.parametrize("in_shards", [False, True])
def test_weights_that_choose_nothing_are_named(
    tone_corpus: Path, shards: Path, tmp_path: Path, in_shards: bool
) -> None:
    source = shards if in_shards else "cuts_train.jsonl.gz"
    message = r"^configuration: sources.weights \[0.04\] choose 0 of 12 utterances for an epoch, expected at least one"
    with pytest.raises(InputError, match=message):
        run(tone_corpus, tmp_path, f"corpus.train={source}", "sources.weights=[0.04]")


def test_audio_in_a_shard_is_named_by_its_utterance(tmp_path: Path) -> None:
    path, features = tmp_path / "zero.wav", config(tmp_path, tmp_path).features
    soundfile.write(path, np.zeros(16000), 16000)
    loose = Utterance("s1/zero", path, 16000, 1.0, "s1", ("AA",))
    write_corpus(tmp_path, {"train": [loose]}, {})
    packed = write_shards(tmp_path / "cuts_train.jsonl.gz", tmp_path / "out")
    with Spool() as spool, spool.fetch(packed, 0) as local:
        for utterances, ending in ((read_utterances(local), r" \(utterance s1/zero\)"), ([loose], "")):
            dataset = Dataset(utterances, features, inventory("arpabet39"), cache_gib=0)
            with pytest.raises(InputError, match=rf": all 16000 samples are zero, expected a signal{ending}$"):
                dataset.features(Item(0, 1.0))


def test_a_store_that_goes_away_ends_a_run_that_can_go_on(
    tone_corpus: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = (*PART, "sources.shards_at_once=1")
    whole = from_shards(tone_corpus, shards, tmp_path / "whole", *one)
    plain, calls = Spool.fetch, iter(range(100))

    def fetch(spool: Spool, shards: Shards, number: int) -> Any:
        if next(calls) >= 6:  # four in the first epoch
            raise InputError("s3://bucket/train: no answer")
        return plain(spool, shards, number)

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "fetch", fetch)
        with pytest.raises(InputError, match=r"^s3://bucket/train: no answer; saved in .* with resume=true"):
            from_shards(tone_corpus, shards, tmp_path / "parts", *one, "sources.skip_bad=true")
    saved = load_last(tmp_path / "parts" / "checkpoints")["progress"]
    assert (saved["epoch"], saved["section"], saved["groups"]) == (1, 2, 0)
    parts = from_shards(tone_corpus, shards, tmp_path / "parts", *one, "resume=true")
    assert weights_of(whole) == weights_of(parts)


def test_shards_of_a_remote_store_are_read_through_a_spool(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    write_shards(tone_corpus / "cuts_train.jsonl.gz", "memory://train", ShardOptions(shard_utterances=3))
    local = from_shards(tone_corpus, shards, tmp_path / "local", *PART)
    spool = (f"sources.spool_dir={tmp_path / 'spool'}", "sources.spool_gib=1")
    remote = run(tone_corpus, tmp_path / "remote", "corpus.train=memory://train", *spool, *PART)
    assert weights_of(local) == weights_of(remote)
    assert len([*(tmp_path / "spool").glob("recording.*.tar")]) == 4


def test_resuming_needs_the_same_shards(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    interrupted(tone_corpus, tmp_path / "shards", tmp_path / "run", 2, *PART)
    shutil.rmtree(tmp_path / "shards")
    write_shards(tone_corpus / "cuts_train.jsonl.gz", tmp_path / "shards", ShardOptions(shard_utterances=6))
    with pytest.raises(InputError, match="corpus.train: other shards, expected those that the run began with"):
        from_shards(tone_corpus, tmp_path / "shards", tmp_path / "run", *PART, "resume=true")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speaker": "d"}, r"shard 000001: speaker d is in train and dev, expected disjoint speakers"),
        ({"phones": ("AA", "Q1")}, r"utterance b-1 of .*: shard 000001: unknown phone 'Q1', expected one of the 39"),
    ],
)
def test_utterances_that_cannot_be_used_are_named_with_their_shard(
    tone_corpus: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    utterances = read_manifest(tone_corpus / "cuts_train.jsonl.gz")
    utterances[5] = replace(utterances[5], **change)
    write_corpus(tmp_path / "cuts", {"train": utterances}, {})
    write_shards(tmp_path / "cuts/cuts_train.jsonl.gz", tmp_path / "shards", ShardOptions(shard_utterances=3))
    with pytest.raises(InputError, match=message):
        from_shards(tone_corpus, tmp_path / "shards", tmp_path / "run")


def test_long_utterances_are_named_with_their_shard(shards: Path) -> None:
    check = UtteranceCheck(0.3, set(), inventory("arpabet39"))
    with pytest.raises(InputError, match=r"^here: utterance a-0 lasts 0.55 s, expected at most 0.3 s"):
        check(make_utterances(shards.parent / "audio", ["a"], 1), "here")


def test_teachers_follow_the_sections(tone_corpus: Path, shards: Path, tmp_path: Path) -> None:
    teacher = run(tone_corpus, tmp_path / "teacher")
    taught = (f"trainer.teachers=[{teacher}]", "trainer.consistency=0.2", "augment.speeds=[1.0]")
    whole = start(tone_corpus, tmp_path / "whole", *taught)
    parts = start(tone_corpus, tmp_path / "parts", *taught, *PART, f"corpus.train={shards}")
    assert whole.sections.whole
    assert whole.teachers
    assert parts.teachers
    places = {one.id: index for index, one in enumerate(whole.sections.whole.utterances)}
    parts.progress.loss_count = 1
    for section in remaining_sections(parts):
        for _, ((batch, _),) in shares(parts, section, plan_updates(parts, section)):
            items = tuple(Item(places[one], 1.0) for one in batch.ids)
            expected = whole.teachers.posteriors(replace(batch, items=items))
            torch.testing.assert_close(parts.teachers.posteriors(batch), expected, atol=1e-3, rtol=0)
        parts.progress.end_section()
    run(tone_corpus, tmp_path / "run", *taught, *PART, f"corpus.train={shards}")


@pytest.mark.slow
def test_memory_holds_two_sections(tone_corpus: Path, tmp_path: Path) -> None:
    write_shards(tone_corpus / "cuts_train.jsonl.gz", tmp_path / "shards", ShardOptions(shard_utterances=1))
    parts = start(tone_corpus, tmp_path / "run", f"corpus.train={tmp_path / 'shards'}", "sources.shards_at_once=2")
    parts.progress.loss_count = 1

    def alive() -> int:
        gc.collect()
        return sum(type(one) is Utterance for one in gc.get_objects())  # isinstance would ask what is gone already

    before, most, datasets = alive(), 0, list[weakref.ref[Dataset]]()
    for section in remaining_sections(parts):
        datasets.append(weakref.ref(section.dataset))
        for _ in shares(parts, section, plan_updates(parts, section)):
            pass
        most = max(most, alive() - before)
        assert sum(one() is not None for one in datasets) == 1
        parts.progress.end_section()
    assert len(datasets) == 6
    assert 2 <= most <= 6  # this section, the next one, and what is being read
    parts.sections.close()


def test_the_next_section_is_read_while_one_is_trained(
    tone_corpus: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, fetched, done = Spool.fetch, Counter[int](), threading.Semaphore(0)

    def fetch(spool: Spool, shards: Shards, number: int) -> Any:
        local = plain(spool, shards, number)
        fetched[number] += 1
        done.release()
        return local

    monkeypatch.setattr(Spool, "fetch", fetch)
    parts = start(tone_corpus, tmp_path, f"corpus.train={shards}", "sources.shards_at_once=3", "trainer.epochs=2")
    for expected in (4, 2):  # two sections of two shards, then the first one of the next epoch
        parts.sections.open(0, 0 if expected == 4 else 1, {})
        for _ in range(expected):
            assert done.acquire(timeout=60)
    assert sum(fetched.values()) == 6
    parts.sections.open(1, 0, {})
    parts.sections.close()


def test_stored_features_are_trained_on(tone_corpus: Path, tmp_path: Path) -> None:
    settings = config(tone_corpus, tmp_path / "run").features
    stored = StoredFeatures(asdict(settings), 16000, partial(extract_array, config=settings))
    out = tmp_path / "shards"
    write_shards(tone_corpus / "cuts_train.jsonl.gz", out, ShardOptions("features", 3, features=stored))
    once = ("augment.speeds=[1.0]", "trainer.precision=float32", "trainer.aligner_epochs=1")
    model = from_shards(tone_corpus, out, tmp_path / "run", *once)
    audio = run(tone_corpus, tmp_path / "audio", *once)
    expected = load_file(audio / "model.safetensors")
    for name, weight in load_file(model / "model.safetensors").items():
        torch.testing.assert_close(weight, expected[name], atol=2e-2, rtol=0)
    for override, message in (
        (
            "augment.speeds=[0.9,1.0]",
            r"stored features with augment.speeds \[0.9, 1.0\], expected \[1.0\] or shards of audio",
        ),
        ("features.bins=41", "stored features with bins 40, expected 41 as in features.bins"),
    ):
        with pytest.raises(InputError, match=f"{out}: {message}"):
            from_shards(tone_corpus, out, tmp_path / "other", *once, override)


def extract_array(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    return extract(samples, config).numpy()
