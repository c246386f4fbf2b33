"""Finds signatures that compute the same. Keras exports each network twice, as `serve` and as `serving_default`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from ladle.training.onnx.effects import INIT_OP, called, data_of, needed, node_of


def fingerprints(meta_graph: Any) -> dict[str, str]:
    """A text for each signature of a MetaGraphDef; signatures with one text compute the same of the same inputs."""
    graph = meta_graph.graph_def
    functions = {function.signature.name: function for function in graph.library.function}
    nodes = {node.name: node for node in graph.node}
    known: dict[str, str] = {}
    found = {}
    for name, signature in meta_graph.signature_def.items():
        if name == INIT_OP:
            continue
        aliases = {node_of(info.name): f"input {alias}" for alias, info in signature.inputs.items()}
        outputs = {alias: info.name for alias, info in signature.outputs.items()}
        content = _content(nodes, outputs, aliases, functions, known)
        inputs = sorted((alias, info.dtype, str(info.tensor_shape)) for alias, info in signature.inputs.items())
        found[name] = _digest([str(inputs), content, signature.method_name])
    return found


def _content(
    nodes: Mapping[str, Any],
    outputs: Mapping[str, str],
    aliases: Mapping[str, str],
    functions: Mapping[str, Any],
    known: dict[str, str],
) -> str:
    """A text of the nodes that the outputs need, in which nodes are numbers and functions are their own texts.

    aliases  names that count: those of inputs
    """
    order = needed(nodes, [outputs[alias] for alias in sorted(outputs)])
    names = {name: f"node {n}" for n, name in enumerate(order)} | dict(aliases)

    def named(text: str) -> str:
        source = node_of(text)
        return text.replace(source, names.get(source, source), 1)

    lines = []
    for name in order:
        node = nodes[name]
        if name in aliases:
            continue
        inputs = [named(text) for text in data_of(node)] + sorted(named(t) for t in node.input if t.startswith("^"))
        inner = [_function(function, functions, known) for function in called(node) if function in functions]
        shown = {
            key: value.SerializeToString(deterministic=True)
            for key, value in node.attr.items()
            if not key.startswith("_") and not value.HasField("func") and not value.list.func
        }
        if node.op in ("VarHandleOp", "VariableV2", "Variable", "HashTableV2"):
            shown["name"] = node.name.encode()
        lines.append(_digest([node.op, str(inputs), str(inner), str(sorted(shown.items()))]))
    return _digest([*lines, str([(alias, named(text)) for alias, text in sorted(outputs.items())])])


def _function(name: str, functions: Mapping[str, Any], known: dict[str, str]) -> str:
    if name not in known:
        known[name] = name  # for a function that calls itself
        function = functions[name]
        arguments = {argument.name: f"argument {n}" for n, argument in enumerate(function.signature.input_arg)}
        ends = {str(n): function.ret[output.name] for n, output in enumerate(function.signature.output_arg)}
        ends |= {f"^{n}": end for n, end in enumerate(sorted(function.control_ret.values()))}
        nodes = {node.name: node for node in function.node_def}
        known[name] = _content(nodes, ends, arguments, functions, known)
    return known[name]


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
