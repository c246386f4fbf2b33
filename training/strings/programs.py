"""The operations of a signature that run on the host, as a program that the server reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import function_def_to_graph, op_def_registry, tensor_util

from ladle.serving.servables.host.loops import BLOCKS
from ladle.serving.servables.host.program import BUILDERS, Program
from ladle.training.onnx.convert import NotConvertibleError
from ladle.training.onnx.effects import data_of, needed
from ladle.training.strings.graph import Frozen, tensor_of
from ladle.training.strings.levels import NOTHING, is_plain


class Names:
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
        """Whether a tensor is an input of the signature."""
        return tensor in self._given

    def of(self, tensor: tuple[str, int]) -> str:
        """The name of a tensor: its own, or a new one."""
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
            if is_plain(node):
                continue
            for tensor in self._frozen.sources(name):
                source = self._frozen.nodes[tensor[0]]
                if self._level[name] != self._level[tensor[0]] and source.op != "Const" and not self._is_table(tensor):
                    found.setdefault(tensor, set()).add(self._level[name])
        return found

    def _is_table(self, tensor: tuple[str, int]) -> bool:
        return tensor[0] in self._frozen.tables


def program(
    frozen: Frozen,
    level: Mapping[str, int],
    names: Names,
    number: int,
    made: Sequence[tuple[str, int]],
    handed: Collection[tuple[str, int]],
    extra: Mapping[str, tuple[str, int]] | None = None,
) -> Program | None:
    """The operations of level 0 or 2 that these tensors need.

    handed  tensors that one part gives to another
    extra   outputs that get another name than their tensor has
    """
    needed: dict[str, None] = {}
    waiting = [tensor[0] for tensor in made]
    while waiting:
        name = waiting.pop()
        if name not in needed and level[name] == number and not is_plain(frozen.nodes[name]):
            needed[name] = None
            waiting += [source for source, _ in frozen.sources(name)]
    reads: dict[str, None] = {}
    constants: dict[str, np.ndarray] = {}
    tables: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    operations: list[dict[str, Any]] = []
    labels = {tensor: names.of(tensor) for tensor in made}

    def label(tensor: tuple[str, int]) -> str:
        source = frozen.nodes[tensor[0]]
        while source.op == "Identity" and tensor not in handed and tensor[0] not in frozen.tables:
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
        if node.op == "Const" or node.op in NOTHING or each in arguments:
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
