"""Tables and histograms of what is measured in a corpus, a line or a colour for each split.

In:  a `Tally`, and names of its columns.
Out: sections of `asr.reports.page`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.reports.corpus_figures import draw_histogram
from asr.reports.corpus_statistics import QUANTILES, QUANTITIES, quantiles
from asr.reports.corpus_tally import Tally
from asr.reports.page import Drawing, Section, Table

TITLES = {"lowest": "lowest", "p5": "5 %", "median": "median", "p95": "95 %", "highest": "highest"}


@dataclass(frozen=True)
class CorpusTable(Table):
    """A table whose numbers have three significant digits."""

    def show(self, cell: float) -> str:
        """Format a number for the page."""
        if isinstance(cell, int):
            return f"{cell:,}"
        if np.isnan(cell):
            return "\u2013"
        decimals = 0 if abs(cell) >= 99.95 else 1 if abs(cell) >= 9.995 else 2
        text = f"{cell:,.{decimals}f}"
        return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "\u2212")


def measured_section(tally: Tally, title: str, names: Sequence[str], text: Sequence[str] = ()) -> Section:
    """A table by split and a histogram of each of some columns of the tally."""
    figures = []
    for name in names:
        label, factor, from_zero = QUANTITIES[name]
        values = {split.name: factor * tally.values(name, number) for number, split in enumerate(tally.splits)}
        missing = len(tally.columns[name]) - sum(len(one) for one in values.values())
        caption = f"Not measurable in {missing:,} utterances." if missing else ""
        figures.append(Drawing(name, draw_histogram(values, label, from_zero), caption))
    return Section(title, text, tables=[quantity_table(tally, name) for name in names], figures=figures)


def quantity_table(tally: Tally, name: str) -> CorpusTable:
    """Quantiles of a column of the tally, a line for each split."""
    label, factor, _ = QUANTITIES[name]
    rows = []
    for number, split in enumerate(tally.splits):
        found = quantiles(factor * tally.values(name, number))
        rows.append([split.name, *(found.get(quantile, float("nan")) for quantile in QUANTILES)])
    return CorpusTable(f"{name}_quantiles", [label, *QUANTILES], rows, titles=[label, *TITLES.values()])
