"""The end of a training: averaged weights, scored on dev, written with their card, calibration and aligner."""

import json
import logging
from collections.abc import Callable

from asr.inference.bundle import save_bundle
from asr.inference.calibrate import calibrate
from asr.inference.forced_alignment import save_aligner
from asr.scoring.calibration import save_calibration
from asr.scoring.error_rate import Score
from asr.scoring.results import headline
from asr.training.checkpoint_files import load_checkpoint
from asr.training.frame_classifier import train_aligner
from asr.training.model_card import model_card
from asr.training.optimization import Weights, average_weights, restore_weights
from asr.training.run import Run

log = logging.getLogger("asr.training")


def write_model(run: Run, validate: Callable[[Run], Score]) -> Score:
    """Write ``run_dir/model`` and ``run_dir/history.json``; the model's score on dev, from ``validate``."""
    weights, description = final_weights(run)
    restore_weights(run.plain_model, weights)
    dev = validate(run)
    model_dir = run.run_dir / "model"
    if run.accelerator.is_main_process:
        (run.run_dir / "history.json").write_text(json.dumps(run.progress.history, indent=1) + "\n", encoding="utf-8")
        save_bundle(run.bundle, model_dir, model_card(run, dev, description))
        save_calibration(calibrate(run.bundle, run.dev_set), model_dir)
        if run.config.trainer.aligner_epochs and run.bundle.features.name == "waveform":
            log.info("aligner: none, since it needs a spectrum and the features are samples")
        elif run.config.trainer.aligner_epochs:
            train_set, trainer = run.sections.sample(run.progress.bad_shards).without_encoder(), run.config.trainer
            aligner = train_aligner(run.bundle, train_set, trainer.aligner_epochs, run.config.seed)
            save_aligner(aligner, model_dir)
    log.info("dev %s of the model (%s): %s", dev.rate_name, description, headline(dev))
    left_out = "utterances left out of the loss at least once because their phones need more frames than they have: %d"
    log.info(left_out, len(run.progress.infeasible))
    log.info("model: %s", model_dir)
    return dev


def final_weights(run: Run) -> tuple[Weights, str]:
    """The weights of the model as ``trainer.average`` says, and their description."""
    trainer, folder = run.config.trainer, run.run_dir / "checkpoints"
    if run.average:
        return run.average.weights, "exponential moving average"
    best = run.progress.best(trainer.average_count)
    records = {"none": best[:1], "best": best, "last": run.progress.history[-trainer.average_count :]}[trainer.average]
    sets = [load_checkpoint(folder / f"epoch_{record['epoch']:04d}.pt") for record in records]
    epochs = ", ".join(str(epoch) for epoch in sorted(record["epoch"] for record in records))
    return average_weights(sets), f"average of epochs {epochs}" if len(records) > 1 else f"epoch {epochs}"
