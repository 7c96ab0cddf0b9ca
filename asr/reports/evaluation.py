"""The report of an evaluation: what to fix first, errors by group and phone, confusions, calibration, learning curves.

In:  an `Evaluation`, and `ReportContent` for everything beside the scores.
Out: DIR/index.html, self-contained, with its figures and tables as SVG and CSV files in DIR/figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.corpus.manifest import Utterance
from asr.reports.error_analysis import confusions, findings, frequent_confusions, groups, phone_errors, sort_by_manner
from asr.reports.figures import draw_confusions, draw_groups, draw_learning_curves, draw_reliability
from asr.reports.page import Drawing, Example, Section, Table, file_name, write_page
from asr.scoring.alignment import Counts
from asr.scoring.calibration import Bin, calibration_error
from asr.scoring.conventions import CONVENTIONS
from asr.scoring.error_rate import Score, confidence_interval
from asr.scoring.results import Evaluation, feature_line, headline, percent

CONFUSIONS_SHOWN = 20


@dataclass(frozen=True)
class ReportContent:
    """What a report shows beside the scores. Everything but the title may be empty."""

    title: str
    facts: Sequence[str] = ()
    utterances: Mapping[str, Utterance] = field(default_factory=dict)
    temperature: float | None = None
    reliability: Sequence[Bin] = ()
    history: Sequence[Mapping[str, Any]] = ()
    worst: Sequence[Example] = ()
    median: Sequence[Example] = ()


def write_report(out: Path, evaluation: Evaluation, content: ReportContent) -> Path:
    """Write the report and its figures into the folder ``out``. Returns the path of the page.

    Raises:
        InputError: the folder cannot be written.
    """
    sections = [_summary(evaluation, content)]
    if evaluation.headline.utterances:
        sections += [
            *_conventions(evaluation),
            *_groups(evaluation, content),
            *_phones(evaluation),
            *_calibration(content, evaluation.headline.unit),
            *_learning_curves(content, evaluation.headline),
            Section("Worst utterances", examples=content.worst),
            Section("Utterances near the median", examples=content.median),
            _all_utterances(evaluation, content),
        ]
    not_empty = [section for section in sections if section != Section(section.title)]
    return write_page(out, content.title, content.facts, not_empty)


def _summary(evaluation: Evaluation, content: ReportContent) -> Section:
    result, title = evaluation.headline, "Phone error rate"
    if result.unit == "grapheme":
        title = "Character error rate"
    if not result.utterances:
        return Section(title, ["No utterance was evaluated."])
    bounds = confidence_interval(result)
    in_parentheses = f" ({percent(bounds[0])} to {percent(bounds[1])})" if bounds else ""
    text = [headline(result) + f". Decoder: {evaluation.decoder or 'unknown'}."]
    if bounds:
        text.append(
            "In parentheses: 95 % confidence interval, from resampling speakers. "
            f"S, D, I: substitutions, deletions, insertions. N: reference {result.unit}s."
        )
    if evaluation.feature_errors:
        text.append(
            feature_line(evaluation.feature_errors)
            + ". Here a substitution counts as the share of articulatory features "
            "that differ, and N are segments of the IPA."
        )
    fixes = [finding.text for finding in findings(result, groups(result, content.utterances))]
    rate = f"{percent(result.total.per)} %{in_parentheses}"
    return Section(title, text, rate, "What to fix first" if fixes else "", fixes)


def _conventions(evaluation: Evaluation) -> list[Section]:
    if len(evaluation.scores) < 2:
        return []
    rows = []
    for name, result in evaluation.scores.items():
        bounds = confidence_interval(result)
        between = f"{percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""
        title = f"{name} (headline)" if result is evaluation.headline else name
        rows.append([title, *_rate_and_counts(result.total), between, CONVENTIONS[name].summary])
    text = [
        "The same hypotheses, scored under each published convention. "
        "Rates under different conventions cannot be compared."
    ]
    table = Table(
        "conventions",
        ["convention", f"{evaluation.headline.rate_name} %", "S", "D", "I", "N", "95 % interval", "rule"],
        rows,
    )
    return [Section(f"{evaluation.headline.rate_name} by scoring convention", text, tables=[table])]


def _groups(evaluation: Evaluation, content: ReportContent) -> list[Section]:
    sections, rate, unit = [], evaluation.headline.rate_name, evaluation.headline.unit
    for name, counts_by_group in groups(evaluation.headline, content.utterances).items():
        rows = [[group, *_rate_and_counts(counts)] for group, counts in counts_by_group.items()]
        file = f"by_{file_name(name)}"
        table = Table(file, [name, f"{rate} %", "S", "D", "I", "N"], rows)
        caption = f"{rate} by {name}. N is the number of reference {unit}s."
        drawing = Drawing(file, draw_groups(counts_by_group, rate), caption)
        sections.append(Section(f"{rate} by {name}", tables=[table], figures=[drawing]))
    return sections


def _phones(evaluation: Evaluation) -> list[Section]:
    result = evaluation.headline
    rows = []
    for phone in phone_errors(result):
        error_percent = 100 * (1 - phone.correct / phone.count) if phone.count else 0.0
        counts = [phone.count, phone.correct, error_percent, phone.deleted, phone.inserted]
        substitutions = ", ".join(f"{other} {count:,}" for other, count in phone.recognized_as[:3])
        rows.append([phone.phone, phone.manner, *counts, substitutions])
    header = ["phone", "manner", "said", "right", "wrong %", "missed", "added", "heard as"]
    titles = ["reference", "manner", "N", "correct", "error %", "deleted", "inserted", "recognized as"]
    text = [f"N is the number of times the {result.unit} occurs in the references. The error rate excludes insertions."]
    return [
        Section(f"Errors by {result.unit}", text, tables=[Table("phones", header, rows, titles=titles)]),
        _confusions(evaluation),
    ]


def _confusions(evaluation: Evaluation) -> Section:
    result = evaluation.headline
    table = confusions(result)
    phones = sort_by_manner((phone for pair in table for phone in pair if phone is not None), result.notation)
    counts = [
        [reference or "(added)", *(table[(reference, hypothesis)] for hypothesis in (*phones, None))]
        for reference in (*phones, None)
    ]
    grouped = "" if result.unit == "grapheme" else "Phones are grouped by manner of articulation. "
    caption = (
        f"Confusion matrix. Each row is a reference {result.unit}, each column what it was recognized as, as a share of "
        f"the row. {grouped}The diagonal is correct."
    )
    return Section(
        "Confusions",
        lead="Most frequent substitutions",
        points=frequent_confusions(result, CONFUSIONS_SHOWN),
        tables=[Table("confusions", ["said", *phones, "missed"], counts, shown=False)],
        figures=[Drawing("confusions", draw_confusions(table, result.notation), caption, wide=True)],
    )


def _calibration(content: ReportContent, unit: str) -> list[Section]:
    if not content.reliability:
        return []
    error_points = 100 * calibration_error(content.reliability)
    text = [
        f"Expected calibration error: {error_points:.1f} points, the mean difference between confidence and accuracy."
    ]
    if content.temperature is None:
        text.append("The model has no calibration temperature. Confidences are raw posteriors.")
    else:
        text.append(f"Confidences are posteriors at temperature {content.temperature:.2f}, fitted on a dev set.")
    rows = [[tenth.count, tenth.confidence, tenth.correct] for tenth in content.reliability]
    titles = [f"{unit}s", "confidence", "accuracy"]
    table = Table("reliability", ["phones", "confidence", "right"], rows, titles=titles)
    caption = (
        f"Recognized {unit}s in tenths of confidence. Larger dots have more {unit}s. Dashed line: perfect calibration."
    )
    drawing = Drawing("reliability", draw_reliability(content.reliability), caption)
    return [Section("Calibration", text, tables=[table], figures=[drawing])]


def _learning_curves(content: ReportContent, result: Score) -> list[Section]:
    if not content.history:
        return []
    header = ["epoch", "train_loss", "dev_per", "minutes"]
    rows = [[record.get(name, 0) for name in header] for record in content.history]
    figure = draw_learning_curves({"": content.history}, result.rate_name, result.unit)
    drawing = Drawing("training", figure, f"Training loss and dev {result.rate_name} by epoch.")
    return [Section("Learning curves", tables=[Table("training", header, rows, shown=False)], figures=[drawing])]


def _all_utterances(evaluation: Evaluation, content: ReportContent) -> Section:
    rows = []
    for scored in sorted(evaluation.headline.utterances, key=lambda scored: (-scored.counts.per, scored.id)):
        utterance = content.utterances.get(scored.id)
        seconds = utterance.duration_s if utterance else ""
        rows.append([scored.id, scored.speaker, seconds, *_rate_and_counts(scored.counts)])
    header = ["utterance", "speaker", "seconds", f"{evaluation.headline.rate_name} %", "S", "D", "I", "N"]
    text = [f"figures/utterances.csv lists all {len(rows):,} utterances, worst first."]
    return Section("All utterances", text, tables=[Table("utterances", header, rows, shown=False)])


def _rate_and_counts(counts: Counts) -> list[float | int]:
    """The error rate in percent (100 for each error if the reference is empty), S, D, I, N."""
    per = 100 * counts.per if counts.per != float("inf") else 100.0 * counts.errors
    return [per, counts.substitutions, counts.deletions, counts.insertions, counts.reference_phones]
