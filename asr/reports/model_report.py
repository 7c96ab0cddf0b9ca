"""Evaluation of a model with a report: scores, confidences, learning curves, and example utterances with audio.

In:  a model folder and a manifest.
Out: an `Evaluation`, and the report of `asr.reports.evaluation` in a folder.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from asr.decoding.beam_search import load_decoder
from asr.decoding.best_path import align_tokens, best_path
from asr.errors import InputError
from asr.features.dataset import Dataset, Item
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.catalog import display_name
from asr.inference.evaluate import (
    evaluation_mode,
    load_dataset,
    mark_correct_by_id,
    pair_with_references,
    recognize_with_evidence,
)
from asr.inference.windows import compute_log_probs
from asr.nn.ctc import required_frames
from asr.reports.evaluation import ReportContent, write_report
from asr.reports.figures import UtteranceFigure, draw_utterance
from asr.reports.model_input import Picture, draw_features, encoder_facts
from asr.reports.page import Example
from asr.scoring.calibration import load_calibration, reliability
from asr.scoring.conventions import CONVENTIONS, conventions_for
from asr.scoring.error_rate import ScoredUtterance, rate_name, unit_of
from asr.scoring.results import Evaluation, evaluate_hypotheses, percent
from asr.system.files import make_folder

EXAMPLES = 10
MAX_EXAMPLE_S = 30.0
"""Longer utterances are listed without audio and figure."""


def evaluate_and_report(model: Path, cuts: Path, out: Path, device: str, precision: str, decoder: str) -> Evaluation:
    """Evaluate a model as `asr.inference.evaluate_corpus.evaluate` does, and write the report into ``out``.

    Raises:
        InputError: the bundle or the manifest cannot be used, they have different phones, or ``out`` cannot be written.
    """
    if cuts.is_dir():
        raise InputError(f"{cuts}: a folder, expected a manifest for --report")
    bundle = load_bundle(model, device, precision)
    decode = load_decoder(model, bundle.inventory) if decoder == "beam" else best_path
    dataset = load_dataset(bundle, cuts)
    make_folder(out)
    recognized = recognize_with_evidence(bundle, dataset, decode)
    tokens = {name: ids for name, (ids, _) in recognized.items()}
    hypotheses = {name: bundle.inventory.decode(ids) for name, ids in tokens.items()}
    conventions = conventions_for(bundle.convention, bundle.inventory.symbols)
    pairs = pair_with_references(dataset, hypotheses)
    evaluation = evaluate_hypotheses(pairs, conventions, decoder, bundle.precision, bundle.inventory.notation)
    calibration = load_calibration(model)
    temperature = calibration.temperature if calibration else None
    confidences = [phone.confidence(temperature or 1.0) for _, phones in recognized.values() for phone in phones]
    correct = [mark for marks in mark_correct_by_id(bundle, dataset, tokens).values() for mark in marks]
    worst, median = _choose_examples(evaluation)
    content = ReportContent(
        title=f"{display_name(model)} on {cuts}",
        facts=[
            f"{len(dataset):,} utterances",
            f"computed in {bundle.precision}",
            f"{bundle.inventory.name}, {len(bundle.inventory.symbols) - 1} {evaluation.headline.unit}s",
            *encoder_facts(bundle),
        ],
        utterances={utterance.id: utterance for utterance in dataset.utterances},
        temperature=temperature,
        reliability=reliability(confidences, correct) if confidences else [],
        history=read_history(model),
        worst=make_examples(bundle, dataset, worst, tokens),
        median=make_examples(bundle, dataset, median, tokens),
    )
    write_report(out, evaluation, content)
    return evaluation


def _choose_examples(evaluation: Evaluation) -> tuple[list[ScoredUtterance], list[ScoredUtterance]]:
    """The utterances with the highest PER, and those in the middle of the ranking."""
    ranked = sorted(
        evaluation.headline.utterances, key=lambda scored: (-scored.counts.per, -scored.counts.errors, scored.id)
    )
    worst = ranked[:EXAMPLES]
    middle = max(len(ranked) // 2 - EXAMPLES // 2, len(worst))
    return worst, ranked[middle : middle + EXAMPLES]


def read_history(model: Path) -> list[dict[str, Any]]:
    """The training history of a model that is still in its run folder; empty for any other model."""
    path = model.parent / "history.json"
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return [record for record in records if {"epoch", "train_loss", "dev_per"} <= record.keys()]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def make_examples(
    bundle: Bundle, dataset: Dataset, chosen: Sequence[ScoredUtterance], tokens: Mapping[str, Sequence[int]]
) -> list[Example]:
    """Examples of the chosen utterances, with audio and figure."""
    index_of = {utterance.id: index for index, utterance in enumerate(dataset.utterances)}
    return [_example(bundle, dataset, index_of[scored.id], scored, tokens[scored.id]) for scored in chosen]


def _example(bundle: Bundle, dataset: Dataset, index: int, scored: ScoredUtterance, tokens: Sequence[int]) -> Example:
    utterance = dataset.utterances[index]
    details = [utterance.words, f"speaker {utterance.speaker}", f"{utterance.duration_s:.1f} s"]
    details += [f"{name} {value}" for name, value in {"sex": utterance.sex, **utterance.details}.items() if value]
    counts = scored.counts
    error_rate = f"{rate_name(bundle.inventory.notation)} {percent(counts.per)} %"
    units = f"{unit_of(bundle.inventory.notation)}s"
    title = f"{scored.id}: {error_rate}, {counts.errors} errors in {counts.reference_phones} {units}"
    note = ", ".join(detail for detail in details if detail)
    if utterance.duration_s > MAX_EXAMPLE_S:
        return Example(title, f"{note}. Longer than {MAX_EXAMPLE_S:g} s: audio and figure are left out.", scored.edits)
    rate = bundle.features.sample_rate_hz
    samples = read_audio(utterance.audio_path, rate, utterance.start_s, utterance.duration_s)
    mp3 = io.BytesIO()  # a tenth of the size of FLAC, and every browser plays it
    soundfile.write(mp3, samples, rate, format="MP3", subtype="MPEG_LAYER_III")
    audio = "data:audio/mpeg;base64," + base64.b64encode(mp3.getvalue()).decode()
    data = _figure_data(bundle, dataset, index, scored, tokens, draw_features(samples, bundle.features))
    if len(data.posteriors) == 0:
        return Example(title, f"{note}. Shorter than a frame: the figure is left out.", scored.edits, audio)
    return Example(title, note, scored.edits, audio, draw_utterance(data))


def _figure_data(
    bundle: Bundle, dataset: Dataset, index: int, scored: ScoredUtterance, tokens: Sequence[int], picture: Picture
) -> UtteranceFigure:
    utterance = dataset.utterances[index]
    with evaluation_mode(bundle):
        log_probs = compute_log_probs(bundle, [dataset.features(Item(index, 1.0))])[0].float().cpu()
    step_s = utterance.duration_s / max(1, len(log_probs))
    reference_times_s = _reference_times(bundle, utterance, log_probs, step_s)
    hypothesis_times_s = [(start + stop) / 2 * step_s for start, stop in align_tokens(log_probs, tokens)]
    rule = CONVENTIONS[bundle.convention].rule
    return UtteranceFigure(
        utterance.duration_s,
        picture.values,
        log_probs.exp().numpy(),
        bundle.inventory.symbols,
        scored.edits,
        [reference_times_s[kept] for kept in kept_indices(rule, scored.reference)],
        [hypothesis_times_s[kept] for kept in kept_indices(rule, scored.hypothesis)],
        picture.name,
        bundle.inventory.notation,
    )


def _reference_times(bundle: Bundle, utterance: Utterance, log_probs: Tensor, step_s: float) -> list[float]:
    """Centre of each reference phone in seconds: from the corpus, else from the model's alignment, else evenly spaced."""
    phones, inventory = utterance.phones, bundle.inventory
    scored = [index for index, phone in enumerate(phones) if inventory.reference([phone], utterance.id)]
    if utterance.phone_times_s:
        return [sum(utterance.phone_times_s[index]) / 2 for index in scored]
    encoded = [inventory.encode([phones[index]], utterance.id) for index in scored]
    tokens = [token for ids in encoded for token in ids]
    needed = required_frames(torch.tensor([tokens or [0]]), torch.tensor([len(tokens)]))
    if len(tokens) < len(encoded) or int(needed) > len(log_probs):
        return [(index + 0.5) * utterance.duration_s / len(encoded) for index in range(len(encoded))]
    return [(start + stop) / 2 * step_s for start, stop in align_tokens(log_probs, tokens)]


def kept_indices(rule: Callable[[Sequence[str]], list[str]], phones: Sequence[str]) -> list[int]:
    """The indices of the phones that a convention's rule keeps."""
    remaining = rule(phones)
    indices: list[int] = []
    for index, phone in enumerate(phones):
        if len(indices) < len(remaining) and rule([phone]) == [remaining[len(indices)]]:
            indices.append(index)
    return indices
