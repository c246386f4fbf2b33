"""Converts a TensorFlow function to an ONNX graph that ONNX Runtime can load."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx.shape_inference
import onnxruntime
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework import tensor_util
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tf2onnx.graph import Node

from ladle.training.onnx import parity
from ladle.training.onnx.complex_numbers import ComplexNumbersError
from ladle.training.onnx.decompose import Decomposition, decompose
from ladle.training.onnx.decompositions import DECOMPOSITIONS
from ladle.training.onnx.decompositions import FOR_EXTREMES as DECOMPOSED_FOR_EXTREMES
from ladle.training.onnx.exact import FOR_EXTREMES, copy_known_sizes
from ladle.training.onnx.external import Weights
from ladle.training.onnx.folding import fold
from ladle.training.onnx.noise import noise
from ladle.training.onnx.operations import CONVERTERS
from ladle.training.onnx.ranges import ROUNDED
from ladle.training.onnx.recurrent import repeat_states, rewrite_loops
from ladle.training.onnx.rewrites import bodies, brain, casts, dense_lists
from ladle.training.onnx.rewrites.kernels import cast_where_lacking, pad_dilated
from ladle.training.onnx.rewrites.lists import in_order
from ladle.training.onnx.rewrites.products import as_matrix_products, without_long_search
from ladle.training.onnx.rewrites.small_images import refuse_small_images
from ladle.training.onnx.simplify import simplify, subgraphs
from ladle.training.quiet import quiet

OPSET = 18
"""The newest opset that tf2onnx writes; ONNX Runtime reads it since version 1.14."""
MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operations."""
PRODUCER = "ladle"
"""Value of `producer_name` in our graphs; `ladle convert` replaces only files that carry it."""

_PYTHON = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
_NO_NUMBERS = (tf.string, tf.resource, tf.variant, tf.complex64, tf.complex128)
# TensorFlow puts these lines before the sentence that names the cause.
_HEADINGS = ("Graph execution error", "Detected at node", "<stack traces", "File ", "in user code")


class NotConvertibleError(ValueError):
    """Raised when a function cannot become an ONNX graph; the message says why. Such functions run on TensorFlow."""


def to_onnx(
    function: Callable[..., Mapping[str, tf.Tensor]],
    inputs: Mapping[str, tf.TensorSpec],
    *,
    one_batch: bool = False,
    weights: Weights | None = None,
) -> onnx.ModelProto:
    """Convert a function of named tensors to an ONNX graph that contains its weights.

    one_batch  one of our own networks: the free first axes of all inputs and outputs are one batch axis. Otherwise they
               may differ in length: one query and five documents
    weights    gets the large weights, which the graph then does not contain; None: it contains them all, up to 2 GB

    The inputs and outputs of the graph keep the function's names. NotConvertibleError names the reason: a string
    tensor, or an operation without an ONNX counterpart.
    """
    if weights is not None:
        return _to_onnx(function, inputs, one_batch, weights)
    apart = Weights(with_loops=False)  # each of TensorFlow's and tf2onnx's passes would copy them
    try:
        model = _to_onnx(function, inputs, one_batch, apart)
    except NotConvertibleError:
        if not apart.arrays:
            raise
        # Some operations are converted only if their weights are known.
        return _to_onnx(function, inputs, one_batch, None)
    apart.fill(model)
    return model


