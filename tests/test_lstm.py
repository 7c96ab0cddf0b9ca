"""The recurrent stack compared with torch.nn on PackedSequence, and with the LSTM written out gate by gate."""

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.nn.kernels import has_kernels
from asr.nn.lstm import RecurrentStack
from asr.nn.parallel_directions import run_in_parallel
from asr.nn.ragged import FRAME_STEP, SEGMENT_COST_FRAMES, PackedLayout, length_mask, plan_segments
from asr.nn.reference_lstm import reference_lstm

LENGTHS = torch.tensor([17, 3, 29, 1, 29, 8])


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def torch_module(stack: RecurrentStack, inputs: int) -> nn.Module:
    kind = nn.LSTM if stack.cell == "lstm" else nn.GRU
    bidirectional = len(stack.suffixes) == 2
    module = kind(inputs, stack.hidden, stack.layers, batch_first=True, bidirectional=bidirectional)
    module.load_state_dict(stack.state_dict())
    return module


def run_packed(module: nn.Module, inputs: Tensor) -> Tensor:
    packed = pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(module(packed)[0], batch_first=True, total_length=inputs.shape[1])[0]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("path", ["forward", "forward_packed"])
def test_outputs_and_gradients_are_torchs(cell: str, bidirectional: bool, layers: int, path: str) -> None:
    stack = RecurrentStack(13, 24, layers, cell=cell, bidirectional=bidirectional)
    module = torch_module(stack, 13)
    inputs = torch.randn(6, 31, 13, requires_grad=True)
    copied = inputs.detach().clone().requires_grad_()
    ours, theirs = getattr(stack, path)(inputs, LENGTHS), run_packed(module, copied)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(inputs.grad, copied.grad, atol=1e-5, rtol=0)
    expected = dict(module.named_parameters())
    for name, parameter in stack.named_parameters():
        reference = expected[name].grad
        assert reference is not None
        scale = float(reference.abs().max())
        torch.testing.assert_close(parameter.grad, reference, atol=1e-5 * max(1.0, scale), rtol=0)


