"""Lets a graph refuse images in which the window of a pool finds no place.

TensorFlow goes on with an image without pixels then. ONNX Runtime pools what there is, which is another answer; a
convolution refuses such an image by itself.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference

_T = onnx.TensorProto
_POOLS = ("AveragePool", "MaxPool")
_LEAST = "least_side"
"""The property of a model that says which images it refuses."""
_MOST = 1024
_MOST_ELEMENTS = 1024  # of a constant that shape inference reads


def refuse_small_images(model: onnx.ModelProto) -> None:
    """Make the run fail if a free side of the images is too short, where such a length can be found."""
    pools = {node.input[0]: _kernel(node) for node in model.graph.node if _is_bare(node)}
    free = [value for value in model.graph.input if any(n > 0 for n in _free_axes(value))]
    if not pools or len(free) != 1:
        return
    skeleton = _without_weights(model)
    if not _fits(skeleton, pools, _MOST):
        return
    low, high = 0, _MOST  # the longest that does not fit, the shortest that does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(skeleton, pools, middle) else (middle, high)
    bodies = [attribute for node in model.graph.node for attribute in node.attribute if attribute.HasField("g")]
    if high > 1 and not bodies and model.graph.output[0].name not in {value.name for value in model.graph.input}:
        _demand(model, free[0].name, [n for n in _free_axes(free[0]) if n > 0], high)
        model.metadata_props.add(key=_LEAST, value=str(high))


def least_side(model: onnx.ModelProto) -> int:
    """The least length of a free side of the images; 1 if any is long enough, as far as it is known."""
    return next((int(each.value) for each in model.metadata_props if each.key == _LEAST), 1)


def _is_bare(node: onnx.NodeProto) -> bool:
    """Whether a node is a pool without padding."""
    found = {attribute.name: attribute for attribute in node.attribute}
    is_padded = any(found["pads"].ints) if "pads" in found else False
    is_same = "auto_pad" in found and found["auto_pad"].s.startswith(b"SAME")
    return node.op_type in _POOLS and not is_padded and not is_same


def _kernel(node: onnx.NodeProto) -> list[int]:
    return list(next(attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape"))


def _free_axes(value: onnx.ValueInfoProto) -> list[int]:
    sizes = value.type.tensor_type.shape.dim
    return [n for n, size in enumerate(sizes) if not size.HasField("dim_value")]


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph for shape inference: of large constants, which it does not read, shapes alone."""
    bare = onnx.ModelProto()
    bare.opset_import.extend(model.opset_import)
    bare.ir_version = model.ir_version
    graph = model.graph
    bare.graph.name = graph.name
    bare.graph.node.extend(graph.node)
    bare.graph.input.extend(graph.input)
    for value in graph.output:
        bare.graph.output.add(name=value.name).type.tensor_type.elem_type = value.type.tensor_type.elem_type
    for tensor in graph.initializer:
        if np.prod(tensor.dims) > _MOST_ELEMENTS:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            bare.graph.initializer.append(tensor)
    return bare


def _fits(skeleton: onnx.ModelProto, pools: dict[str, list[int]], length: int) -> bool:
    """Whether each pool surely has room if every free side has this length."""
    sized = onnx.ModelProto()
    sized.CopyFrom(skeleton)
    for value in sized.graph.input:
        for n, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                size.Clear()
                size.dim_value = length if n else 1
    try:
        graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    except Exception:  # an operation without rules
        return False
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.value_info)}
    return all(
        name in shapes
        and all(size.dim_value >= side for size, side in zip(shapes[name][-len(kernel) :], kernel, strict=True))
        for name, kernel in pools.items()
    )


def _demand(model: onnx.ModelProto, image: str, axes: list[int], least: int) -> None:
    """Add nodes that fail if one of these axes is shorter, by an index beyond a constant. An output waits for them."""
    graph, output = model.graph, model.graph.output[0].name
    constants = {"axes": axes, "least": [least], "two": [2], "none": [0], "first": [0]}
    for name, value in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), f"small/{name}"))
    for node in graph.node:
        for names in (node.input, node.output):
            for n, name in enumerate(names):
                if name == output:
                    names[n] = "small/output"
    steps = [
        ("Shape", [image], "small/shape"),
        ("Gather", ["small/shape", "small/axes"], "small/sides"),
        ("Min", ["small/sides", "small/least"], "small/sides_to_least"),
        ("Sub", ["small/sides_to_least", "small/least"], "small/missing"),
        ("Mul", ["small/missing", "small/two"], "small/places"),  # -1 would be the last place
        ("Gather", ["small/none", "small/places"], "small/zeros"),
        ("ReduceMax", ["small/zeros", "small/first"], "small/zero"),
        ("Shape", ["small/output"], "small/output_shape"),
        ("Add", ["small/output_shape", "small/zero"], "small/same_shape"),
    ]
    graph.node.extend(onnx.helper.make_node(op, inputs, [made]) for op, inputs, made in steps)
    graph.node.append(onnx.helper.make_node("Reshape", ["small/output", "small/same_shape"], [output], allowzero=1))
