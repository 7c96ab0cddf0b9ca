"""A training described: one line in the log when it starts, and the card of its model."""

import shlex
import sys
from datetime import date

from asr.nn.acoustic_model import count_parameters
from asr.scoring.error_rate import Score, unit_of
from asr.scoring.results import headline
from asr.training.run import Run
from asr.training.sources import Source, describe_sources


def describe(run: Run) -> str:
    """Model, device, data and run folder in one line."""
    train, dev = describe_sources(run.sections.sources), describe_sources([Source("", 1.0, run.dev_set.utterances)])
    data = f"train {train}; dev {dev}; run folder {run.run_dir}"
    device, count = run.accelerator.device.type, count_parameters(run.plain_model)
    where = (
        f"on {device}, {run.accelerator.num_processes} processes"
        if run.accelerator.num_processes > 1
        else f"on {device}"
    )
    return f"{run.config.model.name}, {count:,} parameters, {where}; {data}"


def model_card(run: Run, dev: Score, weights: str) -> str:
    """The model card, `README.md` in the model folder."""
    corpus, phones, today = run.config.corpus, run.bundle.inventory, date.today().isoformat()
    return f"""# {run.config.model.name} phone recognizer, trained on {corpus.name}

| | |
|---|---|
| {unit_of(phones.notation)}s | {phones.name}, {len(phones.symbols) - 1} and the CTC blank |
| training data | {corpus.name}: {describe_sources(run.sections.sources)} |
| dev set | {headline(dev)} |
| parameters | {count_parameters(run.plain_model):,} |
| weights | {weights} |
| training precision | {run.precision.name}: {run.precision.why} |
| training | {run.progress.epoch} epochs, {run.progress.minutes:.1f} minutes, {today}, seed {run.config.seed} |
| command | `{shlex.join(["asr", *sys.argv[1:]])}` |

Evaluate it with `asr evaluate MODEL CUTS`, use it with `asr transcribe --model MODEL AUDIO`.
"""
