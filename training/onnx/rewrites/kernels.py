"""Works around kernels that ONNX Runtime lacks: of float64, and of dilated convolutions of padding SAME.

Operations without a float64 kernel compute in float32, with casts around them. The comparison with TensorFlow decides
whether float32 is exact enough; its tolerance is that of float32.
"""

from __future__ import annotations

import re

import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
import onnxruntime

from ladle.training.onnx.simplify import subgraphs

_T = onnx.TensorProto
_MOST_KINDS = 24
_FAILS_LATER = ("LSTM", "GRU", "RNN")  # ONNX Runtime loads them, and fails when they run
_LACKING = (
    re.compile(r"Could not find an implementation for (\w+)\("),
    re.compile(r"(\w+) does not support double"),
    re.compile(r"Exception during initialization.*?/(\w+)_op\.h.*double", re.S),
)


def cast_where_lacking(model: onnx.ModelProto) -> None:
    """Put casts around the operations that ONNX Runtime cannot compute in float64, until it loads the graph.

    A graph that it cannot load for another reason stays as it is.
    """
    if not _has_doubles(model):
        return
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    done = {kind for kind in _FAILS_LATER if _cast(model, kind)}
    while len(done) < _MOST_KINDS:
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has no common error type
            found = next((match[1] for pattern in _LACKING if (match := pattern.search(str(error)))), None)
            if found is None or found in done or not _cast(model, found):
                return
            done.add(found)
        else:
            return


def pad_dilated(model: onnx.ModelProto) -> None:
    """Write out the padding SAME of dilated convolutions. With strides of 1 it is the same for images of any size."""
    for graph in subgraphs(model.graph):
        for node in graph.node:
            found = {attribute.name: attribute for attribute in node.attribute}
            if node.op_type != "Conv" or not {"auto_pad", "dilations", "kernel_shape"} <= found.keys():
                continue
            dilations, strides = found["dilations"].ints, found["strides"].ints if "strides" in found else [1]
            if found["auto_pad"].s != b"SAME_UPPER" or max(dilations) == 1 or max(strides) > 1:
                continue
            more = [(size - 1) * rate for size, rate in zip(found["kernel_shape"].ints, dilations, strict=True)]
            pads = [*(size // 2 for size in more), *(size - size // 2 for size in more)]
            node.attribute.remove(found["auto_pad"])
            node.attribute.append(onnx.helper.make_attribute("pads", pads))


def _has_doubles(model: onnx.ModelProto) -> bool:
    return (
        any(tensor.data_type == _T.DOUBLE for graph in subgraphs(model.graph) for tensor in graph.initializer)
        or any(value.type.tensor_type.elem_type == _T.DOUBLE for value in (*model.graph.input, *model.graph.output))
        or any(
            attribute.name == "to" and attribute.i == _T.DOUBLE
            for graph in subgraphs(model.graph)
            for node in graph.node
            for attribute in node.attribute
        )
    )


def _cast(model: onnx.ModelProto, kind: str) -> bool:
    """Put casts around all operations of a kind that read or make float64; whether there were any."""
    inferred = onnx.shape_inference.infer_shapes(model)
    is_changed = False
    for graph, known in zip(subgraphs(model.graph), subgraphs(inferred.graph), strict=True):
        doubles = {tensor.name for tensor in graph.initializer if tensor.data_type == _T.DOUBLE}
        values = [*known.input, *known.value_info, *known.output, *inferred.graph.value_info, *inferred.graph.input]
        doubles |= {value.name for value in values if value.type.tensor_type.elem_type == _T.DOUBLE}
        doubles |= {tensor.name for tensor in model.graph.initializer if tensor.data_type == _T.DOUBLE}
        nodes = []
        for node in graph.node:
            if node.op_type != kind or doubles.isdisjoint([*node.input, *node.output]):
                nodes.append(node)
                continue
            is_changed = True
            before, after = [], []
            for n, name in enumerate(node.input):
                if name in doubles:
                    made = f"{node.output[0]}/float_{n}"
                    before.append(onnx.helper.make_node("Cast", [name], [made], to=_T.FLOAT))
                    node.input[n] = made
            for n, name in enumerate(node.output):
                if name in doubles or (name and not _is_known(name, values)):
                    made = f"{name}/float"
                    after.append(onnx.helper.make_node("Cast", [made], [name], to=_T.DOUBLE))
                    node.output[n] = made
            nodes += [*before, node, *after]
        del graph.node[:]
        graph.node.extend(nodes)
    return is_changed


def _is_known(name: str, values: list[onnx.ValueInfoProto]) -> bool:
    return any(value.name == name for value in values)
