"""The frozen graph of a signature, with its lookup tables read out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.training.onnx.convert import NotConvertibleError, first_line, frozen_signature
from ladle.training.onnx.effects import data_of, needed, node_of

_TABLES = ("HashTableV2", "MutableHashTableV2", "HashTable", "MutableHashTable")
_FINDS = ("LookupTableFindV2", "LookupTableFind")
_LOOKUPS = (*_FINDS, "LookupTableSizeV2", "LookupTableSize")
_CHANGE_TABLES = frozenset(
    f"LookupTable{verb}{version}" for verb in ("Insert", "Remove", "Import") for version in ("V2", "")
)


@dataclass(frozen=True)
class Frozen:
    """A signature's graph without variables and calls of functions.

    nodes    by name, each after those that it needs
    inputs   the signature's inputs -> the node that stands for each
    outputs  the signature's outputs -> their tensor, `node:index`
    tables   keys and values by the node that hands on the table
    specs    dtype and shape of every tensor, as TensorFlow infers them
    library  functions that loops and branches call
    """

    nodes: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    tables: Mapping[str, tuple[np.ndarray, np.ndarray]]
    specs: Mapping[tuple[str, int], tf.TensorSpec]
    library: Any
    versions: Any

    def sources(self, name: str) -> list[tuple[str, int]]:
        """(node, output) of each input of a node that is a tensor."""
        return [tensor_of(text) for text in data_of(self.nodes[name])]

    def output_count(self, name: str) -> int:
        """How many outputs a node has."""
        count = 0
        while (name, count) in self.specs:
            count += 1
        return count


def tensor_of(text: str) -> tuple[str, int]:
    """`node` or `node:1` as node and output."""
    node, _, index = text.partition(":")
    return node, int(index or 0)


def freeze(function: Any) -> Frozen:
    """The frozen graph of a signature's function; NotConvertibleError for a table that a request could change."""
    specs = function.structured_input_signature[1]
    graph_def, inputs, outputs, resources = frozen_signature(function, specs)
    nodes = {node.name: node for node in graph_def.node}
    order = needed(nodes, [*outputs.values(), *inputs.values()])
    nodes = {name: nodes[name] for name in order}
    changing = sorted({node.op for node in nodes.values()} & _CHANGE_TABLES)
    if changing:
        raise NotConvertibleError(f"it changes a lookup table ({changing[0]})")
    tables: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for node in nodes.values():
        if node.op in _LOOKUPS:
            origin = _origin(nodes, node_of(node.input[0]))
            if origin not in tables:
                tables[origin] = _content(nodes[origin], _find_of(nodes, origin), resources.get(origin))
            if node.op in _FINDS:
                node.input[0] = origin
            else:
                _become_constant(node, np.array(len(tables[origin][0]), np.int64))
    nodes = {name: nodes[name] for name in needed(nodes, [*outputs.values(), *inputs.values()])}
    return Frozen(nodes, inputs, outputs, tables, _specs(graph_def, nodes), graph_def.library, graph_def.versions)


def _specs(graph_def: Any, nodes: Mapping[str, Any]) -> dict[tuple[str, int], tf.TensorSpec]:
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        return {
            (name, index): tf.TensorSpec(tensor.shape, tensor.dtype)
            for name in nodes
            for index, tensor in enumerate(graph.get_operation_by_name(name).outputs)
        }


def _become_constant(node: Any, value: np.ndarray) -> None:
    node.op = "Const"
    del node.input[:]
    node.attr.clear()
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum


def _origin(nodes: Mapping[str, Any], name: str) -> str:
    """The node that a table comes from, through those that only hand it on."""
    while nodes[name].op in ("Identity", "Snapshot"):
        name = node_of(nodes[name].input[0])
    return name


def _find_of(nodes: Mapping[str, Any], table: str) -> Any:
    """A node that looks something up in the table, which knows the dtypes."""
    for node in nodes.values():
        if node.op in _FINDS and _origin(nodes, node_of(node.input[0])) == table:
            return node
    raise NotConvertibleError("a lookup table is not used for lookups alone")


def _content(node: Any, find: Any, handle: Any) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of a table, in a fixed order."""
    key, value = tf.as_dtype(find.attr["Tin"].type), tf.as_dtype(find.attr["Tout"].type)
    try:
        if handle is None:
            if node.op not in _TABLES:
                raise NotConvertibleError(f"it looks up in {node.op}")
            # Tables of TensorFlow 1 are nodes of the graph. One of the same name is the same table.
            shared = node.attr["shared_name"].s.decode() or node.name
            make = tf.raw_ops.HashTableV2 if node.op.startswith("Hash") else tf.raw_ops.MutableHashTableV2
            handle = make(key_dtype=key, value_dtype=value, shared_name=shared, container=node.attr["container"].s)
        keys, values = tf.raw_ops.LookupTableExportV2(table_handle=handle, Tkeys=key, Tvalues=value)
        size = int(tf.raw_ops.LookupTableSizeV2(table_handle=handle))
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise NotConvertibleError(f"a lookup table cannot be read: {first_line(error)}") from error
    keys, values = keys.numpy(), values.numpy()
    if size != len(keys):
        raise NotConvertibleError("a lookup table cannot be read as a whole")
    order = np.argsort(keys, kind="stable")
    return keys[order], values[order]
