"""Divides a frozen signature into host steps, a numeric core, and host steps after it.

Every operation gets a level: 0 before the core, 1 in it, 2 after it. What needs strings, tables or hashes must run on
the host. It runs before the core if nothing that it needs has to be computed by the core; otherwise after it. Numeric
operations belong to the core, unless a host operation before it needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import function_def_to_graph, op_def_registry, tensor_util

from ladle.serving.servables.host.floats import IN_LOOPS, OF_FLOATS
from ladle.serving.servables.host.loops import BLOCKS
from ladle.serving.servables.host.program import BETWEEN, BUILDERS, HOST, Program
from ladle.serving.servables.host.shapes import OF_INTEGERS
from ladle.training.onnx.convert import OPSET, PRODUCER, NotConvertibleError
from ladle.training.onnx.effects import called, data_of, needed
from ladle.training.strings.graph import Frozen, freeze, tensor_of

_FLOATS = (tf.float32.as_datatype_enum, tf.float64.as_datatype_enum)
_OF_FLOATS_ALONE = ("RealDiv", "Sqrt", "Square")
_SOURCES = ("Placeholder", "PlaceholderWithDefault")
_NOTHING = ("NoOp",)
_LARGE = 2**16  # bytes of a constant that is shared by core and steps


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
    return any((node.op in HOST and node.op != "Bucketize") or _has_strings(node) for node in nodes)


def split(function: Any) -> Split:
    """The parts of a signature's function; NotConvertibleError names the operation that prevents it."""
    frozen = freeze(function)
    for alias, text in frozen.outputs.items():
        if _origin(frozen, tensor_of(text)).op == "DecodeJSONExample":
            raise NotConvertibleError(f'output "{alias}" is a serialized tf.Example, which has several forms')
    level = _levels(frozen)
    names = _Names(frozen, level)
    crossing = names.crossing()
    reads = {tensor for tensor, targets in crossing.items() if level[tensor[0]] == 0 and targets & {1}}
    outputs = {alias: tensor_of(text) for alias, text in frozen.outputs.items()}
    ends = set(outputs.values())
    # What a step or an output needs of an earlier part is handed on under a name.
    handed = reads | {t for t, targets in crossing.items() if level[t[0]] < max(targets)} | ends
    made = {n: [t for t in sorted(handed) if level[t[0]] == n and not names.is_given(t)] for n in (0, 1, 2)}
    extra = {alias: tensor for alias, tensor in outputs.items() if names.of(tensor) != alias}
    before = _program(frozen, level, names, 0, made[0])
    after = _program(frozen, level, names, 2, made[2], extra)
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


def _has_strings(node: Any) -> bool:
    if node.op in ("Assert", "StringFormat", "Const"):
        return False
    return any(
        value.type == tf.string.as_datatype_enum or tf.string.as_datatype_enum in value.list.type
        for value in node.attr.values()
    )


def _levels(frozen: Frozen) -> dict[str, int]:
    """0, 1 or 2 of each node; a constant is 0. NotConvertibleError where there is no such division."""
    nodes = frozen.nodes
    early: dict[str, bool] = {}  # whether the host could compute it before the core
    for name, node in nodes.items():
        inputs = [source for source, _ in frozen.sources(name)]
        early[name] = _is_plain(node) or (
            _may_run_on_host(node, frozen) and all(early.get(each, False) for each in inputs)
        )
    must = _with_their_lists(frozen, {name for name, node in nodes.items() if _must_run_on_host(frozen, node)})
    first: set[str] = set()
    waiting = [name for name in must if early[name]]
    while waiting:
        name = waiting.pop()
        if name not in first:
            first.add(name)
            waiting += [source for source, _ in frozen.sources(name)]
    level: dict[str, int] = {}
    for name, node in nodes.items():
        inputs = [source for source, _ in frozen.sources(name)]
        if _is_plain(node) or name in first:
            level[name] = 0
            continue
        level[name] = max([1, *(level.get(each, 0) for each in inputs)])
        if name in must:
            level[name] = 2
        if level[name] == 2 and not _may_run_on_host(node, frozen):
            what = "on text" if name in must else "after operations on text"
            raise NotConvertibleError(f"{node.op} ({node.name}) runs {what}, for which only TensorFlow has code")
        if level[name] == 1 and node.op in ("Placeholder",):
            raise NotConvertibleError(f"nothing gives a value to {name}")
    return level


