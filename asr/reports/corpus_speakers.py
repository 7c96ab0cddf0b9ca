"""The sections of the page about the speakers of a corpus.

In:  a `Tally` and its statistics.
Out: sections of `asr.reports.page`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from asr.reports.corpus_figures import draw_speakers
from asr.reports.corpus_statistics import QUANTILES
from asr.reports.corpus_tables import TITLES, CorpusTable
from asr.reports.corpus_tally import MAX_VALUES, Tally
from asr.reports.page import Drawing, Section, file_name

MAX_GROUPS = 12
"""A detail with more different values is shown in ranges if it is a number, and left out of the page otherwise."""


def speakers_section(tally: Tally, statistics: Mapping[str, Any]) -> Section:
    """Minutes by speaker, and speakers and hours by sex."""
    splits = statistics["splits"]
    rows = [
        [name, split["speakers"], *(split["minutes_per_speaker"][quantile] for quantile in QUANTILES)]
        for name, split in splits.items()
    ]
    minutes = CorpusTable(
        "speakers",
        ["split", "speakers", *QUANTILES],
        rows,
        titles=["minutes per speaker", "speakers", *TITLES.values()],
    )
    sexes = dict.fromkeys(sex for split in splits.values() for sex in split["hours_by_sex"])
    header = ["sex", *(f"{name}: {what}" for name in splits for what in ("speakers", "hours"))]
    counts = [
        [sex, *(split[key].get(sex, 0) for split in splits.values() for key in ("speakers_by_sex", "hours_by_sex"))]
        for sex in sorted(sexes)
    ]
    listed = [
        [split.name, speaker, seconds / 60]
        for split in tally.splits
        for speaker, seconds in sorted(split.speaker_seconds.items(), key=lambda item: -item[1])
    ]
    everyone = CorpusTable("minutes_by_speaker", ["split", "speaker", "minutes"], listed, shown=False)
    by_split = {split.name: [seconds / 60 for seconds in split.speaker_seconds.values()] for split in tally.splits}
    caption = "Minutes of each speaker. figures/minutes_by_speaker.csv lists them by name."
    drawing = Drawing("speakers", draw_speakers(by_split), caption)
    given = set(sexes) != {"not given"}
    text = [] if given else ["The manifests do not give the sex."]
    tables = [minutes, *([CorpusTable("sex", header, counts)] if given else []), everyone]
    return Section("Speakers", text, tables=tables, figures=[drawing])


def details_section(tally: Tally) -> list[Section]:
    """Hours by the details that the manifest gives beside the sex, such as age or dialect."""
    names = dict.fromkeys(name for split in tally.splits for name in split.detail_seconds)
    tables, notes = [], []
    for name in names:
        hours: list[Mapping[str, float]] = [split.detail_seconds.get(name, {}) for split in tally.splits]
        values = dict.fromkeys(value for one in hours for value in one)
        if len(values) > MAX_GROUPS and _are_numbers(values) and len(values) <= MAX_VALUES:
            hours, values = _in_ranges(hours, values)
        if len(values) > MAX_GROUPS:
            number = f"more than {MAX_VALUES:,}" if len(values) > MAX_VALUES else f"{len(values):,}"
            notes.append(f"{name} has {number} different values, too many for a table.")
            continue
        rows = [[value or "not given", *(one.get(value, 0.0) / 3600 for one in hours)] for value in values]
        header = [name, *(f"{split.name}: hours" for split in tally.splits)]
        tables.append(CorpusTable(f"detail_{file_name(name)}", header, sorted(rows, key=_leading_number)))
    return [Section("Details in the manifest", notes, tables=tables)] if tables or notes else []


def _in_ranges(
    hours: Sequence[Mapping[str, float]], values: Mapping[str, None]
) -> tuple[list[Mapping[str, float]], dict[str, None]]:
    """Put numbers into at most `MAX_GROUPS` ranges with round limits."""
    numbers = [float(value) for value in values]
    edges = [float(edge) for edge in MaxNLocator(MAX_GROUPS - 2).tick_values(min(numbers), max(numbers))]
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    ranged: list[Mapping[str, float]] = []
    for one in hours:
        sums: dict[str, float] = {}
        for value, seconds in one.items():
            place = min(max(int(np.searchsorted(edges, float(value), "right")) - 1, 0), len(names) - 1)
            sums[names[place]] = sums.get(names[place], 0.0) + seconds
        ranged.append(sums)
    return ranged, {name: None for name in names if any(name in one for one in ranged)}


def _are_numbers(values: Mapping[str, None]) -> bool:
    try:
        return all(np.isfinite(float(value)) for value in values)
    except ValueError:
        return False


def _leading_number(row: Sequence[Any]) -> tuple[float, str]:
    try:
        return float(row[0].split()[0]), row[0]
    except (ValueError, IndexError):
        return float("inf"), row[0]
