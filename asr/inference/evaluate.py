"""A bundle and a manifest -> hypotheses, phone error rates, and the calibration of confidences."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.corpus.manifest import read_manifest
from asr.corpus.shards import open_shards
from asr.corpus.spool import Spool, stream_shards
from asr.decoding.beam_search import load_decoder
from asr.decoding.best_path import Decoder, best_path
from asr.errors import InputError
from asr.features.dataset import Batch, Dataset, plan_evaluation
from asr.features.normalization import FeatureStatistics, FeatureSums
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.result_files import DoneList, UnitResult, lock_output, write_result
from asr.inference.sources import (
    CorpusUnit,
    Source,
    UnitReader,
    Work,
    describe_request,
    do_units,
    list_units,
    open_sources,
)
from asr.inference.units import Loading, Run, fix_precision, run_here
from asr.inference.windows import compute_log_probs
from asr.scoring.alignment import CORRECT, align
from asr.scoring.calibration import Calibration, Evidence, evidence, fit_temperature, usual_confidence
from asr.scoring.conventions import conventions_for
from asr.scoring.error_rate import Score, TranscriptPair, score
from asr.scoring.results import Evaluation, evaluate_hypotheses, read_json
from asr.system.files import read_text
from asr.system.progress import progress

BATCH_SECONDS = 240.0
"""Seconds of audio in a batch, padding included. It bounds memory and changes no result."""

DECODERS = ("best_path", "beam")

RESULTS = "hypotheses 1"
"""Changes when the code would write other hypotheses for the same request."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate on what: a model's folder, a manifest or shards; and the device, the precision and the decoder.

    ``decoder`` is one of `DECODERS`; ``beam`` is the search that `asr tune-decoder` saved in the model's folder.
    """

    model: Path
    location: str
    device: str = "cpu"
    precision: str = "auto"
    decoder: str = "best_path"

    @property
    def loading(self) -> Loading:
        """How a worker loads the model."""
        return fix_precision((self.device, self.precision, self.decoder))


def evaluate(
    model: Path, cuts: Path, device: str = "cpu", precision: str = "auto", decoder: str = "best_path"
) -> Evaluation:
    """Score a bundle on every utterance of a manifest, under its own scoring convention and the related ones.

    ``decoder`` is one of `DECODERS`; ``beam`` is the search that `asr tune-decoder` saved in the model's folder.

    Raises:
        InputError: the bundle or the manifest cannot be used, or they have different phones.
    """
    return evaluate_corpus(EvaluationRequest(model, str(cuts), device, precision, decoder))


def evaluate_corpus(
    request: EvaluationRequest,
    out: Path | None = None,
    run: Run = run_here,
    skip_bad: bool = False,
    force: bool = False,
) -> Evaluation:
    """As `evaluate`, of a manifest or of shards, whose units ``run`` does.

    With ``out``, hypotheses and references are written to this folder, which all workers see. Those that an earlier command
    has written stay there, unless ``force`` is set. With ``skip_bad``, bad shards are named and left out.
    """
    sources = open_sources([request.location])
    if not sources:
        raise InputError(
            f"{request.location}: neither a manifest nor shards, expected cuts_*.jsonl.gz of `asr prepare`"
        )
    bundle = load_bundle(request.model, request.device if run is run_here else "cpu", request.loading[1])
    with TemporaryDirectory(prefix="asr-") as scratch, lock_output(out or Path(scratch)):
        folder = (out or Path(scratch)).absolute()
        done = DoneList(folder, describe_request(RESULTS, request.model, request.loading, sources), force)
        if sources[0].shards:
            ids, statistics, units = None, learn_from_shards(bundle, request.location), list_units(sources, True)
        else:
            dataset = load_dataset(bundle, Path(request.location))
            ids, statistics = [utterance.id for utterance in dataset.utterances], dataset.statistics
            units = iter(_batch_units(dataset, sources[0]))
        make = partial(make_evaluator, request, statistics, folder, bundle if run is run_here else None)
        do_units(Work("recognizing", units, sources, make), done, run, skip_bad)
        pairs = {pair[0]: pair for pair in _read_pairs(done)}
    conventions = conventions_for(bundle.convention, bundle.inventory.symbols)
    precision = bundle.precision if request.loading[1] in ("auto", bundle.precision) else request.loading[1]
    in_order = [pairs[one] for one in ids] if ids is not None else pairs.values()
    return evaluate_hypotheses(in_order, conventions, request.decoder, precision, bundle.inventory.notation)


def make_evaluator(
    request: EvaluationRequest, statistics: Mapping[str, FeatureStatistics], out: Path, bundle: Bundle | None
) -> Callable[[CorpusUnit], UnitResult]:
    """Load a model unless it is here already, and return what writes the hypotheses and references of a unit."""
    device, precision, decoder = request.loading
    loaded = bundle or load_bundle(request.model, device, precision)
    decode = load_decoder(request.model, loaded.inventory) if decoder == "beam" else best_path
    reader = UnitReader(loaded.features, need_phones=True)

    def work(unit: CorpusUnit) -> UnitResult:
        with reader.read(unit) as utterances:
            dataset = Dataset(utterances, loaded.features, loaded.inventory, cache_gib=0, statistics=statistics)
            pairs = pair_with_references(dataset, recognize(loaded, dataset, decode, shown=False))
        file = f"{unit.name}.jsonl"
        size = write_result(out / file, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs).encode())
        return UnitResult(len(pairs), seconds=sum(one.duration_s for one in utterances), files={file: size})

    return work


def _batch_units(dataset: Dataset, source: Source) -> list[CorpusUnit]:
    """A unit for each batch: utterances of similar length from the whole manifest."""
    plan = plan_evaluation([utterance.duration_s for utterance in dataset.utterances], BATCH_SECONDS)
    batches = [tuple(dataset.utterances[item.utterance] for item in items) for items in plan]
    return [CorpusUnit(number, f"{source.name}.{number:06}", batch) for number, batch in enumerate(batches)]


def _read_pairs(done: DoneList) -> Iterator[TranscriptPair]:
    for _, result in sorted(done.results.items()):
        for file in result.files:
            for line in read_text(done.out / file, "hypotheses").splitlines():
                utterance_id, speaker, reference, hypothesis = json.loads(line)
                yield utterance_id, speaker, reference, hypothesis


def learn_from_shards(bundle: Bundle, location: str) -> Mapping[str, FeatureStatistics]:
    """The statistics that a bundle needs for shards: its own, or those of each speaker, for which all audio is read."""
    if bundle.features.normalization != "speaker":
        return bundle.statistics
    shards, sums = open_shards(location), defaultdict[str, FeatureSums](FeatureSums)
    with Spool() as spool:
        for _, utterances in stream_shards(shards, range(len(shards)), spool):
            Dataset(utterances, bundle.features, bundle.inventory, cache_gib=0).add_to(sums)
    return {speaker: one.statistics() for speaker, one in sums.items()}


def read_or_evaluate(path: Path, cuts: Path | None, decoder: str = "best_path") -> Evaluation:
    """Read an evaluation from a JSON file, or evaluate a model folder on a manifest.

    Raises:
        InputError: neither, or a model folder without a manifest.
    """
    if not path.is_dir():
        return read_json(path)
    if cuts is None:
        raise InputError(f"{path}: a model folder without a manifest, expected the manifest to evaluate it on")
    return evaluate(path, cuts, decoder=decoder)


def load_dataset(bundle: Bundle, cuts: Path) -> Dataset:
    """Load the utterances of a manifest with the features, phones and statistics of a bundle."""
    dataset = Dataset(read_manifest(cuts), bundle.features, bundle.inventory, cache_gib=0, statistics=bundle.statistics)
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
        batches = dataset.batches(plan)
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


def calibrate(bundle: Bundle, dataset: Dataset) -> Calibration:
    """Choose the temperature of confidences that fits the best paths of a dev set, and what is usual there."""
    results = recognize_with_evidence(bundle, dataset)
    correct = mark_correct_by_id(bundle, dataset, {name: tokens for name, (tokens, _) in results.items()})
    pairs = [pair for name, (_, phones) in results.items() for pair in zip(phones, correct[name], strict=True)]
    temperature = fit_temperature([phone for phone, _ in pairs], [is_correct for _, is_correct in pairs])
    usual = usual_confidence([[phone.confidence(temperature) for phone in phones] for _, phones in results.values()])
    return Calibration(temperature, usual)


def mark_correct_by_id(bundle: Bundle, dataset: Dataset, tokens: Mapping[str, Sequence[int]]) -> dict[str, list[bool]]:
    """Mark which phones of each hypothesis, by utterance id, are correct, in the model's own phones."""
    decode = bundle.inventory.decode
    references = {u.id: decode(bundle.inventory.encode(u.phones, u.id)) for u in dataset.utterances}
    return {name: mark_correct(references[name], decode(hypothesis)) for name, hypothesis in tokens.items()}


def mark_correct(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Mark which phones of a hypothesis agree with the reference in the alignment of both."""
    return [edit.kind == CORRECT for edit in align(reference, hypothesis) if edit.hypothesis is not None]
