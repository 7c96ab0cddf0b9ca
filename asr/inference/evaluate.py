"""A bundle and a dataset -> hypotheses, a score, and which phones are correct."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.corpus.manifest import read_manifest
from asr.decoding.best_path import Decoder, best_path
from asr.features.dataset import Batch, Dataset, plan_evaluation
from asr.inference.bundle import Bundle
from asr.inference.windows import compute_log_probs
from asr.scoring.alignment import CORRECT, align
from asr.scoring.calibration import Evidence, evidence
from asr.scoring.error_rate import Score, TranscriptPair, score
from asr.system.processor import loading_threads
from asr.system.progress import progress

BATCH_SECONDS = 240.0
"""Seconds of audio in a batch, padding included. It bounds memory and changes no result."""


def load_dataset(bundle: Bundle, cuts: Path, check_audio: bool = True) -> Dataset:
    """Load the utterances of a manifest with the features, phones and statistics of a bundle.

    Without ``check_audio``, their audio may be missing.
    """
    utterances = read_manifest(cuts, check_audio)
    dataset = Dataset(utterances, bundle.features, bundle.inventory, cache_gib=0, statistics=bundle.statistics)
    if bundle.features.normalization == "speaker":
        dataset.learn_statistics()
    return dataset


def recognize(
    bundle: Bundle, dataset: Dataset, decode: Decoder = best_path, shown: bool = True
) -> dict[str, list[str]]:
    """Recognize the phones of every utterance, by id. Each utterance is seen exactly once."""
    hypotheses: dict[str, list[str]] = {}
    for ids, log_probs, lengths in iterate_log_probs(bundle, dataset, shown):
        for utterance_id, tokens in zip(ids, decode(log_probs, lengths), strict=True):
            assert utterance_id not in hypotheses
            hypotheses[utterance_id] = bundle.inventory.decode(tokens)
    assert len(hypotheses) == len(dataset)
    return hypotheses


def recognize_with_evidence(
    bundle: Bundle, dataset: Dataset, decode: Decoder = best_path
) -> dict[str, tuple[list[int], list[Evidence]]]:
    """Recognize the symbol ids of every utterance, by id, with the evidence for each (`asr.scoring.calibration`)."""
    results = {}
    for ids, log_probs, lengths in iterate_log_probs(bundle, dataset):
        for index, (utterance_id, tokens) in enumerate(zip(ids, decode(log_probs, lengths), strict=True)):
            results[utterance_id] = (tokens, evidence(log_probs[index, : int(lengths[index])], tokens))
    return results


def iterate_log_probs(
    bundle: Bundle, dataset: Dataset, shown: bool = True
) -> Iterator[tuple[tuple[str, ...], Tensor, Tensor]]:
    """Yield ids, log-probabilities (batch, frames, symbols) and lengths (batch,) of each batch; progress may be shown."""
    device = next(bundle.model.parameters()).device
    plan = plan_evaluation([utterance.duration_s for utterance in dataset.utterances], BATCH_SECONDS)
    with evaluation_mode(bundle):
        batches = dataset.batches(plan, threads=loading_threads(device))
        for cpu_batch in progress(batches, "recognizing", len(plan)) if shown else batches:
            batch = cpu_batch.to(device)
            yield batch.ids, *batch_log_probs(bundle, batch)


def batch_log_probs(bundle: Bundle, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities (batch, frames, symbols) and lengths; in windows if the encoder cannot see the longest at once."""
    limit = bundle.model.max_frames
    if batch.encoded or limit is None or batch.features.shape[1] <= limit:
        return bundle.log_probs(batch.features, batch.feature_lengths, batch.encoded)
    features = [row[:length] for row, length in zip(batch.features, batch.feature_lengths.tolist(), strict=True)]
    log_probs = compute_log_probs(bundle, features)
    return pad_sequence(log_probs, batch_first=True), torch.tensor([len(one) for one in log_probs])


@contextmanager
def evaluation_mode(bundle: Bundle) -> Iterator[None]:
    """Disable dropout and gradients. The model's mode is restored afterwards."""
    was_training = bundle.model.training
    bundle.model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        bundle.model.train(was_training)


def score_hypotheses(bundle: Bundle, dataset: Dataset, hypotheses: Mapping[str, Sequence[str]]) -> Score:
    """Score hypotheses, by utterance id, under the bundle's scoring convention."""
    return score(pair_with_references(dataset, hypotheses), bundle.convention, bundle.inventory.notation)


def pair_with_references(dataset: Dataset, hypotheses: Mapping[str, Sequence[str]]) -> list[TranscriptPair]:
    """Pair the reference of each utterance with its hypothesis. A table of phones folds the reference."""
    return [
        (one.id, one.speaker, dataset.inventory.reference(one.phones, one.id), hypotheses[one.id])
        for one in dataset.utterances
    ]


def mark_correct_by_id(bundle: Bundle, dataset: Dataset, tokens: Mapping[str, Sequence[int]]) -> dict[str, list[bool]]:
    """Mark which phones of each hypothesis, by utterance id, are correct, in the model's own phones."""
    decode = bundle.inventory.decode
    references = {u.id: decode(bundle.inventory.encode(u.phones, u.id)) for u in dataset.utterances}
    return {name: mark_correct(references[name], decode(hypothesis)) for name, hypothesis in tokens.items()}


def mark_correct(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Mark which phones of a hypothesis agree with the reference in the alignment of both."""
    return [edit.kind == CORRECT for edit in align(reference, hypothesis) if edit.hypothesis is not None]
