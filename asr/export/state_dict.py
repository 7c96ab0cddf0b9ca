"""The state dict of a plain torch model (an LSTM or GRU stack and a linear layer) -> a bundle.

Shapes tell which tensor is which: a recurrent weight is (gates * hidden, hidden), an input weight has as many rows, and
the linear layer has a row for each symbol. Layers and directions follow the natural order of the names (2 before 10,
forward before reverse). If shapes are ambiguous, as the input and recurrent weights of a unidirectional stack are, "ih"
and "hh" in the names decide; torch's own names have them.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from asr.config import ModelConfig, TrainConfig
from asr.corpus.notation import detect
from asr.corpus.phones import BLANK, INVENTORIES, PhoneInventory, inventory
from asr.errors import InputError
from asr.features.filterbanks import feature_dim
from asr.features.normalization import NEEDS_STATISTICS
from asr.inference.bundle import Bundle, build_model
from asr.inference.weights import read_tensors
from asr.nn.lstm import GATES
from asr.system.files import read_text

WeightMapping = list[tuple[str, str, tuple[int, ...]]]
"""Our name, the file's name, and the shape of each weight."""


@dataclass
class RecurrentNames:
    """The names of a recurrent stack's tensors, one per layer and direction. Empty lists if there are no biases."""

    cell: str
    hidden: int
    directions: int
    weight_ih: list[str]
    weight_hh: list[str]
    bias_ih: list[str]
    bias_hh: list[str]


def import_state_dict(path: Path, config: TrainConfig, phones_file: Path | None) -> tuple[Bundle, WeightMapping]:
    """Build a bundle with the weights of a safetensors file. Also returns which weight became which.

    ``config`` gives the features and the inventory. ``phones_file`` has one symbol per line in the order of the model's
    outputs, the blank as ``<blank>``. Without it, the outputs are those of the inventory, the blank first.

    Raises:
        InputError: not readable, or not such a model; it names the tensors that do not fit. Or a pretrained encoder is set.
    """
    _refuse_settings(config)
    tensors = {name: tensor.float() for name, tensor in read_tensors(path).items()}
    phones, order = output_symbols(config.corpus.inventory, phones_file, Path(config.corpus.dir))
    linear_weight, linear_bias = _find_linear(path, tensors, len(order))
    names = _find_recurrent(path, tensors, {linear_weight, linear_bias}, tensors[linear_weight].shape[1])
    width, dim = tensors[names.weight_ih[0]].shape[1], feature_dim(config.features)
    if width % dim:
        raise InputError(
            f"{path}: {names.weight_ih[0]} takes {width} values a frame, expected a multiple of the features' {dim}"
        )
    model_config = _model_config(config.model, names, width // dim)
    model = build_model(model_config, config.features, phones).eval()
    sources = {"output.weight": linear_weight, "output.bias": linear_bias} | _sources(names)
    weights = {
        ours: tensors[theirs] if theirs else torch.zeros(model.state_dict()[ours].shape)
        for ours, theirs in sources.items()
    }
    for key in ("output.weight", "output.bias"):
        weights[key] = weights[key][order]
    model.load_state_dict(weights)
    bundle = Bundle(model, model_config, config.features, phones, config.corpus.convention)
    return bundle, [(ours, theirs or "zeros", tuple(weights[ours].shape)) for ours, theirs in sources.items()]


def _refuse_settings(config: TrainConfig) -> None:
    """A plain torch model has no encoder and no statistics: the layers of the file take the features themselves."""
    checkpoint, features = config.encoder.checkpoint, config.features.name
    if checkpoint or features == "pretrained":
        found = f"features are {features} and encoder.checkpoint is {checkpoint or 'empty'}"
        raise InputError(f"configuration: {found}, expected a model to import without a pretrained encoder")
    if config.features.normalization in NEEDS_STATISTICS:
        needs = f"features.normalization is {config.features.normalization}, which needs statistics of a training set"
        raise InputError(f"configuration: {needs}, expected utterance, speaker or none")


def imported_model_card(path: Path, mapping: WeightMapping) -> str:
    """The README of an imported model."""
    rows = "\n".join(f"| {ours} | {theirs} | {list(shape)} |" for ours, theirs, shape in mapping)
    return f"""# {path.stem}

Imported from the weights of another program ({path.name}). Its training data and error rate are unknown:
`asr evaluate` measures the latter.

| weight | imported from | shape |
|---|---|---|
{rows}
"""


def output_symbols(name: str, file: Path | None, folder: Path = Path()) -> tuple[PhoneInventory, list[int]]:
    """Find the inventory, and the model output of each of its symbols, the blank first.

    ``name`` and ``folder`` are as `asr.corpus.phones.inventory` takes them. A table without ``file`` is in sorted order.

    Raises:
        InputError: the file does not have the blank and every phone once, in any order; or the table cannot be used.
    """
    if file is None:
        known = inventory(name, folder)
        return known, list(range(len(known.symbols)))
    symbols = unicodedata.normalize("NFC", read_text(file, "one symbol per line")).split()
    if symbols.count(BLANK) != 1 or len(set(symbols)) != len(symbols):
        raise InputError(
            f"{file}: {len(symbols)} symbols, {symbols.count(BLANK)} of them {BLANK}, expected it and each phone once"
        )
    tables = [name] if name not in INVENTORIES and (folder / name).is_file() else []
    for candidate in (inventory(one, folder) for one in (*INVENTORIES, *tables)):
        if set(candidate.symbols) == set(symbols):
            return candidate, [symbols.index(symbol) for symbol in candidate.symbols]
    ordered = (BLANK, *(symbol for symbol in symbols if symbol != BLANK))
    own = PhoneInventory(file.name, ordered, {phone: phone for phone in ordered[1:]}, detect(ordered[1:]))
    return own, [symbols.index(symbol) for symbol in ordered]


def _find_linear(path: Path, tensors: Mapping[str, Tensor], symbols: int) -> tuple[str, str]:
    """Find the output layer's weight and bias, the only tensors with a row for each symbol."""
    weights = [name for name, tensor in tensors.items() if tensor.ndim == 2 and len(tensor) == symbols]
    biases = [name for name, tensor in tensors.items() if tensor.ndim == 1 and len(tensor) == symbols]
    if len(weights) != 1 or len(biases) > 1:
        shapes = "; ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise InputError(
            f"{path}: {len(weights)} matrices with {symbols} rows, expected one, a row for each symbol: {shapes}"
        )
    return weights[0], biases[0] if biases else ""


