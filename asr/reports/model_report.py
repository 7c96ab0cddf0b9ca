"""A bundle on a manifest, with all that a report shows: confidences, training curves, utterances to look at."""

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
from asr.features.dataset import Dataset, Item
from asr.features.filterbanks import extract
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.catalog import shown
from asr.inference.evaluate import dataset_of, evaluating, phones_right, recognize_with_evidence, transcribed
from asr.nn.ctc import required_frames
from asr.reports.evaluation import Material, write_report
from asr.reports.figures import Picture, draw_utterance
from asr.reports.page import Example
from asr.scoring.calibration import load_temperature, reliability
from asr.scoring.conventions import CONVENTIONS, conventions_for
from asr.scoring.error_rate import Scored
from asr.scoring.results import Evaluation, evaluate_hypotheses, percent

EXAMPLES = 10
LONGEST_SHOWN_S = 30.0


def report(model: Path, cuts: Path, out: Path, device: str, precision: str, decoder: str) -> Evaluation:
    """Evaluate as `asr.inference.evaluate.evaluate` does, and write the page of `asr.reports.evaluation` into ``out``.

    Raises:
        InputError: the bundle or the manifest cannot be used, they have different phones, or ``out`` cannot be written.
    """
    bundle = load_bundle(model, device, precision)
    decode = load_decoder(model, bundle.inventory) if decoder == "beam" else best_path
    dataset = dataset_of(bundle, cuts)
    found = recognize_with_evidence(bundle, dataset, decode)
    tokens = {name: one for name, (one, _) in found.items()}
    hypotheses = {name: bundle.inventory.decode(one) for name, one in tokens.items()}
    conventions = conventions_for(bundle.convention, bundle.inventory.symbols)
    evaluation = evaluate_hypotheses(transcribed(dataset, hypotheses), conventions, decoder, bundle.precision)
    temperature = load_temperature(model)
    sure = [one.confidence(temperature or 1.0) for _, seen in found.values() for one in seen]
    right = [is_right for one in phones_right(bundle, dataset, tokens).values() for is_right in one]
    ranked = sorted(evaluation.headline.utterances, key=lambda one: (-one.counts.per, -one.counts.errors, one.id))
    worst = ranked[:EXAMPLES]
    middle = max(len(ranked) // 2 - EXAMPLES // 2, len(worst))
    material = Material(
        f"{shown(model)} on {cuts}",
        [
            f"{len(dataset):,} utterances",
            f"computed in {bundle.precision}",
            f"{bundle.inventory.name}, {len(bundle.inventory.symbols) - 1} phones",
        ],
        {one.id: one for one in dataset.utterances},
        temperature,
        reliability(sure, right) if sure else [],
        history(model),
        examples(bundle, dataset, worst, tokens),
        examples(bundle, dataset, ranked[middle : middle + EXAMPLES], tokens),
    )
    write_report(out, evaluation, material)
    return evaluation


def history(model: Path) -> list[dict[str, Any]]:
    """The epochs of the training that left a model, where it lies in its run folder still."""
    path = model.parent / "history.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [record for record in found if {"epoch", "train_loss", "dev_per"} <= record.keys()]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def examples(
    bundle: Bundle, dataset: Dataset, chosen: Sequence[Scored], tokens: Mapping[str, Sequence[int]]
) -> list[Example]:
    """Utterances to look at and listen to."""
    by_id = {one.id: number for number, one in enumerate(dataset.utterances)}
    return [_example(bundle, dataset, by_id[one.id], one, tokens[one.id]) for one in chosen]


def _example(bundle: Bundle, dataset: Dataset, number: int, one: Scored, tokens: Sequence[int]) -> Example:
    utterance = dataset.utterances[number]
    details = [utterance.words, f"speaker {utterance.speaker}", f"{utterance.duration_s:.1f} s"]
    details += [f"{name} {value}" for name, value in {"sex": utterance.sex, **utterance.details}.items() if value]
    title = f"{one.id}: {percent(one.counts.per)} %, {one.counts.errors} errors of {one.counts.reference_phones}"
    if utterance.duration_s > LONGEST_SHOWN_S:
        note = f"{', '.join(details)}. Longer than {LONGEST_SHOWN_S:g} s: no audio, no picture."
        return Example(title, note, one.edits)
    rate = bundle.features.sample_rate_hz
    samples = read_audio(utterance.audio_path, rate, utterance.start_s, utterance.duration_s)
    mp3 = io.BytesIO()  # a tenth of FLAC's size, and every browser plays it
    soundfile.write(mp3, samples, rate, format="MP3", subtype="MPEG_LAYER_III")
    audio = "data:audio/mpeg;base64," + base64.b64encode(mp3.getvalue()).decode()
    picture = _picture(bundle, dataset, number, one, tokens, extract(samples, bundle.features))
    return Example(title, ", ".join(detail for detail in details if detail), one.edits, audio, draw_utterance(picture))


def _picture(
    bundle: Bundle, dataset: Dataset, number: int, one: Scored, tokens: Sequence[int], log_mel: Tensor
) -> Picture:
    utterance = dataset.utterances[number]
    features = dataset.features(Item(number, 1.0))[None].to(next(bundle.model.parameters()).device)
    with evaluating(bundle):
        log_probs = bundle.log_probs(features, torch.tensor([features.shape[1]]))[0][0].float().cpu()
    step_s = utterance.duration_s / max(1, len(log_probs))
    spoken = _places_of_reference(bundle, utterance, log_probs, step_s)
    heard = [(start + stop) / 2 * step_s for start, stop in align_tokens(log_probs, tokens)]
    rule = CONVENTIONS[bundle.convention].rule
    return Picture(
        utterance.duration_s,
        log_mel.numpy(),
        log_probs.exp().numpy(),
        bundle.inventory.symbols,
        one.edits,
        [spoken[index] for index in kept(rule, one.reference)],
        [heard[index] for index in kept(rule, one.hypothesis)],
    )


def _places_of_reference(bundle: Bundle, utterance: Utterance, log_probs: Tensor, step_s: float) -> list[float]:
    """Where in seconds each phone lies: as the corpus says, as the model aligns it, or evenly where it cannot."""
    if utterance.phone_times_s:
        return [(start + end) / 2 for start, end in utterance.phone_times_s]
    modelled = [bundle.inventory.encode([phone], utterance.id) for phone in utterance.phones]
    tokens = [token for one in modelled for token in one]
    needed = required_frames(torch.tensor([tokens or [0]]), torch.tensor([len(tokens)]))
    if len(tokens) < len(modelled) or int(needed) > len(log_probs):
        return [(place + 0.5) * utterance.duration_s / len(modelled) for place in range(len(modelled))]
    return [(start + stop) / 2 * step_s for start, stop in align_tokens(log_probs, tokens)]


def kept(rule: Callable[[Sequence[str]], list[str]], phones: Sequence[str]) -> list[int]:
    """The indices of the phones that a convention's rule leaves."""
    left = rule(phones)
    indices: list[int] = []
    for index, phone in enumerate(phones):
        if len(indices) < len(left) and rule([phone]) == [left[len(indices)]]:
            indices.append(index)
    return indices
