"""Replaces complex numbers in a TensorFlow graph by pairs of floats: ONNX Runtime has none.

Fourier transforms become products with matrices of cosines and sines, which are constants where lengths are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.training.onnx.decompositions.elementwise import angle_of

Pair = tuple[tf.Tensor, tf.Tensor]
"""Real and imaginary parts, float32 or float64."""

MOST_POINTS = 4096
"""Longer transforms would need matrices of more than 64 MB."""
_KINDS = (tf.complex64, tf.complex128)


class ComplexNumbersError(ValueError):
    """Raised for an operation on complex numbers that cannot be replaced; the message names it."""


class Pairs:
    """The complex tensors of a graph, by their pair; operations are replaced in the graph's order."""

    def __init__(self) -> None:
        self._known: dict[str, Pair] = {}

    def replace(self, operation: Any) -> list[tf.Tensor] | None:
        """The real outputs of an operation that reads or makes complex numbers; None if it does neither.

        ComplexNumbersError when there is no such computation.
        """
        makes = any(tensor.dtype in _KINDS for tensor in operation.outputs)
        reads = any(tensor.dtype in _KINDS for tensor in operation.inputs)
        if not (makes or reads) or operation.type == "Const":
            return None
        inputs = [self._pair(tensor) if tensor.dtype in _KINDS else tensor for tensor in operation.inputs]
        found = REPLACED.get(operation.type)
        if found is None:
            raise ComplexNumbersError(f"ONNX has no {operation.type} of complex numbers")
        made = found(operation, inputs)
        if not makes:
            return [made]
        [output] = operation.outputs
        self._known[output.name] = made
        return None

    def _pair(self, tensor: tf.Tensor) -> Pair:
        if tensor.name not in self._known:
            value = tf.get_static_value(tensor)
            if value is None:
                raise ComplexNumbersError(f"ONNX has no complex numbers, which {tensor.op.type} makes")
            return tf.constant(value.real), tf.constant(value.imag)
        return self._known[tensor.name]


def _parts(compute: Callable[[Any, list[tf.Tensor]], tf.Tensor]) -> Callable[[Any, list[Any]], Pair]:
    """An operation that moves values: it does the same to both parts."""

    def run(operation: Any, inputs: list[Any]) -> Pair:
        both = [[x[n] if isinstance(x, tuple) else x for x in inputs] for n in (0, 1)]
        real, imaginary = (compute(operation, each) for each in both)
        return real, imaginary

    return run


def _same(operation: Any, inputs: list[tf.Tensor]) -> tf.Tensor:
    """The operation itself, of floats."""
    float_type = next(x.dtype for x in inputs if x.dtype.is_floating)
    attributes = {name: value for name, value in operation.node_def.attr.items() if not name.startswith("_")}
    for name in ("T", "Tparams"):
        if name in attributes:
            attributes[name] = type(attributes[name])(type=float_type.as_datatype_enum)
    graph = tf.compat.v1.get_default_graph()
    made = graph.create_op(operation.type, inputs, [float_type], attrs=attributes, name=operation.type.lower())
    return made.outputs[0]


def _turn(rows: tf.Tensor, columns: tf.Tensor, length: tf.Tensor, dtype: tf.DType) -> Pair:
    """cos and sin of 2π·row·column/length, [rows, columns]; the product is reduced first, so that angles are exact."""
    product = tf.cast(tf.math.floormod(rows[:, None] * columns, length), dtype)
    angle = product * tf.cast(2 * math.pi, dtype) / tf.cast(length, dtype)
    return tf.cos(angle), tf.sin(angle)


def _turn_of(rows: tf.Tensor, columns: tf.Tensor, length: tf.Tensor, dtype: tf.DType) -> Pair:
    known = [tf.get_static_value(x) for x in (rows, columns, length)]
    if any(x is None for x in known):
        return _turn(rows, columns, length, dtype)
    if max(len(known[0]), len(known[1])) > MOST_POINTS:
        raise ComplexNumbersError(f"a Fourier transform of more than {MOST_POINTS} points is not converted")
    angle = 2 * np.pi * (np.outer(known[0], known[1]) % known[2]) / known[2]
    kind = dtype.as_numpy_dtype
    return tf.constant(np.cos(angle).astype(kind)), tf.constant(np.sin(angle).astype(kind))


def _range(length: tf.Tensor) -> tf.Tensor:
    known = tf.get_static_value(length)
    return tf.range(length) if known is None else tf.constant(np.arange(known, dtype=np.int32))


def _fitted(x: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """The last axis cut, or filled up with zeros, to a length."""
    known = tf.get_static_value(length)
    if known is not None and x.shape[-1] == known:
        return x
    x = x[..., :length]
    return tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[0, length - tf.shape(x)[-1]]])


