"""Replaces TensorFlow's MaxPool by MaxPoolV2 in a graph before it is loaded.

Where the window does not fit into an image, the output of MaxPool is empty, and TensorFlow's oneDNN kernel for it
divides by zero (2.21, SIGFPE): one image of 1 x 1 pixels ends the process. MaxPoolV2 computes the same, as quickly, on
another kernel, and gives the empty output. Its window and strides are inputs in place of attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def replace_max_pools(meta_graph: Any) -> int:
    """Change a MetaGraphDef in place, its functions included; the number of nodes that were replaced."""
    graph = meta_graph.graph_def
    count = _replace(graph.node, graph.node.add, "{}")
    for function in graph.library.function:
        # In the body of a function, an input names an output of a node, not the node alone.
        count += _replace(function.node_def, function.node_def.add, "{}:output:0")
    return count


def _replace(nodes: Any, add: Callable[[], Any], reference: str) -> int:
    # A loop of TensorFlow 1 takes constants only through Enter nodes. Such graphs are rare and stay as they are.
    if any(node.op == "Enter" for node in nodes):
        return 0
    pools = [node for node in nodes if node.op == "MaxPool" and node.attr["padding"].s in (b"VALID", b"SAME")]
    for node in pools:
        data = [name for name in node.input if not name.startswith("^")]
        control = [name for name in node.input if name.startswith("^")]
        for attribute in ("ksize", "strides"):
            constant = add()
            constant.name, constant.op, constant.device = f"{node.name}/{attribute}", "Const", node.device
            values = list(node.attr[attribute].list.i)
            constant.attr["dtype"].type = _DT_INT32
            tensor = constant.attr["value"].tensor
            tensor.dtype = _DT_INT32
            tensor.tensor_shape.dim.add().size = len(values)
            tensor.int_val.extend(values)
            data.append(reference.format(constant.name))
            del node.attr[attribute]
        node.attr.pop("explicit_paddings", None)
        node.op = "MaxPoolV2"
        node.input[:] = data + control  # control inputs come last (node_def.proto)
    volumes = [node for node in nodes if node.op == "MaxPool3D" and node.attr["padding"].s == b"VALID"]
    for node in volumes:
        _guard(node, add, reference)
    return len(pools) + len(volumes)


def _guard(pool: Any, add: Callable[[], Any], reference: str) -> None:
    """Refuses inputs that the window of a MaxPool3D does not fit into. Batch and channels have a window of 1."""

    def node(name: str, op: str, *inputs: str, **types: int) -> Any:
        made = add()
        made.name, made.op, made.device = f"{pool.name}/{name}", op, pool.device
        made.input.extend(inputs)
        for attribute, dtype in types.items():
            made.attr[attribute].type = dtype
        return made

    def constant(name: str, dtype: int, size: int | None, **values: Sequence[Any]) -> str:
        made = node(name, "Const", dtype=dtype)
        tensor = made.attr["value"].tensor
        tensor.dtype = dtype
        tensor.tensor_shape.SetInParent()
        if size is not None:
            tensor.tensor_shape.dim.add().size = size
        for field, elements in values.items():
            getattr(tensor, field).extend(elements)
        return reference.format(made.name)

    def output(of: Any, name: str) -> str:
        # In the body of a function, an input names an output of a node, by the name that the operation gives it.
        return reference.format(of.name).replace(":output:", f":{name}:")

    window = [size if size > 1 else 0 for size in pool.attr["ksize"].list.i]
    least = constant("window", _DT_INT32, len(window), int_val=window)
    axis = constant("axis", _DT_INT32, 1, int_val=[0])
    text = constant("text", _DT_STRING, None, string_val=[b"got an image smaller than the window of a MaxPool3D"])
    shape = node("shape", "Shape", pool.input[0], T=pool.attr["T"].type, out_type=_DT_INT32)
    fits = node("fits", "GreaterEqual", output(shape, "output"), least, T=_DT_INT32)
    whole = node("whole", "All", output(fits, "z"), axis, Tidx=_DT_INT32)
    check = node("check", "Assert", output(whole, "output"), text)
    check.attr["T"].list.type.append(_DT_STRING)
    pool.input.append(f"^{check.name}")


_DT_INT32 = 3
_DT_STRING = 7
