"""A bundle and a manifest -> phone error rates."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from asr.corpus.manifest import read_manifest
from asr.decoding.beam_search import load_decoder
from asr.decoding.best_path import Decoder, best_path
from asr.errors import InputError
from asr.features.dataset import Dataset, plan_evaluation
from asr.inference.bundle import Bundle, load_bundle
from asr.scoring.alignment import CORRECT, align
from asr.scoring.calibration import Evidence, evidence, fit_temperature
from asr.scoring.conventions import conventions_for
from asr.scoring.error_rate import Score, Transcribed, score
from asr.scoring.results import Evaluation, evaluate_hypotheses, read_json
from asr.system.progress import progress

BATCH_SECONDS = 240.0
"""Audio in a batch at evaluation, padding included. It bounds memory and changes no result."""


DECODERS = ("best_path", "beam")


def evaluate(
    model: Path, cuts: Path, device: str = "cpu", precision: str = "auto", decoder: str = "best_path"
) -> Evaluation:
    """The errors of a bundle on every utterance of a manifest, under the bundle's scoring convention and those beside it.

    ``decoder`` is one of `DECODERS`; ``beam`` is the search that `asr tune-decoder` has put beside the model.

    Raises:
        InputError: the bundle or the manifest cannot be used, or they have different phones.
    """
    bundle = load_bundle(model, device, precision)
    decode = load_decoder(model, bundle.inventory) if decoder == "beam" else best_path
    dataset = dataset_of(bundle, cuts)
    hypotheses = recognize(bundle, dataset, decode)
    conventions = conventions_for(bundle.convention, bundle.inventory.symbols)
    return evaluate_hypotheses(transcribed(dataset, hypotheses), conventions, decoder, bundle.precision)


def figures_of(path: Path, cuts: Path | None, decoder: str = "best_path") -> Evaluation:
    """The evaluation that a JSON file holds, or that of a model folder on a manifest.

    Raises:
        InputError: neither, or a model without a manifest.
    """
    if not path.is_dir():
        return read_json(path)
    if cuts is None:
        raise InputError(f"{path}: a model folder without a manifest, expected the manifest to evaluate it on")
    return evaluate(path, cuts, decoder=decoder)


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


def recognize_with_evidence(
    bundle: Bundle, dataset: Dataset, decode: Decoder = best_path
) -> dict[str, tuple[list[int], list[Evidence]]]:
    """The symbol ids of every utterance, by id, and for each of them what `asr.scoring.calibration` needs."""
    found = {}
    for ids, log_probs, lengths in log_probs_of(bundle, dataset):
        for row, (name, tokens) in enumerate(zip(ids, decode(log_probs, lengths), strict=True)):
            found[name] = (tokens, evidence(log_probs[row, : int(lengths[row])], tokens))
    return found


def correctness(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Whether each phone of the hypothesis is the one that was said, in the model's own phones."""
    return [edit.kind == CORRECT for edit in align(reference, hypothesis) if edit.hypothesis is not None]


def phones_right(bundle: Bundle, dataset: Dataset, tokens: Mapping[str, Sequence[int]]) -> dict[str, list[bool]]:
    """Which phones of each hypothesis are right, in the model's own phones."""
    spoken = {one.id: bundle.inventory.encode(one.phones, one.id) for one in dataset.utterances}
    decode = bundle.inventory.decode
    return {name: correctness(decode(spoken[name]), decode(heard)) for name, heard in tokens.items()}


def choose_temperature(bundle: Bundle, dataset: Dataset) -> float:
    """The temperature for confidences that fits the best paths of a dev set."""
    found = recognize_with_evidence(bundle, dataset)
    right = phones_right(bundle, dataset, {name: tokens for name, (tokens, _) in found.items()})
    pairs = [pair for name, (_, seen) in found.items() for pair in zip(seen, right[name], strict=True)]
    return fit_temperature([seen for seen, _ in pairs], [is_right for _, is_right in pairs])


def log_probs_of(bundle: Bundle, dataset: Dataset) -> Iterator[tuple[tuple[str, ...], Tensor, Tensor]]:
    """Ids, (batch, frames, symbols) log-probabilities and (batch,) lengths of a set, batch after batch."""
    device = next(bundle.model.parameters()).device
    plan = plan_evaluation([utterance.duration_s for utterance in dataset.utterances], BATCH_SECONDS)
    with evaluating(bundle):
        for on_cpu in progress(dataset.batches(plan), "recognizing", len(plan)):
            batch = on_cpu.to(device)
            yield batch.ids, *bundle.log_probs(batch.features, batch.feature_lengths)


def score_hypotheses(bundle: Bundle, dataset: Dataset, hypotheses: Mapping[str, Sequence[str]]) -> Score:
    """The errors of hypotheses, by id, under the bundle's scoring convention."""
    return score(transcribed(dataset, hypotheses), bundle.convention)


def transcribed(dataset: Dataset, hypotheses: Mapping[str, Sequence[str]]) -> list[Transcribed]:
    """The utterances of a set with the hypotheses of their ids."""
    return [(u.id, u.speaker, u.phones, hypotheses[u.id]) for u in dataset.utterances]


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