def _real_transform(operation: Any, inputs: list[Any]) -> Pair:
    """RFFT: [..., n] -> [..., n // 2 + 1]."""
    x, size = inputs
    length = size[0]
    x = _fitted(x, length)
    places = _range(length // 2 + 1)
    cosine, sine = _turn_of(_range(length), places, length, x.dtype)
    # The first, and the last of an even number, are real: an imaginary part of -0 would turn their angle around.
    is_real = tf.logical_or(tf.equal(places, 0), tf.equal(places * 2, length))
    imaginary = -tf.matmul(x, sine)
    return tf.matmul(x, cosine), tf.where(is_real, tf.zeros_like(imaginary), imaginary)


def _back_to_real(operation: Any, inputs: list[Any]) -> tf.Tensor:
    """IRFFT: [..., n // 2 + 1] -> [..., n]. The parts that a real result cannot have do not count."""
    (real, imaginary), size = inputs
    length = size[0]
    bins = length // 2 + 1
    real, imaginary = _fitted(real, bins), _fitted(imaginary, bins)
    cosine, sine = _turn_of(_range(bins), _range(length), length, real.dtype)
    # Each bin stands for its mirror image, too, except the first, and the last of an even number.
    place = tf.range(bins)
    alone = tf.logical_or(tf.equal(place, 0), tf.equal(place * 2, length))
    weight = tf.where(alone, tf.ones_like(place, real.dtype), 2 * tf.ones_like(place, real.dtype))
    weight /= tf.cast(length, real.dtype)
    return tf.matmul(real * weight, cosine) - tf.matmul(imaginary * weight, sine)


def _transform(sign: int, axes: int = 1) -> Callable[[Any, list[Any]], Pair]:
    """FFT (sign -1) and IFFT (1) over the last axes."""

    def run(operation: Any, inputs: list[Any]) -> Pair:
        real, imaginary = inputs[0]
        for axis in range(axes):
            if axis:
                real, imaginary = (tf.linalg.matrix_transpose(x) for x in (real, imaginary))
            length = real.shape[-1] if real.shape[-1] is not None else tf.shape(real)[-1]
            length = tf.constant(length) if isinstance(length, int) else length
            points = _range(length)
            cosine, sine = _turn_of(points, points, length, real.dtype)
            sine *= sign
            real, imaginary = (
                tf.matmul(real, cosine) - tf.matmul(imaginary, sine),
                tf.matmul(real, sine) + tf.matmul(imaginary, cosine),
            )
            if sign > 0:
                count = tf.cast(length, real.dtype)
                real, imaginary = real / count, imaginary / count
            if axis:
                real, imaginary = (tf.linalg.matrix_transpose(x) for x in (real, imaginary))
        return real, imaginary

    return run


def _product(operation: Any, inputs: list[Any]) -> Pair:
    (a, b), (c, d) = inputs
    return a * c - b * d, a * d + b * c


def _quotient(operation: Any, inputs: list[Any]) -> Pair:
    (a, b), (c, d) = inputs
    size = c * c + d * d
    return (a * c + b * d) / size, (b * c - a * d) / size


def _exponential(operation: Any, inputs: list[Any]) -> Pair:
    real, imaginary = inputs[0]
    size = tf.exp(real)
    return size * tf.cos(imaginary), size * tf.sin(imaginary)


def _to_complex(operation: Any, inputs: list[Any]) -> Any:
    [x] = inputs
    to = operation.outputs[0].dtype
    part = {tf.complex64: tf.float32, tf.complex128: tf.float64}
    if isinstance(x, tuple):
        return tuple(tf.cast(each, part[to]) for each in x) if to in part else tf.cast(x[0], to)
    x = tf.cast(x, part[to])
    return x, tf.zeros_like(x)


def _size(operation: Any, inputs: list[Any]) -> tf.Tensor:
    """The absolute value, without an overflow of the squares."""
    real, imaginary = (tf.abs(x) for x in inputs[0])
    large, small = tf.maximum(real, imaginary), tf.minimum(real, imaginary)
    share = tf.where(large > 0, small / large, tf.zeros_like(large))
    return tf.where(tf.math.is_inf(large), large, large * tf.sqrt(1 + share * share))


def _angle(operation: Any, inputs: list[Any]) -> tf.Tensor:
    real, imaginary = inputs[0]
    return angle_of(imaginary, real)


def _shape(operation: Any, inputs: list[Any]) -> tf.Tensor:
    return tf.shape(inputs[0][0], operation.outputs[0].dtype)


REPLACED: dict[str, Callable[[Any, Any], Any]] = {
    "RFFT": _real_transform,
    "IRFFT": _back_to_real,
    "FFT": _transform(-1),
    "IFFT": _transform(1),
    "FFT2D": _transform(-1, 2),
    "IFFT2D": _transform(1, 2),
    "Complex": lambda operation, inputs: (inputs[0], inputs[1]),
    "Real": lambda operation, inputs: tf.identity(inputs[0][0]),
    "Imag": lambda operation, inputs: tf.identity(inputs[0][1]),
    "ComplexAbs": _size,
    "Angle": _angle,
    "Cast": _to_complex,
    "Conj": lambda operation, inputs: (inputs[0][0], -inputs[0][1]),
    "Neg": lambda operation, inputs: (-inputs[0][0], -inputs[0][1]),
    "Exp": _exponential,
    "Mul": _product,
    "RealDiv": _quotient,
    "AddV2": _parts(lambda operation, x: x[0] + x[1]),
    "Sub": _parts(lambda operation, x: x[0] - x[1]),
    "Sum": _parts(_same),
    "Shape": _shape,
    **{
        name: _parts(_same)
        for name in ("Identity", "Reshape", "Transpose", "ExpandDims", "Squeeze", "StridedSlice", "Slice", "ConcatV2")
    },
    **{name: _parts(_same) for name in ("Pack", "GatherV2", "Pad", "Tile", "ReverseV2", "BroadcastTo")},
}


def has_complex(nodes: Sequence[Any]) -> bool:
    """Whether nodes of a GraphDef read or make complex numbers."""
    kinds = {kind.as_datatype_enum for kind in _KINDS}
    return any(
        node.op in ("RFFT", "IRFFT") or any(value.type in kinds for value in node.attr.values()) for node in nodes
    )
