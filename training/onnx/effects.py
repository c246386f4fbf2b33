"""Finds what a signature of a SavedModel does besides computing its outputs: variables it changes, values it checks.

An ONNX graph holds each variable as a constant. So a signature that reads a variable which some signature changes stays
on TensorFlow. A variable that is changed, but that no output depends on, is no state: Keras's augmentation layers have
a seed, which they leave alone at inference or change in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

INIT_OP = "__saved_model_init_op"
"""Lists the operation that initializes a SavedModel as a signature. It runs once, before the first request."""

_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
_READS = ("ReadVariableOp", "_ReadVariablesOp", "ResourceGather", "ResourceGatherNd", "VariableShape")
_READS_NOTHING = ("VarIsInitializedOp", "IsVariableInitialized")
_PASSES_ON = ("Identity", "IdentityN", "Enter", "Exit", "Merge", "NextIteration", "Switch")
CHECKS = {"Assert": "Assert", "CheckNumerics": "check_numerics", "CheckNumericsV2": "check_numerics"}
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")  # their first input chooses; the others are arguments


@dataclass
class _Effects:
    """Names of the variables that a graph reads and changes, and the checks it makes."""

    reads: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    checks: set[str] = field(default_factory=set)

    def update(self, other: _Effects) -> None:
        self.reads |= other.reads
        self.changes |= other.changes
        self.checks |= other.checks


@dataclass(frozen=True)
class Findings:
    """What signatures of a MetaGraphDef do besides computing.

    reasons  why signatures must stay on TensorFlow, by signature; others are left out
    checks   signature -> the checks that it makes, such as `Assert`; those without are left out
    vain     signatures that change only variables on which no output depends
    """

    reasons: dict[str, str]
    checks: dict[str, list[str]]
    vain: frozenset[str]


def find(meta_graph: Any) -> Findings:
    """What each signature does besides computing its outputs."""
    graph = _Graph(meta_graph.graph_def)
    outputs = {
        name: [text for info in signature.outputs.values() for text in _tensors(info)]
        for name, signature in meta_graph.signature_def.items()
        if name != INIT_OP
    }
    found = {name: graph.effects(texts) for name, texts in outputs.items()}
    data = _Graph(meta_graph.graph_def, data_only=True)
    # No output of any signature depends on other variables.
    read = frozenset[str]().union(*(data.effects(texts).reads for texts in outputs.values()))
    changed_by: dict[str, list[str]] = {}
    for name, effects in sorted(found.items()):
        for variable in effects.changes & read:
            changed_by.setdefault(variable, []).append(name)
    sentences = {name: _reason(effects, read, changed_by) for name, effects in found.items()}
    return Findings(
        {name: sentence for name, sentence in sentences.items() if sentence},
        {name: sorted(effects.checks) for name, effects in found.items() if effects.checks},
        frozenset(name for name, effects in found.items() if effects.changes and not sentences[name]),
    )


def _tensors(info: Any) -> list[str]:
    """The tensors of an output: a ragged or sparse one has several."""
    kind = info.WhichOneof("encoding")
    if kind == "composite_tensor":
        return [text for each in info.composite_tensor.components for text in _tensors(each)]
    if kind == "coo_sparse":
        sparse = info.coo_sparse
        return [sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
    return [info.name]


def _reason(effects: _Effects, read: frozenset[str], changed_by: Mapping[str, Sequence[str]]) -> str:
    state = effects.changes & read
    if state:
        return f"it changes the variable {min(state)}; an ONNX graph cannot"
    changed = sorted(effects.reads & set(changed_by))
    if changed:
        others = ", ".join(f'"{other}"' for other in changed_by[changed[0]])
        return f"it reads the variable {changed[0]}, which {others} changes; an ONNX graph would keep its present value"
    return ""


class _Graph:
    """A GraphDef with its functions.

    data_only  whether only what reaches an output as data counts, and not what runs before it
    """

    def __init__(self, graph_def: Any, *, data_only: bool = False) -> None:
        self._data_only = data_only
        self.nodes = {node.name: node for node in graph_def.node}
        self.functions = {function.signature.name: function for function in graph_def.library.function}
        self._known: dict[tuple[str, tuple[frozenset[str], ...]], tuple[_Effects, frozenset[str]]] = {}

    def effects(self, outputs: Sequence[str]) -> _Effects:
        """What TensorFlow does when it computes these tensors."""
        effects, _ = self._walk(self.nodes, outputs, {}, {})
        return effects

    def _walk(
        self,
        nodes: Mapping[str, Any],
        outputs: Iterable[str],
        given: Mapping[str, frozenset[str]],
        shapes: Mapping[str, tf.TensorShape],
    ) -> tuple[_Effects, dict[str, frozenset[str]]]:
        """The effects of all nodes that the outputs need, and for each of these nodes the variables it hands on.

        given   variables by name of a function's argument
        shapes  shapes of a function's arguments
        """
        order = needed(nodes, outputs, data_only=self._data_only)
        holds: dict[str, frozenset[str]] = dict(given)
        effects = _Effects()
        # In a loop of TensorFlow 1, a node comes before one that feeds it: walk twice.
        for _ in range(2 if any(nodes[name].op.endswith("NextIteration") for name in order) else 1):
            for name in order:
                node = nodes[name]
                variables = [holds.get(node_of(text), frozenset()) for text in data_of(node)]
                # An assertion is a branch that refuses where its condition is false.
                holding = node.op in ("If", "StatelessIf") and is_true(nodes.get(node_of(node.input[0])))
                names = [node.attr["then_branch"].func.name] if holding else list(called(node))
                made, holds[name] = self._run(node, variables, [each for each in names if each in self.functions])
                effects.update(made)
        for name in order:
            node = nodes[name]
            if node.op in CHECKS and not (node.op == "Assert" and is_true(nodes.get(node_of(node.input[0])))):
                effects.checks.add(CHECKS[node.op])
            if node.op == "EnsureShape" and not _has_shape(node, nodes, shapes):
                effects.checks.add("ensure_shape")
        return effects, holds

    def _run(
        self, node: Any, variables: Sequence[frozenset[str]], functions: Sequence[str]
    ) -> tuple[_Effects, frozenset[str]]:
        """The effects of a node with these variables in its inputs, and the variables that its outputs hold.

        functions  that it calls
        """
        if node.op in _VARIABLES:
            return _Effects(), frozenset([_name_of(node)])
        if functions:
            return self._call(node, functions, variables)
        every = frozenset[str]().union(*variables)
        if not every or node.op in _READS_NOTHING:
            return _Effects(), frozenset()
        if node.op.removeprefix("Ref") in _PASSES_ON and (node.op.startswith("Ref") or _is_of_resources(node)):
            return _Effects(), every
        if node.op in _READS:
            return _Effects(reads=set(every)), frozenset()
        changed = frozenset[str]().union(*(names for names, by in zip(variables, _changes(node), strict=True) if by))
        # What assigns a variable of TensorFlow 1 returns a reference to it.
        return _Effects(reads=set(every), changes=set(changed)), changed

    def _call(
        self, node: Any, functions: Sequence[str], variables: Sequence[frozenset[str]]
    ) -> tuple[_Effects, frozenset[str]]:
        given = list(variables[1:] if node.op in _BRANCHES else variables)
        effects, every = _Effects(), frozenset[str]().union(*variables)
        returned = every if node.op in ("While", "StatelessWhile") else frozenset[str]()
        for name in functions:
            count = len(self.functions[name].signature.input_arg)
            # Operations such as MapDefun pass other arguments than their inputs: any may hold any variable.
            fitting = tuple(given if count == len(given) else [every] * count)
            inner, back = self._function(name, fitting)
            effects.update(inner)
            returned |= back
        return effects, returned

    def _function(self, name: str, variables: tuple[frozenset[str], ...]) -> tuple[_Effects, frozenset[str]]:
        """The effects of a function called with these variables, and the variables that it returns."""
        if (name, variables) not in self._known:
            self._known[name, variables] = _Effects(), frozenset()  # for a function that calls itself
            function = self.functions[name]
            arguments = [argument.name for argument in function.signature.input_arg]
            shapes = {
                argument: _shapes(function.arg_attr[n].attr)[0]
                for n, argument in enumerate(arguments)
                if n in function.arg_attr and _shapes(function.arg_attr[n].attr)
            }
            ends = [*function.ret.values(), *([] if self._data_only else function.control_ret.values())]
            effects, holds = self._walk(
                {node.name: node for node in function.node_def},
                ends,
                dict(zip(arguments, variables, strict=True)),
                shapes,
            )
            returned = frozenset[str]().union(*(holds.get(node_of(end), frozenset()) for end in function.ret.values()))
            self._known[name, variables] = effects, returned
        return self._known[name, variables]


def needed(nodes: Mapping[str, Any], outputs: Iterable[str], *, data_only: bool = False) -> list[str]:
    """The nodes that these outputs need, each after those that it needs itself.

    data_only  leaves out nodes that only have to run before another
    """
    ordered: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [(node_of(output), False) for output in outputs]
    while waiting:
        name, is_done = waiting.pop()
        if is_done:
            ordered[name] = None
        elif name in nodes and name not in seen:
            seen.add(name)
            waiting.append((name, True))
            inputs = data_of(nodes[name]) if data_only else nodes[name].input
            waiting += [(node_of(text), False) for text in inputs]
    return list(ordered)


def node_of(text: str) -> str:
    """The node in a reference to its output: `^node`, `node`, `node:1`, `node:output:0`."""
    return text.removeprefix("^").partition(":")[0]


def data_of(node: Any) -> list[str]:
    """The inputs of a node that are tensors."""
    return [text for text in node.input if not text.startswith("^")]


def _name_of(variable: Any) -> str:
    shared: str = variable.attr["shared_name"].s.decode("utf-8", "replace")
    return shared or str(variable.name)


def called(node: Any) -> Iterator[str]:
    """The functions that a node calls."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _is_of_resources(node: Any) -> bool:
    return any(value.type == tf.resource.as_datatype_enum for value in node.attr.values() if value.HasField("type"))


