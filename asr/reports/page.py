"""A self-contained HTML page of sections, with its figures as SVG and its tables as CSV beside it.

DIR/index.html         the page; it needs no network
DIR/figures/*.svg      its figures
DIR/figures/*.csv      the numbers behind its figures and tables
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from asr.reports.figures import standalone
from asr.scoring.alignment import CORRECT, DELETION, INSERTION, SUBSTITUTION, Edit
from asr.system.files import make_folder, write_text

KINDS = {CORRECT: "", SUBSTITUTION: "wrong", DELETION: "wrong", INSERTION: "wrong"}


@dataclass(frozen=True)
class Example:
    """An utterance to look at and listen to; ``audio`` is a data URI."""

    title: str
    note: str
    edits: Sequence[Edit]
    audio: str = ""
    svg: str = ""


@dataclass(frozen=True)
class Table:
    """A table that sorts; ``name`` is that of its CSV file, which is all there is where it is not ``shown``."""

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    shown: bool = True

    def show(self, cell: float) -> str:
        """A number as it is read."""
        return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.2f}"


@dataclass(frozen=True)
class Drawing:
    """A picture with what it says; ``name`` is that of its file."""

    name: str
    svg: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: Sequence[str] = ()
    big: str = ""
    lead: str = ""
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Drawing] = ()
    examples: Sequence[Example] = ()


def write_page(out: Path, title: str, facts: Sequence[str], sections: Sequence[Section]) -> Path:
    """Write sections as one page, and their figures and tables as files beside it."""
    figures = out / "figures"
    make_folder(figures)
    for section in sections:
        for table in section.tables:
            write_text(figures / f"{table.name}.csv", _csv(table))
        for drawing in section.figures:
            write_text(figures / f"{drawing.name}.svg", standalone(drawing.svg))
    page = out / "index.html"
    template = Environment(autoescape=True, trim_blocks=True).from_string(data_text("report.html"))
    parts = {"style": data_text("report.css"), "script": data_text("report.js"), "kinds": KINDS}
    write_text(page, template.render(title=title, facts=facts, sections=sections, **parts))
    return page


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in table.rows)
    return text.getvalue()


def data_text(name: str) -> str:
    """A text file of the package's data."""
    return resources.files("asr").joinpath("data", name).read_text(encoding="utf-8")
