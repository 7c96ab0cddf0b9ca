"""Hydra overrides to checked settings: compose ``conf/``, start single runs and sweeps.

In:  overrides such as ``experiment=timit`` and Hydra options such as ``-m``.
Out: a `TrainConfig` for each run.
"""

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.cli import scaling
from asr.config import VARIANTS, TrainConfig, config_dir, from_mapping, one_line, variant
from asr.errors import InputError, Interrupted
from asr.search.settings import Interval, SearchConfig, Space, Values
from asr.system.files import make_folder
from asr.system.process import TRAINING_KEPT_BYTES, tune_process

MAX_RETRIES = 10
"""How often a cluster starts a run again whose process or machine is lost."""

Train = Callable[..., float]
"""Trains with settings in a run folder and returns the dev PER (`asr.training.loop.train`). A third argument, which may be
missing, takes the records of all epochs done after each of them."""


def compose(overrides: Sequence[str]) -> TrainConfig:
    """Compose and check the configuration for Hydra overrides, for example ``["experiment=timit", "seed=2"]``.

    Raises:
        InputError: an override is malformed, or as `parse`.
    """
    return parse(compose_unchecked(overrides))


def compose_unchecked(overrides: Sequence[str]) -> DictConfig:
    """Compose ``conf/`` with overrides.

    Raises:
        InputError: an override is malformed, or names what is not there.
    """
    GlobalHydra.instance().clear()  # set if this is a job of Hydra's, such as a worker of a search
    try:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra.compose("train", overrides=[*map(quote, overrides)])
    # Hydra raises ValueError for a group set to a number, and OSError for a name too long for a file.
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        raise InputError(f"configuration: {one_line(error)}") from error


def quote(argument: str) -> str:
    """An override that Hydra's grammar refuses, such as ``run_dir=/home/jürgen/a [1]``, with its value in quotes.

    A value with a comma, which may stand between those of a sweep, stays as it is.
    """
    key, equals, value = argument.partition("=")
    if not equals or "," in value or argument.startswith("-"):
        return argument
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    return argument


def run_hydra(task: Train, arguments: Sequence[str], cluster: str | None = None) -> None:
    """Call a task with each configuration that the command-line arguments define, and with its run folder.

    Overrides alone define one run. With ``-m`` Hydra runs every combination, each of which is a worker of a search if
    ``sweep`` is set. ``cluster`` is the address of a Ray cluster for them. Options such as ``--cfg job`` only print.

    Raises:
        InputError: the configuration is wrong. A single run has not written anything then.
    """
    if cluster is not None:
        run_on_cluster(task, arguments, cluster)
        return
    if not any(argument.startswith("-") for argument in arguments):
        composed = compose_unchecked(arguments)
        if "search" in composed:
            raise InputError("configuration: sweep is set for a single run, expected asr train -m")
        config = parse(composed)
        task(config, Path(config.run_dir))
        return

    def job(composed: DictConfig) -> float:
        job = HydraConfig.get()
        try:
            return run_job(task, list(job.overrides.task), composed, Path(job.runtime.output_dir))
        except Interrupted as interruption:
            leave_to_slurm(interruption)
            raise

    for argument in arguments:  # a search stores its study in this folder before the first run
        if argument.startswith("run_dir=") and {"-m", "--multirun"} & set(arguments):
            make_folder(Path(argument.removeprefix("run_dir=")))
    # Otherwise Hydra prints its own traceback and exits with status 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    command, sys.argv = sys.argv, [sys.argv[0], *map(quote, arguments)]
    try:
        hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"configuration: {one_line(error)}") from error
    finally:
        sys.argv = command