def _changes(node: Any) -> list[bool]:
    """Whether the operation may change a variable that it gets, for each input that is not a control input.

    It may change one that it takes as a reference (TensorFlow 1) or as a resource. Other operations take its value.
    """
    count, definition = len(data_of(node)), op_def_registry.get(node.op)
    if definition is None:
        return [True] * count
    may = [argument.is_ref or argument.type == tf.resource.as_datatype_enum for argument in definition.input_arg]
    return may if len(may) == count else [any(may) or _is_of_resources(node)] * count


def is_true(node: Any) -> bool:
    """Whether a node is the constant True."""
    return node is not None and node.op == "Const" and bool(tf.make_ndarray(node.attr["value"].tensor).all())


def _shapes(attributes: Any) -> list[tf.TensorShape]:
    return (
        [tf.TensorShape(shape) for shape in attributes["_output_shapes"].list.shape]
        if "_output_shapes" in attributes
        else []
    )


def _has_shape(node: Any, nodes: Mapping[str, Any], arguments: Mapping[str, tf.TensorShape]) -> bool:
    """Whether the input of an EnsureShape always has the shape that it demands."""
    demanded, [text] = tf.TensorShape(node.attr["shape"].shape), data_of(node)
    source = node_of(text)
    index = int(text.rpartition(":")[2]) if ":" in text else 0
    known = _shapes(nodes[source].attr) if source in nodes else [arguments[source]] if source in arguments else []
    if demanded.rank is None:
        return True
    if index >= len(known) or known[index].rank != demanded.rank:
        return False
    return all(
        size is None or size == have for size, have in zip(demanded.as_list(), known[index].as_list(), strict=True)
    )
