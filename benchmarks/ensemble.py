"""How well several models do together: the mean of their probabilities, frame by frame.

    python -m benchmarks.ensemble DEV_CUTS TEST_CUTS MODEL MODEL...

The models have the same phones and time reduction. Weight and bonus of the beam search, with the first model's n-gram, are
chosen on the dev set.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from asr.decoding.beam_search import BeamSearch, load_decoder
from asr.decoding.best_path import Decoder, best_path
from asr.features.dataset import Dataset
from asr.inference.bundle import load_bundle
from asr.inference.evaluate import dataset_of, log_probs_of, score_hypotheses
from asr.inference.tune_decoder import choose_search
from asr.scoring.error_rate import Score
from asr.scoring.results import headline

BEAM = 50

Batches = list[tuple[tuple[str, ...], Tensor, Tensor]]
"""Ids, (batch, frames, symbols) log-probabilities and (batch,) lengths."""


def main(dev: Path, test: Path, models: Sequence[Path]) -> None:
    """Print the PER of the ensemble on both sets."""
    bundles = [load_bundle(model) for model in models]
    automaton = load_decoder(models[0], bundles[0].inventory).ngram
    assert automaton is not None
    search = None
    for name, cuts in (("dev", dev), ("test", test)):
        dataset = dataset_of(bundles[0], cuts)
        batches = mean_of([list(log_probs_of(bundle, dataset_of(bundle, cuts))) for bundle in bundles])

        def scored(decode: Decoder, dataset: Dataset = dataset, batches: Batches = batches) -> Score:
            hypotheses = {
                one: bundles[0].inventory.decode(tokens)
                for ids, log_probs, lengths in batches
                for one, tokens in zip(ids, decode(log_probs, lengths), strict=True)
            }
            return score_hypotheses(bundles[0], dataset, hypotheses)

        if search is None:
            chosen = choose_search(automaton, scored)
            search = BeamSearch(BEAM, automaton, chosen.weight, chosen.bonus)
            print(f"chosen on dev: weight {chosen.weight}, bonus {chosen.bonus}")
        print(f"{name}, best path: {headline(scored(best_path))}")
        print(f"{name}, beam {BEAM} with the n-gram: {headline(scored(search))}")


def mean_of(sets: Sequence[Batches]) -> Batches:
    """The mean probabilities of several models on the same batches, as logarithms."""
    joined = []
    for same in zip(*sets, strict=True):
        ids, _, lengths = same[0]
        assert all(one[0] == ids for one in same)
        mean = torch.stack([log_probs for _, log_probs, _ in same]).logsumexp(0) - torch.tensor(float(len(same))).log()
        joined.append((ids, mean, lengths))
    return joined


if __name__ == "__main__":
    first, second, *others = map(Path, sys.argv[1:])
    main(first, second, others)
