"""A CUDA device: it computes what the CPU computes, trains reproducibly, and runs go on from one to the other.

The other tests train on it too where there is one (`trainer.device=auto`).
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from asr.features.filterbanks import feature_dim
from asr.inference.evaluate import load_dataset, recognize
from asr.inference.recognizer import load
from asr.nn.acoustic_model import AcousticModel
from asr.nn.ctc import ctc_loss
from asr.nn.kernels import has_kernels
from asr.training.losses import distillation_loss, expected_error_loss
from tests.conftest import settings
from tests.test_train import killed_after_two_epochs, losses_of, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA IS NOT TESTED: there is no device")

MODELS = {
    "default": (),
    "plain": ("model=blstm",),
    "GRU": ("model=gru",),
    "one direction": ("model=lstm",),
    "attention": ("model=cnn_blstm_attention",),
    "projection and layer normalization": ("model.projection=24", "model.layer_norm=true"),
    "chunks": ("model.chunk_frames=8", "model.look_ahead_frames=[4]"),
}


@pytest.mark.parametrize("overrides", MODELS.values(), ids=list(MODELS))
def test_output_and_gradient_are_those_of_the_cpu(overrides: tuple[str, ...]) -> None:
    config = settings(*overrides, "model.hidden=24", "model.dropout=0", "model.time_reduction=2")
    model = AcousticModel(config.model, feature_dim(config.features), 40)
    lengths, token_lengths = torch.tensor([57, 1, 110, 8]), torch.tensor([9, 0, 12, 2])
    features, tokens = torch.randn(4, 113, 40), torch.randint(1, 40, (4, 12))
    for row, length in enumerate(lengths):
        features[row, length:] = 0
    results = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        log_probs, out_lengths = model(features.to(device), lengths.to(device))
        arguments = log_probs, out_lengths, tokens.to(device), token_lengths.to(device)
        losses, feasible = ctc_loss(*arguments)
        losses.sum().backward()
        gradients = [parameter.grad.cpu() for parameter in model.parameters() if parameter.grad is not None]
        results.append([log_probs.detach().cpu(), losses.detach().cpu(), feasible.cpu(), *gradients])
    for on_cpu, on_cuda in zip(*results, strict=True):
        difference = (on_cuda.float() - on_cpu.float()).norm()
        assert difference <= 3e-3 * on_cpu.float().norm() + 1e-5, (difference, on_cpu.shape)


@pytest.mark.parametrize("overrides", MODELS.values(), ids=list(MODELS))
def test_bfloat16_is_near_float32(overrides: tuple[str, ...]) -> None:
    config = settings(*overrides, "model.hidden=40", "model.dropout=0", "model.time_reduction=2")
    model = AcousticModel(config.model, feature_dim(config.features), 40).cuda()
    lengths = torch.tensor([*range(1, 60, 3), 113]).cuda()  # more utterances than a program of the LSTM's kernel takes
    features = torch.randn(len(lengths), 113, 40).cuda()
    for row, length in enumerate(lengths):
        features[row, length:] = 0
    results = []
    for bfloat16 in (False, True):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
            log_probs, out_lengths = model(features, lengths)
        inside = torch.arange(log_probs.shape[1], device="cuda") < out_lengths[:, None]
        (log_probs[..., 3] * inside).sum().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        results.append([log_probs.detach() * inside[..., None], *gradients])
    for exact, rounded in zip(*results, strict=True):
        assert (exact - rounded).norm() <= 0.2 * exact.norm(), (exact.shape, exact.norm())


@pytest.mark.parametrize(("hidden", "directions"), [(256, 2), (256, 1), (136, 2), (40, 2), (24, 1)])
def test_the_kernels_of_lstm_layers_work(hidden: int, directions: int, caplog: pytest.LogCaptureFixture) -> None:
    assert has_kernels(torch.device("cuda"), hidden, directions), caplog.text


def test_the_output_of_an_utterance_does_not_depend_on_its_batch() -> None:
    config = settings("model.hidden=24")
    model = AcousticModel(config.model, feature_dim(config.features), 40).eval().cuda()
    lengths = torch.tensor([57, 1, 110, 8]).cuda()
    features = torch.randn(4, 113, 40).cuda()
    for row, length in enumerate(lengths):
        features[row, length:] = 0
    with torch.inference_mode():
        together, out_lengths = model(features, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone, own = model(features[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(together[row, : out_lengths[row]], alone[0, : own[0]], atol=1e-4, rtol=0)


def test_losses_are_those_of_the_cpu() -> None:
    log_probs = torch.randn(3, 40, 20).log_softmax(2)
    lengths, token_lengths = torch.tensor([40, 25, 3]), torch.tensor([10, 8, 2])
    tokens, posteriors = torch.randint(1, 20, (3, 10)), torch.randn(3, 40, 20).softmax(2)
    on_cpu = distillation_loss(log_probs, posteriors, lengths)
    on_cuda = distillation_loss(log_probs.cuda(), posteriors.cuda(), lengths.cuda())
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, atol=1e-3, rtol=1e-4)
    # Paths are drawn from other generators: compare the means of many.
    on_cpu = expected_error_loss(log_probs, lengths, tokens, token_lengths, 4000)
    on_cuda = expected_error_loss(log_probs.cuda(), lengths.cuda(), tokens.cuda(), token_lengths.cuda(), 4000)
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, atol=0.15, rtol=0)


TRAININGS = {
    "default": (),
    "moving average": ("trainer.average=ema",),
    "a teacher, two views": (
        "trainer.teachers=[speechocean762-small]",
        "trainer.consistency=0.2",
        "model.time_reduction=4",
    ),
    "expected errors": ("trainer.expected_errors=0.7",),
}


@pytest.mark.parametrize("overrides", TRAININGS.values(), ids=list(TRAININGS))
def test_the_same_training_gives_the_same_weights(
    tone_corpus: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    chosen = (*overrides, "trainer.device=cuda", "trainer.precision=bfloat16", "trainer.epochs=4", "model.dropout=0.2")
    whole = run(tone_corpus, tmp_path / "whole", *chosen)
    killed_after_two_epochs(tone_corpus, tmp_path / "parts", *chosen)
    parts = run(tone_corpus, tmp_path / "parts", *chosen, "resume=true")
    expected = load_file(whole / "model.safetensors")
    for name, tensor in load_file(parts / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)


def test_training_is_that_of_the_cpu(tone_corpus: Path, tmp_path: Path) -> None:
    losses = [
        losses_of(run(tone_corpus, tmp_path / device, f"trainer.device={device}", "trainer.precision=float32"))
        for device in ("cpu", "cuda")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_on_another_device(tone_corpus: Path, tmp_path: Path, first: str, second: str) -> None:
    common = ("trainer.precision=float32", "trainer.epochs=3")
    killed_after_two_epochs(tone_corpus, tmp_path / "run", *common, f"trainer.device={first}")
    model = run(tone_corpus, tmp_path / "run", *common, f"trainer.device={second}", "resume=true")
    whole = run(tone_corpus, tmp_path / "whole", *common, f"trainer.device={first}")
    assert losses_of(model) == pytest.approx(losses_of(whole), rel=1e-3)


@pytest.mark.parametrize("name", ["english", "speechocean762-small", "streaming"])
def test_a_bundled_model_recognizes_the_same(tone_corpus: Path, name: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        bundle = load(name, device, "float32").bundle
        found.append(recognize(bundle, load_dataset(bundle, tone_corpus / "cuts_test.jsonl.gz")))
    assert found[0] == found[1]


def asr(*arguments: str | Path, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command, in one process or by another launcher."""
    command = [sys.executable, *(launcher or ("-m", "asr")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_commands_take_the_device(tone_corpus: Path, tmp_path: Path) -> None:
    cuts = tone_corpus / "cuts_test.jsonl.gz"
    for command in (("evaluate", "english", cuts), ("transcribe", cuts, "--out")):
        outputs = []
        for device in ("cpu", "cuda"):
            out = (tmp_path / f"{command[0]}-{device}",) if command[-1] == "--out" else ()
            done = asr(*command, *out, "--device", device, "--precision", "float32")
            assert done.returncode == 0, done.stderr
            outputs.append([path.read_bytes() for path in sorted(out[0].glob("*.txt"))] if out else done.stdout)
        assert outputs[0]
        assert outputs[0] == outputs[1]
    missing = asr("evaluate", "english", cuts, "--device", f"cuda:{torch.cuda.device_count()}")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1


def test_torchrun_trains_on_it(tone_corpus: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", "-m", "asr")
    overrides = ("model.hidden=16", "model.layers=1", "trainer.epochs=2", "trainer.trackers=[]", "trainer.device=cuda")
    settings_ = ("experiment=speechocean762", f"corpus.dir={tone_corpus}", f"run_dir={tmp_path / 'run'}", *overrides)
    done = asr("train", *settings_, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
