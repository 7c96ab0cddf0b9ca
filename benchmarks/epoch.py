"""A training epoch on real speech, from audio files: ours, the same model on a PackedSequence, and SpeechBrain's recipe.

    python -m benchmarks.epoch CORPUS_DIR [--speechbrain PYTHON] [--part 1.0] [--json FILE]

CORPUS_DIR is the output of `asr prepare speechocean762`. PYTHON belongs to an environment with SpeechBrain (see
benchmarks/peers/speechbrain_crdnn.py). All systems train on the same batches, those of the default experiment's second CTC
epoch, without a feature cache, each in its own process:

- ours: as `asr train experiment=speechocean762` trains (in bfloat16 if the processor computes in it), and in float32;
- packed: the same model with torch.nn.LSTM on a PackedSequence, in float32, as ordinary code has it. First, its
  log-probabilities and gradients must agree with ours;
- SpeechBrain: the model, features and augmentation of its TIMIT recipe, on some of the batches (all would take an hour).

A second table has the seconds of each stage of ours, for the epoch from files and for one with cached features.
"""

import json
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import accelerate
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import asr.features.dataset
import asr.training.loop
from asr.cli.compose import compose
from asr.features.dataset import Batch
from asr.nn.lstm import RecurrentStack
from asr.nn.ragged import length_mask
from asr.system.processor import choose_precision
from asr.training import data
from asr.training.data import Update, plan_updates
from asr.training.loop import prepare
from asr.training.run import Run
from asr.training.sections import Section
from benchmarks.timing import CPU, SeparateProcess, build_parser, describe_machine, format_table, report_results

EPOCH = 3
"""The epoch whose batches are used; the two epochs before are the flat start."""

STAGES: dict[str, tuple[Any, str]] = {
    "reading audio": (asr.features.dataset, "read_audio"),
    "speed": (asr.features.dataset, "perturb_speed"),
    "features": (asr.features.dataset, "extract"),
    "normalization": (asr.features.dataset, "normalize"),
    "augmentation": (asr.features.dataset, "augment_features"),
    "collation": (asr.features.dataset, "collate"),
    "forward": (asr.training.loop, "batch_losses"),
    "backward": (accelerate.Accelerator, "backward"),
    "optimizer": (torch.optim.AdamW, "step"),
}
"""Stage -> owner and name of the function that does the work. None of these functions calls another."""
DATA_STAGES = list(STAGES)[:6]


class PackedStack(nn.Module):
    """The recurrent layers as ordinary code has them."""

    def __init__(self, stack: RecurrentStack, inputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            inputs, stack.hidden, stack.layers, batch_first=True, bidirectional=True, dropout=stack.dropout
        )
        self.lstm.load_state_dict(stack.state_dict())
        self.output_size = stack.output_size

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, inputs) -> (batch, frames, output_size)."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=inputs.shape[1])[0]


def start_run(corpus: str, precision: str, cache_gib: float) -> Run:
    """Set up the default experiment, ready to train."""
    overrides = [f"corpus.dir={corpus}", "experiment=speechocean762", f"trainer.feature_cache_gib={cache_gib}"]
    overrides += [f"trainer.precision={precision}", "trainer.trackers=[]", "trainer.device=cpu", "run_dir=unused"]
    with patch("asr.training.data.progress", without_progress_bar):
        run = prepare(compose(overrides), Path("unused"))
    run.progress.epoch = run.config.trainer.flat_start_epochs
    return run


def without_progress_bar(items: Any, *_: object) -> Any:
    """Return the items unchanged, in place of `progress`."""
    return items


def section_of(run: Run) -> Section:
    """Return the epoch's utterances."""
    return run.sections.open(EPOCH, 0, {})


def updates_of(run: Run, part: float) -> list[Update]:
    """Return the epoch's updates, of one batch each, or the given part of them."""
    plan = plan_updates(run, section_of(run))
    return plan[: max(1, round(part * len(plan)))]