def _to_onnx(
    function: Callable[..., Mapping[str, tf.Tensor]],
    inputs: Mapping[str, tf.TensorSpec],
    one_batch: bool,
    weights: Weights | None,
) -> onnx.ModelProto:
    """The graph; with `weights`, its large weights are among these."""
    for name, spec in inputs.items():
        if spec.dtype in _NO_NUMBERS:
            raise NotConvertibleError(
                f'input "{name}" is {spec.dtype.name}; ONNX graphs take only numbers and booleans'
            )
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in inputs.items()]
    traced = tf.function(lambda *tensors: function(**dict(zip(inputs, tensors, strict=True))), input_signature=specs)
    outputs = traced.get_concrete_function().structured_outputs
    for name, spec in outputs.items():
        if spec.dtype in _NO_NUMBERS:
            raise NotConvertibleError(
                f'output "{name}" is {spec.dtype.name}; ONNX graphs return only numbers and booleans'
            )
    both = sorted(set(inputs) & set(outputs))
    if both:
        raise NotConvertibleError(f'"{both[0]}" names both an input and an output; an ONNX graph needs different names')
    handlers = {op: entry for op, entry in CONVERTERS.items() if not one_batch or op not in FOR_EXTREMES}
    replaced = {op: entry for op, entry in DECOMPOSITIONS.items() if not one_batch or op not in DECOMPOSED_FOR_EXTREMES}
    try:
        with quiet(), _without_copies(), casts.that_change_values():
            model = _converted(traced, specs, handlers, replaced, weights)
    except ComplexNumbersError as error:
        raise NotConvertibleError(str(error)) from error
    except Exception:  # tf2onnx raises whatever its handlers and passes raise
        # One of its optimizer passes may have failed. With copies it can skip that pass.
        try:
            with quiet(), casts.that_change_values():
                model = _converted(traced, specs, handlers, replaced, weights)
        except Exception as error:
            raise NotConvertibleError(f"tf2onnx cannot convert it: {first_line(error)}") from error
    bodies.mend(model)
    as_matrix_products(model)
    missing = sorted({node.op_type for graph in subgraphs(model.graph) for node in graph.node if not _known(node)})
    if _PYTHON.intersection(missing):
        raise NotConvertibleError(
            "it calls Python code (py_function), which no SavedModel contains; rebuild it with TensorFlow's operations"
        )
    if missing:
        raise NotConvertibleError(f"ONNX has no {', '.join(missing)}")
    domains = {node.domain for graph in subgraphs(model.graph) for node in graph.node}
    if MICROSOFT in domains - {opset.domain for opset in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    copy_known_sizes(model)
    _name_axes(model, one_batch)
    arrays = {} if weights is None else weights.arrays
    _rewrite_loops(model, inputs, arrays)
    fold(model, arrays)
    simplify(model)
    if not one_batch:
        repeat_states(model.graph)
    pad_dilated(model)
    cast_where_lacking(model)
    if not one_batch:
        refuse_small_images(model)
    model.producer_name, model.graph.name = PRODUCER, "core"
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise NotConvertibleError(f"the converted graph is not valid ONNX: {first_line(error)}") from error
    if weights is not None:
        weights.make_initializers(model)
    _check_names("input", [value.name for value in model.graph.input], list(inputs))
    _check_names("output", [value.name for value in model.graph.output], list(outputs))
    return model


def session(model: bytes | str, threads: int = 0) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """Load a graph into ONNX Runtime on the CPU and return a function: arrays by name -> arrays by name.

    model    its bytes, or the path of its file
    threads  threads within an operation; 0: one per core

    NotConvertibleError when ONNX Runtime cannot load the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # fatal only: errors are raised anyway
    try:
        loaded = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no common error type
        raise NotConvertibleError(f"ONNX Runtime cannot load the graph: {first_line(error)}") from error
    names = [output.name for output in loaded.get_outputs()]

    def run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, loaded.run(names, dict(arrays)), strict=True))

    return run


def frozen_signature(
    function: Callable[..., Mapping[str, tf.Tensor]], inputs: Mapping[str, tf.TensorSpec]
) -> tuple[Any, dict[str, str], dict[str, str], dict[str, Any]]:
    """A signature's GraphDef, with variables and captured tensors as constants and calls of functions inlined.

    Also returns the node of each input by name, the tensor (`node:index`) of each output, and the captured resources
    by the node that stands for them.
    """
    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in inputs.values()]
    traced = tf.function(lambda *tensors: function(**dict(zip(inputs, tensors, strict=True))), input_signature=specs)
    concrete = traced.get_concrete_function()
    constants = {
        inner.op.name: value.numpy()
        for value, inner in concrete.graph.captures
        if value.dtype not in (tf.resource, tf.variant)
    }
    resources = {inner.op.name: value for value, inner in concrete.graph.captures if value.dtype == tf.resource}
    given = {name: tensor.op.name for name, tensor in zip(inputs, concrete.inputs[: len(specs)], strict=True)}
    with quiet():
        frozen = _frozen(concrete)
    _fix_nodes(frozen, constants, set(given.values()))
    outputs = {name: tensor.name for name, tensor in concrete.structured_outputs.items()}
    return frozen, given, outputs, resources


def _rewrite_loops(
    model: onnx.ModelProto, inputs: Mapping[str, tf.TensorSpec], weights: Mapping[str, np.ndarray]
) -> None:
    """Replace loops by recurrent layers, and undo it if the outputs on random inputs change.

    The rewriting recognises loops by their operations and weight shapes. A custom cell can look the same.
    """
    if not any(node.op_type in ("Loop", "Scan") for graph in subgraphs(model.graph) for node in graph.node):
        return
    before = model.SerializeToString()
    if not rewrite_loops(model.graph):
        return
    random = np.random.default_rng(0)
    arrays = {name: noise(random, spec, rows=3 if spec.shape.rank else None) for name, spec in inputs.items()}
    arrays = {name: a.astype(np.float32) if a.dtype.name == "bfloat16" else a for name, a in arrays.items()}
    try:
        parity.compare(session(before), session(model.SerializeToString()), [{**arrays, **weights}], rows=3)
    except Exception:  # the new graph may fail in any way; the old one is correct
        model.ParseFromString(before)


def _converted(
    traced: Any,
    specs: Sequence[tf.TensorSpec],
    handlers: Mapping[str, Any],
    replaced: Mapping[str, Decomposition],
    weights: Weights | None,
) -> onnx.ModelProto:
    """The graph as tf2onnx makes it, with variables and captured constants as initializers."""
    concrete = traced.get_concrete_function()
    constants = {
        inner.op.name: value.numpy()
        for value, inner in concrete.graph.captures
        if value.dtype not in (tf.resource, tf.variant)
    }
    every = [tensor.name for tensor in concrete.inputs if tensor.dtype != tf.resource]
    given, outputs = every[: len(specs)], [tensor.name for tensor in concrete.outputs]
    with tf.device("/cpu:0"):
        with weights.taken() if weights is not None else contextlib.nullcontext():
            frozen = tf2onnx.tf_loader.fix_freezing_errors_part2(_frozen(concrete))
            _fix_nodes(frozen, constants, {name.partition(":")[0] for name in given})
        names = dict(zip(given, (spec.name for spec in specs), strict=True))
        if weights is not None:
            large = weights.make_inputs(frozen)
            given, names = [*given, *large], names | large
        is_brain = brain.is_in(frozen)
        if is_brain:
            brain.widen(frozen)
        frozen = _with_dense_lists(frozen, outputs)
        in_order(frozen)
        frozen = decompose(frozen, replaced)
        with tf.Graph().as_default():
            tf.import_graph_def(frozen, name="")
            frozen = tf2onnx.tf_loader.tf_optimize(given, outputs, frozen)
        names |= {tensor.name: name for name, tensor in concrete.structured_outputs.items()}
        # What tf2onnx.convert.from_graph_def does, without a second optimization.
        with without_long_search():
            model, _ = tf2onnx.convert._convert_common(
                frozen,
                name="core",
                continue_on_error=True,
                target=None,
                opset=OPSET,
                custom_op_handlers=dict(handlers),
                input_names=given,
                output_names=outputs,
                tensors_to_rename=names,
            )
        if is_brain:
            onnx.helper.set_model_props(model, {ROUNDED: "bfloat16"})
    return model


def _with_dense_lists(frozen: Any, outputs: Sequence[str]) -> Any:
    """The GraphDef with tensors in place of lists that tf2onnx would lose; as it is, if they cannot be tensors."""
    if not dense_lists.are_needed(frozen):
        return frozen
    try:
        return dense_lists.as_tensors(frozen, outputs)
    except (ValueError, TypeError):
        return frozen


def _frozen(concrete: Any) -> Any:
    """The GraphDef of a function, with its variables as constants.

    TensorFlow's own function for it builds another function from the GraphDef, node by node. For a network of thousands
    of operations that takes most of the time, and the GraphDef is all that is needed.
    """
    try:
        return tf2onnx.tf_loader.convert_variables_to_constants_large_model(concrete)
    except Exception:  # TensorFlow's own modules, which another version may have moved
        frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
        return frozen.graph.as_graph_def(add_shapes=True)


def _fix_nodes(frozen: Any, constants: Mapping[str, np.ndarray], given: Collection[str]) -> None:
    """Make constants of captured tensors and of defaults that no request sets, and let every function be inlined."""
    functions = [node for function in frozen.library.function for node in function.node_def]
    for node in (*frozen.node, *functions):
        node.attr.pop("_class", None)  # it may name a node that a part of the graph lacks
        # Keras compiles grouped convolutions with XLA on the CPU. Such a function is not inlined.
        for attribute in ("_XlaMustCompile", "_noinline"):
            if attribute in node.attr:
                del node.attr[attribute]
    for function in frozen.library.function:
        for attributes in function.arg_attr.values():  # where it is not known, the caller's counts
            shapes = attributes.attr["_output_shapes"].list.shape if "_output_shapes" in attributes.attr else ()
            if any(shape.unknown_rank for shape in shapes):
                del attributes.attr["_output_shapes"]
        for attribute in ("_XlaMustCompile", "_noinline"):
            if attribute in function.attr:
                del function.attr[attribute]
    if any(node.op == "Cast" and node.attr["Truncate"].b for node in frozen.node):
        raise ValueError("a cast that truncates digits (Truncate=True) has no counterpart")
    for node in frozen.node:
        if node.op == "Placeholder" and node.name in constants:
            node.op = "Const"
            node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(constants[node.name]))
            del node.attr["shape"]
        elif node.op == "PlaceholderWithDefault" and node.name not in given:
            dtype = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype


@contextlib.contextmanager
def _without_copies() -> Iterator[None]:
    """Stop tf2onnx from copying the whole graph, weights included, before and after each of its passes.

    It copies before a pass so that it can skip one that fails. For 11 million weights the copies take most of the time.
    Without copies, a failed pass raises. After each pass it writes all nodes anew into their messages, whose memory is
    free only when the last of them is: 30 times the weights.
    """
    name = tf2onnx.constants.ENV_TF2ONNX_CATCH_ERRORS
    before, update = os.environ.get(name), Node.update_proto
    os.environ[name] = "FALSE"
    Node.update_proto = _update_proto(update)
    try:
        yield
    finally:
        Node.update_proto = update
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _update_proto(update: Callable[..., None]) -> Callable[..., None]:
    """tf2onnx's method `update`, which leaves a constant's message alone as long as its value is the same object."""

    def changed(node: Any, external_tensor_storage: Any = None) -> None:
        value = node.attr.get("value") if node.is_const() else None
        if value is None or external_tensor_storage is not None or node.__dict__.get("_ladle_written") is not value:
            update(node, external_tensor_storage)
            node.__dict__["_ladle_written"] = value
        elif list(node.op.output) != list(node.output):
            del node.op.output[:]
            node.op.output.extend(node.output)

    return changed


def _known(node: onnx.NodeProto) -> bool:
    return bool(onnx.defs.has(node.op_type, domain=node.domain)) or node.domain == MICROSOFT


def _name_axes(model: onnx.ModelProto, one_batch: bool) -> None:
    """Name the free axes: `batch` for a batch axis, else the tensor's name and the axis number.

    ONNX Runtime takes axes of one name to have one length and reuses buffers accordingly. If the lengths differ, a
    request fails. So two axes share a name only if they are surely equal.
    """
    first_axes = [v for v in model.graph.input if any(not d.HasField("dim_value") for d in _dimensions(v)[:1])]
    alone = one_batch or len(first_axes) == 1
    for value in model.graph.input:
        for axis, dimension in enumerate(_dimensions(value)):
            if not dimension.HasField("dim_value"):
                dimension.dim_param = "batch" if alone and axis == 0 else f"{value.name}_{axis}"
    equal = {} if one_batch else _inferred_axes(model)
    for value in model.graph.output:
        for axis, dimension in enumerate(_dimensions(value)):
            if not dimension.HasField("dim_value"):
                own = "batch" if one_batch and axis == 0 else f"{value.name}_{axis}"
                dimension.dim_param = equal.get((value.name, axis), own)


def _inferred_axes(model: onnx.ModelProto) -> dict[tuple[str, int], str]:
    """(output, axis) -> name of the input axis whose length it certainly has, by ONNX's rules for each operation."""
    known = {d.dim_param for value in model.graph.input for d in _dimensions(value) if d.dim_param}
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for value in bare.graph.output:
        for dimension in _dimensions(value):
            dimension.ClearField("dim_param")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # a graph of more than 2 GB, or an operation without rules
        return {}
    return {
        (value.name, axis): dimension.dim_param
        for value in inferred.graph.output
        for axis, dimension in enumerate(_dimensions(value))
        if dimension.dim_param in known
    }


def _dimensions(value: onnx.ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim


def _check_names(kind: str, got: list[str], expected: list[str]) -> None:
    if sorted(got) != sorted(expected):
        raise NotConvertibleError(f"the graph's {kind}s are {', '.join(got)}; expected {', '.join(expected)}")


def first_line(error: Any) -> str:
    """The first line of an error that states the cause, at most 300 characters, without headings and node names."""
    text = re.sub(r"\{\{.*?\}\}\s*", "", str(error))
    lines = [line.strip() for line in text.splitlines()]
    causes = [line for line in lines if line and not line.startswith(_HEADINGS)]
    return (causes or [type(error).__name__])[0][:300]
