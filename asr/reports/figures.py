"""Figures of the reports, drawn with matplotlib and returned as SVG elements.

Text and axes use ``currentColor``, so that a page shows them in its own colour, light or dark.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr.reports.error_analysis import ConfusionTable, articulation, sort_by_manner
from asr.scoring.alignment import CORRECT, Counts, Edit
from asr.scoring.calibration import Bin

INK = "#010203"
"""Placeholder for ``currentColor``, which matplotlib does not support."""
BLUE, RED, GREY = "#3b82c4", "#d1495b", "#8a8f98"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "asr",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
}
MAX_BARS = 60


@dataclass(frozen=True)
class UtteranceFigure:
    """The data behind the figure of one utterance.

    features (frames, dim) and posteriors (frames', symbols) span ``duration_s``. ``reference_times_s`` and
    ``hypothesis_times_s`` are the centres of the phones in seconds, one for each edit that has such a phone, in order.
    ``features_name`` is what the features are, ``notation`` what the phones are written in.
    """

    duration_s: float
    features: np.ndarray
    posteriors: np.ndarray
    symbols: Sequence[str]
    edits: Sequence[Edit]
    reference_times_s: Sequence[float]
    hypothesis_times_s: Sequence[float]
    features_name: str = "features"
    notation: str = ""


def draw_groups(table: Mapping[str, Counts], rate: str = "PER") -> str:
    """Bars of the error rate by group, with the number of reference phones; the `MAX_BARS` worst if there are more.

    Bars end at 200 %, the figures beside them are exact.
    """
    bars = list(table.items())
    if len(bars) > MAX_BARS:
        bars = sorted(bars, key=lambda bar: -bar[1].per)[:MAX_BARS]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.6 + 0.22 * len(bars)), layout="constrained")
        axes = figure.subplots()
        pers = [100 * min(counts.per, 2.0) for _, counts in bars]
        axes.barh(range(len(bars)), pers, color=BLUE, height=0.7)
        for index, (per, (_, counts)) in enumerate(zip(pers, bars, strict=True)):
            label = f" {100 * counts.per:.1f}  (N {counts.reference_phones:,})"
            axes.text(per, index, label, va="center", fontsize=7.5)
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.set(xlabel=f"{rate}, %", xlim=(0, 1.25 * max([*pers, 1])), ylim=(len(bars) - 0.5, -0.5))
        return to_svg(figure)


def draw_confusions(table: ConfusionTable, notation: str = "") -> str:
    """The confusion matrix: a row for each reference phone, in shares of its count, grouped by manner of articulation."""
    places = articulation((phone for pair in table for phone in pair if phone is not None), notation)
    phones = sort_by_manner(places, notation)
    index_of = {phone: index for index, phone in enumerate(phones)}
    shares = np.zeros((len(phones), len(phones) + 1))
    for (reference, hypothesis), count in table.items():
        if reference is not None:
            shares[index_of[reference], len(phones) if hypothesis is None else index_of[hypothesis]] += count
    shares /= np.maximum(shares.sum(1, keepdims=True), 1)
    with matplotlib.rc_context(STYLE | {"font.size": 7}):
        size = 1.4 + 0.155 * len(phones)
        figure = Figure(figsize=(size + 0.4, size), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(np.sqrt(shares), cmap="magma_r", vmin=0, vmax=1)
        manner_of = [places[phone][1] for phone in phones]
        for index in range(1, len(phones)):
            if manner_of[index] != manner_of[index - 1]:
                axes.axhline(index - 0.5, color=GREY, lw=0.5)
                axes.axvline(index - 0.5, color=GREY, lw=0.5)
        axes.set_xticks(range(len(phones) + 1), [*phones, "deleted"], rotation=90)
        axes.set_yticks(range(len(phones)), phones)
        axes.set(xlabel="recognized as", ylabel="reference")
        bar = figure.colorbar(image, ax=axes, shrink=0.4, ticks=np.sqrt([0, 0.05, 0.2, 0.5, 1]))
        bar.set_ticklabels(["0 %", "5 %", "20 %", "50 %", "100 %"])
        return to_svg(figure)


def draw_reliability(bins: Sequence[Bin]) -> str:
    """Reliability diagram: accuracy of recognized phones against confidence. Larger dots have more phones."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
        confidences, accuracies = [tenth.confidence for tenth in bins], [tenth.correct for tenth in bins]
        largest = max(tenth.count for tenth in bins)
        axes.plot(confidences, accuracies, color=BLUE, lw=1)
        axes.scatter(confidences, accuracies, s=[12 + 150 * tenth.count / largest for tenth in bins], color=BLUE)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        return to_svg(figure)


def draw_learning_curves(
    runs: Mapping[str, Sequence[Mapping[str, float]]], rate: str = "PER", unit: str = "phone"
) -> str:
    """Training loss per unit and the error rate on dev by epoch, a curve for each run."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 2.9), layout="constrained")
        loss, per = figure.subplots(1, 2)
        for name, history in runs.items():
            epochs = [record["epoch"] for record in history]
            loss.plot(epochs, [record["train_loss"] for record in history], marker=".", label=name)
            per.plot(epochs, [100 * record["dev_per"] for record in history], marker=".", label=name)
        loss.set(xlabel="epoch", ylabel=f"training loss, nats per {unit}")
        per.set(xlabel="epoch", ylabel=f"dev {rate}, %", ylim=(0, None))
        if len(runs) > 1:
            per.legend(fontsize=7)
        return to_svg(figure)


def draw_run_comparison(
    runs: Mapping[str, Mapping[str, tuple[float, tuple[float, float] | None]]], rate: str = "PER"
) -> str:
    """The error rate of each run with its interval, one run below the other, a colour for each evaluation.

    ``runs`` is run -> evaluation -> (error rate, interval), as fractions.
    """
    evaluations = list(dict.fromkeys(name for results in runs.values() for name in results))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.9 + 0.22 * len(runs) * max(1, len(evaluations))), layout="constrained")
        axes = figure.subplots()
        for number, name in enumerate(evaluations):
            points = [(index, *results[name]) for index, results in enumerate(runs.values()) if name in results]
            heights = [index + 0.7 * (number + 0.5) / len(evaluations) - 0.35 for index, _, _ in points]
            pers = [100 * per for _, per, _ in points]
            drawn = axes.plot(pers, heights, "o", label=name)
            for height, (_, per, bounds) in zip(heights, points, strict=True):
                if bounds:
                    axes.plot([100 * bound for bound in bounds], [height] * 2, color=drawn[0].get_color(), lw=1)
                axes.annotate(f"{100 * per:.2f}", (100 * per, height), (0, 4), textcoords="offset points", fontsize=7)
        axes.set_yticks(range(len(runs)), list(runs))
        axes.set(xlabel=f"{rate}, %", ylim=(len(runs) - 0.5, -0.6))
        axes.grid(axis="x", alpha=0.3)
        if evaluations:
            axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
        return to_svg(figure)


def draw_gradient_norms(curves: Mapping[str, np.ndarray], shift_ms: float) -> str:
    """Gradient norm by lag, relative to its maximum. Each curve is (lags,), with lag 0 in the middle."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        axes = figure.subplots()
        for (name, values), colour in zip(curves.items(), (BLUE, GREY, RED), strict=False):
            lags = (np.arange(len(values)) - len(values) // 2) * shift_ms
            axes.semilogy(lags, values / np.nanmax(values), color=colour, label=name)
        axes.set(xlabel="lag of the input frame relative to the output, ms", ylabel="relative gradient norm")
        axes.set_ylim(1e-8, 2)
        axes.yaxis.set_major_formatter("{x:g}")  # matplotlib's own writes formulas, which STYLE shows as they are
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7.5)
        return to_svg(figure)


def draw_utterance(data: UtteranceFigure) -> str:
    """Features, posteriors of the active phones, and reference and hypothesis at their times, errors in red."""
    posteriors = data.posteriors
    used = [index for index in range(1, posteriors.shape[1]) if posteriors[:, index].max() > 0.1]
    order = sort_by_manner(data.symbols, data.notation)
    used.sort(key=lambda index: order.index(data.symbols[index]), reverse=True)
    width = min(14.0, max(6.0, 2.6 * data.duration_s))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 2.9 + 0.11 * len(used)), layout="constrained")
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[1.3, 0.3 + 0.11 * len(used), 0.9])
        seconds = data.duration_s
        dim = data.features.shape[1]
        top.imshow(data.features.T, origin="lower", aspect="auto", extent=(0, seconds, 0, dim), cmap="magma")
        top.set(ylabel=data.features_name, yticks=[])
        extent = (0, seconds, 0, max(len(used), 1))
        middle.imshow(posteriors[:, used].T, origin="lower", aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=1)
        middle.set_yticks(np.arange(len(used)) + 0.5, [data.symbols[index] for index in used], fontsize=6.5)
        _draw_phones(bottom, data)
        return to_svg(figure)


