from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.corpus.phones import inventory
from asr.errors import InputError
from asr.features.augmentation import perturb_speed, spec_augment, warp_frequencies
from asr.features.dataset import Dataset, Item, plan_evaluation, plan_training
from asr.features.filterbanks import extract
from asr.features.mel import mel_centres_hz
from asr.features.normalization import compute_statistics, normalize
from tests.conftest import make_utterances, settings

DURATIONS = np.random.default_rng(1).uniform(0.5, 9.0, 137).tolist()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    utterances = make_utterances(tmp_path, ["a", "b"])
    return Dataset(utterances, settings().features, inventory("arpabet39"), cache_gib=1.0)


@pytest.mark.parametrize("epoch", range(4))
def test_training_sees_every_utterance_once_an_epoch(epoch: int) -> None:
    plan = plan_training(DURATIONS, [0.9, 1.0, 1.1], 40.0, 16, (7, epoch))
    assert Counter(item.utterance for batch in plan for item in batch) == Counter(range(137))
    for batch in plan:
        longest = max(DURATIONS[item.utterance] / item.speed for item in batch)
        assert len(batch) <= 16
        assert len(batch) == 1 or longest * len(batch) <= 40.0
    assert {item.speed for batch in plan for item in batch} == {0.9, 1.0, 1.1}


def test_the_plan_follows_from_seed_and_epoch() -> None:
    def plan(*seed: int) -> list[list[Item]]:
        return plan_training(DURATIONS, [0.9, 1.0], 40.0, 16, (seed[0], seed[1]))

    assert plan(1, 1) == plan(1, 1)
    assert plan(1, 1) != plan(1, 2) != plan(2, 1)


def test_an_utterance_longer_than_a_batch_is_a_batch() -> None:
    plan = plan_training([100.0, 1.0, 1.0], [1.0], 10.0, 16, (1, 0))
    assert sorted(sorted(item.utterance for item in batch) for batch in plan) == [[0], [1, 2]]


def test_evaluation_sees_every_utterance_once_longest_first() -> None:
    plan = plan_evaluation(DURATIONS, 40.0)
    order = [item.utterance for batch in plan for item in batch]
    assert sorted(order) == list(range(137))
    assert [DURATIONS[index] for index in order] == sorted(DURATIONS, reverse=True)


def test_a_batch_holds_each_utterances_own_features_and_tokens(dataset: Dataset) -> None:
    plan = [[Item(0, 1.0), Item(4, 0.9)], [Item(2, 1.0)]]
    first, second = dataset.batches(plan)
    assert first.ids == ("a-0", "b-1")
    assert second.ids == ("a-2",)
    for index, item in enumerate(plan[0]):
        length = int(first.feature_lengths[index])
        torch.testing.assert_close(first.features[index, :length], dataset.features(item), atol=0, rtol=0)
        assert first.features[index, length:].abs().sum() == 0
        utterance = dataset.utterances[item.utterance]
        tokens = first.tokens[index, : first.token_lengths[index]].tolist()
        assert inventory("arpabet39").decode(tokens) == list(utterance.phones)
    assert first.feature_lengths[1] > first.feature_lengths[0]  # played more slowly


def test_an_utterance_that_is_part_of_a_file(dataset: Dataset) -> None:
    dataset.utterances = [replace(u, start_s=0.1, duration_s=0.2) for u in dataset.utterances]
    dataset.config.normalization = "none"
    part, whole = dataset.features(Item(0, 1.0)), extract_raw(dataset, 0)
    assert part.shape == (18, 40)
    torch.testing.assert_close(part, whole[10:28])
    dataset.utterances = [replace(dataset.utterances[0], duration_s=9.0)]
    with pytest.raises(InputError, match="0.55 s long, expected to contain"):
        dataset.features(Item(0, 1.0))


