"""HTML reports: sections of text, tables, figures and examples, written as one self-contained page.

DIR/index.html         the page; it loads nothing from the network
DIR/figures/*.svg      its figures
DIR/figures/*.csv      the data of its figures and tables
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
    """An utterance with its alignment, audio (a data URI) and figure; the last two may be empty."""

    title: str
    note: str
    edits: Sequence[Edit]
    audio: str = ""
    svg: str = ""


@dataclass(frozen=True)
class Table:
    """A sortable table, written to ``name``.csv. The page leaves it out if it is not ``shown``.

    ``titles`` are the column titles on the page, where they differ from the ``header`` of the CSV file.
    """

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    shown: bool = True
    titles: Sequence[str] = ()

    def show(self, cell: float) -> str:
        """Format a number for the page."""
        return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.2f}"


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption, written to ``name``.svg."""

    name: str
    svg: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    title: str
    text: Sequence[str] = ()
    big: str = ""
    lead: str = ""
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Drawing] = ()
    examples: Sequence[Example] = ()


def write_page(out: Path, title: str, facts: Sequence[str], sections: Sequence[Section]) -> Path:
    """Write the sections as one page, with figures and tables as files in ``out``/figures. Returns the page's path."""
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


def file_name(name: str) -> str:
    """A name of a corpus's own, such as that of a detail, as part of the name of a table or figure."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)[:40]


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in table.rows)
    return text.getvalue()


def data_text(name: str) -> str:
    """Read a text file of the package's data folder."""
    return resources.files("asr").joinpath("data", name).read_text(encoding="utf-8")
