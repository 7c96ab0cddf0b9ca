"""The state dict of a plain torch model, an LSTM or GRU stack and a linear layer, as a bundle.

Which tensor is which follows from the shapes: a recurrent weight has gates * hidden rows and hidden columns, an input
weight as many rows, the linear layer as many rows as there are symbols. Layers and directions come in the natural order of
the names (2 before 10, forward before reverse). Where shapes leave a choice, as with the input and the recurrent weights
of a stack of one direction, "ih" and "hh" in the names decide, which torch's own have.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from asr.config import TrainConfig
from asr.corpus.phones import BLANK, INVENTORIES, PhoneInventory, inventory
from asr.errors import InputError
from asr.features.filterbanks import feature_dim
from asr.inference.bundle import Bundle, build_model
from asr.inference.weights import read_tensors
from asr.nn.lstm import GATES
from asr.system.files import read_text

Mapped = list[tuple[str, str, tuple[int, ...]]]
"""Our name, theirs, and the shape."""


@dataclass
class Stack:
    """Names of a recurrent stack's tensors, a place for each layer and direction; no biases where there are none."""

    cell: str
    hidden: int
    directions: int
    into: list[str]
    across: list[str]
    bias_into: list[str]
    bias_across: list[str]


def import_state_dict(path: Path, config: TrainConfig, phones_file: Path | None) -> tuple[Bundle, Mapped]:
    """A bundle with the weights of a safetensors file, and which became what.

    ``config`` gives the front end and the inventory. ``phones_file`` has a symbol a line in the order of the model's
    outputs, the blank as ``<blank>``; without one they are the inventory's, the blank first.

    Raises:
        InputError: not readable, or not such a model; it names the tensors that do not fit.
    """
    tensors = {name: tensor.float() for name, tensor in read_tensors(path).items()}
    phones, order = output_symbols(config.corpus.inventory, phones_file)
    linear, linear_bias = _linear(path, tensors, len(order))
    stack = _stack(path, tensors, {linear, linear_bias}, tensors[linear].shape[1])
    width, dim = tensors[stack.into[0]].shape[1], feature_dim(config.features)
    if width % dim:
        raise InputError(
            f"{path}: {stack.into[0]} takes {width} values a frame, expected a multiple of the features' {dim}"
        )
    model_config = replace(
        config.model,
        name=f"imported_{stack.cell}",
        convolution_channels=[],
        time_reduction=width // dim,
        cell=stack.cell,
        bidirectional=stack.directions == 2,
        layers=len(stack.into) // stack.directions,
        hidden=stack.hidden,
        projection=0,
        layer_norm=False,
        attention_layers=0,
    )
    model = build_model(model_config, config.features, phones).eval()
    mapping = {"output.weight": linear, "output.bias": linear_bias} | _names(stack)
    weights = {
        ours: tensors[theirs] if theirs else torch.zeros(model.state_dict()[ours].shape)
        for ours, theirs in mapping.items()
    }
    for key in ("output.weight", "output.bias"):
        weights[key] = weights[key][order]
    model.load_state_dict(weights)
    bundle = Bundle(model, model_config, config.features, phones, config.corpus.convention)
    shown = [(ours, theirs or "zeros", tuple(weights[ours].shape)) for ours, theirs in mapping.items()]
    return bundle, shown


def card(path: Path, mapping: Mapped) -> str:
    """The README of an imported model."""
    rows = "\n".join(f"| {ours} | {theirs} | {list(shape)} |" for ours, theirs, shape in mapping)
    return f"""# {path.stem}

Imported from the weights of another program ({path.name}). Nothing is known here of its data and its error
rate: `asr evaluate` measures the latter.

| here | there | shape |
|---|---|---|
{rows}
"""


def output_symbols(name: str, file: Path | None) -> tuple[PhoneInventory, list[int]]:
    """An inventory, the blank first, and which output of the model each of its symbols is.

    Raises:
        InputError: the file does not have the blank and then every phone once, in any order.
    """
    known = inventory(name)
    if file is None:
        return known, list(range(len(known.symbols)))
    symbols = read_text(file, "a symbol a line").split()
    if symbols.count(BLANK) != 1 or len(set(symbols)) != len(symbols):
        raise InputError(
            f"{file}: {len(symbols)} symbols, {symbols.count(BLANK)} of them {BLANK}, expected it and each phone once"
        )
    for candidate in INVENTORIES:
        if set(inventory(candidate).symbols) == set(symbols):
            found = inventory(candidate)
            return found, [symbols.index(symbol) for symbol in found.symbols]
    ordered = (BLANK, *(symbol for symbol in symbols if symbol != BLANK))
    own = PhoneInventory(file.stem, ordered, {phone: phone for phone in ordered[1:]})
    return own, [symbols.index(symbol) for symbol in ordered]


