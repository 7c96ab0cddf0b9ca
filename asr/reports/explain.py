"""One utterance as its model sees it, on one page: signal, spectrogram, posteriors, every gate, and how far it listens.

DIR/index.html    the page, self-contained
"""

import base64
import io
from collections.abc import Sequence
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
from asr.inference.catalog import shown
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcript_formats import Phone
from asr.nn.lstm import Gates
from asr.reports.error_analysis import in_order
from asr.reports.figures import draw_reaches
from asr.reports.gradient_reach import reaches
from asr.reports.page import Drawing, data_text
from asr.system.files import make_folder, write_text

LONGEST_S = 30.0
"""A page has a number for every unit and frame; of longer recordings it would grow too large to look at."""

AGREEMENT = 1e-3
"""The most that log-probabilities by way of the gates may differ from the model's own."""

WAVE_COLUMNS = 1200
MAPS = {"magma": "magma", "signed": "RdBu_r"}


@dataclass(frozen=True)
class Track:
    """A strip of the page over time: phones, a waveform (``path``), or an image of ``rows`` by ``columns`` values."""

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
    """Write the page about one recording into the folder ``out``; the page's path.

    Raises:
        InputError: a model without LSTM layers, or a recording that is too long, cannot be used, or has no frame.
    """
    recognizer = load(model)
    bundle, rate = recognizer.bundle, recognizer.sample_rate_hz
    if bundle.model_config.cell != "lstm":
        raise InputError(
            f"{model}: its layers are {bundle.model_config.cell}, expected lstm, which has the gates to show"
        )
    samples = read_audio(audio, rate)
    seconds = len(samples) / rate
    features, _ = recognizer.features(samples, rate)
    if seconds > LONGEST_S or len(features) == 0:
        raise InputError(f"{audio}: {seconds:.2f} s, expected one frame to {LONGEST_S:g} s")
    log_probs, gates, apart = look_inside(bundle, features)
    if apart > AGREEMENT:
        raise InputError(
            f"{model}: log-probabilities by way of the gates differ by {apart:.2g}, expected {AGREEMENT:g}"
        )
    transcript = recognizer.transcribe(samples, rate)
    facts = [shown(model), f"{seconds:.2f} s", f"{len(transcript.phones)} phones: {' '.join(transcript.symbols)}"]
    parts = [
        _heard(recognizer, samples, log_probs, transcript.phones),
        *(_layer(layer, suffix, found) for (layer, suffix), found in gates.items()),
        _listening(bundle, features, log_probs),
    ]
    text = f"Computed gate by gate; the log-probabilities that follow are the model's own to {apart:.1g}."
    parts[1] = Part(parts[1].title, [*parts[1].text, text], parts[1].tracks)
    make_folder(out)
    page = out / "index.html"
    template = Environment(autoescape=True, trim_blocks=True).from_string(data_text("explain.html"))
    style = data_text("report.css") + data_text("explain.css")
    values = {"seconds": seconds, "width_rem": max(18.0, min(6.5 + 16 * seconds, 400.0)), "audio": _mp3(samples, rate)}
    colours = {name: _base64(_colours(known)) for name, known in MAPS.items()}
    everything = {"title": audio.name, "facts": facts, "parts": parts, "colours": colours, **values}
    write_text(page, template.render(style=style, script=data_text("explain.js"), **everything))
    return page


def look_inside(bundle: Bundle, features: Tensor) -> tuple[Tensor, dict[tuple[int, str], Gates], float]:
    """Log-probabilities (frames', symbols) of normalized features, the gates behind them, and how far both are apart."""
    model = bundle.model
    length = torch.tensor([len(features)])
    with torch.no_grad():
        fast = model(features[None], length)[0][0]
        hidden, lengths = model.front_end(features[None], length)
        gates, output = model.recurrent.gates(hidden[0])
        output = output[None]
        for layer in model.attention:
            output = layer(output, lengths)
        by_hand = model.output(output)[0].log_softmax(dim=-1)
    return fast, gates, float((fast - by_hand).abs().max())


def unit_order(found: Gates) -> np.ndarray:
    """An order of units in which neighbours do alike: the leaves of a clustering of their gates and cells over time."""
    traces = torch.cat([found.input, found.forget, found.output, found.cell.tanh()]).double().numpy().T
    if len(traces) < 3:
        return np.arange(len(traces))
    return leaves_list(linkage(traces, "average", optimal_ordering=True))


