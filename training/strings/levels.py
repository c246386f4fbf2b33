"""The part of a divided signature that each operation belongs to: 0 before the core, 1 in it, 2 after it.

What needs strings, tables or hashes must run on the host. It runs before the core if nothing that it needs has to be
computed by the core; otherwise after it. Numeric operations belong to the core, unless a host operation before it needs
them.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ladle.serving.servables.host.floats import IN_LOOPS, OF_FLOATS
from ladle.serving.servables.host.loops import BLOCKS
from ladle.serving.servables.host.program import BETWEEN, BUILDERS, HOST
from ladle.serving.servables.host.shapes import OF_INTEGERS
from ladle.training.onnx.convert import NotConvertibleError
from ladle.training.onnx.effects import called
from ladle.training.strings.graph import Frozen

_FLOATS = (tf.float32.as_datatype_enum, tf.float64.as_datatype_enum)
_OF_FLOATS_ALONE = ("RealDiv", "Sqrt", "Square")
_SOURCES = ("Placeholder", "PlaceholderWithDefault")
NOTHING = ("NoOp",)


def levels_of(frozen: Frozen) -> dict[str, int]:
    """0, 1 or 2 of each node; a constant is 0. NotConvertibleError where there is no such division."""
    nodes = frozen.nodes
    early: dict[str, bool] = {}  # whether the host could compute it before the core
    for name, node in nodes.items():
        inputs = [source for source, _ in frozen.sources(name)]
        early[name] = is_plain(node) or (
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
        if is_plain(node) or name in first:
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


def has_strings(node: Any) -> bool:
    """Whether an operation reads or makes strings; constants and messages of checks do not count."""
    if node.op in ("Assert", "StringFormat", "Const"):
        return False
    return any(
        value.type == tf.string.as_datatype_enum or tf.string.as_datatype_enum in value.list.type
        for value in node.attr.values()
    )


def is_plain(node: Any) -> bool:
    """Whether a node is there for each part: an input, a constant, or nothing."""
    return node.op in (*_SOURCES, *NOTHING, "Const")


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


def _must_run_on_host(frozen: Frozen, node: Any) -> bool:
    if is_plain(node) or node.name in frozen.tables:
        return False
    made = [(node.name, index) for index in range(frozen.output_count(node.name))]
    sources = frozen.sources(node.name)
    touches_strings = any(frozen.specs[tensor].dtype == tf.string for tensor in (*made, *sources))
    of_strings = touches_strings or _is_list_of_strings(node) or any(source in frozen.tables for source, _ in sources)
    return node.op in HOST or of_strings or any(_is_on_text(frozen, name) for name in called(node))


def _is_list_of_strings(node: Any) -> bool:
    return node.attr["element_dtype"].type == tf.string.as_datatype_enum if "element_dtype" in node.attr else False


def _is_on_text(frozen: Frozen, name: str) -> bool:
    """Whether a function of a loop or branch needs the host."""
    function = next((each for each in frozen.library.function if each.signature.name == name), None)
    return function is not None and any(
        node.op in HOST
        or has_strings(node)
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
            inner.op == "Const" or inner.op in NOTHING or _may_run_on_host(inner, frozen, in_loop=True)
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
