"""A training epoch of the recipe on real speech, from audio files: ours against the same model packed, and SpeechBrain's.

    python -m benchmarks.epoch CORPUS_DIR [--speechbrain PYTHON] [--part 1.0] [--json FILE]

CORPUS_DIR is what `asr prepare speechocean762` left; PYTHON is that of an environment of SpeechBrain's own (see
benchmarks/peers/speechbrain_crdnn.py). All take the same batches of the default experiment's second CTC epoch, nothing is
cached, and every contender is a process of its own:

- ours, as `asr train experiment=speechocean762` does it (in bfloat16 where the processor computes in it), and in float32;
- packed: the same model with torch.nn.LSTM on a PackedSequence, in float32, as ordinary code has it. Before anything is
  timed its log-probabilities and gradients must be ours;
- SpeechBrain: its TIMIT recipe's model, features and augmentation, over some of the batches (all would take an hour).

The time goes by stage: what ours spends on each, in the epoch from files and in one with the features in memory.
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
from asr.features.dataset import Batch, Item
from asr.nn.lstm import RecurrentStack
from asr.nn.ragged import length_mask
from asr.system.processor import choose_precision
from asr.training.run import Run
from benchmarks.timing import CPU, Apart, finish, machine, parser, table

EPOCH = 3
"""The epoch whose batches are taken: the first two are the flat start."""

STAGES: dict[str, tuple[Any, str]] = {
    "reading audio": (asr.features.dataset, "read_audio"),
    "speed": (asr.features.dataset, "perturb_speed"),
    "features": (asr.features.dataset, "extract"),
    "normalization": (asr.features.dataset, "normalize"),
    "augmentation": (asr.features.dataset, "spec_augment"),
    "collation": (asr.features.dataset, "collate"),
    "forward": (asr.training.loop, "batch_losses"),
    "backward": (accelerate.Accelerator, "backward"),
    "optimizer": (torch.optim.AdamW, "step"),
}
"""Stage -> the owner and the name of the function that does it. None of them calls another."""
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
    """The default experiment, ready to train."""
    overrides = [f"corpus.dir={corpus}", "experiment=speechocean762", f"trainer.feature_cache_gib={cache_gib}"]
    overrides += [f"trainer.precision={precision}", "trainer.trackers=[]", "trainer.device=cpu", "run_dir=unused"]
    with patch("asr.training.run.progress", quietly):
        run = Run(compose(overrides), Path("unused"))
    run.progress.epoch = run.config.trainer.flat_start_epochs
    return run


def quietly(items: Any, *_: object) -> Any:
    """In place of a progress bar."""
    return items


def batches_of(run: Run, part: float) -> list[list[list[Item]]]:
    """The groups of one batch each of the epoch, or that part of them."""
    plan = run.plan(EPOCH)
    return [[batch] for batch in plan[: max(1, round(part * len(plan)))]]


def pack(run: Run) -> None:
    """Put torch.nn.LSTM in the place of our recurrent layers, with an optimizer that knows it."""
    model = run.plain_model
    model.recurrent = PackedStack(model.recurrent, model.front_end.output_size)  # type: ignore[assignment, arg-type]
    run.optimizer = run.accelerator.prepare(torch.optim.AdamW(model.parameters(), lr=1e-4))


def contender(corpus: str, part: float, packed: bool, precision: str, cached: bool) -> Callable[[], object]:
    """An epoch of ours or of the packed model, for a process of its own; each call gives seconds, in all and by stage."""
    run = start_run(corpus, precision, 2.0 if cached else 0.0)
    if packed:
        pack(run)
    groups = batches_of(run, part)

    def epoch() -> dict[str, float]:
        run.model.train()
        with timed_stages() as seconds, patch("asr.training.loop.progress", quietly):
            started = time.perf_counter()
            for group, shares in asr.training.loop.shares(run, groups, EPOCH):
                asr.training.loop.update(run, shares, asr.training.loop.group_weight(run, group), 1e-4)
            seconds["all"] = time.perf_counter() - started
        return dict(seconds)

    return epoch


@contextmanager
def timed_stages() -> Iterator[defaultdict[str, float]]:
    """Seconds spent in each stage while this lasts."""
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
            method = isinstance(owner, type)
            stack.enter_context(patch.object(owner, name, partialmethod_of(wrapped) if method else wrapped))
        yield seconds


def partialmethod_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same as a plain function, which a class makes a method of."""
    return lambda *arguments, **named: function(*arguments, **named)


def check(corpus: str) -> float:
    """The largest difference of packed from ours, in log-probabilities and in gradients against the largest gradient."""
    run = start_run(corpus, "float32", 0.0)
    batch = next(run.train_set.batches([run.plan(EPOCH)[0]]))
    ours = results_of(run, batch)
    pack(run)
    theirs = results_of(run, batch)
    worst = max(float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in ours)
    if worst > 1e-3:
        raise SystemExit(f"ours and packed differ by {worst:.2g}, expected at most 1e-3")
    return worst


