"""An ONNX graph built as one writes formulas: each operator is a call that gives the name of its output."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
"""Of 2022, so that runtimes of some years take the file; layer normalization came with it."""

Value = str | np.ndarray
"""The name of a tensor, or a constant."""

KINDS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def single(value: float) -> np.ndarray:
    """A constant, (1,) float32."""
    return np.array([value], np.float32)


class Port(NamedTuple):
    """An input or output of a model; in its shape a name stands for a size that varies."""

    name: str
    kind: str
    shape: tuple[int | str, ...]


class Graph:
    """Operators in the order they are called in, with their constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: Value, **attributes: Any) -> str:
        """Add an operator; the name of its first output. An input "" is left out."""
        output = f"{operator}_{len(self.nodes)}"
        names = [one if isinstance(one, str) else self._constant(one) for one in inputs]
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def halves(self, values: str) -> tuple[str, str]:
        """The two halves of the last axis."""
        first = self("Split", values, axis=-1)
        second = f"{first}_second"
        self.nodes[-1].output.append(second)
        return first, second

    def ascending(self, values: str) -> str:
        """(batch, count) values -> (batch, count) int64, their places from the smallest on, the first of equals before."""
        smallest = self("TopK", values, self.size(values, 1), axis=1, largest=0)
        self.nodes[-1].output.append(f"{smallest}_places")
        return f"{smallest}_places"

    def size(self, tensor: str, axis: int) -> str:
        """The length of an axis, (1,) int64."""
        return self("Slice", self("Shape", tensor), np.array([axis]), np.array([axis + 1]))

    def range(self, stop: str) -> str:
        """The numbers below ``stop``, (1,) int64: (stop,) int64."""
        return self("Range", np.array(0), self("Squeeze", stop), np.array(1))

    def inside(self, lengths: str, frames: str) -> str:
        """(batch,) int64 lengths and (1,) int64 frames -> (batch, frames) bool, true inside each sequence."""
        return self("Less", self.range(frames), self("Unsqueeze", lengths, np.array([1])))

    def masked(self, values: str, mask: str, *axes: int) -> str:
        """Values with zeros where the mask, (batch, frames) bool, is false; it lacks these axes of theirs."""
        return self("Where", self("Unsqueeze", mask, np.array(axes)), values, single(0.0))

    def linear(self, values: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """A linear layer, weights (outputs, inputs) as torch has them."""
        return self("Add", self("MatMul", values, np.ascontiguousarray(weight.T)), bias)

    def model(self, inputs: Sequence[Port], outputs: Mapping[Port, str], facts: Mapping[str, str]) -> onnx.ModelProto:
        """The whole as a model. ``outputs`` says which tensor each output shows; ``facts`` are kept beside the graph."""
        for port, source in outputs.items():
            self.nodes.append(helper.make_node("Identity", [source], [port.name], name=port.name))
        into, out = (
            [helper.make_tensor_value_info(port.name, KINDS[port.kind], port.shape) for port in ports]
            for ports in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "asr", into, out, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="asr")
        helper.set_model_props(model, dict(facts))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name
