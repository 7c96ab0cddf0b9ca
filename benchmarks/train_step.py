"""One training step of the recurrent stack, forward and backward: ours against torch.nn.LSTM on a PackedSequence.

    python -m benchmarks.train_step [--json FILE]

Batch 32, lengths 150 to 200, 120 inputs, CPU, all cores. All contenders have the same weights; before anything is timed
the float32 ones must agree in outputs and gradients. A rate counts the operations that real frames need (padding is no
work) and stands beside that of a plain matrix product in the same run. Each contender has a process of its own: ours tuned
as `asr train` is, torch.nn.LSTM as it comes.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.nn.lstm import RecurrentStack
from benchmarks.timing import Apart, computed, finish, interleave, parser, table

BATCH, SHORTEST, LONGEST, INPUTS = 32, 150, 200, 120
SHAPES = {"3 x 256": (3, 256), "3 x 320": (3, 320), "3 x 512": (3, 512), "5 x 256": (5, 256)}
KINDS = {"packed float32": "float32", "ours float32": "float32", "ours bfloat16": "bfloat16"}
"""Contenders and the precision of each."""
MATRIX_SIZE = 2048


class Steps:
    """The same step for all contenders at one shape."""

    def __init__(self, layers: int, hidden: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.lengths = torch.randint(SHORTEST, LONGEST + 1, (BATCH,), generator=generator)
        self.inputs = torch.randn(BATCH, int(self.lengths.max()), INPUTS, generator=generator)
        self.ours = RecurrentStack(INPUTS, hidden, layers)
        self.theirs = nn.LSTM(INPUTS, hidden, layers, batch_first=True, bidirectional=True)
        self.theirs.load_state_dict(self.ours.state_dict())
        frames = int(self.lengths.sum())
        per_frame = sum(2 * 4 * hidden * ((INPUTS if layer == 0 else 2 * hidden) + hidden) for layer in range(layers))
        self.operations = 3 * 2 * frames * per_frame  # a multiply and an add, once forward and twice backward

    def run_ours(self, half: bool) -> Tensor:
        """Outputs of ours, after a backward pass."""
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return backward(self.ours, self.ours(self.inputs, self.lengths))

    def run_packed(self) -> Tensor:
        """Outputs of torch.nn.LSTM on a PackedSequence, after a backward pass."""
        packed = pack_padded_sequence(self.inputs, self.lengths, batch_first=True, enforce_sorted=False)
        return backward(self.theirs, pad_packed_sequence(self.theirs(packed)[0], batch_first=True)[0])

    def check(self) -> float:
        """The largest difference of outputs, and of gradients relative to the largest gradient."""
        worst = float((self.run_ours(False) - self.run_packed()).abs().max())
        for mine, other in zip(self.ours.parameters(), self.theirs.parameters(), strict=True):
            assert mine.grad is not None
            assert other.grad is not None
            worst = max(worst, float((mine.grad - other.grad).abs().max() / other.grad.abs().max()))
        if worst > 1e-4:
            raise SystemExit(f"the contenders differ by {worst:.2g}, expected at most 1e-4")
        return worst


def step_of(layers: int, hidden: int, kind: str) -> Callable[[], object]:
    """A contender's step, for a process of its own, which returns nothing."""
    steps = Steps(layers, hidden)
    step = steps.run_packed if kind.startswith("packed") else partial(steps.run_ours, half=kind.endswith("bfloat16"))

    def run() -> None:
        step()

    return run


def backward(module: nn.Module, outputs: Tensor) -> Tensor:
    """Fresh gradients of the mean square of the outputs."""
    module.zero_grad()
    outputs.float().square().mean().backward()
    return outputs.detach()


def matrix_rates(precisions: Sequence[str], rounds: int) -> dict[str, float]:
    """Operations a second of a plain matrix product in each precision."""
    single = torch.randn(MATRIX_SIZE, MATRIX_SIZE)
    factors = {"float32": single, "bfloat16": single.bfloat16()}
    seconds = interleave({name: partial(torch.mm, factors[name], factors[name]) for name in precisions}, rounds)
    return {name: 2 * MATRIX_SIZE**3 / value for name, value in seconds.items()}


def main() -> None:
    """Time every shape and print a table."""
    options = parser(__doc__).parse_args()
    precisions = computed(["float32", "bfloat16"])
    kinds = [kind for kind, precision in KINDS.items() if precision in precisions]
    matrix = matrix_rates(precisions, options.rounds)
    print("matrix product: " + ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in matrix.items()))
    rows, ratios, differences = [], {}, {}
    for name, (layers, hidden) in SHAPES.items():
        steps = Steps(layers, hidden)
        differences[name] = steps.check()
        contenders = {kind: Apart(partial(step_of, layers, hidden, kind), kind.startswith("ours")) for kind in kinds}
        seconds = interleave(contenders, options.rounds)
        for process in contenders.values():
            process.close()
        for contender, value in seconds.items():
            rate, lead = steps.operations / value, seconds["packed float32"] / value
            part = rate / matrix[KINDS[contender]]
            rows.append(
                [f"{name} {contender}", f"{1000 * value:.0f}", f"{rate / 1e9:.0f}", f"{part:.2f}", f"{lead:.1f}"]
            )
            if contender != "packed float32":
                ratios[f"{name} {contender} over packed float32"] = lead
    print(table(["", "ms", "GFLOP/s", "of matrix rate", "lead"], rows))
    finish(ratios, {"largest differences": differences, "matrix product, FLOP/s": matrix}, options.json)


if __name__ == "__main__":
    main()
