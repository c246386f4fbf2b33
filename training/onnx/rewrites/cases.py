"""Replaces Case, of which tf2onnx knows nothing, by If: one branch, or the choice among the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import function_pb2, node_def_pb2

CASES = {"Case": "If", "StatelessCase": "StatelessIf"}


def has_cases(graph_def: Any) -> bool:
    """Whether a GraphDef has a Case, in its functions too."""
    inner = (node for function in graph_def.library.function for node in function.node_def)
    return any(node.op in CASES for node in (*graph_def.node, *inner))


def without_cases(graph_def: Any) -> Any:
    """The same GraphDef with an If for each Case; it may be changed. A number that names no branch takes the last."""
    if not has_cases(graph_def):
        return graph_def
    functions = {function.signature.name: function for function in graph_def.library.function}
    made: dict[str, Any] = {}
    nodes = list(_replaced(graph_def.node, functions, made, within=""))
    del graph_def.node[:]
    graph_def.node.extend(nodes)
    for name, function in functions.items():
        nodes = list(_replaced(function.node_def, functions, made, within=name))
        del function.node_def[:]
        function.node_def.extend(nodes)
    for name, branch in list(made.items()):  # branches were copied before the Cases in them were replaced
        nodes = list(_replaced(branch.node_def, functions, made, within=name))
        del branch.node_def[:]
        branch.node_def.extend(nodes)
    graph_def.library.function.extend(made.values())
    return graph_def


def _replaced(nodes: Iterable[Any], functions: dict[str, Any], made: dict[str, Any], within: str) -> Iterable[Any]:
    """Nodes of a graph, or of the function `within`; functions that their Ifs run are added to `made`."""
    for node in nodes:
        if node.op not in CASES:
            yield node
            continue
        index, *arguments = [text for text in node.input if not text.startswith("^")]
        control = [text for text in node.input if text.startswith("^")]
        names = [function.name for function in node.attr["branches"].list.func]
        prefix = "/".join(["case", within, node.name]).replace("/", "_")
        rest = [_with_number(functions[name], f"{prefix}_branch_{n}") for n, name in enumerate(names)]
        made |= {function.signature.name: function for function in rest}
        types, results = list(node.attr["Tin"].list.type), list(node.attr["Tout"].list.type)
        other = rest[-1].signature.name
        for n in reversed(range(1, len(rest) - 1)):
            chooses = _chooser(node, f"{prefix}_from_{n}", n, rest[n].signature.name, other, types, results)
            made[chooses.signature.name] = chooses
            other = chooses.signature.name
        ends = (":output:0", ":z:0") if within else ("", "")
        yield from _if(node, node.name, 0, (index, *arguments), (rest[0].signature.name, other), ends, control)


def _with_number(function: Any, name: str) -> Any:
    """A copy of a function that takes the number of its branch before the other arguments."""
    copy = function_pb2.FunctionDef.FromString(function.SerializeToString())
    copy.signature.name = name
    taken = {argument.name for argument in function.signature.input_arg} | {node.name for node in function.node_def}
    number = next(word for word in ("branch_number", *(f"branch_number_{n}" for n in range(99))) if word not in taken)
    del copy.signature.input_arg[:]
    copy.signature.input_arg.add(name=number, type=tf.int32.as_datatype_enum)
    copy.signature.input_arg.extend(function.signature.input_arg)
    copy.arg_attr.clear()
    for n, attributes in function.arg_attr.items():
        copy.arg_attr[n + 1].CopyFrom(attributes)
    copy.resource_arg_unique_id.clear()
    for n, unique in function.resource_arg_unique_id.items():
        copy.resource_arg_unique_id[n + 1] = unique
    return copy


def _chooser(case: Any, name: str, n: int, first: str, other: str, types: list[int], results: list[int]) -> Any:
    """A function of the number and the arguments that runs branch n or chooses among those after it."""
    function = function_pb2.FunctionDef()
    function.signature.name = name
    function.signature.is_stateful = case.op == "Case"
    function.signature.input_arg.add(name="number", type=tf.int32.as_datatype_enum)
    for k, dtype in enumerate(types):
        function.signature.input_arg.add(name=f"argument_{k}", type=dtype)
    for k, dtype in enumerate(results):
        function.signature.output_arg.add(name=f"result_{k}", type=dtype)
        function.ret[f"result_{k}"] = f"chosen:output:{k}"
    inputs = ("number", *(f"argument_{k}" for k in range(len(types))))
    function.node_def.extend(_if(case, "chosen", n, inputs, (first, other), (":output:0", ":z:0"), []))
    return function


def _if(
    case: Any,
    name: str,
    n: int,
    inputs: tuple[str, ...],
    branches: tuple[str, str],
    ends: tuple[str, str],
    control: list[str],
) -> list[Any]:
    """The If that runs the first of two branches if the first input is n, and what it needs.

    ends  what follows the names of a constant and of a comparison in references to their results
    """
    int32 = tf.int32.as_datatype_enum
    number = node_def_pb2.NodeDef(name=f"{name}/number", op="Const")
    number.attr["dtype"].type = int32
    number.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.int32(n)))
    equal = node_def_pb2.NodeDef(name=f"{name}/is_chosen", op="Equal", input=[inputs[0], number.name + ends[0]])
    equal.attr["T"].type = int32
    node = node_def_pb2.NodeDef(name=name, op=CASES[case.op], input=[equal.name + ends[1], *inputs, *control])
    node.attr["Tcond"].type = tf.bool.as_datatype_enum
    node.attr["Tin"].list.type.extend([int32, *case.attr["Tin"].list.type])
    node.attr["Tout"].CopyFrom(case.attr["Tout"])
    for key in ("output_shapes", "_output_shapes"):
        if key in case.attr:
            node.attr[key].CopyFrom(case.attr[key])
    node.attr["then_branch"].func.name, node.attr["else_branch"].func.name = branches
    return [number, equal, node]