def leave_to_slurm(interruption: Interrupted) -> None:
    """End a job that Slurm stopped, without a result: Slurm may have queued it again, and submitit waits for that."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        print(f"asr: {interruption}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(128 + interruption.number)


def run_on_cluster(task: Train, arguments: Sequence[str], address: str) -> None:
    """Run each combination of ``-m`` as a task of a Ray cluster, which runs it again if its machine is lost.

    Raises:
        InputError: the configuration is wrong, the cluster does not answer, or a run failed; the others have ended then.
    """
    from asr.cluster.connection import connect

    options = {argument for argument in arguments if argument.startswith("-")}
    if not options or not options <= {"-m", "--multirun"}:
        raise InputError(f"--cluster with the options {' '.join(sorted(options)) or 'none'}, expected -m alone")
    combinations = combine([argument for argument in arguments if argument not in options])
    composed = [compose(overrides) for overrides in combinations]
    trainer = composed[0].trainer
    with connect(address) as dashboard:
        import ray

        print(f"{len(combinations)} runs on {address}{dashboard and f', dashboard {dashboard}'}", flush=True)
        remote = ray.remote(run_remotely).options(
            num_cpus=trainer.threads or 1, num_gpus=int(trainer.device == "cuda"), max_retries=MAX_RETRIES
        )
        runs = {remote.remote(task, overrides, n, os.getcwd()): n for n, overrides in enumerate(combinations)}
        waiting, failed = list(runs), {}
        while waiting:
            (run,), waiting = ray.wait(waiting)
            try:
                print(f"run {runs[run]}: dev error rate {100 * ray.get(run):.2f} %", flush=True)
            except ray.exceptions.RayTaskError as error:
                failed[runs[run]] = str(error.cause).strip().splitlines()[0]
                print(f"run {runs[run]}: failed, {failed[runs[run]]}", file=sys.stderr, flush=True)
    if failed:
        number = min(failed)
        raise InputError(f"{len(failed)} of {len(combinations)} runs failed, the first is {number}: {failed[number]}")


def run_remotely(task: Train, overrides: Sequence[str], number: int, folder: str) -> float:
    """Run a combination in a process of a cluster, and resume what is there. Paths start where the command was given."""
    os.chdir(folder)
    tune_process(TRAINING_KEPT_BYTES)
    composed = compose_unchecked([*overrides, "resume=true"])
    return run_job(task, overrides, composed, Path(composed.run_dir) / str(number))


def combine(overrides: Sequence[str]) -> list[list[str]]:
    """List every combination of the values of overrides such as ``seed=1,2``, as Hydra's own sweeps do.

    Raises:
        InputError: an override is malformed.
    """
    try:
        (combinations,) = BasicSweeper.split_arguments(
            OverridesParser.create().parse_overrides([*map(quote, overrides)]), None
        )
    except HydraException as error:
        raise InputError(f"configuration: {one_line(error)}") from error
    return combinations


def run_job(task: Train, overrides: Sequence[str], composed: DictConfig, run_dir: Path) -> float:
    """Run one combination of ``-m``: a training in its folder, or a worker of a search that trains many."""
    config = parse(composed)
    if "search" not in composed:
        return task(config, run_dir)
    try:
        from asr.search.worker import AfterEpoch, work_on_study
    except ImportError as error:
        raise InputError("a search needs Optuna, expected pip install 'asr-phones[sweep]'") from error
    search = from_mapping(SearchConfig, composed.search, "search")
    space = parse_space(search.params)

    def train(changes: Sequence[str], run_dir: Path, after_epoch: AfterEpoch) -> float:
        config = replace(compose([*overrides, *changes]), run_dir=str(run_dir), resume=True)
        return task(config, run_dir, lambda history: after_epoch(history, len(history) == config.trainer.epochs))

    check_one_process()
    compose([*overrides, *(f"{name}={smallest(values)}" for name, values in space.items())])  # before any work starts
    return work_on_study(search, space, Path(composed.run_dir) / "trials", train)


def smallest(values: Values) -> object:
    """A value that a search may try."""
    return values.low if isinstance(values, Interval) else values[0]


def check_one_process() -> None:
    """Check that this is not one of several processes that train one model.

    Raises:
        InputError: it is.
    """
    started_by_submitit = "SUBMITIT_EXECUTOR" in os.environ
    names = ["WORLD_SIZE", *(["SLURM_NTASKS", "SUBMITIT_LOCAL_NTASKS"] if started_by_submitit else [])]
    processes = max(int(os.environ.get(name, "1")) for name in names)
    if processes > 1:
        raise InputError(f"a worker of a search has {processes} processes, expected 1: start more workers instead")


def parse_space(params: Mapping[str, str]) -> Space:
    """Parse the values to try of each setting, written as in a sweep.

    Raises:
        InputError: they are no range of values.
    """
    space: dict[str, Values] = {}
    for name, text in params.items():
        try:
            (override,) = OverridesParser.create().parse_overrides([f"{name}={text}"])
        except HydraException as error:
            raise InputError(f"configuration: search.params.{name}: {one_line(error)}") from error
        value = override.value()
        if isinstance(value, IntervalSweep) and value.start is not None and value.end is not None:
            space[name] = Interval(value.start, value.end, "log" in value.tags)
        elif (
            isinstance(value, RangeSweep)
            and isinstance(value.start, int)
            and isinstance(value.stop, int)
            and value.step == 1
        ):
            space[name] = Interval(value.start, value.stop - 1, "log" in value.tags)
        elif isinstance(value, ChoiceSweep):
            space[name] = [str(item) for item in override.sweep_iterator(Transformer.encode)]
        else:
            ways = "interval(LOW, HIGH), tag(log, interval(LOW, HIGH)), range(START, STOP) or choice(A, B)"
            raise InputError(f"configuration: search.params.{name} is {text}, expected {ways}")
        interval = space[name]
        if not isinstance(interval, Interval):
            continue
        if not (0 if interval.log else -math.inf) < interval.low <= interval.high < math.inf:
            scale = ", above 0 on a logarithmic scale" if interval.log else ""
            raise InputError(f"configuration: search.params.{name} is {text}, expected LOW <= HIGH{scale}, both finite")
    return space


def parse(composed: DictConfig) -> TrainConfig:
    """Convert a composed configuration to plain dataclasses.

    Raises:
        InputError: an unknown or missing key, a wrong type, or a value out of range. The message names the key.
    """
    hints = get_type_hints(TrainConfig)
    unknown = sorted(set(map(str, composed)) - set(hints) - {"experiment", "search"})
    if unknown:
        raise InputError(f"configuration: unknown key {unknown[0]}, expected one of {', '.join(hints)}")
    scaling.register()
    try:
        OmegaConf.resolve(composed)
    except OmegaConfBaseException as error:
        raise InputError(f"configuration: {one_line(error)}") from error
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