def pack(run: Run) -> None:
    """Replace our recurrent layers with torch.nn.LSTM, and the optimizer with one over the new parameters."""
    model = run.plain_model
    model.recurrent = PackedStack(model.recurrent, model.front_end.output_size)  # type: ignore[assignment, arg-type]
    run.optimizer = run.accelerator.prepare(torch.optim.AdamW(model.parameters(), lr=1e-4))


def make_epoch(corpus: str, part: float, packed: bool, precision: str, cached: bool) -> Callable[[], object]:
    """Return an epoch of our model or the packed one, to be called in its own process.

    Each call returns seconds, in total and by stage.
    """
    run = start_run(corpus, precision, 2.0 if cached else 0.0)
    if packed:
        pack(run)
    section, updates = section_of(run), updates_of(run, part)

    def epoch() -> dict[str, float]:
        run.model.train()
        with timed_stages() as seconds, patch("asr.training.data.progress", without_progress_bar):
            started = time.perf_counter()
            for update, shares in data.shares(run, section, updates):
                asr.training.loop.update_weights(run, shares, update.divisor, 1e-4)
            seconds["all"] = time.perf_counter() - started
        return dict(seconds)

    return epoch


@contextmanager
def timed_stages() -> Iterator[defaultdict[str, float]]:
    """Measure the seconds spent in each stage inside the context."""
    seconds: defaultdict[str, float] = defaultdict(float)

    def timed(stage: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds[stage] += time.perf_counter() - started

    with ExitStack() as stack:
        for stage, (owner, name) in STAGES.items():
            wrapped = partial(timed, stage, getattr(owner, name))
            is_method = isinstance(owner, type)
            stack.enter_context(patch.object(owner, name, as_method(wrapped) if is_method else wrapped))
        yield seconds


def as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a partial in a plain function, which binds as a method of a class."""
    return lambda *arguments, **named: function(*arguments, **named)


def check(corpus: str) -> float:
    """Return the largest difference of ours from packed: log-probabilities and gradients, each relative to its largest."""
    run = start_run(corpus, "float32", 0.0)
    (items, _), *_ = plan_updates(run, section_of(run))[0].batches
    batch = next(section_of(run).dataset.batches([items]))
    ours = outputs_and_gradients(run, batch)
    pack(run)
    packed = outputs_and_gradients(run, batch)
    worst = max(float((ours[name] - packed[name]).abs().max() / packed[name].abs().max()) for name in ours)
    if worst > 1e-3:
        raise SystemExit(f"ours and packed differ by {worst:.2g}, expected at most 1e-3")
    return worst


def outputs_and_gradients(run: Run, batch: Batch) -> dict[str, Tensor]:
    """Return the log-probabilities, zero in the padding, and the gradient of each parameter by name."""
    model = run.plain_model.eval()
    model.zero_grad()
    log_probs, lengths = model(batch.features, batch.feature_lengths)
    unpadded = log_probs * length_mask(lengths, log_probs.shape[1])[..., None]
    unpadded.square().mean().backward()
    gradients = {
        name.replace(".lstm.", "."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return {"log-probabilities": unpadded.detach(), **gradients}


def time_speechbrain(python: str, corpus: str, count: int) -> dict[str, float]:
    """Time SpeechBrain on ``count`` batches spread evenly over the batch sizes, after one to warm up.

    Returns utterances per second, the number of utterances, and the model's number of parameters.
    """
    run = start_run(corpus, "float32", 0.0)
    section = section_of(run)
    plan = sorted((items for update in plan_updates(run, section) for items, _ in update.batches), key=len)
    warm_up = plan[len(plan) // 2]
    timed = [plan[round(index)] for index in np.linspace(0, len(plan) - 1, count + 2)[1:-1]]
    batches = [
        [
            {
                "path": str(utterance.audio_path),
                "start_s": utterance.start_s,
                "duration_s": utterance.duration_s,
                "tokens": list(map(int, section.dataset.tokens[item.utterance])),
            }
            for item in batch
            for utterance in [section.dataset.utterances[item.utterance]]
        ]
        for batch in [warm_up, *timed]
    ]
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job.json")
        job.write_text(json.dumps({"batches": batches, "symbols": len(run.bundle.inventory.symbols)}))
        script = Path(__file__).parent / "peers" / "speechbrain_crdnn.py"
        output = subprocess.run([python, str(script), str(job)], check=True, capture_output=True, text=True).stdout
    results = [json.loads(line) for line in output.splitlines() if line.startswith("{")][1:]
    utterances, seconds = sum(r["utterances"] for r in results), sum(r["seconds"] for r in results)
    return {"rate": utterances / seconds, "utterances": utterances, "parameters": results[0]["parameters"]}


def main() -> None:
    """Run all systems interleaved; print rates and the profile."""
    parser = build_parser(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--speechbrain", help="Python interpreter of an environment with SpeechBrain")
    parser.add_argument("--speechbrain-batches", type=int, default=3)
    parser.add_argument("--part", type=float, default=1.0, help="share of the epoch's batches")
    args = parser.parse_args()
    corpus = str(args.corpus)
    print(f"largest difference between ours and packed: {check(corpus):.1g}")
    systems = {
        "ours": (False, "auto", False),
        "ours, cached": (False, "auto", True),
        "ours, float32": (False, "float32", False),
        "packed, float32": (True, "float32", False),
    }
    print(f"ours: {describe_machine()}")
    if choose_precision("auto", CPU).name == "float32":
        del systems["ours, float32"]  # the same as ours
    run = start_run(corpus, "float32", 0.0)
    utterances = sum(len(items) for update in updates_of(run, args.part) for items, _ in update.batches)
    best = time_epochs(corpus, args.part, systems, args.rounds)
    rates = {name: utterances / record["all"] for name, record in best.items()}
    if args.speechbrain:
        result = time_speechbrain(args.speechbrain, corpus, args.speechbrain_batches)
        rates["SpeechBrain CRDNN"] = result["rate"]
        print(f"SpeechBrain: {result['utterances']} utterances, {result['parameters']:,} parameters")
    ours = rates["ours"]
    print(f"{utterances} utterances")
    print(
        format_table(
            ["", "utterances per second", "speed-up of ours"],
            [[n, f"{r:.2f}", f"{ours / r:.1f}"] for n, r in rates.items()],
        )
    )
    print_profile(best)
    ratios = {f"ours over {name}": ours / rate for name, rate in rates.items() if not name.startswith("ours")}
    report_results(ratios, {"utterances a second": rates, "seconds by stage": best}, args.json)


def time_epochs(
    corpus: str, part: float, systems: dict[str, tuple[bool, str, bool]], rounds: int
) -> dict[str, dict[str, Any]]:
    """Run the systems interleaved, an epoch each per round; return the seconds of each one's fastest epoch by stage."""
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, options in systems.items():
            process = SeparateProcess(partial(make_epoch, corpus, part, *options), tuned=not options[0])
            record = process()
            assert isinstance(record, dict)
            records[name].append(record)
            process.close()
            print(f"{name}: {record['all']:.1f} s", flush=True)
    return {name: min(epochs, key=lambda record: record["all"]) for name, epochs in records.items()}


def print_profile(best: dict[str, dict[str, Any]]) -> None:
    """Print the seconds of each stage and the share of data processing."""
    names = list(best)[:2]
    rows = [[stage, *(f"{best[name].get(stage, 0):.2f}" for name in names)] for stage in [*STAGES, "all"]]
    shares = [sum(best[name].get(stage, 0) for stage in DATA_STAGES) / best[name]["all"] for name in names]
    print()
    print(format_table(["seconds", *names], [*rows, ["data processing", *(f"{share:.1%}" for share in shares)]]))


if __name__ == "__main__":
    main()