@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 150), (33, 40), (64, 9)])
def test_any_mix_of_lengths_is_torchs(
    count: int, shape: tuple[int, int], avx512: bool, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.nn.lstm.uses_avx512", lambda: avx512)
    batch, longest = shape
    generator = torch.Generator().manual_seed(batch)
    lengths = torch.randint(1, longest + 1, (batch,), generator=generator)
    inputs = torch.randn(batch, longest + 2, 13, generator=generator)
    stack = RecurrentStack(13, 24, 2)
    module = torch_module(stack, 13)
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    theirs = pad_packed_sequence(module(packed)[0], batch_first=True, total_length=longest + 2)[0]
    threads(count)
    ours = stack(inputs, lengths)
    weight = torch.randn(ours.shape, generator=generator)
    (ours * weight).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(stack(inputs, lengths), ours, atol=1e-6, rtol=0)
    (theirs * weight).sum().backward()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for (name, parameter), reference in zip(stack.named_parameters(), module.parameters(), strict=True):
        assert parameter.grad is not None
        assert reference.grad is not None, name
        scale = max(1.0, float(reference.grad.abs().max()))
        torch.testing.assert_close(parameter.grad, reference.grad, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_gradients_are_those_of_finite_differences(cell: str, threads: Callable[[int], None]) -> None:
    threads(1)  # the parallel path frees its graph, which this check uses repeatedly
    stack = RecurrentStack(2, 3, 2, cell=cell).double()
    inputs = torch.randn(3, 11, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: stack(x, torch.tensor([11, 2, 9])), (inputs,))


@pytest.mark.parametrize("count", [1, 2])
def test_frozen_weights_get_no_gradient_and_the_others_theirs(count: int, threads: Callable[[int], None]) -> None:
    stack = RecurrentStack(5, 8, 2)
    inputs = torch.randn(6, 31, 5)
    stack(inputs, LENGTHS).square().sum().backward()
    expected = {name: parameter.grad for name, parameter in stack.named_parameters()}
    frozen = {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hh_l1", "bias_ih_l1_reverse"}
    for name, parameter in stack.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(name not in frozen)
    threads(count)
    stack(inputs, LENGTHS).square().sum().backward()
    for name, parameter in stack.named_parameters():
        if name in frozen:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-4)


def test_the_content_of_the_padding_has_no_effect() -> None:
    stack = RecurrentStack(5, 8, 2)
    inputs = torch.randn(6, 31, 5)
    outputs = stack(inputs, LENGTHS)
    spoilt = inputs.masked_fill(~length_mask(LENGTHS, 31)[..., None], torch.nan)
    assert torch.equal(stack(spoilt, LENGTHS), outputs)
    stack(spoilt, LENGTHS).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in stack.parameters())


def test_a_packed_layout_holds_every_frame_once_and_little_fill() -> None:
    lengths = torch.randint(150, 201, (32,), generator=torch.Generator().manual_seed(0))
    layout = PackedLayout.from_lengths(lengths, 200)
    real = length_mask(lengths, 200).flatten()
    assert sorted(layout.padded_index[layout.packed_mask].tolist()) == real.nonzero()[:, 0].tolist()
    assert torch.equal(layout.padded_index[layout.packed_index[real]], real.nonzero()[:, 0])
    packed = sum(frames * utterances for frames, utterances in layout.segments)
    assert len(layout.utterance_index) == packed < 1.05 * lengths.sum()
    assert torch.equal(layout.reversed_index[layout.reversed_index], torch.arange(packed))
    utterances = [count for _, count in layout.segments]
    assert utterances == sorted(utterances, reverse=True)


def test_state_dicts_go_both_ways_and_mismatches_are_named() -> None:
    stack = RecurrentStack(5, 7, 2)
    module = nn.LSTM(5, 7, 2, bidirectional=True)
    assert list(stack.state_dict()) == list(module.state_dict())
    stack.load_state_dict(module.state_dict())
    module.load_state_dict(stack.state_dict())
    with pytest.raises(RuntimeError) as error:
        stack.load_state_dict(nn.LSTM(6, 7, 1, bidirectional=True).state_dict())
    for key in ("weight_ih_l0", "weight_ih_l0_reverse", "weight_ih_l1", "weight_hh_l1_reverse", "bias_hh_l1"):
        assert key in str(error.value)


def test_the_reference_lstm_is_torchs_in_float64() -> None:
    module = nn.LSTM(4, 6, batch_first=True).double()
    weights = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]
    inputs = torch.randn(11, 4, dtype=torch.float64)
    gates, (theirs, _) = reference_lstm(inputs, weights), module(inputs[None])
    torch.testing.assert_close(gates.hidden, theirs[0], atol=1e-6, rtol=0)
    weight = torch.randn_like(gates.hidden)
    (gates.hidden * weight).sum().backward()
    (theirs[0] * weight).sum().backward()
    for ours, parameter in zip(weights, module.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, parameter.grad, atol=1e-6, rtol=0)
    for gate in (gates.input, gates.forget, gates.output):
        assert 0 < gate.min() < gate.max() < 1
    before = torch.cat([torch.zeros(1, 6, dtype=torch.float64), gates.cell[:-1]])
    assert ((gates.cell - gates.forget * before).abs() <= gates.input).all()


def test_the_stack_is_the_reference_lstm_in_both_directions() -> None:
    stack = RecurrentStack(4, 6, 1)
    inputs = torch.randn(2, 9, 4)
    outputs = stack(inputs, torch.tensor([9, 5]))
    for row, length in ((0, 9), (1, 5)):
        forward = reference_lstm(inputs[row, :length], stack.layer_weights(0, "")).hidden
        backward = reference_lstm(inputs[row, :length].flip(0), stack.layer_weights(0, "_reverse")).hidden.flip(0)
        torch.testing.assert_close(outputs[row, :length], torch.cat([forward, backward], dim=1), atol=1e-6, rtol=0)
        assert outputs[row, length:].abs().sum() == 0


