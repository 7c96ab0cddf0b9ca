"""A model as one ONNX file, for runtimes without Python or torch.

Inputs and outputs, batch and lengths of any size; what the file gives of an utterance does not depend on its neighbours:

    samples (batch, samples) float32 in [-1, 1], num_samples (batch,) int64       of one frame at least
      or features (batch, frames, dim) float32 not normalized, num_frames (batch,) int64
    log_probs (batch, frames', symbols) float32, natural log, and num_outputs (batch,) int64

The file's own metadata say what else it takes to use it: the phones in the order of the symbols, the blank first, the
sample rate, and the time from one output frame to the next.
"""

import tempfile
from pathlib import Path

import onnx
from onnx import helper

from asr.errors import InputError
from asr.export.onnx_features import features, normalized
from asr.export.onnx_graph import Graph, Port
from asr.export.onnx_model import log_probs
from asr.features.filterbanks import feature_dim
from asr.inference.bundle import Bundle
from asr.system.files import write_bytes

LARGEST_BYTES = 2**31 - 1
"""Of one ONNX file."""

PREPARED = "onnx.quant.pre_process"
"""The mark of a graph that need not be simplified before its weights get 8 bits."""


def onnx_model(bundle: Bundle, from_samples: bool = True) -> onnx.ModelProto:
    """The model, from samples or from features, in float32."""
    g, config = Graph(), bundle.features
    if from_samples:
        inputs = [Port("samples", "float32", ("batch", "samples")), Port("num_samples", "int64", ("batch",))]
        rows, lengths = features(g, inputs[0].name, inputs[1].name, config)
    else:
        shape = ("batch", "frames", feature_dim(config))
        inputs = [Port("features", "float32", shape), Port("num_frames", "int64", ("batch",))]
        rows, lengths = inputs[0].name, inputs[1].name
    rows = normalized(g, rows, lengths, config, bundle.statistics.get(""))
    found, out_lengths = log_probs(g, bundle.model, rows, lengths)
    outputs = {
        Port("log_probs", "float32", ("batch", "outputs", len(bundle.inventory.symbols))): found,
        Port("num_outputs", "int64", ("batch",)): out_lengths,
    }
    facts = {
        "phones": " ".join(bundle.inventory.symbols),
        "sample_rate_hz": str(config.sample_rate_hz),
        "output_shift_ms": f"{config.frame_shift_ms * bundle.model.time_reduction:g}",
    }
    return g.model(inputs, outputs, facts)


def export_onnx(bundle: Bundle, path: Path, from_samples: bool = True, int8: bool = False) -> int:
    """Write the model; its size in bytes. With ``int8`` recurrent and output weights have 8 bits.

    Raises:
        InputError: the file cannot be written.
    """
    model = onnx_model(bundle, from_samples)
    content = (_quantized(model) if int8 else model).SerializeToString()
    if len(content) > LARGEST_BYTES:
        raise InputError(f"{path}: {len(content)} bytes, expected at most {LARGEST_BYTES} in an ONNX file")
    write_bytes(path, content)
    return len(content)


def facts_of(model: onnx.ModelProto) -> dict[str, str]:
    """The model's metadata."""
    return {one.key: one.value for one in model.metadata_props}


def _quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of 8 bits, activations quantized as they come; the front end, whose range is too wide, is left as it is."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    helper.set_model_props(model, {**facts_of(model), PREPARED: "onnxruntime.quant"})
    recurrent = next(number for number, node in enumerate(model.graph.node) if node.op_type in ("LSTM", "GRU"))
    names = [node.name for node in model.graph.node[recurrent:] if node.op_type in ("LSTM", "MatMul")]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("float32.onnx", "int8.onnx")]
        onnx.save(model, paths[0])
        quantize_dynamic(*paths, nodes_to_quantize=names, weight_type=QuantType.QInt8)
        return onnx.load(paths[1])
