"""All parts of one training run, built from its settings and its data, and its state as checkpoints hold it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from asr.config import TrainConfig
from asr.corpus.phones import PhoneInventory
from asr.errors import InputError
from asr.features.dataset import Dataset
from asr.features.normalization import NEEDS_STATISTICS
from asr.inference.bundle import Bundle, build_model, initialize_from
from asr.inference.catalog import find_model
from asr.nn.acoustic_model import AcousticModel
from asr.training.distillation import Teachers
from asr.training.optimization import MovingAverage, Schedule, copy_weights, make_optimizer, restore_weights
from asr.training.pretrained import Checkpoint
from asr.training.run_folder import precision_of, resumable
from asr.training.sections import Sections


@dataclass
class Progress:
    """How far a run is; the checkpoint holds all of it."""

    epoch: int = 0
    section: int = 0  # of this epoch; there is one without shards
    groups: int = 0  # updates done in this section
    loss_sum: float = 0.0  # over this epoch
    loss_count: float = 0.0
    update: int = 0
    minutes: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    infeasible: dict[str, str] = field(default_factory=dict)
    learning_rate: float = 0.0  # of the last update
    bad_shards: dict[str, str] = field(default_factory=dict)  # left out, with reasons

    def add_update(self, loss: float, weight: float, learning_rate: float) -> None:
        """Count one more update of the section."""
        self.loss_sum, self.loss_count = self.loss_sum + loss * weight, self.loss_count + weight
        self.groups, self.learning_rate = self.groups + 1, learning_rate

    def end_section(self) -> None:
        """Start the next section of the epoch."""
        self.section, self.groups = self.section + 1, 0

    def end_epoch(self, record: dict[str, Any]) -> None:
        """Append an epoch's record to the history and start the next epoch."""
        self.history.append(record)
        self.epoch, self.section, self.groups, self.loss_sum, self.loss_count = self.epoch + 1, 0, 0, 0.0, 0.0

    def best(self, count: int) -> list[dict[str, Any]]:
        """The records of the best epochs by dev PER, best first. Ties go to the later epoch, which has trained longer."""
        return sorted(self.history, key=lambda record: (record["dev_per"], -record["epoch"]))[:count]


class Run:
    """Model, optimizer, schedule, data and progress of one training run."""

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        accelerator: Accelerator,
        phones: PhoneInventory,
        sections: Sections,
        dev_set: Dataset,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        trainer = config.trainer
        self.config, self.run_dir, self.accelerator = config, run_dir, accelerator
        self.sections, self.dev_set = sections, dev_set
        self.precision = precision_of(config, run_dir, accelerator)
        set_seed(config.seed, device_specific=True)  # each process draws other dropout masks
        self.checkpoint = checkpoint
        spec, features = (checkpoint.spec, checkpoint.features) if checkpoint else (None, config.features)
        model = build_model(config.model, features, phones, spec)
        if checkpoint and model.encoder:
            checkpoint.load_into(model.encoder)
        self.uninitialized: list[str] | None = None
        """What a model named by ``init_from`` does not initialize, in words; None without such a model."""
        if config.init_from and not resumable(run_dir):
            self.uninitialized = initialize_from(model, phones, find_model(config.init_from))
        freeze(model, trainer.frozen)
        known = dev_set.statistics if features.normalization in NEEDS_STATISTICS else {}
        convention = config.corpus.convention
        self.bundle = Bundle(model, config.model, features, phones, convention, known, encoder=spec)
        optimizer = make_optimizer(model, config.optimizer, config.encoder.learning_rate_factor)
        self.model, self.optimizer = accelerator.prepare(model.to(accelerator.device), optimizer)
        models, speeds = [find_model(name) for name in trainer.teachers], config.augment.speeds
        self.teachers = Teachers(models, self.bundle, sections.whole, speeds, self.precision.name) if models else None
        self.schedule = Schedule(config.schedule)
        self.average = MovingAverage(model, trainer.ema_decay) if trainer.average == "ema" else None
        self.progress = Progress()
        self.clock = time.perf_counter()

    @property
    def plain_model(self) -> AcousticModel:
        """The model without the wrapper of distributed training."""
        return self.bundle.model

    def state(self) -> dict[str, Any]:
        """Everything that decides the next update: what a checkpoint holds and ``resume`` restores."""
        now = time.perf_counter()
        self.progress.minutes, self.clock = self.progress.minutes + (now - self.clock) / 60, now
        return {
            "encoder": self.checkpoint.digest if self.checkpoint else "",
            "phones": self.bundle.inventory.mapping,
            "shards": self.sections.digests,
            "sharers": self.sections.sharers,
            "model": copy_weights(self.plain_model),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state,
            "average": {"updates": self.average.updates, "weights": self.average.weights} if self.average else None,
            "generators": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            "progress": vars(self.progress),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned.

        Raises:
            InputError: the checkpoint of the pretrained encoder has changed since, or the table of phones, or shards.
        """
        phones = self.bundle.inventory
        if state.get("phones", phones.mapping) != phones.mapping:  # checkpoints of version 0.1 do not have them
            raise InputError(f"{phones.name}: other phones, expected those that the run began with")
        if state.get("shards", self.sections.digests) != self.sections.digests:
            raise InputError("corpus.train: other shards, expected those that the run began with")
        sharers, done = state.get("sharers", self.sections.sharers), state["progress"]
        if sharers != self.sections.sharers and (done["section"] or done["groups"]):
            within = (
                f"sources.split: {self.sections.sharers} processes; the run stopped within epoch {done['epoch'] + 1}"
            )
            raise InputError(f"{within}, expected the {sharers} that it had until that epoch ends")
        if self.checkpoint and self.checkpoint.digest != state["encoder"]:
            before = f"the one that the run began with (SHA-256 {state['encoder']})"
            raise InputError(f"{self.checkpoint.folder}: another checkpoint, expected {before}")
        restore_weights(self.plain_model, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.state = state["schedule"]
        self.progress = Progress(**state["progress"])
        if self.average:
            weights, device = state["average"]["weights"], self.accelerator.device
            self.average.weights = {name: weight.to(device) for name, weight in weights.items()}
            self.average.updates = state["average"]["updates"]
        if self.accelerator.is_main_process:
            cpu, *cuda = state["generators"]
            torch.set_rng_state(cpu)
            for device, generator in enumerate(
                cuda[: torch.cuda.device_count()]
            ):  # there may be fewer GPUs now, or none
                torch.cuda.set_rng_state(generator, device)
        else:  # the number of other processes may have changed
            key = (self.config.seed, self.accelerator.process_index, self.progress.update)
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        self.clock = time.perf_counter()

    def minutes(self) -> float:
        """Minutes trained so far, over all sessions of a resumed run."""
        return self.progress.minutes + (time.perf_counter() - self.clock) / 60


def freeze(model: AcousticModel, prefixes: Sequence[str]) -> None:
    """Exclude weights from training if their names start with one of these prefixes.

    Raises:
        InputError: a prefix matches no weight, or no weight is left to train.
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