@pytest.mark.parametrize("path", ["forward", "forward_packed"])
def test_projection_and_layer_norm_keep_utterances_apart(path: str) -> None:
    stack = RecurrentStack(5, 8, 3, projection=6, layer_norm=True)
    inputs = torch.randn(6, 31, 5)
    together = getattr(stack, path)(inputs, LENGTHS)
    assert together.shape == (6, 31, 6)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = stack(inputs[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=0)


def test_both_paths_drop_whole_values_of_an_utterance() -> None:
    stack = RecurrentStack(5, 50, 2, dropout=0.4)
    masks = stack.dropout_masks(torch.zeros(64, 3, 5))
    assert masks.shape == (1, 64, 100)
    assert masks.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert masks.mean() == pytest.approx(1.0, abs=0.05)
    inputs, results = torch.randn(6, 31, 5), []
    for path in (stack.forward, stack.forward_packed):
        torch.manual_seed(3)
        results.append(path(inputs, LENGTHS))
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)
    stack.eval()
    assert not torch.allclose(stack(inputs, LENGTHS), results[0], atol=1e-3)
    assert (stack.dropout_masks(inputs) == 1).all()


def test_empty_sequences_give_zeros() -> None:
    stack = RecurrentStack(5, 8, 2)
    lengths = torch.tensor([0, 4])
    for path in (stack.forward, stack.forward_packed):
        outputs = path(torch.randn(2, 4, 5), lengths)
        assert outputs[0].abs().sum() == 0
        assert torch.isfinite(outputs).all()


def test_bfloat16_is_near_float32() -> None:
    stack = RecurrentStack(13, 32, 3)
    inputs = torch.randn(6, 31, 13)
    with torch.autocast("cpu", torch.bfloat16):
        half = stack(inputs, LENGTHS)
    assert (half.float() - stack(inputs, LENGTHS)).abs().max() < 0.03


def test_length_mask() -> None:
    assert length_mask(torch.tensor([2, 0, 3]), 3).int().tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert all(a >= b for a, b in pairwise(length_mask(torch.tensor([5]), 9)[0].int().tolist()))


def test_segments_are_those_of_least_cost() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        counts = sorted((4 * torch.randint(1, 12, (7,), generator=generator)).tolist(), reverse=True)
        costs = {
            cut: sum(FRAME_STEP * (end - start) * counts[start] + SEGMENT_COST_FRAMES for start, end in pairwise(cut))
            for size in range(7)
            for inner in combinations(range(1, 7), size)
            for cut in [(0, *inner, 7)]
        }
        planned = plan_segments(counts)
        assert sum(frames for frames, _ in planned) == 7 * FRAME_STEP
        assert sum(frames * utterances + SEGMENT_COST_FRAMES for frames, utterances in planned) == min(costs.values())


@pytest.mark.parametrize("count", [2, 3, 8])
def test_directions_share_the_threads_between_them(count: int, threads: Callable[[int], None]) -> None:
    threads(count)
    assert run_in_parallel([torch.get_num_threads, torch.get_num_threads]) == [count - count // 2, count // 2]
    assert torch.get_num_threads() == count


def test_a_gpu_on_which_the_kernels_fail_leaves_the_layers_to_cudnn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no compiler\nsecond line")

    pytest.importorskip("triton", reason="NOT TESTED: no Triton, which comes with torch on Linux")
    monkeypatch.setattr("asr.nn.kernels.bfloat16_source", lambda _: "a GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    device = torch.device("cuda:7")
    monkeypatch.setattr("asr.nn.lstm_cuda.check", fail)
    assert not has_kernels(device, 256, 2)
    assert not has_kernels(device, 256, 2)
    assert [record.getMessage() for record in caplog.records] == [
        "LSTM layers run in cuDNN, which is slower: the kernels in Triton failed (no compiler); Triton needs a C compiler"
    ]
    has_kernels.cache_clear()
    monkeypatch.setattr("asr.nn.lstm_cuda.check", lambda *_: None)
    assert has_kernels(device, 256, 2)
    has_kernels.cache_clear()
