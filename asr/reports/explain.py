"""The report that looks inside an LSTM model on one recording: features, posteriors, gates, cells, effective context.

In:  a model with LSTM layers and a recording of at most `MAX_S` seconds.
Out: DIR/index.html, self-contained.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import soundfile
import torch
from jinja2 import Environment
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor

from asr.corpus.audio import read_audio
from asr.decoding.best_path import best_path_spans
from asr.errors import InputError
from asr.features.filterbanks import extract
from asr.inference.bundle import Bundle
from asr.inference.catalog import display_name
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcript_formats import Phone
from asr.nn.lstm import Gates
from asr.reports.error_analysis import sort_by_manner
from asr.reports.figures import draw_gradient_norms
from asr.reports.gradient_reach import compare_gradient_norms
from asr.reports.page import Drawing, data_text
from asr.system.files import make_folder, write_text

MAX_S = 30.0
"""The page has a value for every unit and frame, so longer recordings would make it too large."""

TOLERANCE = 1e-3
"""Largest accepted difference between the log-probabilities computed through the gates and the model's own."""

WAVE_COLUMNS = 1200
COLOUR_MAPS = {"magma": "magma", "signed": "RdBu_r"}


@dataclass(frozen=True)
class Track:
    """A strip of the page along time: phones, a waveform (``path``), or an image of ``rows`` x ``columns`` values."""

    name: str
    phones: Sequence[Phone] = ()
    path: str = ""
    rows: int = 0
    columns: int = 0
    values: str = ""
    low: float = 0.0
    high: float = 1.0
    colours: str = "magma"
    labels: Sequence[str] = ()
    labelled: bool = False
    what: str = ""
    height_rem: float = 6.0


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    title: str
    text: Sequence[str] = ()
    tracks: Sequence[Track] = ()
    figures: Sequence[Drawing] = ()


def explain(model: Path, audio: Path, out: Path) -> Path:
    """Write the report about one recording into the folder ``out``. Returns the path of the page.

    Raises:
        InputError: the model has no LSTM layers, or the recording is unreadable, too long, or shorter than a frame.
    """
    recognizer = load(model)
    bundle, rate = recognizer.bundle, recognizer.sample_rate_hz
    if bundle.model_config.cell != "lstm":
        raise InputError(f"{model}: model.cell is {bundle.model_config.cell}, expected lstm")
    samples = read_audio(audio, rate)
    seconds = len(samples) / rate
    features, _ = recognizer.features(samples, rate)
    if seconds > MAX_S or len(features) == 0:
        raise InputError(f"{audio}: {seconds:.2f} s, expected one frame to {MAX_S:g} s")
    log_probs, gates, difference = compute_gates(bundle, features)
    if difference > TOLERANCE:
        raise InputError(
            f"{model}: log-probabilities through the gates differ by {difference:.2g}, expected at most {TOLERANCE:g}"
        )
    transcript = recognizer.transcribe(samples, rate)
    check = f"The log-probabilities recomputed through these gates match the model's own to within {difference:.1g}."
    parts = [
        _recognition(recognizer, samples, log_probs, transcript.phones),
        *(_layer(layer, suffix, layer_gates, check) for (layer, suffix), layer_gates in gates.items()),
        _effective_context(bundle, features, log_probs),
    ]
    facts = [
        display_name(model),
        f"{seconds:.2f} s",
        f"{len(transcript.phones)} phones: {' '.join(transcript.symbols)}",
    ]
    content = {"title": audio.name, "facts": facts, "parts": parts, "audio": _mp3(samples, rate)}
    return _write(out, seconds, content)


def _write(out: Path, seconds: float, content: Mapping[str, Any]) -> Path:
    template = Environment(autoescape=True, trim_blocks=True).from_string(data_text("explain.html"))
    text = template.render(
        style=data_text("report.css") + data_text("explain.css"),
        script=data_text("explain.js"),
        colours={name: _base64(_colour_table(colour_map)) for name, colour_map in COLOUR_MAPS.items()},
        seconds=seconds,
        width_rem=max(18.0, min(6.5 + 16 * seconds, 400.0)),
        **content,
    )
    make_folder(out)
    page = out / "index.html"
    write_text(page, text)
    return page


def compute_gates(bundle: Bundle, features: Tensor) -> tuple[Tensor, dict[tuple[int, str], Gates], float]:
    """Run the model on normalized features (frames, dim) and keep the gates of every layer and direction.

    Returns the model's log-probabilities (frames', symbols), the gates by (layer, direction suffix), and the largest
    difference between these log-probabilities and those computed through the gates.
    """
    model = bundle.model
    length = torch.tensor([len(features)])
    with torch.no_grad():
        log_probs = model(features[None], length)[0][0]
        hidden, lengths = model.front_end(features[None], length)
        gates, output = model.recurrent.gates(hidden[0])
        output = output[None]
        for layer in model.attention:
            output = layer(output, lengths)
        through_gates = model.output(output)[0].log_softmax(dim=-1)
    return log_probs, gates, float((log_probs - through_gates).abs().max())


