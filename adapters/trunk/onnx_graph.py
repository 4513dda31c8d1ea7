"""Writing ONNX graphs node by node; weights stay in a safetensors file that the graph points into."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import onnx
from attrs import define, field
from onnx import TensorProto, helper, numpy_helper

from adapters.base_model.base_fingerprint import StoredTensor

OPSET: Final = 23
"""The first with attention, rotary embeddings and root-mean-square normalisation as operators."""


@define(eq=False)
class GraphWriter:
    """An ONNX graph in the making. Values are names.

    Attributes:
        shapes: the weights that there are, by name, with their shapes.
        used: the weights that the graph reads.
    """

    shapes: Mapping[str, tuple[int, ...]]
    used: dict[str, None] = field(factory=dict, init=False)
    _nodes: list[onnx.NodeProto] = field(factory=list, init=False)
    _constants: list[onnx.TensorProto] = field(factory=list, init=False)
    _outputs: list[onnx.ValueInfoProto] = field(factory=list, init=False)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output; return the output."""
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Add an array that lies in the graph itself."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, name: str) -> str:
        """Return a weight."""
        self.used[name] = None
        return name

    def linear(self, states: str, name: str) -> str:
        """Apply a linear layer, with its bias if it has one."""
        product = self.op("MatMul", states, self.op("Transpose", self.weight(f"{name}.weight"), perm=[1, 0]))
        bias = f"{name}.bias"
        return self.op("Add", product, self.weight(bias)) if bias in self.shapes else product

    def output(self, value: str, name: str, width: int) -> None:
        """Give a value of shape (batch, width) out under a name."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]))

    def model(self, inputs: Collection[str], weights: str, placed: Mapping[str, StoredTensor]) -> bytes:
        """Return the graph as a file's bytes.

        Args:
            inputs: names of the inputs, int64 of shape (batch, tokens) each.
            weights: name of the safetensors file, which lies beside this one.
            placed: where each weight lies in that file.
        """
        given = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs]
        tensors = [_external(placed[name], weights) for name in self.used]
        graph = helper.make_graph(self._nodes, "trunk", given, self._outputs, [*self._constants, *tensors])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=11)
        return bytes(model.SerializeToString())


def _external(tensor: StoredTensor, weights: str) -> onnx.TensorProto:
    proto = TensorProto(name=tensor.name, dims=tensor.shape, data_type=TensorProto.FLOAT)
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", weights), ("offset", tensor.start), ("length", tensor.size)):
        proto.external_data.add(key=key, value=str(value))
    return proto