def _find_recurrent(path: Path, tensors: Mapping[str, Tensor], taken: set[str], width: int) -> RecurrentNames:
    """Find the recurrent stack, whose output has ``width`` values, in the tensors that are not taken."""
    rest = sorted((name for name in tensors if name not in taken), key=_natural_order)
    matrices = [name for name in rest if tensors[name].ndim == 2]
    vectors = [name for name in rest if tensors[name].ndim == 1]
    rows = {len(tensors[name]) for name in rest}
    for cell, gates in GATES.items():
        for directions in (1, 2):
            hidden = width // directions
            if rows != {gates * hidden} or width % directions or len(matrices) + len(vectors) != len(rest):
                continue
            weight_ih, weight_hh = _split_weights(matrices, [tensors[name].shape[1] == hidden for name in matrices])
            if len(weight_ih) != len(weight_hh) or len(weight_ih) % directions or not weight_ih:
                continue
            biases = _split_biases(vectors, len(weight_ih))
            names = RecurrentNames(cell, hidden, directions, weight_ih, weight_hh, *biases)
            if _fits(names, tensors, len(vectors)):
                return names
    shapes = "; ".join(f"{name} {list(tensors[name].shape)}" for name in rest)
    wanted = "an LSTM or GRU stack with weights of all layers and directions, told apart by ih and hh in their names"
    raise InputError(f"{path}: {shapes or 'nothing'} beside a linear layer of {width} inputs, expected {wanted}")


def _split_weights(names: Sequence[str], square: Sequence[bool]) -> tuple[list[str], list[str]]:
    """Separate input and recurrent weights by name, or by shape if a name does not tell."""
    kinds = [_kind(name) for name in names]
    weight_ih = [
        name
        for name, kind, is_square in zip(names, kinds, square, strict=True)
        if kind == "ih" or not (kind or is_square)
    ]
    return weight_ih, [name for name in names if name not in weight_ih]


def _split_biases(names: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """Separate input and recurrent biases by name. With only one per layer and direction, it is the input's."""
    if len(names) == count:
        return list(names), []
    return [name for name in names if _kind(name) == "ih"], [name for name in names if _kind(name) == "hh"]


def _fits(names: RecurrentNames, tensors: Mapping[str, Tensor], vectors: int) -> bool:
    """Whether every layer takes the output of the one before, and no bias is missing or left over."""
    count, width = len(names.weight_ih), names.directions * names.hidden
    input_sizes = [tensors[name].shape[1] for name in names.weight_ih]
    first, rest = input_sizes[: names.directions], input_sizes[names.directions :]
    chain = len(set(first)) == 1 and all(size == width for size in rest)
    square = all(tensors[name].shape[1] == names.hidden for name in names.weight_hh)
    biases = len(names.bias_ih) in (0, count) and len(names.bias_hh) in (0, count)
    return chain and square and biases and len(names.bias_ih) + len(names.bias_hh) == vectors


def _kind(name: str) -> str:
    """The kind of a weight or bias by its name: "ih", "hh" or "" if unknown."""
    words = re.split("[^a-z]+", name.lower())
    return next((word for word in ("ih", "hh") if word in words), "")


def _natural_order(name: str) -> tuple[list[tuple[int, str]], bool]:
    """A sort key: numbers by value, and of two directions the backward one last."""
    neutral = re.sub("(forward|fwd?|reverse|backward|bwd?)(?![a-z])", "", name.lower())
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", neutral)]
    return parts, bool(re.search("(reverse|backward|bwd?)(?![a-z])", name.lower()))


def _model_config(config: ModelConfig, names: RecurrentNames, time_reduction: int) -> ModelConfig:
    """The settings of a plain stack of this size."""
    return replace(
        config,
        name=f"imported_{names.cell}",
        convolution_channels=[],
        time_reduction=time_reduction,
        cell=names.cell,
        bidirectional=names.directions == 2,
        layers=len(names.weight_ih) // names.directions,
        hidden=names.hidden,
        projection=0,
        layer_norm=False,
        attention_layers=0,
    )


def _sources(names: RecurrentNames) -> dict[str, str]:
    """Our name of each recurrent weight -> the file's name, "" for missing biases."""
    sources = {}
    for index in range(len(names.weight_ih)):
        layer, direction = divmod(index, names.directions)
        suffix = f"l{layer}{'_reverse' if direction else ''}"
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            theirs = getattr(names, kind)
            sources[f"recurrent.{kind}_{suffix}"] = theirs[index] if theirs else ""
    return sources