def _with_their_lists(frozen: Frozen, must: set[str]) -> set[str]:
    """These nodes, and those that share a list of tensors with one of them: a graph and the host cannot."""
    lists = [
        (name, source)
        for name in frozen.nodes
        for source, index in frozen.sources(name)
        if frozen.specs[source, index].dtype == tf.variant
    ]
    found, size = set(must), -1
    while len(found) > size:
        size = len(found)
        for pair in lists:
            if not found.isdisjoint(pair):
                found.update(pair)
    return found


def _is_plain(node: Any) -> bool:
    return node.op in (*_SOURCES, *_NOTHING, "Const")


def _must_run_on_host(frozen: Frozen, node: Any) -> bool:
    if _is_plain(node) or node.name in frozen.tables:
        return False
    made = [(node.name, index) for index in range(frozen.output_count(node.name))]
    sources = frozen.sources(node.name)
    has_strings = any(frozen.specs[tensor].dtype == tf.string for tensor in (*made, *sources))
    of_strings = has_strings or _is_list_of_strings(node) or any(source in frozen.tables for source, _ in sources)
    return node.op in HOST or of_strings or any(_is_on_text(frozen, name) for name in called(node))


def _is_list_of_strings(node: Any) -> bool:
    return node.attr["element_dtype"].type == tf.string.as_datatype_enum if "element_dtype" in node.attr else False


def _is_on_text(frozen: Frozen, name: str) -> bool:
    """Whether a function of a loop or branch needs the host."""
    function = next((each for each in frozen.library.function if each.signature.name == name), None)
    return function is not None and any(
        node.op in HOST
        or _has_strings(node)
        or _is_list_of_strings(node)
        or any(_is_on_text(frozen, inner) for inner in called(node))
        for node in function.node_def
    )


def _may_run_on_host(node: Any, frozen: Frozen, *, in_loop: bool = False) -> bool:
    """Whether the host has the operation, for the dtypes at hand, and those of its functions.

    in_loop  whether it is in a loop or a branch, which cannot be divided: some operations on floats run there, too
    """
    if node.op in BLOCKS:
        names = [node.attr[key].func.name for key in BLOCKS[node.op][0]]
        bodies = [each for each in frozen.library.function if each.signature.name in names]
        return all(
            inner.op == "Const" or inner.op in _NOTHING or _may_run_on_host(inner, frozen, in_loop=True)
            for body in bodies
            for inner in body.node_def
        )
    if node.op not in BUILDERS:
        return node.op in ("HashTableV2", "MutableHashTableV2", "HashTable", "MutableHashTable")
    if any(True for _ in called(node)):
        return False
    if node.op in IN_LOOPS:
        return in_loop and not (node.op in _OF_FLOATS_ALONE and node.attr["T"].type not in _FLOATS)
    if node.op in OF_INTEGERS:
        kinds = [tf.as_dtype(value.type) for value in node.attr.values() if value.HasField("type")]
        if node.op == "Cast":
            kinds = [tf.as_dtype(node.attr["SrcT"].type)]  # integers become floats in the same way everywhere
            if kinds[0] in (tf.float32, tf.float64) and tf.as_dtype(node.attr["DstT"].type) in (tf.int32, tf.int64):
                return True  # as Keras hands ids on
        elif in_loop and node.op in OF_FLOATS and node.attr["T"].type in _FLOATS:
            return True
        return all(kind.is_integer or kind.is_bool for kind in kinds)
    return node.op in BETWEEN or node.op in HOST


