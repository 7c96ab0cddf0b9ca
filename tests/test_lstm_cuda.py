"""The Triton kernels of LSTM layers, run by Triton's interpreter on the CPU; tests/test_cuda.py runs them on a GPU."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

CHECK = """
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.nn.lstm_cuda import lstm_layer

torch.manual_seed(0)
for hidden, inputs, lengths, suffixes in (
    (24, 20, [9, 4, 1, 9, 3], ("", "_reverse")),
    (40, 16, [7, *range(1, 8), *range(1, 8), 2, 1, 7], ("", "_reverse")),  # more utterances than a program takes
    (16, 16, [5, 2, 0], ("",)),
):
    lstm = torch.nn.LSTM(inputs, hidden, bidirectional=len(suffixes) == 2, batch_first=True).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [[getattr(lstm, f"{name}_l0{suffix}") for name in names] for suffix in suffixes]
    frames, counts = max(lengths), torch.tensor(lengths)
    features = torch.randn(len(lengths), frames, inputs, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(len(lengths), frames, hidden * len(suffixes))

    def results(output):
        gradients = torch.autograd.grad((output * slope).sum(), [features, *lstm.parameters()])
        return [output.detach().float(), *[gradient.float() for gradient in gradients]]

    output = lstm_layer(features.float(), counts, weights)
    packed = pack_padded_sequence(features, counts.clamp_min(1), batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=frames)[0]
    expected = expected * (torch.arange(frames) < counts[:, None])[..., None]
    for ours, theirs in zip(results(output), results(expected), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
print("equal")
"""

CHECK_OF_A_GPU = """
import torch

from asr.nn import lstm_cuda

state = torch.get_rng_state()
with torch.inference_mode():
    for hidden, directions in ((24, 2), (16, 1)):
        lstm_cuda.check(torch.device("cpu"), hidden, directions, torch.float32)
print("right" if torch.equal(state, torch.get_rng_state()) else "other random numbers")
layer = lstm_cuda.lstm_layer
for name, wrong in {
    "output": lambda *arguments: layer(*arguments) * 1.03,
    "gradient": lambda inputs, *others: layer(1.03 * inputs - 0.03 * inputs.detach(), *others),
    "not a number": lambda *arguments: layer(*arguments) * float("nan"),
}.items():
    lstm_cuda.lstm_layer = wrong
    try:
        lstm_cuda.check(torch.device("cpu"), 24, 2, torch.float32)
    except ArithmeticError as error:
        print(name, error, sep=": ")
"""


def interpreted(program: str) -> str:
    """What a program prints in which Triton's interpreter runs the kernels on the CPU.

    The interpreter is chosen when Triton is imported. Products in bfloat16 are wrong in it, so float32 is tested.
    """
    command, environment = [sys.executable, "-c", program], {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="NOT TESTED: no Triton, which comes with torch on Linux"
)


@needs_triton
def test_output_and_gradients_are_those_of_torch() -> None:
    assert interpreted(CHECK) == "equal\n"


@needs_triton
def test_the_check_of_a_gpu_finds_kernels_that_err() -> None:
    assert interpreted(CHECK_OF_A_GPU).splitlines() == [
        "right",
        "output: relative error 0.03, at most 0.02 expected",
        "gradient: relative error 0.03, at most 0.02 expected",
        "not a number: relative error nan, at most 0.02 expected",
    ]
