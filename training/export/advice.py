"""What stopped a conversion: the operation, the layer that made it, and what the owner of the model can do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ladle.training.export.unsupported import kind_of

SERVED = "or leave it: it is served on TensorFlow"
_OF_TEXT = ("text", "encoded data", "lookup tables that change")
_OPERATIONS = {"ensure_shape": "EnsureShape", "check_numerics": "CheckNumerics"}
"""Operations that sentences call by the name of the function that makes them."""


@dataclass(frozen=True)
class Obstacle:
    """Why a signature has no graph.

    operation  the TensorFlow operation; "" if no single one is to blame
    layer      name scope of the layer that made it
    cure       what to do
    """

    operation: str
    layer: str
    cure: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        made = f"{self.operation} in {self.layer}: " if self.layer else f"{self.operation}: " if self.operation else ""
        return made + self.cure


def obstacle(reason: str, function: Any) -> Obstacle:
    """What stopped the conversion of a signature's concrete function, by the sentence that says why."""
    nodes = list(_nodes(function))
    words = [_OPERATIONS.get(word, word) for word in re.findall(r"[A-Za-z]\w+", reason)]
    named = [(op, name) for op, name in nodes if re.fullmatch("(Eager)?PyFunc(Stateless)?", op)]
    # The first operation of the sentence; calls of functions are only parts of names in it.
    named = named or [each for word in words for each in nodes if each[0] == word and not _is_call(word)]
    if "seed_generator" in reason:
        return Obstacle("", "", f"export it as model(x, training=False), so that no layer draws, {SERVED}")
    if not named and "the variable" in reason:
        named = [(op, name) for op, name in nodes if op.startswith(("Assign", "ResourceScatter"))]
    of_string = not named and re.search(r'(input|output) ".*" is string', reason)
    if of_string:
        named = [(op, name) for op, name in nodes if (kind := kind_of(op)) is not None and kind.name in _OF_TEXT]
    if named:
        operation, name = named[0]
        return Obstacle(operation, _layer(name), f"{_cure(operation) or 'rebuild without it'}, {SERVED}")
    if "warm-up" in reason:
        return Obstacle("", "", f"add warm-up requests with real inputs, {SERVED}")
    if re.search(r"\b(differs?|differences?|disagrees?)\b", reason):
        return Obstacle("", "", f"give --tolerance X --reason TEXT if the difference is harmless, {SERVED}")
    return Obstacle("", "", "it is served on TensorFlow")


def _nodes(function: Any) -> Iterator[tuple[str, str]]:
    """Operation and name of every node, those of inner functions too."""
    definition = function.graph.as_graph_def()
    for node in definition.node:
        yield node.op, node.name
    for inner in definition.library.function:
        for node in inner.node_def:
            yield node.op, node.name


def _is_call(operation: str) -> bool:
    return operation.endswith("PartitionedCall")


def _cure(operation: str) -> str:
    kind = kind_of(operation)
    return "" if kind is None else kind.cure


def _layer(name: str) -> str:
    """The name scopes above a node, without the calls that Keras and TensorFlow put around a model."""
    scopes = [
        scope for scope in name.split("/")[:-1] if not re.match(r"(StatefulPartitionedCall|PartitionedCall)", scope)
    ]
    return "/".join(scopes)
