"""The report that looks inside an LSTM model on one recording: features, posteriors, gates, cells, effective context.

In:  a model with LSTM layers, behind a pretrained encoder or not, and a recording of at most `MAX_S` seconds.
Out: DIR/index.html, self-contained.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor

from asr.corpus.audio import read_audio
from asr.decoding.best_path import best_path_spans
from asr.errors import InputError
from asr.features.frames import pad
from asr.inference.bundle import Bundle
from asr.inference.catalog import display_name
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcript_formats import Phone
from asr.nn.reference_lstm import Gates
from asr.reports.error_analysis import sort_by_manner
from asr.reports.figures import draw_gradient_norms
from asr.reports.gradient_reach import compare_gradient_norms, gradient_norm_through_encoder
from asr.reports.model_input import draw_features, encoder_facts, encoder_text, front_end_input
from asr.reports.page import Drawing
from asr.reports.tracks import Part, Track, heat_map, waveform_track, write_tracks
from asr.scoring.error_rate import unit_of

MAX_S = 30.0
"""The page has a value for every unit and frame, so longer recordings would make it too large."""

TOLERANCE = 1e-3
"""Largest accepted difference between the log-probabilities computed through the gates and the model's own."""

MAX_DEVIATIONS = 3.0
"""The colours of an encoder's outputs end this many standard deviations from the mean."""


def explain(model: Path, audio: Path, out: Path) -> Path:
    """Write the report about one recording into the folder ``out``. Returns the path of the page.

    Raises:
        InputError: the model has no LSTM layers, or the recording is unreadable, too long, or shorter than a frame.
    """
    recognizer = load(model, precision="float32")  # that of the gates
    bundle, rate = recognizer.bundle, recognizer.sample_rate_hz
    if bundle.model_config.cell != "lstm":
        raise InputError(f"{model}: model.cell is {bundle.model_config.cell}, expected lstm")
    bundle.model.recurrent.look_ahead = (-1,)  # of a model for streams: the layers are shown over the whole recording
    samples = read_audio(audio, rate)
    seconds = len(samples) / rate
    features, _ = recognizer.features(samples, rate)
    limit_s = _longest_s(bundle)
    if seconds > limit_s or len(features) == 0:
        raise InputError(f"{audio}: {seconds:.2f} s, expected one frame to {limit_s:g} s")
    log_probs, gates, difference = compute_gates(bundle, features)
    if difference > TOLERANCE:
        raise InputError(
            f"{model}: log-probabilities through the gates differ by {difference:.2g}, expected at most {TOLERANCE:g}"
        )
    transcript = recognizer.transcribe(samples, rate)
    check = f"The log-probabilities recomputed through these gates match the model's own to within {difference:.1g}."
    heard = pad(samples, bundle.features)
    parts = [
        _recognition(recognizer, samples, heard, log_probs, transcript.phones),
        *_encoder(bundle, features),
        *(_layer(layer, suffix, layer_gates, check) for (layer, suffix), layer_gates in gates.items()),
        _effective_context(bundle, features, log_probs),
    ]
    facts = [
        display_name(model),
        *encoder_facts(bundle),
        *(["look-ahead: the whole recording"] if bundle.model_config.chunk_frames else []),
        f"{seconds:.2f} s",
        f"{len(transcript.phones)} {unit_of(bundle.inventory.notation)}s: {' '.join(transcript.symbols)}",
    ]
    return write_tracks(out, audio.name, facts, parts, heard, rate)


def _longest_s(bundle: Bundle) -> float:
    """The longest recording that a page has room for and the model's encoder sees at once."""
    frames = bundle.model.max_frames
    padding_s = 2 * bundle.features.padding_ms / 1000
    return min(MAX_S, frames * bundle.features.frame_shift_ms / 1000 - padding_s) if frames else MAX_S


def compute_gates(bundle: Bundle, features: Tensor) -> tuple[Tensor, dict[tuple[int, str], Gates], float]:
    """Run the model on normalized features (frames, dim) and keep the gates of every layer and direction.

    Returns the model's log-probabilities (frames', symbols), the gates by (layer, direction suffix), and the largest
    difference between these log-probabilities and those computed through the gates.
    """
    model = bundle.model
    with torch.no_grad():
        log_probs = model(features[None], torch.tensor([len(features)]))[0][0]
        hidden, lengths = model.front_end(*front_end_input(model, features))
        gates, output = model.recurrent.gates(hidden[0])
        output = output[None]
        for layer in model.attention:
            output = layer(output, lengths)
        through_gates = model.output(output)[0].log_softmax(dim=-1)
    return log_probs, gates, float((log_probs - through_gates).abs().max())


def unit_order(gates: Gates) -> np.ndarray:
    """Order the units so that similar ones are neighbours, by hierarchical clustering of gates and cells over time."""
    return _similar_first(torch.cat([gates.input, gates.forget, gates.output, gates.cell.tanh()]).double().numpy())


def _similar_first(traces: np.ndarray) -> np.ndarray:
    """Order the columns of (values, columns) so that similar ones are neighbours."""
    if traces.shape[1] < 3:
        return np.arange(traces.shape[1])
    return leaves_list(linkage(traces.T, "average", optimal_ordering=True))


