"""A bundle and a manifest -> phone error rates."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.bundle import Bundle, load_bundle
from asr.ctc import best_path
from asr.dataset import Dataset, plan_evaluation
from asr.decode import load_decoder
from asr.files import write_text
from asr.manifest import read_manifest
from asr.progress import progress
from asr.score import Counts, Score, score

BATCH_SECONDS = 240.0
"""Audio in a batch at evaluation, padding included. It bounds memory and changes no result."""


Decoder = Callable[[Tensor, Tensor], list[list[int]]]
"""(batch, frames, symbols) log-probabilities and (batch,) lengths -> symbol ids of each utterance."""

DECODERS = ("best_path", "beam")


def evaluate(
    model: Path, cuts: Path, device: str = "cpu", precision: str = "float32", decoder: str = "best_path"
) -> Score:
    """The errors of a bundle on every utterance of a manifest, under the bundle's scoring convention.

    ``decoder`` is one of `DECODERS`; ``beam`` is the search that `asr.tune.tune_decoder` has put beside the model.

    Raises:
        InputError: the bundle or the manifest cannot be used, or they have different phones.
    """
    bundle = load_bundle(model, device, precision)
    decode = load_decoder(model, bundle.inventory) if decoder == "beam" else best_path
    dataset = dataset_of(bundle, cuts)
    return score_hypotheses(bundle, dataset, recognize(bundle, dataset, decode))


def dataset_of(bundle: Bundle, cuts: Path) -> Dataset:
    """The utterances of a manifest as a bundle's model takes them."""
    dataset = Dataset(read_manifest(cuts), bundle.features, bundle.inventory, cache_gib=0, known=bundle.statistics)
    if bundle.features.normalization == "speaker":
        dataset.learn_statistics()
    return dataset


def recognize(bundle: Bundle, dataset: Dataset, decode: Decoder = best_path) -> dict[str, list[str]]:
    """The phones of every utterance, by id; each is seen exactly once."""
    hypotheses: dict[str, list[str]] = {}
    for ids, log_probs, lengths in log_probs_of(bundle, dataset):
        for name, tokens in zip(ids, decode(log_probs, lengths), strict=True):
            assert name not in hypotheses
            hypotheses[name] = bundle.inventory.decode(tokens)
    assert len(hypotheses) == len(dataset)
    return hypotheses


def log_probs_of(bundle: Bundle, dataset: Dataset) -> Iterator[tuple[tuple[str, ...], Tensor, Tensor]]:
    """Ids, (batch, frames, symbols) log-probabilities and (batch,) lengths of a set, batch after batch."""
    device = next(bundle.model.parameters()).device
    plan = plan_evaluation([utterance.duration_s for utterance in dataset.utterances], BATCH_SECONDS)
    with evaluating(bundle):
        for on_cpu in progress(dataset.batches(plan), "recognizing", len(plan)):
            batch = on_cpu.to(device)
            yield batch.ids, *bundle.log_probs(batch.features, batch.feature_lengths)


def score_hypotheses(bundle: Bundle, dataset: Dataset, hypotheses: Mapping[str, Sequence[str]]) -> Score:
    """The errors of hypotheses, by id, against a set's references."""
    references = [(u.id, u.speaker, u.phones, hypotheses[u.id]) for u in dataset.utterances]
    return score(references, bundle.convention)


@contextmanager
def evaluating(bundle: Bundle) -> Iterator[None]:
    """Without dropout and gradients; the model's mode is put back afterwards."""
    was_training = bundle.model.training
    bundle.model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        bundle.model.train(was_training)


def report_lines(result: Score) -> list[str]:
    """The score in words, the headline first, then a line for each speaker."""
    total = result.total
    lines = [
        f"PER {percent(total)} % ({result.convention}): S {total.substitutions} D {total.deletions} "
        f"I {total.insertions} N {total.reference_phones}, {len(result.utterances)} utterances, "
        f"{len(result.speakers)} speakers"
    ]
    width = max(len("speaker"), *(len(speaker) for speaker in result.speakers))
    lines.append(f"{'speaker':<{width}}    PER %      S      D      I      N")
    for speaker, counts in result.speakers.items():
        numbers = (counts.substitutions, counts.deletions, counts.insertions, counts.reference_phones)
        lines.append(f"{speaker:<{width}} {percent(counts):>8} " + " ".join(f"{number:>6}" for number in numbers))
    return lines


def percent(counts: Counts) -> str:
    """PER in percent with two decimals."""
    return f"{100 * counts.per:.2f}"


def to_json(result: Score, decoder: str) -> dict[str, Any]:
    """The score as JSON values; ``per`` is a fraction, or null where there is no reference phone."""
    return {
        **_counts_json(result.total),
        "utterances": len(result.utterances),
        "speakers": len(result.speakers),
        "convention": result.convention,
        "decoder": decoder,
        "per_speaker": {speaker: _counts_json(counts) for speaker, counts in result.speakers.items()},
        "hypotheses": {one.id: " ".join(one.hypothesis) for one in result.utterances},
    }


def write_json(result: Score, decoder: str, path: Path) -> None:
    """Write `to_json` to a file, whole or not at all."""
    write_text(path, json.dumps(to_json(result, decoder), indent=1) + "\n")


def _counts_json(counts: Counts) -> dict[str, Any]:
    return {
        "per": counts.per if counts.reference_phones else None,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "reference_phones": counts.reference_phones,
    }
