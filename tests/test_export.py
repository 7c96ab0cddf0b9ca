"""Exported models agree with torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.cli import models as commands
from asr.config import TrainConfig
from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from asr.corpus.phones import inventory
from asr.errors import InputError
from asr.features.filterbanks import extract, feature_dim
from asr.features.normalization import STD_FLOOR, FeatureStatistics, normalize
from asr.inference.bundle import Bundle, build_model
from asr.inference.catalog import find_model
from tests.conftest import settings

onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime: exports are not tested")
SMALL = ("model.hidden=12", "model.layers=2")
LENGTHS = (400, 16000, 5600, 560, 9999)
EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx_transcribe.py"


def new_bundle(config: TrainConfig) -> Bundle:
    phones = inventory("arpabet39")
    model = build_model(config.model, config.features, phones).eval()
    for parameter in model.parameters():  # small enough that no layer saturates, large enough that every layer matters
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    dim = feature_dim(config.features)
    statistics = {}
    if config.features.normalization == "global":
        statistics[""] = FeatureStatistics(torch.randn(dim) + 10, torch.rand(dim) + 1)
    return Bundle(model, config.model, config.features, phones, "plain", statistics)


def run(content: bytes, **inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(content)
    log_probs, lengths = session.run(["log_probs", "num_outputs"], inputs)
    return log_probs, lengths


def padded(sequences: list[np.ndarray], fill: float = 0.0) -> np.ndarray:
    whole = np.full((len(sequences), max(map(len, sequences)), *sequences[0].shape[1:]), fill, np.float32)
    for row, sequence in zip(whole, sequences, strict=True):
        row[: len(sequence)] = sequence
    return whole


def alone(bundle: Bundle, features: torch.Tensor) -> np.ndarray:
    """Torch's log-probabilities of one utterance's features."""
    normalized = normalize(features, bundle.features, "", bundle.statistics)
    with torch.no_grad():
        return bundle.log_probs(normalized[None], torch.tensor([len(normalized)]))[0][0].numpy()


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=cnn_blstm",),
        ("model=cnn_blstm", "model.time_reduction=4", "model.convolution_channels=[4,4]"),
        ("model=blstm", "model.time_reduction=3"),
        ("model=lstm", "features=mfcc"),
        ("model=blstm", "features.padding_ms=130"),
        ("model=gru", "model.layer_norm=true", "model.projection=10", "features=fbank_delta"),
        ("model=cnn_blstm_attention", "model.attention_heads=2", "features.energy=true"),
        ("model=blstm", "features=librosa_mel"),
        ("model=blstm", "features=librosa_mel", "features.energy=true", "features.normalization=global"),
        ("model=blstm", "features.normalization=global", "features.high_hz=7000"),
        ("model=blstm", "features.normalization=none", "model.initial_uniform=0.01"),
        ("model=blstm", "features.normalization=speaker", "features.sample_rate_hz=8000", "features.bins=23"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("from_samples", [True, False], ids=["samples", "features"])
def test_every_structure_agrees_with_torch(overrides: tuple[str, ...], from_samples: bool) -> None:
    from asr.export.onnx import onnx_model

    bundle = new_bundle(settings(*SMALL, *overrides))
    noise = np.random.default_rng(1)
    signals = [(0.1 * noise.standard_normal(n) + 0.02).astype(np.float32) for n in LENGTHS]
    signals[1][:5000], signals[2][:] = 0.02, 0.0  # digital silence, partial and throughout
    features = [extract(signal, bundle.features) for signal in signals]
    content = onnx_model(bundle, from_samples).SerializeToString()
    if from_samples:
        found, lengths = run(content, samples=padded(signals, 0.5), num_samples=np.array(LENGTHS))
    else:
        arrays = [utterance.numpy() for utterance in features]
        counts = np.array([len(array) for array in arrays])
        found, lengths = run(content, features=padded(arrays, 7.0), num_frames=counts)
    for log_probs, length, utterance in zip(found, lengths, features, strict=True):
        expected = alone(bundle, utterance)
        assert length == len(expected)
        # In digital silence features differ by rounding alone, which normalization multiplies by 1 / STD_FLOOR.
        constant = len(utterance) > 2 and float(utterance.std(dim=0).max()) < STD_FLOOR
        np.testing.assert_allclose(log_probs[:length], expected, atol=1e-3 if constant else 1e-4)


def test_real_speech_without_torch(tmp_path: Path, real_utterances: list[Utterance]) -> None:
    recognizer = asr.load("speechocean762-small", precision="float32")
    signals = [read_audio(utterance.audio_path) for utterance in real_utterances]
    features = [extract(signal, recognizer.bundle.features).numpy() for signal in signals]
    np.savez(tmp_path / "features.npz", *features)
    np.savez(tmp_path / "samples.npz", *signals)
    program = f"""
