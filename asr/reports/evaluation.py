"""An evaluation as a page that needs no network: what the rate means, where the errors are, what to fix first.

DIR/index.html         the page, self-contained
DIR/figures/*.svg      its pictures
DIR/figures/*.csv      the numbers behind its pictures and tables
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.corpus.manifest import Utterance
from asr.reports.error_analysis import confusion_words, confusions, findings, groups, in_order, phone_errors
from asr.reports.figures import draw_confusions, draw_curves, draw_groups, draw_reliability
from asr.reports.page import Drawing, Example, Section, Table, write_page
from asr.scoring.alignment import Counts
from asr.scoring.calibration import Bin, calibration_error
from asr.scoring.conventions import CONVENTIONS
from asr.scoring.error_rate import interval
from asr.scoring.results import Evaluation, headline, percent

CONFUSIONS_SHOWN = 20


@dataclass(frozen=True)
class Material:
    """What a report shows beside the scores. Anything may be empty."""

    title: str
    facts: Sequence[str] = ()
    utterances: Mapping[str, Utterance] = field(default_factory=dict)
    temperature: float | None = None
    reliability: Sequence[Bin] = ()
    history: Sequence[Mapping[str, Any]] = ()
    worst: Sequence[Example] = ()
    median: Sequence[Example] = ()


def write_report(out: Path, evaluation: Evaluation, material: Material) -> Path:
    """Write the page and its figures into the folder ``out``; the page's path.

    Raises:
        InputError: the folder cannot be written.
    """
    sections = [_summary(evaluation, material)]
    if evaluation.headline.utterances:
        sections += [
            *_conventions(evaluation),
            *_groups(evaluation, material),
            *_phones(evaluation),
            *_reliability(material),
            *_training(material),
            Section("The ten worst utterances", examples=material.worst),
            Section("Ten in the middle", examples=material.median),
            _all_utterances(evaluation, material),
        ]
    return write_page(out, material.title, material.facts, [one for one in sections if one != Section(one.title)])


def _summary(evaluation: Evaluation, material: Material) -> Section:
    result = evaluation.headline
    if not result.utterances:
        return Section("Phone error rate", ["No utterance was evaluated."])
    found = interval(result)
    between = f" ({percent(found[0])} to {percent(found[1])})" if found else ""
    text = [headline(result) + f". Hypotheses: {evaluation.decoder or 'given'}."]
    if found:
        text.append(
            "In parentheses: 95 % interval, by resampling speakers. S, D, I: phones taken for others, missed, added."
        )
    fixes = [one.text for one in findings(result, groups(result, material.utterances))]
    return Section(
        "Phone error rate", text, f"{percent(result.total.per)} %{between}", "What to fix first" if fixes else "", fixes
    )


def _conventions(evaluation: Evaluation) -> list[Section]:
    if len(evaluation.scores) < 2:
        return []
    rows = []
    for name, one in evaluation.scores.items():
        low, high = interval(one) or (None, None)
        between = f"{percent(low)} to {percent(high)}" if low is not None and high is not None else ""
        shown = f"{name} (headline)" if one is evaluation.headline else name
        rows.append([shown, *_numbers(one.total), between, CONVENTIONS[name].summary])
    text = [
        "The same hypotheses under every published convention; figures of different conventions cannot be compared."
    ]
    table = Table("conventions", ["convention", "PER %", "S", "D", "I", "N", "95 % interval", "rule"], rows)
    return [Section("Conventions side by side", text, tables=[table])]


def _groups(evaluation: Evaluation, material: Material) -> list[Section]:
    sections = []
    for name, table in groups(evaluation.headline, material.utterances).items():
        rows = [[group, *_numbers(one)] for group, one in table.items()]
        header = [name, "PER %", "S", "D", "I", "N"]
        drawing = Drawing(f"by_{name}", draw_groups(table), f"PER by {name}; N is the number of phones said.")
        sections.append(Section(f"By {name}", tables=[Table(f"by_{name}", header, rows)], figures=[drawing]))
    return sections


def _phones(evaluation: Evaluation) -> list[Section]:
    result = evaluation.headline
    table = confusions(result)
    rows = []
    for one in phone_errors(result):
        wrong = 100 * (1 - one.correct / one.count) if one.count else 0.0
        heard_as = ", ".join(f"{heard} {number:,}" for heard, number in one.heard_as[:3])
        rows.append([one.phone, one.manner, one.count, one.correct, wrong, one.deleted, one.inserted, heard_as])
    header = ["phone", "manner", "said", "right", "wrong %", "missed", "added", "heard as"]
    phones = in_order(phone for pair in table for phone in pair if phone is not None)
    counts = [[said or "(added)", *(table[(said, heard)] for heard in (*phones, None))] for said in (*phones, None)]
    matrix = Drawing(
        "confusions",
        draw_confusions(table),
        "A row for each phone said, in shares of its count, by manner of articulation; the diagonal is what was right.",
        wide=True,
    )
    words = confusion_words(result, CONFUSIONS_SHOWN)
    tables = [Table("confusions", ["said", *phones, "missed"], counts, shown=False)]
    return [
        Section("Which phones", tables=[Table("phones", header, rows)]),
        Section("What is taken for what", lead="Most often", points=words, tables=tables, figures=[matrix]),
    ]


def _reliability(material: Material) -> list[Section]:
    if not material.reliability:
        return []
    rows = [[one.count, one.confidence, one.correct] for one in material.reliability]
    apart = 100 * calibration_error(material.reliability)
    text = [f"Confidence and the fraction that is right are {apart:.1f} points apart, in the mean over phones."]
    if material.temperature is None:
        text.append("No temperature was chosen for this model: confidences are posteriors as they are.")
    else:
        text.append(f"Posteriors were taken at the temperature {material.temperature:.2f}, which a dev set chose.")
    table = Table("reliability", ["phones", "confidence", "right"], rows)
    drawing = Drawing(
        "reliability", draw_reliability(material.reliability), "Phones in tenths of confidence; larger dots have more."
    )
    return [Section("How sure, and how often right", text, tables=[table], figures=[drawing])]


def _training(material: Material) -> list[Section]:
    if not material.history:
        return []
    header = ["epoch", "train_loss", "dev_per", "minutes"]
    rows = [[record.get(name, 0) for name in header] for record in material.history]
    drawing = Drawing(
        "training", draw_curves({"": material.history}), "Loss on the training set and PER on the dev set."
    )
    return [Section("Training", tables=[Table("training", header, rows, shown=False)], figures=[drawing])]


def _all_utterances(evaluation: Evaluation, material: Material) -> Section:
    rows = []
    for one in sorted(evaluation.headline.utterances, key=lambda one: (-one.counts.per, one.id)):
        known = material.utterances.get(one.id)
        rows.append([one.id, one.speaker, known.duration_s if known else "", *_numbers(one.counts)])
    header = ["utterance", "speaker", "seconds", "PER %", "S", "D", "I", "N"]
    text = [f"All {len(rows):,} utterances, the worst first, are in figures/utterances.csv."]
    return Section("All utterances", text, tables=[Table("utterances", header, rows, shown=False)])


def _numbers(counts: Counts) -> list[float | int]:
    per = 100 * counts.per if counts.per != float("inf") else 100.0 * counts.errors
    return [per, counts.substitutions, counts.deletions, counts.insertions, counts.reference_phones]