def _linear(path: Path, tensors: Mapping[str, Tensor], symbols: int) -> tuple[str, str]:
    """The output layer's weight and bias: alone in having a row for each symbol."""
    weights = [name for name, tensor in tensors.items() if tensor.ndim == 2 and len(tensor) == symbols]
    biases = [name for name, tensor in tensors.items() if tensor.ndim == 1 and len(tensor) == symbols]
    if len(weights) != 1 or len(biases) > 1:
        shapes = "; ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise InputError(
            f"{path}: {len(weights)} matrices with {symbols} rows, expected one, a row for each symbol: {shapes}"
        )
    return weights[0], biases[0] if biases else ""


def _stack(path: Path, tensors: Mapping[str, Tensor], taken: set[str], width: int) -> Stack:
    """The recurrent stack in what is left, whose output has ``width`` values."""
    left = sorted((name for name in tensors if name not in taken), key=_place)
    matrices = [name for name in left if tensors[name].ndim == 2]
    vectors = [name for name in left if tensors[name].ndim == 1]
    rows = {len(tensors[name]) for name in left}
    for cell, gates in GATES.items():
        for directions in (1, 2):
            hidden = width // directions
            if rows != {gates * hidden} or width % directions or len(matrices) + len(vectors) != len(left):
                continue
            into, across = _split(matrices, [tensors[name].shape[1] == hidden for name in matrices])
            if len(into) != len(across) or len(into) % directions or not into:
                continue
            bias_into, bias_across = _split_biases(vectors, len(into))
            found = Stack(cell, hidden, directions, into, across, bias_into, bias_across)
            if _fits(found, tensors, len(vectors)):
                return found
    shapes = "; ".join(f"{name} {list(tensors[name].shape)}" for name in left)
    wanted = "an LSTM or GRU stack with weights of all layers and directions, told apart by ih and hh in their names"
    raise InputError(f"{path}: {shapes or 'nothing'} beside a linear layer of {width} inputs, expected {wanted}")


def _split(names: Sequence[str], square: Sequence[bool]) -> tuple[list[str], list[str]]:
    """Input and recurrent weights: by name, or by shape where a name says nothing."""
    said = [_said(name) for name in names]
    into = [name for name, kind, maybe in zip(names, said, square, strict=True) if kind == "ih" or not (kind or maybe)]
    return into, [name for name in names if name not in into]


def _split_biases(names: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """Input and recurrent biases by name; where there is one for each place, it is the input's."""
    if len(names) == count:
        return list(names), []
    return [name for name in names if _said(name) == "ih"], [name for name in names if _said(name) == "hh"]


def _fits(stack: Stack, tensors: Mapping[str, Tensor], vectors: int) -> bool:
    """Whether every layer takes what the one before gives, and no bias is missing or left."""
    places, width = len(stack.into), stack.directions * stack.hidden
    wide = [tensors[name].shape[1] for name in stack.into]
    first, rest = wide[: stack.directions], wide[stack.directions :]
    chain = len(set(first)) == 1 and all(one == width for one in rest)
    square = all(tensors[name].shape[1] == stack.hidden for name in stack.across)
    biases = len(stack.bias_into) in (0, places) and len(stack.bias_across) in (0, places)
    return chain and square and biases and len(stack.bias_into) + len(stack.bias_across) == vectors


def _said(name: str) -> str:
    """What a name says of a weight or bias: "ih", "hh" or nothing."""
    words = re.split("[^a-z]+", name.lower())
    return next((word for word in ("ih", "hh") if word in words), "")


def _place(name: str) -> tuple[list[tuple[int, str]], bool]:
    """What names are sorted by: numbers as such, and of two directions the backward one last."""
    neutral = re.sub("(forward|fwd?|reverse|backward|bwd?)(?![a-z])", "", name.lower())
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", neutral)]
    return parts, bool(re.search("(reverse|backward|bwd?)(?![a-z])", name.lower()))


def _names(stack: Stack) -> dict[str, str]:
    """Our names of the stack -> theirs, "" for biases that are not there."""
    found = {}
    for place in range(len(stack.into)):
        layer, direction = divmod(place, stack.directions)
        suffix = f"l{layer}{'_reverse' if direction else ''}"
        lists = {
            "weight_ih": stack.into,
            "weight_hh": stack.across,
            "bias_ih": stack.bias_into,
            "bias_hh": stack.bias_across,
        }
        for kind, names in lists.items():
            found[f"recurrent.{kind}_{suffix}"] = names[place] if names else ""
    return found