import sys
sys.modules["torch"] = None
import numpy as np, onnxruntime
for kind, count in (("samples", "num_samples"), ("features", "num_frames")):
    given = list(np.load({str(tmp_path)!r} + f"/{{kind}}.npz").values())
    whole = np.zeros((len(given), max(map(len, given)), *given[0].shape[1:]), np.float32)
    for row, sequence in zip(whole, given):
        row[: len(sequence)] = sequence
    session = onnxruntime.InferenceSession({str(tmp_path)!r} + f"/{{kind}}.onnx")
    found, lengths = session.run(None, {{kind: whole, count: np.array([len(sequence) for sequence in given])}})
    np.savez({str(tmp_path)!r} + f"/{{kind}}_found.npz", *(log_probs[:length] for log_probs, length in zip(found, lengths)))
"""
    model = find_model("speechocean762-small")
    commands.export(model, tmp_path / "samples.onnx")
    commands.export(model, tmp_path / "features.onnx", features=False)
    subprocess.run([sys.executable, "-c", program], check=True)
    from_samples, from_features = (np.load(tmp_path / f"{kind}_found.npz") for kind in ("samples", "features"))
    for index, signal in enumerate(signals):
        expected = recognizer.log_probs(signal, 16000)
        np.testing.assert_allclose(from_features[f"arr_{index}"], expected, atol=1e-4)
        # Features from samples are rounded differently than torch's (neither is closer to float64). Layers amplify that.
        np.testing.assert_allclose(np.exp(from_samples[f"arr_{index}"]), np.exp(expected), atol=1e-4)
        np.testing.assert_allclose(from_samples[f"arr_{index}"], expected, atol=1e-3)
        assert (from_samples[f"arr_{index}"].argmax(axis=1) == expected.argmax(axis=1)).all()


def test_eight_bits_are_smaller_and_near(tmp_path: Path, real_utterances: list[Utterance]) -> None:
    model = find_model("speechocean762-small")
    for precision in commands.Weights:
        commands.export(model, tmp_path / precision.value, precision=precision)
    float32, int8 = ((tmp_path / precision.value).read_bytes() for precision in commands.Weights)
    assert len(int8) < 0.4 * len(float32)
    signals = [read_audio(utterance.audio_path) for utterance in real_utterances]
    inputs = {"samples": padded(signals), "num_samples": np.array([len(signal) for signal in signals])}
    (exact, lengths), (quantized, _) = run(float32, **inputs), run(int8, **inputs)
    inside = np.arange(exact.shape[1]) < lengths[:, None]
    same = (exact.argmax(axis=2) == quantized.argmax(axis=2))[inside]
    assert same.mean() > 0.98
    assert (exact != quantized).any()


def test_the_example_says_what_the_command_says(tmp_path: Path, real_utterances: list[Utterance]) -> None:
    samples = read_audio(real_utterances[20].audio_path)
    stereo = np.stack([samples, samples], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16000, subtype="PCM_16")
    commands.export(find_model("speechocean762-small"), tmp_path / "phones.onnx")
    blocked = f"import runpy, sys; sys.modules['torch'] = None; sys.argv[0] = {str(EXAMPLE)!r}; " + (
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    call = [sys.executable, "-c", blocked, str(tmp_path / "phones.onnx"), str(tmp_path / "a.wav")]
    lines = subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()
    expected = asr.load("speechocean762-small", precision="float32").transcribe(tmp_path / "a.wav")
    assert [line.split()[1] for line in lines] == list(expected.symbols)
    for line, phone in zip(lines, expected.phones, strict=True):
        assert phone.start_s - 0.2 < float(line.split()[0]) < phone.end_s + 0.2


def test_what_cannot_be_exported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = find_model("speechocean762-small")
    with pytest.raises(InputError, match=r"nowhere/x.onnx: cannot be written"):
        commands.export(model, tmp_path / "nowhere" / "x.onnx")
    with pytest.raises(InputError, match="model: made for streams, expected one for whole recordings"):
        commands.export(find_model("streaming"), tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
    monkeypatch.delitem(sys.modules, "asr.export.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"onnx: not installed, expected it from `pip install 'asr-phones\[onnx\]'`"):
        commands.export(model, tmp_path / "x.onnx")


def test_metadata_say_how_to_use_the_file() -> None:
    from asr.export.onnx import metadata_of, onnx_model

    bundle = new_bundle(settings(*SMALL, "model=blstm", "model.time_reduction=3"))
    metadata = metadata_of(onnx_model(bundle))
    assert metadata["phones"].split() == list(bundle.inventory.symbols)
    assert (metadata["sample_rate_hz"], metadata["output_shift_ms"]) == ("16000", "30")
