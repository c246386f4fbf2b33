"""Replaces TensorFlow's MaxPool by MaxPoolV2 in a graph before it is loaded.

Where the window does not fit into an image, the output of MaxPool is empty, and TensorFlow's oneDNN kernel for it
divides by zero (2.21, SIGFPE): one image of 1 x 1 pixels ends the process. MaxPoolV2 computes the same, as quickly, on
another kernel, and gives the empty output. Its window and strides are inputs in place of attributes.
"""

from __future__ import annotations

from collections.abc import Callable
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
    return len(pools)


_DT_INT32 = 3
