"""Hydra overrides to checked settings: compose ``conf/``, start single runs and sweeps.

In:  overrides such as ``experiment=timit`` and Hydra options such as ``-m``.
Out: a `TrainConfig` for each run.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.config import VARIANTS, TrainConfig, config_dir, from_mapping, one_line, variant
from asr.errors import InputError
from asr.system.files import make_folder


def compose(overrides: Sequence[str]) -> TrainConfig:
    """Compose and check the configuration for Hydra overrides, for example ``["experiment=timit", "seed=2"]``.

    Raises:
        InputError: an override is malformed, or as `parse`.
    """
    try:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            return parse(hydra.compose("train", overrides=list(overrides)))
    # Hydra raises ValueError for a group set to a number, and OSError for a name too long for a file.
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        raise InputError(f"configuration: {one_line(error)}") from error


def run_hydra(task: Callable[[TrainConfig, Path], float], arguments: Sequence[str]) -> None:
    """Call a task with each configuration that the command-line arguments define, and with its run folder.

    Overrides alone define one run. With ``-m`` Hydra runs every combination, or a search that minimizes the task's return
    value. Options such as ``--cfg job`` only print.

    Raises:
        InputError: the configuration is wrong. A single run has not written anything then.
    """
    if not any(argument.startswith("-") for argument in arguments):
        config = compose(arguments)
        task(config, Path(config.run_dir))
        return

    def job(composed: DictConfig) -> float:
        return task(parse(composed), Path(HydraConfig.get().runtime.output_dir))

    for argument in arguments:  # a search stores its study in this folder before the first run
        if argument.startswith("run_dir=") and {"-m", "--multirun"} & set(arguments):
            make_folder(Path(argument.removeprefix("run_dir=")))
    # Otherwise Hydra prints its own traceback and exits with status 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    command, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"configuration: {one_line(error)}") from error
    finally:
        sys.argv = command


def parse(composed: DictConfig) -> TrainConfig:
    """Convert a composed configuration to plain dataclasses.

    Raises:
        InputError: an unknown or missing key, a wrong type, or a value out of range. The message names the key.
    """
    hints = get_type_hints(TrainConfig)
    unknown = sorted(set(map(str, composed)) - set(hints) - {"experiment"})
    if unknown:
        raise InputError(f"configuration: unknown key {unknown[0]}, expected one of {', '.join(hints)}")
    values: dict[str, Any] = {}
    for key in hints:
        if OmegaConf.is_missing(composed, key) or key not in composed:
            raise InputError(f"configuration: {key} has no value, expected {key}=VALUE")
        if key in VARIANTS:
            values[key] = from_mapping(variant(key, composed[key]), composed[key], key)
        elif hints[key] in (str, int, bool):
            values[key] = composed[key]
            if type(values[key]) is not hints[key]:
                raise InputError(f"configuration: {key} is {values[key]!r}, expected {hints[key].__name__}")
        else:
            values[key] = from_mapping(hints[key], composed[key], key)
    if values["seed"] < 0:
        raise InputError(f"configuration: seed is {values['seed']}, expected 0 or more")
    return TrainConfig(**values)
