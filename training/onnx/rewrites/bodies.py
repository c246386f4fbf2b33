"""Mends the bodies of loops and branches as tf2onnx writes them."""

from __future__ import annotations

import onnx
import onnx.defs

from ladle.training.onnx.simplify import subgraphs

_MICROSOFT = "com.microsoft"
_KINDS = frozenset({"Inverse"})
"""Operations of ONNX Runtime's own that our converters write."""


def mend(model: onnx.ModelProto) -> None:
    """Give such operations their domain, which they lose in a branch, and counters of loops the shape of a scalar.

    ONNX Runtime refuses a loop whose counter has no shape.
    """
    for graph in subgraphs(model.graph):
        for node in graph.node:
            if node.op_type in _KINDS and not onnx.defs.has(node.op_type, domain=node.domain):
                node.domain = _MICROSOFT
            for attribute in node.attribute:
                if node.op_type == "Loop" and attribute.name == "body":
                    for value in attribute.g.input[:2]:  # the counter, and whether it goes on
                        if not value.type.tensor_type.HasField("shape"):
                            value.type.tensor_type.shape.SetInParent()
