"""Replaces calls of functions by the functions' nodes, and leaves out what no output needs.

TensorFlow's own optimizer does not inline a function that checks a value or changes a variable, since a caller could
then skip it. Here that is wanted: only data count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import function_def_to_graph

from ladle.training.onnx.effects import data_of, needed
from ladle.training.onnx.rewrites.cases import without_cases

More = Callable[[Callable[[str], tf.Tensor]], Mapping[str, tf.Tensor]]
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
REFERENCES = ("VariableV2", "Variable")
"""Variables of TensorFlow 1 that are no resources: nodes of the graph that hold their value."""
OLD_LOOPS = ("Enter", "RefEnter", "Switch", "RefSwitch")


class OwnNames:
    """A concrete function whose inputs have the names that callers use, which need not be names of Python.

    Inputs and outputs are in the order of their names. In TensorFlow's own functions the order depends on the hashes of
    strings, and so differs from process to process; what is tried in turn with each input would differ, too.

    names  of the inputs, by those that the function's parameters have
    """

    def __init__(self, function: Any, names: Mapping[str, str]) -> None:
        self._function, self._parameters = function, {name: parameter for parameter, name in names.items()}
        specs = function.structured_input_signature[1]
        named = {names[n]: _named(spec, names[n]) for n, spec in sorted(specs.items(), key=lambda item: names[item[0]])}
        self.structured_input_signature: tuple[tuple[()], dict[str, tf.TensorSpec]] = ((), named)
        self.structured_outputs: dict[str, Any] = dict(sorted(function.structured_outputs.items()))

    def __call__(self, **tensors: Any) -> Any:
        return self._function(**{self._parameters[name]: tensor for name, tensor in tensors.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


def with_own_names(function: Any, names: Collection[str]) -> Any:
    """A signature's function that takes its inputs by these names: TensorFlow makes `image_bytes` of `image/bytes`."""
    specs = function.structured_input_signature[1]
    found = {parameter: spec.name for parameter, spec in specs.items()}
    if set(specs) == set(names) or sorted(map(str, found.values())) != sorted(names):
        found = {parameter: parameter for parameter in specs}
    return OwnNames(function, found)


def _named(spec: Any, name: str) -> Any:
    """The specification of an input under a name; ragged and sparse ones have none."""
    return tf.TensorSpec(spec.shape, spec.dtype, name) if isinstance(spec, tf.TensorSpec) else spec


class Flat:
    """A GraphDef without calls of functions; functions that loops and branches run remain in its library.

    ensured  shapes that EnsureShape demanded, by the Identity that is in its place
    """

    def __init__(self, graph_def: Any) -> None:
        graph_def = without_cases(graph_def)
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._versions = graph_def.versions
        self._alias: dict[str, str] = {}
        self.ensured: dict[str, tf.TensorShape] = {}
        made: list[Any] = []
        with tf.Graph().as_default():
            library = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
            tf.graph_util.import_graph_def(library)  # functions that functions name
            self._expand(graph_def.node, made)
        self.nodes = {node.name: node for node in made}
        # A constant in a loop of TensorFlow 1 belongs to the loop because of a control input.
        keeps_control = any(node.op in OLD_LOOPS for node in made)
        for node in made:
            node.attr.pop("_class", None)  # it may name a node that is gone
            node.attr.pop("_output_shapes", None)
            if node.op == "EnsureShape":  # else an optimizer takes for granted what is to be checked
                self.ensured[node.name] = tf.TensorShape(node.attr.pop("shape").shape)
                node.op = "Identity"
            data = [self.resolved(text) for text in data_of(node)]
            control = [text for text in node.input if text.startswith("^") and text[1:] in self.nodes]
            del node.input[:]
            node.input.extend([*data, *(control if keeps_control else [])])

        self._read_before_switches()

    def _read_before_switches(self) -> None:
        """A variable that a branch of TensorFlow 1 reads is read before the Switch: its value takes the way then.

        TensorFlow does not trace a function in which a Switch hands on a resource.
        """
        waiting = [node for node in self.nodes.values() if node.op == "Switch" and _is_of_resource(node)]
        while waiting:
            readers = {node.name: self._readers(node.name) for node in waiting}
            ready = [each for each in waiting if all(n.op == "ReadVariableOp" for n in readers[each.name])]
            for node in ready:
                for reader in readers[node.name]:
                    node.attr["T"].type = reader.attr["dtype"].type
                    reader.op = "Identity"
                    reader.attr["T"].type = reader.attr.pop("dtype").type
                read = type(node)(name=f"{node.name}/value", op="ReadVariableOp", input=[node.input[0]])
                read.attr["dtype"].type = node.attr["T"].type
                node.input[0] = read.name
                self.nodes[read.name] = read
            waiting = [node for node in waiting if node not in ready] if ready else []

    def _readers(self, name: str) -> list[Any]:
        return [node for node in self.nodes.values() if any(text.partition(":")[0] == name for text in data_of(node))]

    def resolved(self, text: str) -> str:
        """The tensor that a reference means: an output of a call is one of the function's nodes."""
        text = text if ":" in text else f"{text}:0"
        while text in self._alias:
            text = self._alias[text]
        return text.removesuffix(":0")

    def function(self, name: str) -> Any:
        """The FunctionDef of this name, or None."""
        return self._functions.get(name)

    def graph_def(self, outputs: Iterable[str]) -> Any:
        """The GraphDef of the nodes that these tensors need."""
        result = graph_pb2.GraphDef(versions=self._versions)
        result.node.extend(self.nodes[name] for name in needed(self.nodes, outputs))
        result.library.function.extend(self._functions.values())
        return result

    def _expand(self, nodes: Sequence[Any], made: list[Any]) -> None:
        for node in nodes:
            name = node.attr["f"].func.name if node.op in _CALLS else node.op
            function = self._functions.get(name)
            if function is None:
                made.append(type(node).FromString(node.SerializeToString()))
                continue
            body, flat = function_def_to_graph.function_def_to_graph_def(function)
            prefix, arguments = f"{node.name}/", function.signature.input_arg
            for argument, text in zip(arguments, data_of(node), strict=True):
                self._alias[f"{prefix}{argument.name}:0"] = text if ":" in text else f"{text}:0"
            for n, output in enumerate(function.signature.output_arg):
                self._alias[f"{node.name}:{n}"] = prefix + flat[function.ret[output.name]]
            inner = list(body.node)[len(arguments) :]
            for each in inner:
                each.name = prefix + each.name
                inputs = [f"^{prefix}{t[1:]}" if t.startswith("^") else prefix + t for t in each.input]
                del each.input[:]
                each.input.extend(inputs)
            self._expand(inner, made)