def heat(name: str, values: np.ndarray, what: str, labels: Sequence[str], **options: Any) -> Track:
    """An image of values (rows, columns), the first row on top, in 256 steps from the lowest to the highest."""
    low = float(options.pop("low", values.min()))
    high = max(float(options.pop("high", values.max())), low + 1e-6)
    steps = np.clip(np.round(255 * (values - low) / (high - low)), 0, 255).astype(np.uint8)
    rows, columns = values.shape
    size = {"rows": rows, "columns": columns, "low": low, "high": high}
    return Track(name, values=_base64(steps.tobytes()), what=what, labels=labels, **size, **options)


def _heard(recognizer: Recognizer, samples: np.ndarray, log_probs: Tensor, phones: Sequence[Phone]) -> Part:
    bundle = recognizer.bundle
    symbols = bundle.inventory.symbols
    log_mel = extract(samples, bundle.features).numpy()
    posteriors = log_probs.exp().numpy()
    seconds = len(samples) / recognizer.sample_rate_hz
    used = [index for index in range(1, len(symbols)) if posteriors[:, index].max() > 0.05]
    used.sort(key=lambda index: in_order(symbols[1:]).index(symbols[index]))
    rows = posteriors[:, [0, *used]].T
    step = seconds / len(posteriors)
    path = [
        Phone(phone.symbol, start * step, stop * step, phone.confidence)
        for phone, (start, stop) in zip(phones, best_path_spans(log_probs), strict=True)
    ]
    labels = ["blank", *(symbols[index] for index in used)]
    bins = [str(index) for index in reversed(range(log_mel.shape[1]))]
    tracks = [
        Track("waveform", path=_wave(samples), columns=WAVE_COLUMNS),
        heat("features", log_mel.T[::-1], "feature", bins),
        heat("posteriors", rows, "p of", labels, labelled=True, low=0.0, high=1.0, height_rem=0.75 * len(labels)),
        Track("best path", phones=path),
        Track("alignment", phones=phones),
    ]
    text = [
        "Posteriors are narrow peaks between blanks, as CTC likes them; the best path is made of these. Where phones begin "
        "and end is said by the aligner, a small network beside the model. Point at an image to read its values."
    ]
    return Part("What is heard", text, tracks)


def _layer(layer: int, suffix: str, found: Gates) -> Part:
    order = unit_order(found)
    labels = [str(unit) for unit in order]
    size = max(6.0, min(0.09 * len(order), 16.0))
    gates = {"input": found.input, "forget": found.forget, "output": found.output}
    tracks = [
        heat(f"{name} gate", one.numpy().T[order], f"{name} gate of unit", labels, low=0.0, high=1.0, height_rem=size)
        for name, one in gates.items()
    ]
    signed = {"low": -1.0, "high": 1.0, "colours": "signed", "height_rem": size}
    tracks.append(
        heat("tanh of the cell", found.cell.tanh().numpy().T[order], "tanh of cell of unit", labels, **signed)
    )
    text = []
    if layer == 0 and not suffix:
        text = [
            f"{len(order)} units, a row each, in an order in which units that do alike are neighbours, the same in all "
            "four images. A forget gate near 1 keeps the cell, near 0 clears it; the input gate lets news in, the output "
            "gate lets the cell out."
        ]
    return Part(f"Layer {layer + 1}, {'backward' if suffix else 'forward'}", text, tracks)


def _listening(bundle: Bundle, features: Tensor, log_probs: Tensor) -> Part:
    shift_ms = bundle.features.frame_shift_ms
    curves = reaches(bundle, features, log_probs)
    caption = (
        "The norm of the gradient of log p(the phone of an output) by each input frame, against the time between them, in "
        "the mean over outputs and relative to its largest value. Fresh weights are those that a training starts from."
    )
    figure = Drawing("listening", draw_reaches(curves, shift_ms), caption)
    text = [
        "Through a plain tanh RNN the gradient fades with every frame that lies between: what is far away cannot be learnt "
        "from. An LSTM's cell hands it on."
    ]
    return Part("How far it listens", text, figures=[figure])


def _wave(samples: np.ndarray) -> str:
    """The outline of a signal as an SVG path, its largest value 1."""
    edges = np.linspace(0, len(samples), WAVE_COLUMNS + 1).astype(int)
    pieces = [samples[start : max(stop, start + 1)] for start, stop in pairwise(edges.tolist())]
    most = max(float(np.abs(samples).max()), 1e-6)
    top = [f"{place} {-piece.max() / most:.3f}" for place, piece in enumerate(pieces)]
    low = [f"{place} {-piece.min() / most:.3f}" for place, piece in reversed(list(enumerate(pieces)))]
    return f"M{'L'.join(top)}L{'L'.join(low)}Z"


def _mp3(samples: np.ndarray, rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3")
    return "data:audio/mpeg;base64," + _base64(file.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _colours(name: str) -> bytes:
    table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
    return bytes(table.tobytes())
