"""How an epoch's utterances are dealt to sections, by brute force over small corpora."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asr.corpus.manifest import Utterance
from asr.errors import InputError
from asr.training.sources import Source, choose, deal, describe_sources, open_sources
from tests.conftest import settings

SIZES = ([5, 5, 3], [1, 4, 4, 4, 4, 2, 7])
"""Utterances in each shard of two sources; a manifest of 11 is the third."""
MANIFEST = 11


def utterances_named(name: str, count: int) -> list[Utterance]:
    return [Utterance(f"{name}-{index}", Path("x.wav"), 16000, 1.0 + index, name, ("AA",)) for index in range(count)]


def sources_with(weights: tuple[float, float, float]) -> list[Source]:
    shards: list[Any] = [SimpleNamespace(utterance_counts=np.array(sizes), duration_s=1.0) for sizes in SIZES]
    return [
        Source("first", weights[0], shards=shards[0]),
        Source("cuts", weights[1], utterances_named("cuts", MANIFEST)),
        Source("second", weights[2], shards=shards[1]),
    ]


def epoch_of(sources: list[Source], at_once: int, seed: tuple[int, int]) -> list[Counter[str]]:
    """The utterances of each section of an epoch, as often as it has them."""
    sections = []
    for units_of_sources in deal(sources, at_once, seed):
        found: Counter[str] = Counter()
        for index, (source, units) in enumerate(zip(sources, units_of_sources, strict=True)):
            for unit, repetition, count in units.tolist():
                if source.shards is None:
                    found[source.utterances[unit].id] += count
                    continue
                held = utterances_named(f"{source.location}-{unit}", int(source.sizes[unit]))
                found.update(one.id for one in choose(held, count, (*seed, index, unit, repetition)))
        sections.append(found)
    return sections


def ids_of(source: Source) -> list[str]:
    if source.shards is None:
        return [one.id for one in source.utterances]
    return [f"{source.location}-{unit}-{index}" for unit, size in enumerate(source.sizes) for index in range(size)]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 10, 100])
def test_every_utterance_is_in_an_epoch_once(at_once: int) -> None:
    sources = sources_with((1, 1, 1))
    everything = Counter(one for source in sources for one in ids_of(source))
    for epoch in range(5):
        sections = epoch_of(sources, at_once, (3, epoch))
        assert len(sections) == -(-10 // at_once)
        assert sum(sections, Counter()) == everything


@pytest.mark.parametrize("weights", [(2, 0.5, 1), (0.5, 3, 0.25), (0, 1, 1.5), (1, 0, 0.1), (0.5, 0.5, 0)])
def test_weights_are_how_often_an_epoch_has_an_utterance(weights: tuple[float, float, float]) -> None:
    sources = sources_with(weights)
    epochs = 400
    totals: Counter[str] = Counter()
    for epoch in range(epochs):
        found = sum(epoch_of(sources, 3, (1, epoch)), Counter())
        totals += found
        for source, weight in zip(sources, weights, strict=True):
            counts = [found[one] for one in ids_of(source)]
            assert sum(counts) == int(weight) * len(counts) + round((weight % 1) * len(counts))
            assert {*counts} <= {int(weight), -int(-weight // 1)}
    for source, weight in zip(sources, weights, strict=True):
        for one in ids_of(source):
            assert totals[one] / epochs == pytest.approx(
                round(weight * len(ids_of(source))) / len(ids_of(source)), abs=0.15
            )


def test_an_epoch_follows_from_the_seed_and_others_differ() -> None:
    sources = sources_with((1, 1, 0.5))
    assert epoch_of(sources, 2, (1, 4)) == epoch_of(sources, 2, (1, 4))
    drawn = [str(epoch_of(sources, 2, seed)) for seed in ((1, 4), (1, 5), (2, 4))]
    assert len({*drawn}) == 3


def test_sources_are_spread_evenly_over_an_epoch() -> None:
    shards: list[Any] = [SimpleNamespace(utterance_counts=np.ones(count, np.int64)) for count in (40, 10)]
    sources = [Source(str(index), 1, shards=one) for index, one in enumerate(shards)]
    sources.append(Source("cuts", 1, utterances_named("cuts", 26)))
    for epoch in range(20):
        sections = deal(sources, 5, (1, epoch))
        assert len(sections) == 10
        assert all(len(many) + len(few) == 5 for many, few, _ in sections)
        assert all(len(few) <= 2 for _, few, _ in sections)
        assert all(len(cuts) in (2, 3) for _, _, cuts in sections)


def test_a_single_section_keeps_the_order_of_the_sources() -> None:
    """So that shards that fit one section are trained as their cuts are, bit for bit."""
    (units,) = deal(sources_with((1, 1, 1)), 10, (7, 3))
    assert [one[:, 0].tolist() for one in units] == [[0, 1, 2], list(range(MANIFEST)), list(range(7))]


def test_sources_in_words() -> None:
    assert describe_sources(sources_with((1, 1, 2))[1:2]) == "11 utterances, 1 speakers, 0.02 h"
    assert describe_sources(sources_with((1, 1, 2))) == "50 utterances, 0.02 h"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sources.weights=[1,2]"], "sources.weights has 2 weights, expected one for each of the 1 sources"),
        (["sources.weights=[0]"], "corpus.train has no source with a weight above 0, expected at least one"),
        (["corpus.train=[]"], "corpus.train has no source with a weight above 0, expected at least one"),
    ],
)
def test_weights_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    config = settings(*overrides)
    with pytest.raises(InputError, match=message):
        open_sources(config.corpus, config.sources)