def _draw_phones(axes: Axes, data: UtteranceFigure) -> None:
    lines = {
        "reference": (0.75, enumerate(data.reference_times_s)),
        "recognized as": (0.25, enumerate(data.hypothesis_times_s)),
    }
    for edit in data.edits:
        colour, weight = (INK, "normal") if edit.kind == CORRECT else (RED, "bold")
        for (height, times), phone in zip(lines.values(), (edit.reference, edit.hypothesis), strict=True):
            if phone is not None:
                index, time_s = next(times)
                y = height + (0.1 if index % 2 else -0.1)  # alternate, so that neighbours do not overlap
                axes.text(time_s, y, phone, ha="center", va="center", color=colour, fontsize=7.5, weight=weight)
    axes.axhline(0.5, color=GREY, lw=0.5)
    axes.set_yticks([height for height, _ in lines.values()], list(lines))
    axes.set(ylim=(0, 1), xlabel="seconds")


def to_svg(figure: Figure) -> str:
    """Render a figure as an SVG element. Equal figures give equal text."""
    text = io.StringIO()
    with warnings.catch_warnings():  # a browser has letters that matplotlib's own font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, dpi=110)
    svg = text.getvalue()
    used = set(re.findall(r"#([\w-]+)", svg))
    # A page holds several figures. Keep only the ids that are referenced: matplotlib derives those from the content.
    svg = re.sub(r' id="([\w-]+)"', lambda match: match[0] if match[1] in used else "", svg)
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def standalone(svg: str) -> str:
    """Convert an SVG element of a page to the text of an SVG file, drawn in black."""
    return svg.replace("currentColor", "#000000")
