"""The report that compares training runs: results, settings that differ, learning curves, PER with intervals.

In:  run folders of `asr train`, with any evaluations that `asr evaluate --json` wrote into them.
Out: DIR/index.html, self-contained, with its figures and tables as SVG and CSV files in DIR/figures.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import InputError
from asr.reports.figures import draw_learning_curves, draw_run_comparison
from asr.reports.page import Drawing, Section, Table, write_page
from asr.scoring.error_rate import confidence_interval, rate_name, unit_of
from asr.scoring.results import Evaluation, percent, read_json
from asr.system.files import read_text
from asr.system.plain_yaml import read_yaml

IGNORED_SETTINGS = ("run_dir", "resume")
REQUIRED_KEYS = {"epoch", "minutes", "train_loss", "dev_per"}
"""Keys that every record of ``history.json`` must have."""


@dataclass(frozen=True)
class TrainedRun:
    """A run folder: settings by dotted key, a history record for each epoch, evaluations by file name.

    Its phones are in ``notation``, "" if it is not known.
    """

    name: str
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    evaluations: Mapping[str, Evaluation]
    notation: str = ""


def report_runs(folders: Sequence[Path], out: Path) -> Path:
    """Write the report of these runs, in their order, into ``out``. Returns the path of the page.

    Raises:
        InputError: a folder is no run, a file in it is damaged, or ``out`` cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name}: given twice, expected different runs")
    sections = [_results(runs), *_setting_differences(runs), _learning_curves(runs), _comparison(runs)]
    return write_page(out, "Comparison of training runs", names, sections)


def read_run(folder: Path) -> TrainedRun:
    """Read a run folder of `asr train`. Every ``.json`` file except the history is an evaluation.

    Raises:
        InputError: no history, or a file that is damaged.
    """
    path = folder / "history.json"
    if not path.exists():
        raise InputError(f"{folder}: no history.json, expected the folder of a finished training run")
    expected = "the history of a training run"
    try:
        history = json.loads(read_text(path, expected))
        complete = bool(history) and all(record.keys() >= REQUIRED_KEYS for record in history)
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: {error}, expected {expected}") from error
    if not complete:
        raise InputError(f"{path}: an epoch lacks one of {', '.join(sorted(REQUIRED_KEYS))}, expected {expected}")
    evaluations = {file.stem: read_json(file) for file in sorted(folder.glob("*.json")) if file != path}
    model = folder / "model" / "config.yaml"
    notation = str(read_yaml(model).get("notation", "")) if model.exists() else ""
    return TrainedRun(str(folder), _flatten(read_yaml(folder / "config.yaml")), history, evaluations, notation)


def _rates(runs: Sequence[TrainedRun]) -> str:
    """What the error rates of these runs are called: PER, CER, or both."""
    return " or ".join(sorted({rate_name(run.notation) for run in runs}, reverse=True))


def _units(runs: Sequence[TrainedRun]) -> str:
    """What is counted: phone, grapheme, or both."""
    return " or ".join(sorted({unit_of(run.notation) for run in runs}, reverse=True))


def _flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in _flatten(value).items()}
        else:
            flat[key] = value
    return flat


def _results(runs: Sequence[TrainedRun]) -> Section:
    names = list(dict.fromkeys(name for run in runs for name in run.evaluations))
    rows = []
    for run in runs:
        best = min(run.history, key=lambda record: record["dev_per"])
        row = [run.name, len(run.history), run.history[-1]["minutes"], 100 * best["dev_per"], best["epoch"]]
        rows.append([*row, *(_rate(run.evaluations[name]) if name in run.evaluations else "" for name in names)])
    rate = _rates(runs)
    header = ["run", "epochs", "minutes", f"best epoch's dev {rate} %", "in epoch", *names]
    titles = ["run", "epochs", "minutes", f"best dev {rate} %", "best epoch", *(f"{name}: {rate} %" for name in names)]
    return Section("Results", tables=[Table("runs", header, rows, titles=titles)])


def _rate(evaluation: Evaluation) -> str:
    result = evaluation.headline
    bounds = confidence_interval(result)
    in_parentheses = f" ({percent(bounds[0])} to {percent(bounds[1])})" if bounds else ""
    return f"{percent(result.total.per)}{in_parentheses} {result.convention}"


def _setting_differences(runs: Sequence[TrainedRun]) -> list[Section]:
    keys = [key for key in dict.fromkeys(key for run in runs for key in run.settings) if key not in IGNORED_SETTINGS]
    rows = [[key, *(str(run.settings.get(key, "")) for run in runs)] for key in keys]
    different = [row for row in rows if len(set(row[1:])) > 1]
    if not different:
        return []
    table = Table("settings", ["setting", *(run.name for run in runs)], different)
    return [Section("Settings that differ", tables=[table])]


def _learning_curves(runs: Sequence[TrainedRun]) -> Section:
    columns = ["epoch", "minutes", "train_loss", "dev_per"]
    rows = [[run.name, *(record[name] for name in columns)] for run in runs for record in run.history]
    rate = _rates(runs)
    figure = draw_learning_curves({run.name: run.history for run in runs}, rate, _units(runs))
    return Section(
        "Learning curves",
        tables=[Table("curves", ["run", *columns], rows, shown=False)],
        figures=[Drawing("curves", figure, f"Training loss and dev {rate} by epoch.")],
    )


def _comparison(runs: Sequence[TrainedRun]) -> Section:
    rate = _rates(runs)
    title = f"{rate} by run"
    if not any(run.evaluations for run in runs):
        command = f"asr evaluate MODEL CUTS --json {runs[0].name}/test.json"
        return Section(title, [f"No run folder has an evaluation. Add one with: {command}"])
    rates = {
        run.name: {name: (e.headline.total.per, confidence_interval(e.headline)) for name, e in run.evaluations.items()}
        for run in runs
    }
    caption = f"{rate} of each evaluation in the run folders, with its 95 % interval."
    return Section(title, figures=[Drawing("ladder", draw_run_comparison(rates, rate), caption)])
