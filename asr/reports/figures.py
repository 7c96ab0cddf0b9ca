"""The pictures of a report, each as SVG. Ink is ``currentColor``, so that a page shows them in its own, light or dark."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr.reports.error_analysis import in_order, manners
from asr.scoring.alignment import CORRECT, Counts, Edit
from asr.scoring.calibration import Bin

INK = "#010203"
"""Stands for ``currentColor``, which matplotlib does not know."""
BLUE, RED, GREY = "#3b82c4", "#d1495b", "#8a8f98"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "asr",
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
MOST_BARS = 60


@dataclass(frozen=True)
class Picture:
    """What is to be seen of one utterance.

    features (frames, dim); posteriors (frames', symbols), rows as far apart as ``duration_s`` asks for; ``spoken`` and
    ``heard`` say where in seconds each phone of reference and hypothesis lies, in the order of the edits that have one.
    """

    duration_s: float
    features: np.ndarray
    posteriors: np.ndarray
    symbols: Sequence[str]
    edits: Sequence[Edit]
    spoken: Sequence[float]
    heard: Sequence[float]


def draw_groups(table: Mapping[str, Counts]) -> str:
    """PER of groups as bars, the number of reference phones beside each; the worst ones where there are many."""
    rows = list(table.items())
    if len(rows) > MOST_BARS:
        rows = sorted(rows, key=lambda row: -row[1].per)[:MOST_BARS]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.6 + 0.22 * len(rows)), layout="constrained")
        axes = figure.subplots()
        pers = [100 * min(one.per, 2.0) for _, one in rows]
        axes.barh(range(len(rows)), pers, color=BLUE, height=0.7)
        for place, (per, (_, one)) in enumerate(zip(pers, rows, strict=True)):
            axes.text(per, place, f" {per:.1f}  (N {one.reference_phones:,})", va="center", fontsize=7.5)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set(xlabel="PER, %", xlim=(0, 1.25 * max([*pers, 1])), ylim=(len(rows) - 0.5, -0.5))
        return to_svg(figure)


def draw_confusions(table: Mapping[tuple[str | None, str | None], int]) -> str:
    """The confusion matrix, a row for each phone of the reference in shares of its count, phones grouped by manner."""
    phones = in_order(phone for pair in table for phone in pair if phone is not None)
    place = {phone: number for number, phone in enumerate(phones)}
    shares = np.zeros((len(phones), len(phones) + 1))
    for (said, heard), number in table.items():
        if said is not None:
            shares[place[said], len(phones) if heard is None else place[heard]] += number
    shares /= np.maximum(shares.sum(1, keepdims=True), 1)
    with matplotlib.rc_context(STYLE | {"font.size": 7}):
        size = 1.4 + 0.155 * len(phones)
        figure = Figure(figsize=(size + 0.4, size), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(np.sqrt(shares), cmap="magma_r", vmin=0, vmax=1)
        names = [manners().get(phone, (0, "other"))[1] for phone in phones]
        for number in range(1, len(phones)):
            if names[number] != names[number - 1]:
                axes.axhline(number - 0.5, color=GREY, lw=0.5)
                axes.axvline(number - 0.5, color=GREY, lw=0.5)
        axes.set_xticks(range(len(phones) + 1), [*phones, "missed"], rotation=90)
        axes.set_yticks(range(len(phones)), phones)
        axes.set(xlabel="recognized", ylabel="said")
        bar = figure.colorbar(image, ax=axes, shrink=0.4, ticks=np.sqrt([0, 0.05, 0.2, 0.5, 1]))
        bar.set_ticklabels(["0 %", "5 %", "20 %", "50 %", "100 %"])
        return to_svg(figure)


def draw_reliability(bins: Sequence[Bin]) -> str:
    """How often phones are right against how sure the model is of them; the size of a dot is their number."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
        most = max(one.count for one in bins)
        sizes = [12 + 150 * one.count / most for one in bins]
        axes.plot([one.confidence for one in bins], [one.correct for one in bins], color=BLUE, lw=1)
        axes.scatter([one.confidence for one in bins], [one.correct for one in bins], s=sizes, color=BLUE)
        axes.set(xlabel="confidence", ylabel="fraction right", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        return to_svg(figure)


def draw_curves(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Training loss and PER on dev over the epochs of one or several runs."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 2.9), layout="constrained")
        loss, per = figure.subplots(1, 2)
        for name, history in runs.items():
            epochs = [record["epoch"] for record in history]
            loss.plot(epochs, [record["train_loss"] for record in history], marker=".", label=name)
            per.plot(epochs, [100 * record["dev_per"] for record in history], marker=".", label=name)
        loss.set(xlabel="epoch", ylabel="training loss, nats a phone")
        per.set(xlabel="epoch", ylabel="PER on dev, %", ylim=(0, None))
        if len(runs) > 1:
            per.legend(fontsize=7)
        return to_svg(figure)


def draw_ladder(steps: Mapping[str, Mapping[str, tuple[float, tuple[float, float] | None]]]) -> str:
    """PER of runs, one below the other, with its interval; a colour for each set it was measured on."""
    sets = list(dict.fromkeys(name for found in steps.values() for name in found))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.9 + 0.22 * len(steps) * max(1, len(sets))), layout="constrained")
        axes = figure.subplots()
        for number, name in enumerate(sets):
            rows = [(place, *found[name]) for place, found in enumerate(steps.values()) if name in found]
            heights = [place + 0.7 * (number + 0.5) / len(sets) - 0.35 for place, _, _ in rows]
            pers = [100 * per for _, per, _ in rows]
            drawn = axes.plot(pers, heights, "o", label=name)
            for height, (_, per, between) in zip(heights, rows, strict=True):
                if between:
                    axes.plot([100 * one for one in between], [height, height], color=drawn[0].get_color(), lw=1)
                axes.annotate(f"{100 * per:.2f}", (100 * per, height), (0, 4), textcoords="offset points", fontsize=7)
        axes.set_yticks(range(len(steps)), list(steps))
        axes.set(xlabel="PER, %", ylim=(len(steps) - 0.5, -0.6))
        axes.grid(axis="x", alpha=0.3)
        if sets:
            axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
        return to_svg(figure)


def draw_reaches(curves: Mapping[str, np.ndarray], shift_ms: float) -> str:
    """Gradient norms by lag, each curve (lags,) with no lag in its middle, relative to its largest value."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        axes = figure.subplots()
        for (name, values), colour in zip(curves.items(), (BLUE, GREY, RED), strict=False):
            lags = (np.arange(len(values)) - len(values) // 2) * shift_ms
            axes.semilogy(lags, values / np.nanmax(values), color=colour, label=name)
        axes.set(xlabel="input frame before (-) or after (+) the output, ms", ylabel="gradient norm, relative")
        axes.set_ylim(1e-8, 2)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7.5)
        return to_svg(figure)


def draw_utterance(picture: Picture) -> str:
    """Features, posteriors of the phones that matter, and reference and hypothesis where they lie; errors in red."""
    posteriors = picture.posteriors
    used = [index for index in range(1, posteriors.shape[1]) if posteriors[:, index].max() > 0.1]
    used.sort(key=lambda index: in_order(picture.symbols).index(picture.symbols[index]), reverse=True)
    width = min(14.0, max(6.0, 2.6 * picture.duration_s))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 2.9 + 0.11 * len(used)), layout="constrained")
        top, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=[1.3, 0.3 + 0.11 * len(used), 0.9])
        seconds = picture.duration_s
        dim = picture.features.shape[1]
        top.imshow(picture.features.T, origin="lower", aspect="auto", extent=(0, seconds, 0, dim), cmap="magma")
        top.set(ylabel="features", yticks=[])
        chosen = posteriors[:, used].T
        extent = (0, seconds, 0, max(len(used), 1))
        middle.imshow(chosen, origin="lower", aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=1)
        middle.set_yticks(np.arange(len(used)) + 0.5, [picture.symbols[index] for index in used], fontsize=6.5)
        _draw_phones(below, picture)
        return to_svg(figure)


def _draw_phones(axes: Axes, picture: Picture) -> None:
    rows = {"said": (0.75, enumerate(picture.spoken)), "heard": (0.25, enumerate(picture.heard))}
    for edit in picture.edits:
        colour, weight = (INK, "normal") if edit.kind == CORRECT else (RED, "bold")
        for name, phone in (("said", edit.reference), ("heard", edit.hypothesis)):
            if phone is not None:
                height, places = rows[name]
                number, place = next(places)
                height += 0.1 if number % 2 else -0.1  # neighbours would cover each other
                axes.text(place, height, phone, ha="center", va="center", color=colour, fontsize=7.5, weight=weight)
    axes.axhline(0.5, color=GREY, lw=0.5)
    axes.set_yticks([height for height, _ in rows.values()], list(rows))
    axes.set(ylim=(0, 1), xlabel="seconds")


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element; the same figure gives the same text."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, dpi=110)
    svg = text.getvalue()
    used = set(re.findall(r"#([\w-]+)", svg))
    # Several figures stand in one page: only the ids that something refers to stay, and they follow from the content.
    svg = re.sub(r' id="([\w-]+)"', lambda found: found[0] if found[1] in used else "", svg)
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def standalone(svg: str) -> str:
    """The SVG as a file of its own, in black."""
    return svg.replace("currentColor", "#000000")
