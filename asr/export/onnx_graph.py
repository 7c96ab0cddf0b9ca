"""Builds an ONNX graph as one writes formulas: each operator is a call that returns the name of its output."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
"""Of 2022, so that older runtimes accept the file. Opset 17 introduced layer normalization."""

Value = str | np.ndarray
"""The name of a tensor, or a constant."""

LINEAR = "linear"
"""The names of linear layers' matrix products begin with it."""

DATA_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def single(value: float) -> np.ndarray:
    """A constant, (1,) float32."""
    return np.array([value], np.float32)


class Port(NamedTuple):
    """An input or output of a model. A name in its shape is a size that varies."""

    name: str
    data_type: str
    shape: tuple[int | str, ...]


class Graph:
    """Operators in the order of their calls, and their constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: Value, **attributes: Any) -> str:
        """Add an operator and return the name of its first output. The input "" omits an optional input."""
        output = f"{operator}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def rename(self, name: str) -> None:
        """Name the last operator, for error messages of a runtime and for tools. Its output keeps its name."""
        self.nodes[-1].name = name

    def split_in_half(self, values: str) -> tuple[str, str]:
        """Split the last axis into two halves."""
        first = self("Split", values, axis=-1)
        second = f"{first}_second"
        self.nodes[-1].output.append(second)
        return first, second

    def argsort(self, values: str) -> str:
        """Sort (batch, count) values in ascending order, stably. Returns their indices, (batch, count) int64."""
        smallest = self("TopK", values, self.size(values, 1), axis=1, largest=0)
        self.nodes[-1].output.append(f"{smallest}_places")
        return f"{smallest}_places"

    def size(self, tensor: str, axis: int) -> str:
        """The size of an axis, (1,) int64."""
        return self("Slice", self("Shape", tensor), np.array([axis]), np.array([axis + 1]))

    def range(self, stop: str) -> str:
        """The numbers from 0 below ``stop``, which is (1,) int64: (stop,) int64."""
        return self("Range", np.array(0), self("Squeeze", stop), np.array(1))

    def length_mask(self, lengths: str, frames: str) -> str:
        """(batch,) int64 lengths and (1,) int64 frames -> (batch, frames) bool, true inside each sequence."""
        return self("Less", self.range(frames), self("Unsqueeze", lengths, np.array([1])))

    def apply_mask(self, values: str, mask: str, *axes: int) -> str:
        """Set values to zero where the mask, (batch, frames) bool, is false. ``axes`` are those that the mask lacks."""
        return self("Where", self("Unsqueeze", mask, np.array(axes)), values, single(0.0))

    def linear(self, values: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """Apply a linear layer with torch's weights (outputs, inputs)."""
        product = self("MatMul", values, np.ascontiguousarray(weight.T))
        self.rename(f"{LINEAR}_{product}")
        return self("Add", product, bias)

    def model(
        self, inputs: Sequence[Port], outputs: Mapping[Port, str], metadata: Mapping[str, str]
    ) -> onnx.ModelProto:
        """Finish the graph as a model. ``outputs`` maps each output to the name of its tensor."""
        for port, source in outputs.items():
            self.nodes.append(helper.make_node("Identity", [source], [port.name], name=port.name))
        input_infos, output_infos = (
            [helper.make_tensor_value_info(port.name, DATA_TYPES[port.data_type], port.shape) for port in ports]
            for ports in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "asr", input_infos, output_infos, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="asr")
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name