def test_the_cache_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    without = Dataset(dataset.utterances, dataset.config, inventory("arpabet39"), cache_gib=0)
    for _ in dataset.fill_cache([1.0, 1.1]):
        pass
    for path in {utterance.audio_path for utterance in dataset.utterances[1:]}:
        path.unlink()  # only cached features are available now
    torch.testing.assert_close(dataset.features(Item(0, 1.1)), without.features(Item(0, 1.1)), atol=0, rtol=0)
    assert dataset.features(Item(3, 1.0)).shape == (53, 40)
    with pytest.raises(InputError, match="no such file"):
        without.features(Item(3, 1.0))


def test_the_cache_keeps_within_its_size(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 53 * 40 * 4
    many = [*dataset.utterances] * 10
    small = Dataset(many, dataset.config, inventory("arpabet39"), cache_gib=2.5 * size / 2**30)
    plain, computed = small._extract, list[Item]()

    def count(item: Item) -> torch.Tensor:
        computed.append(item)
        return plain(item)

    monkeypatch.setattr(small, "_extract", count)
    assert len(list(small.fill_cache([1.0]))) == 2
    assert len(small._cache) == 2
    assert len(computed) < 20  # what does not fit is not computed


def test_statistics_by_speaker_and_over_all(dataset: Dataset) -> None:
    features = [extract_raw(dataset, index) for index in range(6)]
    dataset.config.normalization = "speaker"
    dataset.learn_statistics()
    torch.testing.assert_close(dataset.statistics["b"].mean, compute_statistics(features[3:]).mean)
    torch.testing.assert_close(dataset.features(Item(4, 1.0)), compute_statistics(features[3:]).apply(features[4]))
    dataset.config.normalization = "global"
    dataset.learn_statistics()
    torch.testing.assert_close(dataset.features(Item(4, 1.0)), compute_statistics(features).apply(features[4]))


def test_a_speaker_without_a_frame_has_no_statistics(dataset: Dataset) -> None:
    dataset.config.normalization = "speaker"
    dataset.utterances = [*dataset.utterances, replace(dataset.utterances[0], speaker="brief", duration_s=0.01)]
    dataset.learn_statistics()
    assert dataset.statistics.keys() == {"a", "b"}
    assert len(dataset.features(Item(6, 1.0))) == 0


def extract_raw(dataset: Dataset, index: int) -> torch.Tensor:
    import soundfile

    samples, _ = soundfile.read(dataset.utterances[index].audio_path, dtype="float32")
    return extract(samples, dataset.config)


def test_unknown_phones_are_found_before_training(tmp_path: Path) -> None:
    utterances = make_utterances(tmp_path, ["a"])
    with pytest.raises(InputError, match="utterance a-0: unknown phone 'A.', expected one of the 61 phones"):
        Dataset(utterances, settings().features, inventory("timit61"), cache_gib=0)


def test_speed_changes_length_and_pitch() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    fast = perturb_speed(tone, 1.25, 16000)
    assert len(fast) == 12800
    assert int(np.abs(np.fft.rfft(fast)).argmax()) * 16000 / 12800 == pytest.approx(1250, abs=2)


def test_spec_augment_masks_within_its_limits() -> None:
    config = settings("augment.time_masks=1", "augment.frequency_masks=1", "augment.time_mask_fraction=0.2").augment
    features = torch.ones(100, 40)
    widths = []
    for seed in range(200):
        masked = spec_augment(features, config, np.random.default_rng(seed))
        time, frequency = int((masked.sum(1) == 0).sum()), int((masked.sum(0) == 0).sum())
        assert time <= 20
        assert frequency <= config.frequency_mask_bins
        widths.append((time, frequency))
    assert {width for width, _ in widths} == set(range(21))
    assert {width for _, width in widths} == set(range(config.frequency_mask_bins + 1))
    assert features.sum() == 4000
    same = [spec_augment(features, config, np.random.default_rng(5)) for _ in range(2)]
    torch.testing.assert_close(*same)


def test_augmentation_is_drawn_for_each_utterance_and_epoch_alone(dataset: Dataset) -> None:
    augment = settings("augment.time_mask_fraction=0.5").augment
    (both,) = dataset.batches([[Item(0, 1.0), Item(1, 1.0)]], augment, (1, 3))
    (alone,) = dataset.batches([[Item(1, 1.0)]], augment, (1, 3))
    (later,) = dataset.batches([[Item(1, 1.0)]], augment, (1, 4))
    torch.testing.assert_close(both.features[1], alone.features[0])
    assert not torch.equal(alone.features, later.features)
    (clean,) = dataset.batches([[Item(1, 1.0)]])
    torch.testing.assert_close(clean.features[0], normalize(extract_raw(dataset, 1), dataset.config))


def test_two_views_are_the_same_utterances_with_different_masks(dataset: Dataset) -> None:
    augment = settings("augment.time_masks=2", "augment.time_mask_fraction=0.5").augment
    plan = [[Item(0, 1.0), Item(2, 1.0)]]
    (single,), (double,) = (list(dataset.batches(plan, augment, (1, 2), views)) for views in (1, 2))
    assert double.ids == single.ids * 2
    assert torch.equal(double.features[:2], single.features)
    assert torch.equal(double.tokens, single.tokens.repeat(2, 1))
    assert torch.equal(double.feature_lengths, single.feature_lengths.repeat(2))
    assert not torch.equal(double.features[2:], double.features[:2])


@pytest.mark.parametrize("overrides", [(), ("features.energy=true", "features.delta_order=1")])
def test_frequencies_are_warped_as_by_a_shorter_vocal_tract(overrides: tuple[str, ...]) -> None:
    config = settings(*overrides).features
    bins = torch.from_numpy(np.log(mel_centres_hz(config)).astype(np.float32)).expand(7, -1)
    block = torch.cat([torch.full((7, 1), 5.0), bins], dim=1) if config.energy else bins
    features = torch.cat([block] * (1 + config.delta_order), dim=1)
    for factor in (0.9, 1.1):
        warped = warp_frequencies(features, factor, config)
        assert warped.shape == features.shape
        start = int(config.energy)
        inner = slice(start + 3, start + 36)  # away from the ends, which are repeated
        shift = (warped - features)[:, inner]
        torch.testing.assert_close(shift, torch.full_like(shift, -np.log(factor)), atol=1e-2, rtol=0)
        assert (warped[:, :start] == 5.0).all()
    torch.testing.assert_close(warp_frequencies(features, 1.0, config), features)


def test_warps_are_drawn_within_their_range(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    augment, drawn = settings("augment.frequency_warp=0.2").augment, []

    def warp(features: torch.Tensor, factor: float, _: object) -> torch.Tensor:
        drawn.append(factor)
        return features

    monkeypatch.setattr("asr.features.augmentation.warp_frequencies", warp)
    for epoch in range(40):
        list(dataset.batches([[Item(0, 1.0), Item(1, 1.0)]], augment, (1, epoch)))
    assert len(set(drawn)) == 80
    assert 0.8 <= min(drawn) < 0.85
    assert 1.15 < max(drawn) <= 1.2


def test_batches_made_ahead_in_threads_are_the_same(dataset: Dataset) -> None:
    augment = settings("augment.time_masks=2", "augment.time_mask_fraction=0.5").augment
    plan = [[Item(index, 0.9)] for index in range(len(dataset))] * 3
    one_by_one, ahead = (list(dataset.batches(plan, augment, (1, 2), threads=threads)) for threads in (0, 3))
    assert [batch.items for batch in ahead] == [tuple(items) for items in plan]
    for first, second in zip(one_by_one, ahead, strict=True):
        assert torch.equal(first.features, second.features)


def test_an_error_in_a_thread_ends_the_batches(dataset: Dataset) -> None:
    dataset.utterances = [*dataset.utterances[:2], replace(dataset.utterances[2], audio_path=Path("none.wav"))]
    batches = dataset.batches([[Item(index, 1.0)] for index in range(3)], threads=2)
    assert [next(batches).items[0].utterance for _ in range(2)] == [0, 1]
    with pytest.raises(InputError, match=r"none\.wav"):
        next(batches)
