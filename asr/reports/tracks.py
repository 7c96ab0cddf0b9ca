"""The page of `asr explain`: sections with tracks, strips of one recording along time, and figures.

In:  the recording, and sections.
Out: DIR/index.html, self-contained.
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
from jinja2 import Environment

from asr.inference.transcript_formats import Phone
from asr.reports.page import Drawing, data_text
from asr.system.files import make_folder, write_text

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


def write_tracks(
    out: Path, title: str, facts: Sequence[str], parts: Sequence[Part], samples: np.ndarray, rate: int
) -> Path:
    """Write the page about a recording, (samples,) float32 at ``rate`` Hz, into ``out``. Returns the page's path."""
    seconds = len(samples) / rate
    template = Environment(autoescape=True, trim_blocks=True).from_string(data_text("explain.html"))
    text = template.render(
        style=data_text("report.css") + data_text("explain.css"),
        script=data_text("explain.js"),
        colours={name: _base64(_colour_table(colour_map)) for name, colour_map in COLOUR_MAPS.items()},
        seconds=seconds,
        width_rem=max(18.0, min(6.5 + 16 * seconds, 400.0)),
        title=title,
        facts=facts,
        parts=parts,
        audio=_mp3(samples, rate),
    )
    make_folder(out)
    page = out / "index.html"
    write_text(page, text)
    return page


def heat_map(name: str, values: np.ndarray, what: str, labels: Sequence[str], **options: Any) -> Track:
    """A track of values (rows, columns), first row on top, quantized to 256 steps between the lowest and the highest."""
    low = float(options.pop("low", values.min()))
    high = max(float(options.pop("high", values.max())), low + 1e-6)
    steps = np.clip(np.round(255 * (values - low) / (high - low)), 0, 255).astype(np.uint8)
    rows, columns = values.shape
    size = {"rows": rows, "columns": columns, "low": low, "high": high}
    return Track(name, values=_base64(steps.tobytes()), what=what, labels=labels, **size, **options)


def waveform_track(samples: np.ndarray) -> Track:
    """A track of the envelope of a signal, an SVG path, scaled to a peak of 1."""
    edges = np.linspace(0, len(samples), WAVE_COLUMNS + 1).astype(int)
    pieces = [samples[start : max(stop, start + 1)] for start, stop in pairwise(edges.tolist())]
    peak = max(float(np.abs(samples).max()), 1e-6)
    upper = [f"{column} {-piece.max() / peak:.3f}" for column, piece in enumerate(pieces)]
    lower = [f"{column} {-piece.min() / peak:.3f}" for column, piece in reversed(list(enumerate(pieces)))]
    return Track("waveform", path=f"M{'L'.join(upper)}L{'L'.join(lower)}Z", columns=WAVE_COLUMNS)


def _mp3(samples: np.ndarray, rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3")
    return "data:audio/mpeg;base64," + _base64(file.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _colour_table(name: str) -> bytes:
    table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
    return bytes(table.tobytes())
