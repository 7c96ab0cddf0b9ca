"""PER of an ensemble of models: the mean of their probabilities in each frame.

    python -m benchmarks.ensemble DEV_CUTS TEST_CUTS MODEL MODEL...

All models must have the same phones and time reduction. The beam search uses the first model's n-gram; its weight and bonus
are chosen on the dev set.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from asr.decoding.beam_search import BeamSearch, load_decoder
from asr.decoding.best_path import Decoder, best_path
from asr.features.dataset import Dataset
from asr.inference.bundle import load_bundle
from asr.inference.evaluate import iterate_log_probs, load_dataset, score_hypotheses
from asr.inference.tune_decoder import choose_search
from asr.scoring.error_rate import Score
from asr.scoring.results import headline

BEAM = 50

Batches = list[tuple[tuple[str, ...], Tensor, Tensor]]
"""Ids, (batch, frames, symbols) log-probabilities and (batch,) lengths."""


def main(dev: Path, test: Path, models: Sequence[Path]) -> None:
    """Print the ensemble's PER on both sets."""
    bundles = [load_bundle(model) for model in models]
    automaton = load_decoder(models[0], bundles[0].inventory).ngram
    assert automaton is not None
    search = None
    for name, cuts in (("dev", dev), ("test", test)):
        dataset = load_dataset(bundles[0], cuts)
        batches = average([list(iterate_log_probs(bundle, load_dataset(bundle, cuts))) for bundle in bundles])

        def evaluate(decode: Decoder, dataset: Dataset = dataset, batches: Batches = batches) -> Score:
            hypotheses = {
                utterance_id: bundles[0].inventory.decode(tokens)
                for ids, log_probs, lengths in batches
                for utterance_id, tokens in zip(ids, decode(log_probs, lengths), strict=True)
            }
            return score_hypotheses(bundles[0], dataset, hypotheses)

        if search is None:
            chosen = choose_search(automaton, evaluate)
            search = BeamSearch(BEAM, automaton, chosen.weight, chosen.bonus)
            print(f"chosen on dev: weight {chosen.weight}, bonus {chosen.bonus}")
        print(f"{name}, best path: {headline(evaluate(best_path))}")
        print(f"{name}, beam {BEAM} with the n-gram: {headline(evaluate(search))}")


def average(batches_of_models: Sequence[Batches]) -> Batches:
    """Return the logarithm of the models' mean probabilities on the same batches."""
    averaged = []
    for outputs in zip(*batches_of_models, strict=True):
        ids, _, lengths = outputs[0]
        assert all(output_ids == ids for output_ids, _, _ in outputs)
        total = torch.stack([log_probs for _, log_probs, _ in outputs]).logsumexp(0)
        averaged.append((ids, total - torch.tensor(float(len(outputs))).log(), lengths))
    return averaged


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev_cuts", type=Path)
    parser.add_argument("test_cuts", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    args = parser.parse_args()
    main(args.dev_cuts, args.test_cuts, args.models)