@dataclass(frozen=True)
class Pure:
    """A computation without effects, as a Python function of named tensors and as a concrete function.

    The first has no call of a function in it when it is traced: loops of TensorFlow 1 are not inlined otherwise.
    """

    compute: Callable[..., dict[str, tf.Tensor]]
    function: Any


class Signature:
    """A signature's concrete function, as a flat graph.

    flat     its nodes
    given    input -> the node that stands for it
    outputs  output -> its tensor in `flat`
    """

    def __init__(self, function: Any) -> None:
        self._specs = function.structured_input_signature[1]
        names = list(self._specs)
        anonymous = [tf.TensorSpec(spec.shape, spec.dtype) for spec in self._specs.values()]
        called = tf.function(
            lambda *tensors: function(**dict(zip(names, tensors, strict=True))), input_signature=anonymous
        )
        self._traced = called.get_concrete_function()
        self.flat = Flat(self._traced.graph.as_graph_def())
        for node in self.flat.nodes.values():
            if node.op in REFERENCES:
                _become_constant(node, _value_of(function, node.name))
        given = self._traced.inputs[: len(names)]
        self.given = {name: tensor.op.name for name, tensor in zip(names, given, strict=True)}
        self.outputs = {
            name: self.flat.resolved(tensor.name) for name, tensor in self._traced.structured_outputs.items()
        }

    def pure(self, more: More = lambda tensor: {}, wanted: Sequence[str] = ()) -> Pure:
        """What computes the outputs, and does nothing besides.

        more    further outputs; it gets a function: the name of a tensor in `flat` -> the tensor
        wanted  names of the tensors that `more` reads
        """
        graph_def = self.flat.graph_def([*self.outputs.values(), *wanted])
        # A placeholder that stayed would look like a further input: an optimizer may read the shape of the one in place
        # of the other's.
        outer = {*self.given.values(), *(inner.op.name for _, inner in self._traced.graph.captures)}
        nodes = [node for node in graph_def.node if node.name not in outer]
        del graph_def.node[:]
        graph_def.node.extend(nodes)
        read = {_whole(text) for node in nodes for text in data_of(node)}
        texts = [_whole(text) for text in (*self.outputs.values(), *wanted)]

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        def run(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            for variable in self._traced.graph.variables:
                tf.compat.v1.get_default_graph().watch_variable(variable)
            inputs = {f"{self.given[name]}:0": tensor for name, tensor in tensors.items()}
            graph = tf.compat.v1.get_default_graph()
            inputs |= {inner.name: graph.capture(outer) for outer, inner in self._traced.graph.captures}
            used = {text: tensor for text, tensor in inputs.items() if text in read}
            asked = [text for text in dict.fromkeys(texts) if text not in inputs]
            made = tf.graph_util.import_graph_def(graph_def, input_map=used, return_elements=asked, name="pure")
            found = {**inputs, **dict(zip(asked, made, strict=True))}
            result = {name: tf.identity(found[_whole(text)]) for name, text in self.outputs.items()}
            return result | dict(more(lambda text: found[_whole(text)]))

        names = {f"input_{n}": name for n, name in enumerate(self._specs)}
        named = {key: tf.TensorSpec(self._specs[n].shape, self._specs[n].dtype, name=key) for key, n in names.items()}
        inner = tf.autograph.experimental.do_not_convert(
            lambda **tensors: run(**{names[key]: tensor for key, tensor in tensors.items()})
        )
        return Pure(run, OwnNames(tf.function(inner).get_concrete_function(**named), names))


def _is_of_resource(node: Any) -> bool:
    return bool(node.attr["T"].type == tf.resource.as_datatype_enum)


def _value_of(function: Any, name: str) -> Any:
    """The value of a variable that is a node of a function, by its name in a graph that calls the function."""
    own = name
    while own and own not in {operation.name for operation in function.graph.get_operations()}:
        _, _, own = own.partition("/")
    with function.graph.as_default():
        read = tf.identity(function.graph.as_graph_element(f"{own}:0"))
    return function.prune([], [read.name])()[0].numpy()


def _become_constant(node: Any, value: Any) -> None:
    dtype = node.attr["dtype"].type
    node.op = "Const"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = dtype
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.as_dtype(dtype)))


def _whole(text: str) -> str:
    return text if ":" in text else f"{text}:0"
