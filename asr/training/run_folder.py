"""A run's folder: its settings, its log, and whether it can be trained in, resumed or must be left alone.

config.yaml    the settings of the run; `auto` precision replaced by the one that was chosen
train.log      the log
checkpoints/   what `resume=true` continues from (`asr.training.checkpoints`)
history.json   one record per epoch, written when training ends
model/         the trained model (`asr.inference.bundle`)
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator

from asr.config import TrainConfig, to_yaml
from asr.errors import InputError
from asr.system.files import make_folder, read_text, write_text
from asr.system.processor import PrecisionChoice, choose_precision
from asr.training.checkpoint_files import BEFORE, LAST
from asr.training.distributed import common_precision

CONFIG_FILE = "config.yaml"

LATER_SETTINGS = {
    "features.padding_ms": 0.0,
    "sources.weights": [],
    "sources.shards_at_once": 8,
    "sources.split": False,
}
"""Settings that earlier releases lack, and what resuming their runs takes them to be."""

FREE_SETTINGS = ("resume", "run_dir", "sources.skip_bad", "sources.spool_dir", "sources.spool_gib")
"""Settings that may change when a run is resumed."""


def check_run_dir(config: TrainConfig, run_dir: Path) -> None:
    """Refuse to overwrite an earlier run, and to resume one with other settings.

    Raises:
        InputError: the folder holds a run and ``resume`` is off, or a setting differs from that run.
    """
    if not resumable(run_dir):
        if (run_dir / "model").exists():
            raise InputError(f"{run_dir}: holds a model but no checkpoint to resume from, expected another run_dir")
        return
    if not config.resume:
        raise InputError(f"{run_dir}: holds a training already, expected resume=true or another run_dir")
    if not (run_dir / CONFIG_FILE).is_file():
        raise InputError(f"{run_dir}: no {CONFIG_FILE}, expected the settings of the run to resume")
    before, now = {**LATER_SETTINGS, **stored_settings(run_dir)}, _flat(yaml.safe_load(to_yaml(config)))
    free = {*FREE_SETTINGS, *(["trainer.precision"] if config.trainer.precision == "auto" else [])}
    for key in sorted((before.keys() | now.keys()) - free):
        if before.get(key) != now.get(key):
            expected = f"{before.get(key)} as in the run to resume"
            raise InputError(f"{run_dir}: {key} is {now.get(key)}, expected {expected}")


def resumable(run_dir: Path) -> bool:
    """Whether the folder holds a checkpoint to resume from."""
    return any((run_dir / "checkpoints" / name).exists() for name in (LAST, BEFORE))


def describe_last_checkpoint(run_dir: Path) -> str:
    """Where a failed run can be resumed from, for error messages."""
    path = run_dir / "checkpoints" / LAST
    return f"last good checkpoint: {path}" if path.is_file() else "there is no checkpoint yet"


def stored_settings(run_dir: Path) -> dict[str, Any]:
    """The settings of the run in a folder, as dotted keys.

    Raises:
        InputError: their file cannot be read.
    """
    path = run_dir / CONFIG_FILE
    try:
        return _flat(yaml.safe_load(read_text(path, "the settings of the run")))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected the settings of the run") from error


def precision_of(config: TrainConfig, run_dir: Path, accelerator: Accelerator) -> PrecisionChoice:
    """The precision to train in. A resumed run keeps the one that it started with."""
    here = common_precision(config.trainer.precision, accelerator)
    before = stored_settings(run_dir).get("trainer.precision") if resumable(run_dir) else None
    if config.trainer.precision != "auto" or before in (None, "auto", here.name):
        return here
    why = f"the run began with it; {here.name} would be chosen here: {here.why}"
    return choose_precision(before, accelerator.device)._replace(why=why)


def write_config(config: TrainConfig, precision: str, run_dir: Path) -> None:
    """Write the composed configuration, with the precision that ``auto`` stands for. A full disk leaves the old one.

    Raises:
        InputError: the folder cannot be written.
    """
    trainer = replace(config.trainer, precision=precision)
    make_folder(run_dir)
    write_text(run_dir / CONFIG_FILE, to_yaml(replace(config, trainer=trainer)))


@contextmanager
def log_to(run_dir: Path, main_process: bool) -> Iterator[None]:
    """Send this package's log to ``run_dir/train.log`` and standard error; only the main process writes."""
    package = logging.getLogger("asr")
    package.setLevel(logging.INFO if main_process else logging.ERROR)
    package.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if main_process:
        handlers.append(logging.FileHandler(run_dir / "train.log", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
        package.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value for name, part in tree.items() for key, value in _flat(part, f"{prefix}.{name}".strip(".")).items()
    }
