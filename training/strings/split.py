"""Divides a frozen signature into host steps, a numeric core, and host steps after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from ladle.serving.servables.host.program import HOST, Program
from ladle.training.onnx.convert import OPSET, PRODUCER, NotConvertibleError
from ladle.training.onnx.effects import data_of
from ladle.training.strings.graph import Frozen, freeze, tensor_of
from ladle.training.strings.levels import has_strings, levels_of
from ladle.training.strings.programs import Names, program


@dataclass(frozen=True)
class Split:
    """A signature in three parts.

    before, after  operations on the host; None where there are none
    core           tensors by keyword -> tensors by name; None if the host computes everything
    specs          dtype and shape of the core's inputs
    frozen         the graph that was divided
    """

    before: Program | None
    core: Callable[..., dict[str, tf.Tensor]] | None
    specs: dict[str, tf.TensorSpec]
    after: Program | None
    frozen: Frozen


def needs_host(function: Any) -> bool:
    """Whether a signature uses operations or dtypes that an ONNX graph cannot have, but the host can."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    # A graph alone can do what Bucketize does.
    return any((node.op in HOST and node.op != "Bucketize") or has_strings(node) for node in nodes)


def split(function: Any) -> Split:
    """The parts of a signature's function; NotConvertibleError names the operation that prevents it."""
    frozen = freeze(function)
    for alias, text in frozen.outputs.items():
        if _origin(frozen, tensor_of(text)).op == "DecodeJSONExample":
            raise NotConvertibleError(f'output "{alias}" is a serialized tf.Example, which has several forms')
    level = levels_of(frozen)
    names = Names(frozen, level)
    crossing = names.crossing()
    reads = {tensor for tensor, targets in crossing.items() if level[tensor[0]] == 0 and targets & {1}}
    outputs = {alias: tensor_of(text) for alias, text in frozen.outputs.items()}
    ends = set(outputs.values())
    # What a step or an output needs of an earlier part is handed on under a name.
    handed = reads | {t for t, targets in crossing.items() if level[t[0]] < max(targets)} | ends
    made = {n: [t for t in sorted(handed) if level[t[0]] == n and not names.is_given(t)] for n in (0, 1, 2)}
    extra = {alias: tensor for alias, tensor in outputs.items() if names.of(tensor) != alias}
    before = program(frozen, level, names, 0, made[0], handed)
    after = program(frozen, level, names, 2, made[2], handed, extra)
    core = _core(frozen, level, names, sorted(reads), made[1]) if made[1] else None
    specs = {names.of(t): frozen.specs[t] for t in sorted(reads)} if made[1] else {}
    return Split(before, core, specs, after, frozen)


def _origin(frozen: Frozen, tensor: tuple[str, int]) -> Any:
    """The node that makes a tensor, before those that hand it on."""
    while frozen.nodes[tensor[0]].op in ("Identity", "Reshape"):
        tensor = frozen.sources(tensor[0])[0]
    return frozen.nodes[tensor[0]]


def empty_core() -> onnx.ModelProto:
    """A graph without inputs, for signatures that the host computes alone: a server never runs it."""
    nothing = onnx.helper.make_tensor("nothing", onnx.TensorProto.FLOAT, [1], [0.0])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["nothing"], value=nothing)],
        "core",
        [],
        [onnx.helper.make_tensor_value_info("nothing", onnx.TensorProto.FLOAT, [1])],
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, producer_name=PRODUCER, opset_imports=opset, ir_version=9)


def _core(
    frozen: Frozen,
    level: Mapping[str, int],
    names: Names,
    reads: Sequence[tuple[str, int]],
    made: Sequence[tuple[str, int]],
) -> Callable[..., dict[str, tf.Tensor]]:
    """A function that computes these tensors of level 1 from those that it reads."""
    graph = graph_pb2.GraphDef()
    graph.versions.CopyFrom(frozen.versions)
    graph.library.CopyFrom(frozen.library)
    stands = {tensor: f"given_{i}" for i, tensor in enumerate(reads)}
    for tensor, name in stands.items():
        spec = frozen.specs[tensor]
        placeholder = graph.node.add(name=name, op="Placeholder")
        placeholder.attr["dtype"].type = spec.dtype.as_datatype_enum
        placeholder.attr["shape"].shape.CopyFrom(spec.shape.as_proto())
    wanted, waiting = set(), [tensor[0] for tensor in made]
    while waiting:
        name = waiting.pop()
        node = frozen.nodes[name]
        if name not in wanted and (level[name] == 1 or node.op == "Const"):
            wanted.add(name)
            waiting += [source for source, _ in frozen.sources(name)]
    for name, node in frozen.nodes.items():
        if name not in wanted:
            continue
        copy = graph.node.add()
        copy.CopyFrom(node)
        inputs = data_of(node)
        del copy.input[:]
        copy.input.extend(stands.get(tensor_of(text), text) for text in inputs)
    keys = {names.of(tensor): f"{name}:0" for tensor, name in stands.items()}
    results = {names.of(tensor): f"{tensor[0]}:{tensor[1]}" for tensor in made}

    def core(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        given = {keys[name]: tensor for name, tensor in tensors.items()}
        found = tf.graph_util.import_graph_def(
            graph, input_map=given, return_elements=list(results.values()), name="core"
        )
        return dict(zip(results, found, strict=True))

    return core