def _recognition(
    recognizer: Recognizer, samples: np.ndarray, heard: np.ndarray, log_probs: Tensor, phones: Sequence[Phone]
) -> Part:
    """What the model takes in and what it finds. ``heard`` are the samples with the model's padding; all tracks have it."""
    bundle = recognizer.bundle
    padding_s = (len(heard) - len(samples)) / 2 / recognizer.sample_rate_hz
    symbols = bundle.inventory.symbols
    picture = draw_features(samples, bundle.features)
    posteriors = log_probs.exp().numpy()
    active = [index for index in range(1, len(symbols)) if posteriors[:, index].max() > 0.05]
    order = sort_by_manner(symbols[1:], bundle.inventory.notation)
    active.sort(key=lambda index: order.index(symbols[index]))
    step_s = len(heard) / recognizer.sample_rate_hz / len(posteriors)
    path = [
        Phone(phone.symbol, start * step_s, stop * step_s, phone.confidence)
        for phone, (start, stop) in zip(phones, best_path_spans(log_probs), strict=True)
    ]
    aligned = [replace(one, start_s=one.start_s + padding_s, end_s=one.end_s + padding_s) for one in phones]
    labels = ["blank", *(symbols[index] for index in active)]
    height_rem = 0.75 * len(labels)
    shown = posteriors[:, [0, *active]].T
    bins = [str(index) for index in reversed(range(picture.values.shape[1]))]
    tracks = [
        waveform_track(heard),
        heat_map(picture.name, picture.values.T[::-1], picture.value, bins),
        heat_map(
            "posteriors", shown, "probability of", labels, labelled=True, low=0.0, high=1.0, height_rem=height_rem
        ),
        Track("best path", phones=path),
        Track("alignment", phones=aligned),
    ]
    text = [
        "CTC posteriors are narrow peaks separated by blanks. The best path consists of these peaks. The alignment shows "
        f"where each {unit_of(bundle.inventory.notation)} begins and ends. It comes from the aligner, a small separate "
        "network, if the model has one. Point at an image to read its values."
    ]
    if padding_s:
        text.append(
            f"The model puts {padding_s:g} s of faint noise before and after a recording. The tracks begin with it."
        )
    if bundle.features.name == "waveform":
        text.append(
            "The input of this model is the waveform itself. The log-mel spectrogram is only its picture, that of Whisper."
        )
    return Part("Recognition", text, tracks)


def _encoder(bundle: Bundle, features: Tensor) -> list[Part]:
    """The outputs of the pretrained encoder over time, if there is one."""
    if bundle.model.encoder is None:
        return []
    with torch.no_grad():
        outputs = front_end_input(bundle.model, features)[0][0].double().numpy()
    deviations = (outputs - outputs.mean(0)) / np.maximum(outputs.std(0), 1e-6)
    order = _similar_first(deviations)
    track = heat_map(
        "encoder output",
        deviations.T[order],
        "standard deviations of output",
        [str(output) for output in order],
        low=-MAX_DEVIATIONS,
        high=MAX_DEVIATIONS,
        colours="signed",
        height_rem=max(6.0, min(0.09 * len(order), 16.0)),
    )
    text = [
        *encoder_text(bundle, bundle.model.encoder),
        f"Each of the {len(order)} rows is one of these values; similar rows are neighbours. The colour is the distance "
        f"from the row's mean over the recording, in standard deviations, up to {MAX_DEVIATIONS:g}.",
    ]
    return [Part("Pretrained encoder", text, [track])]


def _layer(layer: int, suffix: str, gates: Gates, check: str) -> Part:
    order = unit_order(gates)
    labels = [str(unit) for unit in order]
    height_rem = max(6.0, min(0.09 * len(order), 16.0))
    by_name = {"input": gates.input, "forget": gates.forget, "output": gates.output}
    unsigned = {"low": 0.0, "high": 1.0, "height_rem": height_rem}
    signed = {"low": -1.0, "high": 1.0, "colours": "signed", "height_rem": height_rem}
    tracks = [
        heat_map(f"{name} gate", gate.numpy().T[order], f"{name} gate of unit", labels, **unsigned)
        for name, gate in by_name.items()
    ]
    cell = gates.cell.tanh().numpy().T[order]
    tracks.append(heat_map("tanh of the cell", cell, "tanh of cell of unit", labels, **signed))
    text = []
    if layer == 0 and not suffix:
        text = [
            f"Each of the {len(order)} rows is a unit. Similar units are neighbours; all four images have the same order. "
            "A forget gate near 1 keeps the cell state and near 0 clears it. The input gate writes to the cell, the output "
            "gate reads from it.",
            check,
        ]
    return Part(f"Layer {layer + 1}, {'backward' if suffix else 'forward'}", text, tracks)


def _effective_context(bundle: Bundle, features: Tensor, log_probs: Tensor) -> Part:
    encoder, shift_ms = bundle.model.encoder, bundle.features.frame_shift_ms
    curves = compare_gradient_norms(bundle, features, log_probs)
    frame = "output of the encoder" if encoder else "input frame"
    caption = (
        f"Gradient norm by lag: the norm of the gradient of an output's log-probability with respect to each {frame}, "
        "averaged over outputs, relative to its maximum. Untrained networks have freshly initialized weights."
    )
    reduction = encoder.time_reduction if encoder else 1
    figures = [Drawing("listening", draw_gradient_norms(curves, shift_ms * reduction), caption)]
    text = [
        "The gradient shows how much an output depends on input frames before and after it. In a plain tanh RNN it shrinks "
        "with every frame in between, so the network can hardly learn long-range dependencies. LSTM cells preserve more of "
        "it."
    ]
    if encoder:
        text.append(
            "The first figure is of the recurrent layers, whose input is what the encoder makes of the recording. The "
            "second is of the whole model. In it, frames that are far apart are one step away from each other, because of "
            "the encoder's self-attention."
        )
        whole = {"this model": gradient_norm_through_encoder(bundle, features, log_probs)}
        caption = "The same with respect to each input frame of the encoder."
        figures.append(Drawing("listening_through_encoder", draw_gradient_norms(whole, shift_ms), caption))
    return Part("Effective context", text, figures=figures)