class _Names:
    """Names of the tensors that go from one part to another: the signature's own where it has one."""

    def __init__(self, frozen: Frozen, level: Mapping[str, int]) -> None:
        self._frozen, self._level = frozen, level
        self._given = {(node, 0): name for name, node in frozen.inputs.items()}
        self._own = dict(self._given)
        taken = {*frozen.inputs, *frozen.outputs}
        for alias, text in frozen.outputs.items():
            # An output that several names share, or that is an input, is copied by a step at the end.
            if alias not in frozen.inputs:
                self._own.setdefault(tensor_of(text), alias)
        self._taken = taken

    def is_given(self, tensor: tuple[str, int]) -> bool:
        return tensor in self._given

    def of(self, tensor: tuple[str, int]) -> str:
        if tensor not in self._own:
            count = 0
            while f"step_{count}" in self._taken:
                count += 1
            self._own[tensor] = f"step_{count}"
            self._taken.add(f"step_{count}")
        return self._own[tensor]

    def crossing(self) -> dict[tuple[str, int], set[int]]:
        """Tensors that other levels than their own read -> those levels. Constants do not count: each part has them."""
        found: dict[tuple[str, int], set[int]] = {}
        for name, node in self._frozen.nodes.items():
            if _is_plain(node):
                continue
            for tensor in self._frozen.sources(name):
                source = self._frozen.nodes[tensor[0]]
                if self._level[name] != self._level[tensor[0]] and source.op != "Const" and not self._is_table(tensor):
                    found.setdefault(tensor, set()).add(self._level[name])
        return found

    def _is_table(self, tensor: tuple[str, int]) -> bool:
        return tensor[0] in self._frozen.tables


def _program(
    frozen: Frozen,
    level: Mapping[str, int],
    names: _Names,
    number: int,
    made: Sequence[tuple[str, int]],
    extra: Mapping[str, tuple[str, int]] | None = None,
) -> Program | None:
    """The operations of level 0 or 2 that these tensors need.

    extra  outputs that get another name than their tensor has
    """
    needed: dict[str, None] = {}
    waiting = [tensor[0] for tensor in made]
    while waiting:
        name = waiting.pop()
        if name not in needed and level[name] == number and not _is_plain(frozen.nodes[name]):
            needed[name] = None
            waiting += [source for source, _ in frozen.sources(name)]
    reads: dict[str, None] = {}
    constants: dict[str, np.ndarray] = {}
    tables: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    operations: list[dict[str, Any]] = []
    labels = {tensor: names.of(tensor) for tensor in made}

    def label(tensor: tuple[str, int]) -> str:
        source = frozen.nodes[tensor[0]]
        while source.op == "Identity" and tensor not in labels and tensor[0] not in frozen.tables:
            [tensor] = frozen.sources(tensor[0])
            source = frozen.nodes[tensor[0]]
        if tensor[0] in frozen.tables:
            key = f"table/{tensor[0]}"
            tables.setdefault(key, frozen.tables[tensor[0]])
            return key
        if source.op == "Const":
            constants.setdefault(f"const/{tensor[0]}", _constant(source))
            return f"const/{tensor[0]}"
        if names.is_given(tensor) or level[tensor[0]] != number:
            reads.setdefault(names.of(tensor))
            return names.of(tensor)
        return own_label(tensor)

    def own_label(tensor: tuple[str, int]) -> str:
        return labels.setdefault(tensor, f"{tensor[0]}:{tensor[1]}")

    for name, node in frozen.nodes.items():
        if name not in needed or name in frozen.tables or (node.op == "Identity" and (name, 0) not in labels):
            continue
        inputs = [label(tensor) for tensor in frozen.sources(name)]
        outputs = [own_label((name, n)) for n in range(frozen.output_count(name))]
        if node.op in BLOCKS:
            blocks = {key: _block(frozen, node.attr[key].func.name, constants) for key in BLOCKS[node.op][0]}
            operations.append({**_operation(node.op, inputs, outputs, {}), "blocks": blocks})
            continue
        operations.append(_operation(node.op, inputs, outputs, _checked_attributes(node)))
    renamed = dict(extra or {})
    for alias, tensor in renamed.items():
        operations.append(_operation("Identity", [label(tensor)], [alias], {}))
    if not operations:
        return None
    adds = [names.of(tensor) for tensor in made if tensor[0] in needed] + list(renamed)
    return Program(list(reads), adds, operations, constants, tables)


