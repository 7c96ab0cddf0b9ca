"""Figures about a corpus, split beside split: histograms, minutes by speaker, shares of phones."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asr.reports.figures import BLUE, GREY, RED, STYLE, to_svg

COLOURS = (BLUE, RED, "#2f9e77", "#c98a1b", "#8e6bbf", GREY)
CORPUS_STYLE: dict[Any, Any] = STYLE | {"text.parse_math": False}
"""Names of phones and splits may contain dollar signs."""

BINS = 40
OUTLIERS = 0.002
"""Share of the values at either end that a histogram puts into its first and last bin."""

MAX_PHONES = 70


def draw_histogram(values: Mapping[str, np.ndarray], label: str, from_zero: bool = False) -> str:
    """Shares of the utterances of each split by value, in percent. Values far out are in the first and last bin."""
    everything = np.concatenate(list(values.values()))
    low, high = np.quantile(everything, (OUTLIERS, 1 - OUTLIERS)) if len(everything) else (0.0, 1.0)
    low = 0.0 if from_zero else low
    edges = np.linspace(low, max(high, low + 1e-3), BINS + 1)
    with matplotlib.rc_context(CORPUS_STYLE):
        figure = Figure(figsize=(5, 2.2), layout="constrained")
        axes = figure.subplots()
        for (name, one), colour in zip(values.items(), _colours(values), strict=True):
            counts, _ = np.histogram(one.clip(edges[0], edges[-1]), edges)
            shares = 100 * counts / max(1, len(one))
            axes.stairs(shares, edges, color=colour, fill=True, alpha=0.18)
            axes.stairs(shares, edges, color=colour, lw=1.3, label=name)
        axes.set(xlabel=label, ylabel="utterances, %", ylim=(0, None), xlim=(edges[0], edges[-1]))
        if len(values) > 1:
            axes.legend(fontsize=8)
        return to_svg(figure)


def draw_speakers(minutes: Mapping[str, Sequence[float]]) -> str:
    """Minutes of each speaker, most first, a curve for each split."""
    with matplotlib.rc_context(CORPUS_STYLE):
        figure = Figure(figsize=(5, 2.2), layout="constrained")
        axes = figure.subplots()
        for (name, one), colour in zip(minutes.items(), _colours(minutes), strict=True):
            ordered = sorted(one, reverse=True)
            axes.plot(range(1, len(ordered) + 1), ordered, color=colour, marker="o", ms=2.5, lw=1.2, label=name)
        axes.set(xlabel="speakers, most speech first", ylabel="minutes", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(minutes) > 1:
            axes.legend(fontsize=8)
        return to_svg(figure)


def draw_phones(counts: Mapping[str, Mapping[str, int]], phones: Sequence[str]) -> str:
    """Share of each phone in each split, in percent: bars for the first split, dots for the others."""
    shown = list(phones)[:MAX_PHONES]
    with matplotlib.rc_context(CORPUS_STYLE):
        figure = Figure(figsize=(5, 0.7 + 0.19 * len(shown)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(shown))
        for number, ((name, one), colour) in enumerate(zip(counts.items(), _colours(counts), strict=True)):
            shares = [100 * one.get(phone, 0) / max(1, sum(one.values())) for phone in shown]
            if number == 0:
                axes.barh(places, shares, color=colour, alpha=0.55, height=0.7, label=name)
            else:
                axes.plot(shares, places, "o", color=colour, ms=3.5, label=name)
        axes.set_yticks(places, shown, fontsize=8)
        axes.set(xlabel="share of the phones, %", ylim=(len(shown) - 0.4, -0.6), xlim=(0, None))
        if len(counts) > 1:
            axes.legend(fontsize=8, loc="lower right")
        return to_svg(figure)


def _colours(splits: Mapping[str, Any]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(splits))]