def unit_order(gates: Gates) -> np.ndarray:
    """Order the units so that similar ones are neighbours, by hierarchical clustering of gates and cells over time."""
    traces = torch.cat([gates.input, gates.forget, gates.output, gates.cell.tanh()]).double().numpy().T
    if len(traces) < 3:
        return np.arange(len(traces))
    return leaves_list(linkage(traces, "average", optimal_ordering=True))


def heat_map(name: str, values: np.ndarray, what: str, labels: Sequence[str], **options: Any) -> Track:
    """A track of values (rows, columns), first row on top, quantized to 256 steps between the lowest and the highest."""
    low = float(options.pop("low", values.min()))
    high = max(float(options.pop("high", values.max())), low + 1e-6)
    steps = np.clip(np.round(255 * (values - low) / (high - low)), 0, 255).astype(np.uint8)
    rows, columns = values.shape
    size = {"rows": rows, "columns": columns, "low": low, "high": high}
    return Track(name, values=_base64(steps.tobytes()), what=what, labels=labels, **size, **options)


def _recognition(recognizer: Recognizer, samples: np.ndarray, log_probs: Tensor, phones: Sequence[Phone]) -> Part:
    bundle = recognizer.bundle
    symbols = bundle.inventory.symbols
    log_mel = extract(samples, bundle.features).numpy()
    posteriors = log_probs.exp().numpy()
    active = [index for index in range(1, len(symbols)) if posteriors[:, index].max() > 0.05]
    active.sort(key=lambda index: sort_by_manner(symbols[1:]).index(symbols[index]))
    step_s = len(samples) / recognizer.sample_rate_hz / len(posteriors)
    path = [
        Phone(phone.symbol, start * step_s, stop * step_s, phone.confidence)
        for phone, (start, stop) in zip(phones, best_path_spans(log_probs), strict=True)
    ]
    labels = ["blank", *(symbols[index] for index in active)]
    height_rem = 0.75 * len(labels)
    shown = posteriors[:, [0, *active]].T
    bins = [str(index) for index in reversed(range(log_mel.shape[1]))]
    tracks = [
        Track("waveform", path=_waveform(samples), columns=WAVE_COLUMNS),
        heat_map("features", log_mel.T[::-1], "feature", bins),
        heat_map(
            "posteriors", shown, "probability of", labels, labelled=True, low=0.0, high=1.0, height_rem=height_rem
        ),
        Track("best path", phones=path),
        Track("alignment", phones=phones),
    ]
    text = [
        "CTC posteriors are narrow peaks separated by blanks. The best path consists of these peaks. The alignment shows "
        "where each phone begins and ends. It comes from the aligner, a small separate network, if the model has one. "
        "Point at an image to read its values."
    ]
    return Part("Recognition", text, tracks)


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
    curves = compare_gradient_norms(bundle, features, log_probs)
    caption = (
        "Gradient norm by lag: the norm of the gradient of an output's log-probability with respect to each input frame, "
        "averaged over outputs, relative to its maximum. Untrained networks have freshly initialized weights."
    )
    figure = Drawing("listening", draw_gradient_norms(curves, bundle.features.frame_shift_ms), caption)
    text = [
        "The gradient shows how much an output depends on input frames before and after it. In a plain tanh RNN it shrinks "
        "with every frame in between, so the network can hardly learn long-range dependencies. LSTM cells preserve more of "
        "it."
    ]
    return Part("Effective context", text, figures=[figure])


def _waveform(samples: np.ndarray) -> str:
    """The envelope of a signal as an SVG path, scaled to a peak of 1."""
    edges = np.linspace(0, len(samples), WAVE_COLUMNS + 1).astype(int)
    pieces = [samples[start : max(stop, start + 1)] for start, stop in pairwise(edges.tolist())]
    peak = max(float(np.abs(samples).max()), 1e-6)
    upper = [f"{column} {-piece.max() / peak:.3f}" for column, piece in enumerate(pieces)]
    lower = [f"{column} {-piece.min() / peak:.3f}" for column, piece in reversed(list(enumerate(pieces)))]
    return f"M{'L'.join(upper)}L{'L'.join(lower)}Z"


def _mp3(samples: np.ndarray, rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3")
    return "data:audio/mpeg;base64," + _base64(file.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _colour_table(name: str) -> bytes:
    table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
    return bytes(table.tobytes())
