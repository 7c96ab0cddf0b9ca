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


@pytest.mark.skipif(find_spec("triton") is None, reason="NOT TESTED: no Triton, which comes with torch on Linux")
def test_output_and_gradients_are_those_of_torch() -> None:
    # The interpreter is chosen when Triton is imported, and bfloat16 products are wrong in it: float32 is tested.
    command = [sys.executable, "-c", CHECK]
    done = subprocess.run(command, capture_output=True, text=True, env={"TRITON_INTERPRET": "1"}, check=False)
    assert done.stdout == "equal\n", done.stderr
