"""Keeps the large weights of a graph out of its protobuf message, which can hold 2 GB, and out of the converter.

While a function is converted, its large variables are inputs of the graph: no pass copies or looks at them. Afterwards
the inputs become initializers whose numbers lie in a file beside the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.python.framework import tensor_util

LARGE_TENSOR_BYTES = 2**16
"""Smaller weights stay in the graph: they can be axes or sizes, which a converter has to know."""
_ALIGNMENT = 4096  # ONNX Runtime maps weights into memory if they begin on a page
_PREFIX = "ladle_weight_"
_LOOPS = ("While", "StatelessWhile", "Enter", "RefEnter")


class Weights:
    """The large weights of a graph, by the name of their initializer.

    with_loops  whether those of a graph with loops are kept out, too: a loop becomes a recurrent layer by its weights
    """

    def __init__(self, *, with_loops: bool = True) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._with_loops = with_loops

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Inside the block, constants made of large float arrays hold a name in place of the numbers."""
        original = tensor_util.make_tensor_proto

        def make(values: Any, dtype: Any = None, shape: Any = None, *rest: Any, **options: Any) -> Any:
            if not (
                isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.nbytes >= LARGE_TENSOR_BYTES
            ):
                return original(values, dtype, shape, *rest, **options)
            name = f"{_PREFIX}{len(self.arrays)}"
            self.arrays[name] = values
            proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(values.dtype).as_datatype_enum)
            proto.tensor_shape.CopyFrom(tf.TensorShape(values.shape).as_proto())
            proto.tensor_content = name.encode()
            return proto

        tensor_util.make_tensor_proto = make
        try:
            yield
        finally:
            tensor_util.make_tensor_proto = original

    def make_inputs(self, frozen: Any) -> dict[str, str]:
        """Turn such constants of a GraphDef into placeholders; the weights' names by tensor."""
        made = {}
        is_kept_out = self._with_loops or not any(node.op in _LOOPS for node in frozen.node)
        for node in frozen.node:
            name = self._name_in(node)
            if name is not None and not is_kept_out:
                node.attr["value"].tensor.tensor_content = self.arrays[name].tobytes()
            elif name is not None:
                dtype, shape = node.attr["dtype"].type, node.attr["value"].tensor.tensor_shape
                node.op = "Placeholder"
                node.attr["shape"].shape.CopyFrom(shape)
                del node.attr["value"]
                node.attr["dtype"].type = dtype
                made[f"{node.name}:0"] = name
        for function in frozen.library.function:
            for node in function.node_def:
                name = self._name_in(node)
                if name is not None:  # in the body of a loop or branch, which has no inputs of its own
                    node.attr["value"].tensor.tensor_content = self.arrays[name].tobytes()
        self.arrays = {name: array for name, array in self.arrays.items() if name in made.values()}
        return made

    def _name_in(self, node: Any) -> str | None:
        content = node.attr["value"].tensor.tensor_content if node.op == "Const" else b""
        return content.decode() if content.startswith(_PREFIX.encode()) and content.decode() in self.arrays else None

    def make_initializers(self, model: onnx.ModelProto) -> None:
        """Turn the inputs that are weights into initializers without numbers."""
        kept = [value for value in model.graph.input if value.name not in self.arrays]
        for value in model.graph.input:
            if value.name in self.arrays:
                tensor = model.graph.initializer.add()
                tensor.name, tensor.data_type = value.name, value.type.tensor_type.elem_type
                tensor.dims.extend(self.arrays[value.name].shape)
                tensor.data_location = onnx.TensorProto.EXTERNAL
        del model.graph.input[:]
        model.graph.input.extend(kept)

    def fill(self, model: onnx.ModelProto) -> None:
        """Put the numbers into the graph, and forget them."""
        for tensor in model.graph.initializer:
            array = self.arrays.pop(tensor.name, None)
            if array is not None:
                tensor.raw_data = array.tobytes()
                tensor.ClearField("data_location")

    def write(self, model: onnx.ModelProto, path: Path) -> None:
        """Write the numbers to a file, name their places in the graph, and forget them."""
        with path.open("wb") as file:
            for tensor in model.graph.initializer:
                array = self.arrays.pop(tensor.name, None)
                if array is None:
                    continue
                file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT)
                offset = file.tell()
                np.ascontiguousarray(array).tofile(file)
                for key, value in (("location", path.name), ("offset", offset), ("length", array.nbytes)):
                    tensor.external_data.add(key=key, value=str(value))


def forget(model: onnx.ModelProto) -> None:
    """Drop the numbers of the large weights of a graph that is only looked at from now on; their shapes stay."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= LARGE_TENSOR_BYTES:
            tensor.ClearField("raw_data")


def size_bytes(variables: Any) -> int:
    """Bytes of variables or tensors of numbers."""
    return sum(v.shape.num_elements() * v.dtype.size for v in variables if v.shape.is_fully_defined())
