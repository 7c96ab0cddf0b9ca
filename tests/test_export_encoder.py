"""Exported models with a pretrained encoder agree with torch, from samples and from features, in padded batches."""

from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr.cli import models as commands
from asr.corpus.phones import inventory
from asr.errors import InputError
from asr.features.filterbanks import extract
from asr.features.normalization import normalize
from asr.inference.bundle import Bundle, build_model, save_bundle
from asr.nn.pretrained_encoder import EncoderSpec, input_features
from tests.conftest import settings
from tests.test_export import SMALL, alone, padded, run

onnx = pytest.importorskip("onnx", reason="no onnx: exports are not tested")
onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime: exports are not tested")
needs_transformers = pytest.mark.skipif(
    util.find_spec("transformers") is None, reason="transformers is not installed: no export of waveform encoders"
)

WHISPER = {
    "model_type": "whisper",
    "d_model": 32,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "encoder_layers": 2,
    "max_source_positions": 100,
    "num_mel_bins": 20,
}
WAVEFORM = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_buckets": 16,  # of WavLM, whose bias is constant from a distance of 20 frames on
    "max_bucket_distance": 20,
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
"""The variant of the large models."""
FAMILIES: dict[str, dict[str, Any]] = {
    "wav2vec2": {"model_type": "wav2vec2", **WAVEFORM},
    "xls-r": {"model_type": "wav2vec2", **WAVEFORM, **STABLE},
    "hubert": {"model_type": "hubert", **WAVEFORM, "num_conv_pos_embeddings": 15, "feat_proj_layer_norm": False},
    "wavlm": {"model_type": "wavlm", **WAVEFORM},
    "wavlm-large": {"model_type": "wavlm", **WAVEFORM, **STABLE},
}
FRAMES = (101, 1, 30, 77, 2)
"""Lengths of the utterances in frames of Whisper, odd and even."""
LENGTHS = tuple(400 + 160 * (frames - 1) + spare for frames, spare in zip(FRAMES, (0, 159, 80, 3, 0), strict=True))


def new_bundle(
    architecture: Mapping[str, Any], *overrides: str, trained_layers: int = 0, mix_layers: bool = False
) -> Bundle:
    config, phones = settings(*SMALL, *overrides), inventory("arpabet39")
    encoder, features = EncoderSpec(architecture, trained_layers, mix_layers), input_features(architecture)
    model = build_model(config.model, features, phones, encoder).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name:  # larger than usual, so that every part matters
            torch.nn.init.normal_(parameter, std=0.2)
    return Bundle(model, config.model, features, phones, "plain", encoder=encoder)


