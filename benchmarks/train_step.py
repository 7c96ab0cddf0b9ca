"""A training step of the recurrent stack, forward and backward: ours against torch.nn.LSTM on a PackedSequence.

    python -m benchmarks.train_step [--json FILE]

Batch 32, lengths 150 to 200, 120 inputs, CPU, all cores. All systems have the same weights; first, the float32 systems must
agree in outputs and gradients. A rate counts the operations of real frames, not of padding, and is compared with that of a
plain matrix product in the same run. Each system runs in its own process: ours with the process settings of `asr train`,
torch.nn.LSTM with default settings.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.nn.lstm import RecurrentStack
from benchmarks.timing import (
    SeparateProcess,
    build_parser,
    format_table,
    report_results,
    skip_emulated,
    time_interleaved,
)

BATCH, SHORTEST, LONGEST, INPUTS = 32, 150, 200, 120
SHAPES = {"3 x 256": (3, 256), "3 x 320": (3, 320), "3 x 512": (3, 512), "5 x 256": (5, 256)}
SYSTEMS = {"packed float32": "float32", "ours float32": "float32", "ours bfloat16": "bfloat16"}
"""System -> its precision."""
MATRIX_SIZE = 2048


class Steps:
    """Weights and a batch of one shape, and the training step of each system on them."""

    def __init__(self, layers: int, hidden: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.lengths = torch.randint(SHORTEST, LONGEST + 1, (BATCH,), generator=generator)
        self.inputs = torch.randn(BATCH, int(self.lengths.max()), INPUTS, generator=generator)
        self.ours = RecurrentStack(INPUTS, hidden, layers)
        self.packed = nn.LSTM(INPUTS, hidden, layers, batch_first=True, bidirectional=True)
        self.packed.load_state_dict(self.ours.state_dict())
        frames = int(self.lengths.sum())
        per_frame = sum(2 * 4 * hidden * ((INPUTS if layer == 0 else 2 * hidden) + hidden) for layer in range(layers))
        self.operations = 3 * 2 * frames * per_frame  # a multiply and an add, once forward and twice backward

    def run_ours(self, use_bfloat16: bool) -> Tensor:
        """Run our stack forward and backward; return the outputs."""
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16):
            return backward(self.ours, self.ours(self.inputs, self.lengths))

    def run_packed(self) -> Tensor:
        """Run torch.nn.LSTM on a PackedSequence forward and backward; return the outputs."""
        sequence = pack_padded_sequence(self.inputs, self.lengths, batch_first=True, enforce_sorted=False)
        return backward(self.packed, pad_packed_sequence(self.packed(sequence)[0], batch_first=True)[0])

    def check(self) -> float:
        """Return the largest difference of outputs, and of gradients relative to the largest gradient."""
        worst = float((self.run_ours(False) - self.run_packed()).abs().max())
        for ours, packed in zip(self.ours.parameters(), self.packed.parameters(), strict=True):
            assert ours.grad is not None
            assert packed.grad is not None
            worst = max(worst, float((ours.grad - packed.grad).abs().max() / packed.grad.abs().max()))
        if worst > 1e-4:
            raise SystemExit(f"ours and packed differ by {worst:.2g}, expected at most 1e-4")
        return worst


def make_step(layers: int, hidden: int, system: str) -> Callable[[], object]:
    """Return a system's step, to be called in its own process; it returns nothing."""
    steps, use_bfloat16 = Steps(layers, hidden), system.endswith("bfloat16")
    step = steps.run_packed if system.startswith("packed") else partial(steps.run_ours, use_bfloat16)

    def run() -> None:
        step()

    return run


def backward(module: nn.Module, outputs: Tensor) -> Tensor:
    """Compute fresh gradients of the mean square of the outputs; return the outputs, detached."""
    module.zero_grad()
    outputs.float().square().mean().backward()
    return outputs.detach()


def matrix_rates(precisions: Sequence[str], rounds: int) -> dict[str, float]:
    """Measure the operations per second of a plain matrix product in each precision."""
    matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE)
    factors = {"float32": matrix, "bfloat16": matrix.bfloat16()}
    seconds = time_interleaved({name: partial(torch.mm, factors[name], factors[name]) for name in precisions}, rounds)
    return {name: 2 * MATRIX_SIZE**3 / value for name, value in seconds.items()}


def main() -> None:
    """Time all systems at every shape and print a table."""
    args = build_parser(__doc__).parse_args()
    precisions = skip_emulated(["float32", "bfloat16"])
    names = [system for system, precision in SYSTEMS.items() if precision in precisions]
    matrix = matrix_rates(precisions, args.rounds)
    print("matrix product: " + ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in matrix.items()))
    rows, ratios, differences = [], {}, {}
    for shape, (layers, hidden) in SHAPES.items():
        steps = Steps(layers, hidden)
        differences[shape] = steps.check()
        processes = {
            system: SeparateProcess(partial(make_step, layers, hidden, system), system.startswith("ours"))
            for system in names
        }
        seconds = time_interleaved(processes, args.rounds)
        for process in processes.values():
            process.close()
        for system, value in seconds.items():
            rate, speed_up = steps.operations / value, seconds["packed float32"] / value
            share = rate / matrix[SYSTEMS[system]]
            rows.append(
                [f"{shape} {system}", f"{1000 * value:.0f}", f"{rate / 1e9:.0f}", f"{share:.2f}", f"{speed_up:.1f}"]
            )
            if system != "packed float32":
                ratios[f"{shape} {system} over packed float32"] = speed_up
    print(format_table(["", "ms", "GFLOP/s", "share of matrix rate", "speed-up"], rows))
    report_results(ratios, {"largest differences": differences, "matrix product, FLOP/s": matrix}, args.json)


if __name__ == "__main__":
    main()