def _block(frozen: Frozen, name: str, constants: dict[str, np.ndarray]) -> dict[str, Any]:
    """A function of a loop or branch as operations on the host; its constants are added to the program's."""
    function = next(each for each in frozen.library.function if each.signature.name == name)
    with tf.Graph().as_default():
        tf.import_graph_def(tf.compat.v1.GraphDef(library=frozen.library), name="")  # it may call the others
        body, flat = function_def_to_graph.function_def_to_graph_def(function)
    arguments = [argument.name for argument in function.signature.input_arg]
    nodes = {node.name: node for node in body.node}

    def label(text: str) -> str:
        source, index = tensor_of(text)
        if nodes[source].op == "Const":
            constants.setdefault(f"const/{name}/{source}", _constant(nodes[source]))
            return f"const/{name}/{source}"
        return f"{name}/{source}:{index}"

    ends = [flat[function.ret[output.name]] for output in function.signature.output_arg]
    operations = []
    for each in needed(nodes, ends):
        node = nodes[each]
        if node.op == "Const" or node.op in _NOTHING or each in arguments:
            continue
        inputs = [label(text) for text in data_of(node)]
        outputs = [f"{name}/{each}:{n}" for n in range(_output_count(node))]
        if node.op in BLOCKS:
            blocks = {key: _block(frozen, node.attr[key].func.name, constants) for key in BLOCKS[node.op][0]}
            operations.append({**_operation(node.op, inputs, outputs, {}), "blocks": blocks})
        else:
            operations.append(_operation(node.op, inputs, outputs, _checked_attributes(node)))
    reads = [f"{name}/{argument}:0" for argument in arguments]
    return {"reads": reads, "operations": operations, "adds": [label(text) for text in ends]}


def _output_count(node: Any) -> int:
    """How many outputs a node has, by the definition of its operation."""
    count = 0
    for argument in op_def_registry.get(node.op).output_arg:
        if argument.type_list_attr:
            count += len(node.attr[argument.type_list_attr].list.type)
        else:
            count += node.attr[argument.number_attr].i if argument.number_attr else 1
    return count


def _checked_attributes(node: Any) -> dict[str, Any]:
    """The attributes of an operation that the host can run with them; NotConvertibleError if it cannot."""
    attributes = _attributes(node)
    try:
        BUILDERS[node.op](attributes)
    except (ValueError, KeyError, TypeError) as error:
        raise NotConvertibleError(f"{node.op} ({node.name}): {error}") from error
    return attributes


def _operation(op: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> dict[str, Any]:
    return {"op": op, "in": inputs, "out": outputs, "attributes": attributes}


def _constant(node: Any) -> np.ndarray:
    array = tensor_util.MakeNdarray(node.attr["value"].tensor)
    if array.dtype == object:
        flat = np.empty(array.size, object)
        flat[:] = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
        return flat.reshape(array.shape)
    if array.dtype.kind not in "biuf":
        raise NotConvertibleError(f"{node.name} is a constant of {array.dtype}")
    return np.asarray(array)


def _attributes(node: Any) -> dict[str, Any]:
    """A node's attributes in JSON types: dtypes by name, shapes as lists, bytes as Latin-1."""
    found: dict[str, Any] = {}
    definition = op_def_registry.get(node.op)
    for attribute in definition.attr if definition is not None else ():
        if attribute.HasField("default_value"):
            found[attribute.name] = _plain(attribute.default_value)
    for name, value in node.attr.items():
        if not name.startswith("_"):
            found[name] = _plain(value)
    return {name: value for name, value in found.items() if value is not _UNKNOWN}


_UNKNOWN = object()


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "s":
        return value.s.decode("latin-1")
    if kind in ("i", "f", "b"):
        return getattr(value, kind)
    if kind == "type":
        return tf.as_dtype(value.type).name
    if kind == "shape":
        return _sizes(value.shape)
    if kind == "list":
        of = value.list
        return [
            *(text.decode("latin-1") for text in of.s),
            *of.i,
            *of.f,
            *of.b,
            *(tf.as_dtype(number).name for number in of.type),
            *(_sizes(shape) for shape in of.shape),
        ]
    return _UNKNOWN


def _sizes(shape: Any) -> list[int] | None:
    return None if shape.unknown_rank else [dimension.size for dimension in shape.dim]


def _core(
    frozen: Frozen,
    level: Mapping[str, int],
    names: _Names,
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