def make_signals() -> list[np.ndarray]:
    """Noise of different loudness, the third very quiet in its second half: Whisper raises that half to its limit."""
    noise = np.random.default_rng(1)
    signals = [noise.standard_normal(length) * 0.3**index for index, length in enumerate(LENGTHS)]
    signals[2][len(signals[2]) // 2 :] *= 1e-5
    return [signal.astype(np.float32) + np.float32(0.02 * index) for index, signal in enumerate(signals)]


def check_agreement(bundle: Bundle, from_samples: bool) -> None:
    """The export gives torch's output of each utterance alone, in a batch with other values than zero in its padding."""
    from asr.export.onnx import onnx_model

    signals = make_signals()
    features = [extract(signal, bundle.features) for signal in signals]
    content = onnx_model(bundle, from_samples).SerializeToString()
    if from_samples:
        found, lengths = run(content, samples=padded(signals, 0.9), num_samples=np.array(LENGTHS))
    else:
        arrays = [utterance.numpy() for utterance in features]
        counts = np.array([len(array) for array in arrays])
        found, lengths = run(content, features=padded(arrays, 7.0), num_frames=counts)
    for log_probs, length, utterance in zip(found, lengths, features, strict=True):
        expected = alone(bundle, utterance)
        assert length == len(expected)
        assert np.ptp(expected, axis=0).max() > 0.1 or length < 4  # the model depends on its input
        np.testing.assert_allclose(log_probs[:length], expected, atol=1e-3)


@pytest.mark.parametrize("from_samples", [True, False], ids=["samples", "features"])
@pytest.mark.parametrize(
    ("overrides", "spec"),
    [
        (("model=blstm",), {}),
        (("model=blstm", "model.time_reduction=3"), {"trained_layers": 1}),
        (("model=cnn_blstm", "model.convolution_channels=[4,4]"), {"mix_layers": True}),
        (("model=gru", "model.time_reduction=2"), {"trained_layers": -1, "mix_layers": True}),
    ],
    ids=["blstm", "reduction", "mixture", "whole"],
)
def test_whisper_agrees_with_torch(from_samples: bool, overrides: tuple[str, ...], spec: dict[str, Any]) -> None:
    check_agreement(new_bundle(WHISPER, *overrides, **spec), from_samples)


@needs_transformers
@pytest.mark.parametrize("from_samples", [True, False], ids=["samples", "features"])
@pytest.mark.parametrize("mix_layers", [False, True], ids=["last", "mixture"])
@pytest.mark.parametrize("family", FAMILIES)
def test_waveform_encoders_agree_with_torch(family: str, mix_layers: bool, from_samples: bool) -> None:
    check_agreement(new_bundle(FAMILIES[family], "model=blstm", mix_layers=mix_layers), from_samples)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2"])
def test_the_input_of_the_encoder_is_that_of_each_utterance(family: str) -> None:
    from asr.export.onnx_features import add_features, add_normalization
    from asr.export.onnx_graph import Graph, Port

    config, g = input_features(WHISPER if family == "whisper" else FAMILIES[family]), Graph()
    inputs = [Port("samples", "float32", ("batch", "samples")), Port("num_samples", "int64", ("batch",))]
    features, lengths = add_features(g, "samples", "num_samples", config)
    features = add_normalization(g, features, lengths, config, None)
    outputs = {
        Port("log_probs", "float32", ("batch", "n", "dim")): features,
        Port("num_outputs", "int64", ("b",)): lengths,
    }
    content = g.model(inputs, outputs, {}).SerializeToString()
    signals = make_signals()
    found, counts = run(content, samples=padded(signals, 0.9), num_samples=np.array(LENGTHS))
    raised = []
    for values, count, signal in zip(found, counts, signals, strict=True):
        expected = normalize(extract(signal, config), config).numpy()
        assert count == len(expected)
        np.testing.assert_allclose(values[:count], expected, atol=1e-4)
        assert not values[count:].any()
        raised.append((expected == expected.min()).sum())
    assert family != "whisper" or raised[2] > 100  # the limit of the range was at work


def test_metadata_name_the_most_frames_and_the_runtime_refuses_more() -> None:
    from asr.export.onnx import metadata_of, onnx_model

    bundle = new_bundle(WHISPER, "model=blstm", "model.time_reduction=2")
    model = onnx_model(bundle, from_samples=False)
    metadata = metadata_of(model)
    assert (metadata["max_frames"], metadata["output_shift_ms"]) == ("200", "40")
    content = model.SerializeToString()
    found, lengths = run(content, features=np.zeros((1, 200, 20), np.float32), num_frames=np.array([200]))
    assert (found.shape[1], lengths.tolist()) == (50, [50])
    with pytest.raises(Exception, match="takes_at_most_200_frames"):
        run(content, features=np.zeros((1, 201, 20), np.float32), num_frames=np.array([201]))


def test_eight_bits_include_the_linear_layers_of_the_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = new_bundle({**WHISPER, "d_model": 64, "encoder_ffn_dim": 256}, "model=blstm")
    save_bundle(bundle, tmp_path / "model", "# a card\n")
    for precision in commands.Weights:
        commands.export(tmp_path / "model", tmp_path / precision.value, precision=precision)
    full_size, size = ((tmp_path / precision.value).stat().st_size for precision in commands.Weights)
    assert f"int8: onnx, int8, {size:,} bytes, from samples" in capsys.readouterr().out
    nodes = onnx.load(tmp_path / "int8").graph.node
    kinds = [node.op_type for node in nodes]
    # In each of 2 layers: query, key and value as one, output, and the two of the network; and the model's output layer.
    assert kinds.count("MatMulInteger") == 2 * 4 + 1
    assert kinds.count("DynamicQuantizeLSTM") == 2
    assert kinds.count("MatMul") == 1 + 2 * 2  # the mel filters, and scores and mixtures of attention
    assert full_size - size > 3 * 2 * (4 * 64 * 64 + 2 * 64 * 256)  # three of four bytes of each of these weights
    signals = make_signals()
    inputs = {"samples": padded(signals), "num_samples": np.array(LENGTHS)}
    (exact, lengths), (rounded, _) = (run((tmp_path / name).read_bytes(), **inputs) for name in ("float32", "int8"))
    inside = np.arange(exact.shape[1]) < lengths[:, None]
    assert 0 < np.abs(exact - rounded)[inside].max() < 0.3


@needs_transformers
@pytest.mark.parametrize(
    ("family", "setting", "message"),
    [
        ("xls-r", {"adapter_attn_dim": 8}, "adapter_attn_dim is 8, expected None for an export"),
        ("hubert", {"hidden_act": "relu"}, "hidden_act is relu, expected gelu for an export"),
        ("hubert", {"conv_pos_batch_norm": True}, "conv_pos_batch_norm is True, expected False for an export"),
    ],
)
def test_what_has_no_export_is_named(family: str, setting: dict[str, Any], message: str) -> None:
    from asr.export.onnx import onnx_model

    bundle = new_bundle({**FAMILIES[family], **setting}, "model=blstm")
    with pytest.raises(InputError, match=message):
        onnx_model(bundle)
