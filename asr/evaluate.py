"""A bundle and a manifest -> phone error rates."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from asr.bundle import Bundle, load_bundle
from asr.ctc import best_path
from asr.dataset import Dataset, plan_evaluation
from asr.errors import InputError
from asr.manifest import read_manifest
from asr.progress import progress
from asr.score import Counts, Score, score

BATCH_SECONDS = 240.0
"""Audio in a batch at evaluation, padding included. It bounds memory and changes no result."""


def evaluate(model: Path, cuts: Path, device: str = "cpu", precision: str = "float32") -> Score:
    """The errors of a bundle on every utterance of a manifest, under the bundle's scoring convention.

    Raises:
        InputError: the bundle or the manifest cannot be used, or they have different phones.
    """
    bundle = load_bundle(model, device, precision)
    dataset = Dataset(read_manifest(cuts), bundle.features, bundle.inventory, cache_gib=0, known=bundle.statistics)
    if bundle.features.normalization == "speaker":
        dataset.learn_statistics()
    hypotheses = recognize(bundle, dataset)
    references = [(u.id, u.speaker, u.phones, hypotheses[u.id]) for u in dataset.utterances]
    return score(references, bundle.convention)


def recognize(bundle: Bundle, dataset: Dataset) -> dict[str, list[str]]:
    """Best-path phones of every utterance, by id; each is seen exactly once."""
    device = next(bundle.model.parameters()).device
    durations_s = [utterance.duration_s for utterance in dataset.utterances]
    hypotheses: dict[str, list[str]] = {}
    with evaluating(bundle):
        plan = plan_evaluation(durations_s, BATCH_SECONDS)
        for on_cpu in progress(dataset.batches(plan), "recognizing", len(plan)):
            batch = on_cpu.to(device)
            log_probs, lengths = bundle.log_probs(batch.features, batch.feature_lengths)
            for name, tokens in zip(batch.ids, best_path(log_probs, lengths), strict=True):
                assert name not in hypotheses
                hypotheses[name] = bundle.inventory.decode(tokens)
    assert len(hypotheses) == len(dataset)
    return hypotheses


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


def to_json(result: Score) -> dict[str, Any]:
    """The score as JSON values; ``per`` is a fraction, or null where there is no reference phone."""
    return {
        **_counts_json(result.total),
        "utterances": len(result.utterances),
        "speakers": len(result.speakers),
        "convention": result.convention,
        "per_speaker": {speaker: _counts_json(counts) for speaker, counts in result.speakers.items()},
        "hypotheses": {one.id: " ".join(one.hypothesis) for one in result.utterances},
    }


def write_json(result: Score, path: Path) -> None:
    """Write `to_json` to a file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(to_json(result), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), expected a file in a folder with room"
        ) from error


def _counts_json(counts: Counts) -> dict[str, Any]:
    return {
        "per": counts.per if counts.reference_phones else None,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "reference_phones": counts.reference_phones,
    }
