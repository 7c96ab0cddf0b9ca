"""A bundle -> one ONNX file, for runtimes without Python or torch.

Batch and lengths may have any size. The output for an utterance does not depend on its neighbours in the batch; with 8-bit
weights it does a little, because the runtime also rounds activations to 8 bits, with one scale for the whole batch.

    samples (batch, samples) float32 in [-1, 1], num_samples (batch,) int64       at least one frame
      or features (batch, frames, dim) float32 not normalized, num_frames (batch,) int64
    -> log_probs (batch, frames', symbols) float32, natural log, and num_outputs (batch,) int64

The metadata of the file hold the phones in the order of the symbols, the blank first, the sample rate, the output shift,
and ``padding_ms``: the first output is so long before the recording. If the model has a Whisper encoder, ``max_frames`` is
the most feature frames of a batch, padding included (3000 are 30 s). The runtime refuses more, in an operator that has
this limit in its name.
"""

import tempfile
from pathlib import Path

import onnx
from onnx import helper

from asr.errors import InputError
from asr.export.onnx_features import add_features, add_normalization
from asr.export.onnx_graph import LINEAR, Graph, Port
from asr.export.onnx_model import add_acoustic_model
from asr.features.filterbanks import feature_dim
from asr.inference.bundle import Bundle
from asr.system.files import write_bytes

MAX_BYTES = 2**31 - 1
"""The limit of ONNX for one file."""

PREPROCESSED = "onnx.quant.pre_process"
"""Metadata key that tells onnxruntime's quantizer that the graph needs no simplification."""


def export_onnx(bundle: Bundle, path: Path, from_samples: bool = True, int8: bool = False) -> int:
    """Write the model and return the size of the file in bytes.

    ``int8`` gives the weights of LSTM, attention and linear layers 8 bits.

    Raises:
        InputError: the file cannot be written, or the encoder or a model for streams cannot be exported.
    """
    model = onnx_model(bundle, from_samples)
    content = (_quantize(model) if int8 else model).SerializeToString()
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: {len(content)} bytes, expected at most {MAX_BYTES} in an ONNX file")
    write_bytes(path, content)
    return len(content)


def onnx_model(bundle: Bundle, from_samples: bool = True) -> onnx.ModelProto:
    """Build the ONNX model, from samples or from features, in float32.

    Raises:
        InputError: the encoder or a model for streams cannot be exported.
    """
    if bundle.model_config.chunk_frames or bundle.features.normalization == "running":
        raise InputError("model: made for streams, expected one for whole recordings in an ONNX file")
    g, config = Graph(), bundle.features
    if from_samples:
        inputs = [Port("samples", "float32", ("batch", "samples")), Port("num_samples", "int64", ("batch",))]
        features, lengths = add_features(g, inputs[0].name, inputs[1].name, config)
    else:
        shape = ("batch", "frames", feature_dim(config))
        inputs = [Port("features", "float32", shape), Port("num_frames", "int64", ("batch",))]
        features, lengths = inputs[0].name, inputs[1].name
    features = add_normalization(g, features, lengths, config, bundle.statistics.get(""))
    log_probs, out_lengths = add_acoustic_model(g, bundle.model, features, lengths)
    outputs = {
        Port("log_probs", "float32", ("batch", "outputs", len(bundle.inventory.symbols))): log_probs,
        Port("num_outputs", "int64", ("batch",)): out_lengths,
    }
    metadata = {
        "phones": " ".join(bundle.inventory.symbols),
        "sample_rate_hz": str(config.sample_rate_hz),
        "output_shift_ms": f"{config.frame_shift_ms * bundle.model.time_reduction:g}",
        "padding_ms": f"{config.padding_ms:g}",
    }
    if bundle.model.max_frames:
        metadata["max_frames"] = str(bundle.model.max_frames)
    return g.model(inputs, outputs, metadata)


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """The model's metadata."""
    return {entry.key: entry.value for entry in model.metadata_props}


def _quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantize weights to 8 bits, activations dynamically. Feature extraction stays float32: its range is too wide."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    helper.set_model_props(model, {**metadata_of(model), PREPROCESSED: "onnxruntime.quant"})
    names = [node.name for node in model.graph.node if node.op_type == "LSTM" or node.name.startswith(LINEAR)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("float32.onnx", "int8.onnx")]
        onnx.save(model, paths[0])
        quantize_dynamic(*paths, nodes_to_quantize=names, weight_type=QuantType.QInt8, per_channel=True)
        return onnx.load(paths[1])