def results_of(run: Run, batch: Batch) -> dict[str, Tensor]:
    """Log-probabilities, zero beyond each length, and the gradient of each parameter, by name."""
    model = run.plain_model.eval()
    model.zero_grad()
    log_probs, lengths = model(batch.features, batch.feature_lengths)
    kept = log_probs * length_mask(lengths, log_probs.shape[1])[..., None]
    kept.square().mean().backward()
    gradients = {
        name.replace(".lstm.", "."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return {"log-probabilities": kept.detach(), **gradients}


def speechbrain(python: str, corpus: str, count: int) -> dict[str, float]:
    """Utterances a second of SpeechBrain over batches that are spread evenly over the lengths, and what they were."""
    run = start_run(corpus, "float32", 0.0)
    plan = sorted(run.plan(EPOCH), key=len)
    chosen = [plan[len(plan) // 2], *(plan[round(place)] for place in np.linspace(0, len(plan) - 1, count + 2)[1:-1])]
    described = [
        [
            {
                "path": str(utterance.audio_path),
                "start_s": utterance.start_s,
                "duration_s": utterance.duration_s,
                "tokens": list(map(int, run.train_set.tokens[item.utterance])),
            }
            for item in batch
            for utterance in [run.train_set.utterances[item.utterance]]
        ]
        for batch in chosen
    ]
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job.json")
        job.write_text(json.dumps({"batches": described, "symbols": len(run.bundle.inventory.symbols)}))
        script = Path(__file__).parent / "peers" / "speechbrain_crdnn.py"
        output = subprocess.run([python, str(script), str(job)], check=True, capture_output=True, text=True).stdout
    results = [json.loads(line) for line in output.splitlines() if line.startswith("{")][1:]
    utterances, seconds = sum(r["utterances"] for r in results), sum(r["seconds"] for r in results)
    return {"rate": utterances / seconds, "utterances": utterances, "parameters": results[0]["parameters"]}


def main() -> None:
    """Run every contender by turns and print rates and the profile."""
    options = parser(__doc__)
    options.set_defaults(rounds=1)
    options.add_argument("corpus", type=Path)
    options.add_argument("--speechbrain", help="Python of an environment with SpeechBrain")
    options.add_argument("--speechbrain-batches", type=int, default=3)
    options.add_argument("--part", type=float, default=1.0, help="of the epoch's batches")
    chosen = options.parse_args()
    corpus = str(chosen.corpus)
    print(f"largest difference between ours and packed: {check(corpus):.1g}")
    kinds = {
        "ours": (False, "auto", False),
        "ours, cached": (False, "auto", True),
        "ours, float32": (False, "float32", False),
        "packed, float32": (True, "float32", False),
    }
    print(f"ours: {machine()}")
    if choose_precision("auto", CPU).name == "float32":
        del kinds["ours, float32"]  # the same as ours
    run = start_run(corpus, "float32", 0.0)
    utterances = sum(len(batch) for (batch,) in batches_of(run, chosen.part))
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    for _ in range(chosen.rounds):
        for name, kind in kinds.items():
            process = Apart(partial(contender, corpus, chosen.part, *kind), tuned=not kind[0])
            record = process()
            assert isinstance(record, dict)
            records[name].append(record)
            process.close()
            print(f"{name}: {record['all']:.1f} s", flush=True)
    best = {name: min(some, key=lambda record: record["all"]) for name, some in records.items()}
    rates = {name: utterances / record["all"] for name, record in best.items()}
    if chosen.speechbrain:
        found = speechbrain(chosen.speechbrain, corpus, chosen.speechbrain_batches)
        rates["SpeechBrain CRDNN"] = found["rate"]
        print(f"SpeechBrain: {found['utterances']} utterances, {found['parameters']:,} parameters")
    ours = rates["ours"]
    print(f"{utterances} utterances")
    print(
        table(
            ["", "utterances a second", "ours is faster by"],
            [[n, f"{r:.2f}", f"{ours / r:.1f}"] for n, r in rates.items()],
        )
    )
    print_profile(best)
    ratios = {f"ours over {name}": ours / rate for name, rate in rates.items() if not name.startswith("ours")}
    finish(ratios, {"utterances a second": rates, "seconds by stage": best}, chosen.json)


def print_profile(best: dict[str, dict[str, Any]]) -> None:
    """Seconds by stage, and the share of the work on data."""
    names = list(best)[:2]
    rows = [[stage, *(f"{best[name].get(stage, 0):.2f}" for name in names)] for stage in [*STAGES, "all"]]
    shares = [sum(best[name].get(stage, 0) for stage in DATA_STAGES) / best[name]["all"] for name in names]
    print()
    print(table(["seconds", *names], [*rows, ["data work", *(f"{share:.1%}" for share in shares)]]))


if __name__ == "__main__":
    main()
