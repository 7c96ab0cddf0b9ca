"""Several runs on one page: their figures, what was set otherwise, their curves and the ladder they make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import InputError
from asr.reports.figures import draw_curves, draw_ladder
from asr.reports.page import Drawing, Section, Table, write_page
from asr.scoring.error_rate import interval
from asr.scoring.results import Evaluation, percent, read_json
from asr.system.files import read_text
from asr.system.plain_yaml import read_yaml

NOT_SETTINGS = ("run_dir", "resume")
RECORD = ("epoch", "minutes", "train_loss", "dev_per")


@dataclass(frozen=True)
class TrainedRun:
    """A run folder: its settings as dotted keys, its epochs, and the evaluations that lie in it, by file name."""

    name: str
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    evaluations: Mapping[str, Evaluation]


def report_runs(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of these run folders, in their order, into ``out``; the page's path.

    Raises:
        InputError: a folder is no run, a file in it is damaged, or ``out`` cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    if len({run.name for run in runs}) < len(runs):
        raise InputError(f"{runs[0].name}: the same run twice, expected each once")
    sections = [_figures(runs), *_differences(runs), _curves(runs), *_ladder(runs)]
    return write_page(out, f"{len(runs)} runs", [run.name for run in runs], sections)


def read_run(folder: Path) -> TrainedRun:
    """A run folder as `asr train` leaves it; every ``.json`` beside the history that `asr evaluate` wrote counts."""
    path = folder / "history.json"
    if not path.exists():
        raise InputError(f"{folder}: no history.json, expected a run folder whose training is over")
    expected = "the epochs of a training"
    try:
        history = json.loads(read_text(path, expected))
        complete = bool(history) and all(
            {"epoch", "train_loss", "dev_per", "minutes"} <= record.keys() for record in history
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: {error}, expected {expected}") from error
    if not complete:
        raise InputError(f"{path}: an epoch lacks its figures, expected {expected}")
    others = sorted(one for one in folder.glob("*.json") if one != path)
    evaluations = {one.stem: read_json(one) for one in others}
    return TrainedRun(str(folder), _flat(read_yaml(folder / "config.yaml")), history, evaluations)


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = _flat(value) if isinstance(value, Mapping) else None
        flat |= {f"{key}.{name}": one for name, one in inner.items()} if inner is not None else {key: value}
    return flat


def _figures(runs: Sequence[TrainedRun]) -> Section:
    sets = list(dict.fromkeys(name for run in runs for name in run.evaluations))
    rows = []
    for run in runs:
        best = min(run.history, key=lambda record: record["dev_per"])
        row = [run.name, len(run.history), run.history[-1]["minutes"], 100 * best["dev_per"], best["epoch"]]
        rows.append([*row, *(_rate(run.evaluations[name]) if name in run.evaluations else "" for name in sets)])
    header = ["run", "epochs", "minutes", "best epoch's dev PER %", "in epoch", *sets]
    return Section("Figures", tables=[Table("runs", header, rows)])


def _rate(evaluation: Evaluation) -> str:
    result = evaluation.headline
    found = interval(result)
    between = f" ({percent(found[0])} to {percent(found[1])})" if found else ""
    return f"{percent(result.total.per)}{between} {result.convention}"


def _differences(runs: Sequence[TrainedRun]) -> list[Section]:
    keys = [key for key in dict.fromkeys(key for run in runs for key in run.settings) if key not in NOT_SETTINGS]
    rows = [[key, *(str(run.settings.get(key, "")) for run in runs)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if not rows:
        return []
    return [
        Section("What was set otherwise", tables=[Table("settings", ["setting", *(run.name for run in runs)], rows)])
    ]


def _curves(runs: Sequence[TrainedRun]) -> Section:
    rows = [
        [run.name, *(record[name] for name in ("epoch", "minutes", "train_loss", "dev_per"))]
        for run in runs
        for record in run.history
    ]
    table = Table("curves", ["run", "epoch", "minutes", "train_loss", "dev_per"], rows, shown=False)
    caption = "Loss on the training set and PER on the dev set."
    return Section(
        "Curves", tables=[table], figures=[Drawing("curves", draw_curves({r.name: r.history for r in runs}), caption)]
    )


def _ladder(runs: Sequence[TrainedRun]) -> list[Section]:
    steps = {
        run.name: {name: (one.headline.total.per, interval(one.headline)) for name, one in run.evaluations.items()}
        for run in runs
    }
    if not any(steps.values()):
        return [
            Section(
                "The ladder",
                [f"None of the runs holds an evaluation: asr evaluate ... --json {runs[0].name}/test.json"],
            )
        ]
    caption = "PER of each evaluation that lies in the run folders, with its 95 % interval."
    return [Section("The ladder", figures=[Drawing("ladder", draw_ladder(steps), caption)])]
