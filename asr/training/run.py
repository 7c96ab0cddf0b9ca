"""All parts of one training run: set-up, checkpoints, log and model card. The loop is in `asr.training.loop`."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed

from asr.config import TrainConfig, to_yaml
from asr.corpus.manifest import read_manifest
from asr.corpus.phones import PhoneInventory, inventory
from asr.errors import InputError
from asr.features.dataset import Dataset, Item, plan_training
from asr.inference.bundle import Bundle, build_model, initialize_from
from asr.inference.catalog import find_model
from asr.nn.acoustic_model import AcousticModel
from asr.system.processor import Choice, choose_precision
from asr.system.progress import progress
from asr.training.checkpoint_files import BEFORE, LAST, load_last, save_checkpoint, save_last
from asr.training.distillation import Teachers
from asr.training.distributed import common_precision, make_accelerator
from asr.training.optimization import MovingAverage, Schedule, copy_weights, make_optimizer

log = logging.getLogger("asr.training")

CONFIG_FILE = "config.yaml"


@dataclass
class Progress:
    """Where a run stands; all of it is in the checkpoint."""

    epoch: int = 0
    groups: int = 0  # of the epoch's batches, done
    loss_sum: float = 0.0  # of the epoch
    loss_count: float = 0.0
    update: int = 0
    minutes: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    infeasible: dict[str, str] = field(default_factory=dict)

    def best(self, count: int) -> list[dict[str, Any]]:
        """The records of the best epochs by dev PER, best first; of equals the later, which has learned for longer."""
        return sorted(self.history, key=lambda record: (record["dev_per"], -record["epoch"]))[:count]


class Run:
    """All parts of one training run."""

    def __init__(self, config: TrainConfig, run_dir: Path) -> None:
        trainer = config.trainer
        self.config, self.run_dir = config, run_dir
        self.accelerator = make_accelerator(trainer, run_dir)
        if trainer.threads:
            torch.set_num_threads(trainer.threads)
        self.precision = precision_of(config, run_dir, self.accelerator)
        set_seed(config.seed, device_specific=True)  # so that each process drops other values
        phones = inventory(config.corpus.inventory)
        self.train_set, self.dev_set = load_datasets(config, phones)
        model = build_model(config.model, config.features, phones)
        other = starts_from_another(config, run_dir)
        self.left_fresh = initialize_from(model, phones, find_model(config.init_from)) if other else []
        freeze(model, trainer.frozen)
        known = self.train_set.known if config.features.normalization == "global" else {}
        self.bundle = Bundle(model, config.model, config.features, phones, config.corpus.convention, known)
        optimizer = make_optimizer(model.parameters(), config.optimizer)
        self.model, self.optimizer = self.accelerator.prepare(model.to(self.accelerator.device), optimizer)
        models, speeds = [find_model(model) for model in trainer.teachers], config.augment.speeds
        self.teachers = Teachers(models, self.bundle, self.train_set, speeds, self.precision.name) if models else None
        self.schedule = Schedule(config.schedule)
        self.average = MovingAverage(model, trainer.ema_decay) if trainer.average == "ema" else None
        self.progress = Progress()
        self.clock = time.perf_counter()

    @property
    def plain_model(self) -> AcousticModel:
        """The model without the wrappers of several processes."""
        return self.bundle.model

    def plan(self, epoch: int) -> list[list[Item]]:
        """The batches of an epoch."""
        trainer, durations = self.config.trainer, [u.duration_s for u in self.train_set.utterances]
        seed = (self.config.seed, epoch)
        speeds = self.config.augment.speeds
        return plan_training(durations, speeds, trainer.batch_seconds, trainer.batch_utterances, seed)


def freeze(model: AcousticModel, prefixes: Sequence[str]) -> None:
    """Leave the weights whose names start so as they are.

    Raises:
        InputError: no weight starts so, or none is left to train.
    """
    for prefix in prefixes:
        chosen = [weight for name, weight in model.named_parameters() if name.startswith(prefix)]
        if not chosen:
            names = ", ".join(name for name, _ in model.named_parameters())
            raise InputError(f"configuration: trainer.frozen has {prefix!r}, expected the beginning of one of {names}")
        for weight in chosen:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise InputError("configuration: trainer.frozen leaves no weight to train, expected at least one")


def starts_from_another(config: TrainConfig, run_dir: Path) -> bool:
    """Whether the weights of another model come first; in a run that is taken up they have been there before."""
    return bool(config.init_from) and not resumable(run_dir)


def resumable(run_dir: Path) -> bool:
    """Whether a run left a state to go on from."""
    return any((run_dir / "checkpoints" / name).exists() for name in (LAST, BEFORE))


def stops_early(run: Run) -> bool:
    """Whether the dev PER has not improved for ``early_stopping_epochs`` epochs."""
    patience, pers = run.config.trainer.early_stopping_epochs, [record["dev_per"] for record in run.progress.history]
    return bool(patience and pers and len(pers) - 1 - pers.index(min(pers)) >= patience)


def checkpoint(run: Run) -> None:
    """Write the state of the run, anywhere in an epoch."""
    done, now = run.progress, time.perf_counter()
    done.minutes, run.clock = done.minutes + (now - run.clock) / 60, now
    state = {
        "model": copy_weights(run.plain_model),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state,
        "average": {"updates": run.average.updates, "weights": run.average.weights} if run.average else None,
        "generators": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
        "progress": vars(done),
    }
    save_last(state, run.run_dir / "checkpoints")


def checkpoint_epoch(run: Run) -> None:
    """The same after an epoch; its weights as well, as long as it is one of the best or last."""
    folder, trainer, done = run.run_dir / "checkpoints", run.config.trainer, run.progress
    save_checkpoint(copy_weights(run.plain_model), folder / f"epoch_{done.epoch:04d}.pt")
    checkpoint(run)
    last = [record["epoch"] for record in done.history[-trainer.average_count :]]
    kept = {*last, *(record["epoch"] for record in done.best(max(trainer.keep_best, trainer.average_count)))}
    for record in done.history:
        if record["epoch"] not in kept:
            (folder / f"epoch_{record['epoch']:04d}.pt").unlink(missing_ok=True)


def restore(run: Run) -> None:
    """Take up the state that `checkpoint` left."""
    state = load_last(run.run_dir / "checkpoints")
    run.plain_model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.schedule.state = state["schedule"]
    run.progress = Progress(**state["progress"])
    if run.average:
        run.average.updates, run.average.weights = state["average"]["updates"], state["average"]["weights"]
    if run.accelerator.is_main_process:
        cpu, *cuda = state["generators"]
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(cuda)
    else:  # of the others there may be more or fewer than before
        key = (run.config.seed, run.accelerator.process_index, run.progress.update)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    run.clock = time.perf_counter()
    log.info("resumed after epoch %d and %d updates", run.progress.epoch, run.progress.update)


def precision_of(config: TrainConfig, run_dir: Path, accelerator: Accelerator) -> Choice:
    """The precision that is chosen here; of a run that is taken up, the one that it began with."""
    here = common_precision(config.trainer.precision, accelerator)
    before = stored_settings(run_dir).get("trainer.precision") if resumable(run_dir) else None
    if config.trainer.precision != "auto" or before in (None, "auto", here.name):
        return here
    why = f"the run began with it; {here.name} would be chosen here: {here.why}"
    return choose_precision(before, accelerator.device)._replace(why=why)


def check_run_dir(config: TrainConfig, run_dir: Path) -> None:
    """Refuse to train over an earlier run without ``resume``, and to resume one with other settings."""
    stored = run_dir / CONFIG_FILE
    if not resumable(run_dir):
        if (run_dir / "model").exists():
            raise InputError(f"{run_dir}: holds a model and no state to go on from, expected another run_dir")
        return
    if not config.resume:
        raise InputError(f"{run_dir}: holds a training already, expected resume=true or another run_dir")
    if not stored.is_file():
        raise InputError(f"{run_dir}: no {CONFIG_FILE}, expected the settings of the run to resume")
    before, now = stored_settings(run_dir), _flat(yaml.safe_load(to_yaml(config)))
    free = {"resume", "run_dir", *(["trainer.precision"] if config.trainer.precision == "auto" else [])}
    for key in sorted((before.keys() | now.keys()) - free):
        if before.get(key) != now.get(key):
            expected = f"{before.get(key)} as in the run to resume"
            raise InputError(f"{run_dir}: {key} is {now.get(key)}, expected {expected}")


def stored_settings(run_dir: Path) -> dict[str, Any]:
    """The settings of the run in a folder, as dotted keys."""
    return _flat(yaml.safe_load((run_dir / CONFIG_FILE).read_text(encoding="utf-8")))


def write_config(run: Run) -> None:
    """Keep the composed configuration beside what it leads to, with the precision that ``auto`` stands for."""
    trainer = replace(run.config.trainer, precision=run.precision.name)
    try:
        run.run_dir.mkdir(parents=True, exist_ok=True)
        (run.run_dir / CONFIG_FILE).write_text(to_yaml(replace(run.config, trainer=trainer)), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{run.run_dir}: cannot be written ({error.strerror}), expected a folder with room") from error


def load_datasets(config: TrainConfig, phones: PhoneInventory) -> tuple[Dataset, Dataset]:
    """Training and dev sets, their features computed as far as the cache holds them."""
    folder, cache = Path(config.corpus.dir), config.trainer.feature_cache_gib
    if config.augment.frequency_warp and config.features.name != "fbank":
        warp = f"augment.frequency_warp is {config.augment.frequency_warp} with features {config.features.name}"
        raise InputError(f"configuration: {warp}, expected 0 or fbank")
    manifests = {name: read_manifest(folder / name) for name in (config.corpus.train, config.corpus.dev)}
    train_utterances, dev_utterances = manifests.values()
    shared = {u.speaker for u in train_utterances} & {u.speaker for u in dev_utterances}
    if shared:
        raise InputError(f"{folder}: speaker {min(shared)} is in train and dev, expected disjoint speakers")
    train_set = Dataset(train_utterances, config.features, phones, cache)
    dev_set = Dataset(dev_utterances, config.features, phones, cache)
    for name, dataset, speeds in (("train", train_set, config.augment.speeds), ("dev", dev_set, [1.0])):
        for _ in progress(dataset.fill_cache(speeds), f"features of {name}", len(dataset) * len(speeds)):
            pass
    train_set.learn_statistics()
    if config.features.normalization == "global":
        dev_set.known = train_set.known
    else:
        dev_set.learn_statistics()
    return train_set, dev_set


@contextmanager
def log_to(run_dir: Path, main_process: bool) -> Iterator[None]:
    """Send this package's log to ``run_dir/train.log`` and standard error, from the first process alone."""
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


def last_good(run: Run) -> str:
    """Where the run can be taken up, in words."""
    path = run.run_dir / "checkpoints" / LAST
    return f"last good checkpoint: {path}" if path.is_file() else "there is no checkpoint yet"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value for name, part in tree.items() for key, value in _flat(part, f"{prefix}.{name}".strip(".")).items()
    }
