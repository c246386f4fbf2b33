"""Random small graphs over the operations that are converted: functions of two tensors, made from lists of numbers.

Tensors are float32, int32 or bool, all [b, 6]. Exact operations come first, smooth ones follow: a small difference
before a comparison, a cast or a sort would be a large one behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

WIDTH = 6
FLOAT, INT, BOOL = "float", "int", "bool"


@dataclass(frozen=True)
class Operation:
    """A function of tensors of these kinds, and the kind of its result."""

    kinds: tuple[str, ...]
    result: str
    compute: Callable[..., Any]


def _wide(compute: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A reduction, repeated along the axis that it removed."""
    return lambda x: tf.broadcast_to(compute(x), tf.shape(x))


def _both(name: str, compute: Callable[..., Any], count: int = 1) -> dict[str, Operation]:
    return {f"{name} {kind}": Operation((kind,) * count, kind, compute) for kind in (FLOAT, INT)}


def _bounded(x: tf.Tensor) -> tf.Tensor:
    return tf.math.floormod(x, WIDTH)


def _scattered(x: tf.Tensor) -> tf.Tensor:
    columns = tf.transpose(x)
    return tf.transpose(tf.tensor_scatter_nd_update(columns, [[1], [4]], columns[:2]))


def _searched(x: tf.Tensor) -> tf.Tensor:
    found = tf.searchsorted(np.array([-1.5, 0, 0, 0.5, 9], np.float32), tf.reshape(x, [-1]), "right")
    return tf.reshape(found, tf.shape(x))


EXACT: dict[str, Operation] = {
    **_both("add", lambda x, y: x + y, 2),
    **_both("sub", lambda x, y: x - y, 2),
    **_both("mul", lambda x, y: tf.clip_by_value(x, -99, 99) * tf.clip_by_value(y, -99, 99), 2),
    **_both("maximum", tf.maximum, 2),
    **_both("minimum", tf.minimum, 2),
    **_both("floormod", lambda x: x % 3),
    **_both("floordiv", lambda x: x // -2),
    **_both("negative", lambda x: -x),
    **_both("abs", tf.abs),
    **_both("sign", tf.sign),
    **_both("square", lambda x: tf.square(tf.clip_by_value(x, -99, 99))),
    **_both("clip", lambda x: tf.clip_by_value(x, -2, 3)),
    **_both("reverse", lambda x: tf.reverse(x, [1])),
    **_both("roll", lambda x: tf.roll(x, 2, 1)),
    **_both("transposed", lambda x: tf.transpose(tf.transpose(x) * 2)),
    **_both("reshaped", lambda x: tf.reshape(tf.reshape(x, [-1, 3])[:, ::-1], [-1, WIDTH])),
    **_both("max of all", _wide(lambda x: tf.reduce_max(x, 1, keepdims=True))),
    **_both("min of rows", _wide(lambda x: tf.reduce_min(x, 0, keepdims=True))),
    **_both("sorted", lambda x: tf.sort(x, 1)),
    **_both("descending", lambda x: tf.sort(x, 1, "DESCENDING")),
    **_both("top", lambda x: tf.repeat(tf.math.top_k(x, 2)[0], 3, 1)),
    **_both("padded", lambda x: tf.pad(x[:, 1:-1], [[0, 0], [1, 1]])),
    **_both("mirrored", lambda x: tf.pad(x[:, 1:-1], [[0, 0], [1, 1]], "REFLECT")),
    **_both("slices", lambda x: tf.concat([x[:, ::2], x[:, 1::2]], 1)),
    **_both("stacked", lambda x: tf.unstack(tf.stack([x, x[:, ::-1]], 2), axis=2)[1]),
    **_both("tiled", lambda x: tf.tile(x[:, :2], [1, 3])),
    **_both("split", lambda x: tf.concat(tf.split(x, 3, 1)[::-1], 1)),
    **_both("zeros", lambda x: tf.zeros_like(x) + x[:, :1]),
    **_both("gather", lambda x: tf.gather(x, [5, 0, 3, 3, 1, 2], axis=1)),
    **_both("scatter", _scattered),
    **_both("band", lambda x: tf.linalg.band_part(x, 1, 2)),
    "cumsum int": Operation((INT,), INT, lambda x: tf.cumsum(x, 1, exclusive=True)),
    "reverse cumsum int": Operation((INT,), INT, lambda x: tf.cumsum(x, 1, reverse=True)),
    "sum int": Operation((INT,), INT, _wide(lambda x: tf.reduce_sum(x, 1, keepdims=True))),
    "prod int": Operation((INT,), INT, _wide(lambda x: tf.reduce_prod(x, 1, keepdims=True))),
    "floor": Operation((FLOAT,), FLOAT, tf.floor),
    "ceil": Operation((FLOAT,), FLOAT, tf.math.ceil),
    "round": Operation((FLOAT,), FLOAT, tf.round),
    "relu": Operation((FLOAT,), FLOAT, tf.nn.relu),
    "relu6": Operation((FLOAT,), FLOAT, tf.nn.relu6),
    "leaky": Operation((FLOAT,), FLOAT, lambda x: tf.nn.leaky_relu(x, 0.25)),
    "truncatediv": Operation((INT, INT), INT, lambda x, y: tf.truncatediv(x, tf.where(tf.equal(y, 0), 7, y))),
    "remainder": Operation((INT, INT), INT, lambda x, y: x % tf.where(tf.equal(y, 0), -5, y)),
    "quotient": Operation((INT, INT), INT, lambda x, y: x // tf.where(tf.equal(y, 0), 3, y)),
    "and": Operation((INT, INT), INT, tf.bitwise.bitwise_and),
    "or": Operation((INT, INT), INT, tf.bitwise.bitwise_or),
    "xor": Operation((INT, INT), INT, tf.bitwise.bitwise_xor),
    "invert": Operation((INT,), INT, tf.bitwise.invert),
    "left shift": Operation((INT,), INT, lambda x: tf.bitwise.left_shift(x, 3)),
    "right shift": Operation((INT,), INT, lambda x: tf.bitwise.right_shift(x, 2)),
    "argmax": Operation(
        (FLOAT,), INT, _wide(lambda x: tf.argmax(x, 1, tf.int32)[:, None] + tf.zeros_like(x, tf.int32))
    ),
    "argmin int": Operation((INT,), INT, _wide(lambda x: tf.argmin(x, 1, tf.int32)[:, None] + tf.zeros_like(x))),
    "argsort": Operation((FLOAT,), INT, lambda x: tf.argsort(x, 1, stable=True)),
    "argsort int": Operation((INT,), INT, lambda x: tf.argsort(x, 1, "DESCENDING", stable=True)),
    "to int": Operation((FLOAT,), INT, lambda x: tf.cast(tf.clip_by_value(x, -1e6, 1e6), tf.int32)),
    "to float": Operation((INT,), FLOAT, lambda x: tf.cast(x, tf.float32)),
    "to short": Operation((INT,), INT, lambda x: tf.cast(tf.cast(x, tf.int16), tf.int32)),
    "to byte": Operation((INT,), INT, lambda x: tf.cast(tf.cast(x, tf.uint8), tf.int32)),
    "bool to float": Operation((BOOL,), FLOAT, lambda x: tf.cast(x, tf.float32)),
    "to bool": Operation((FLOAT,), BOOL, lambda x: tf.cast(x, tf.bool)),
    "int to bool": Operation((INT,), BOOL, lambda x: tf.cast(x, tf.bool)),
    "less": Operation((FLOAT, FLOAT), BOOL, tf.less),
    "greater or equal": Operation((INT, INT), BOOL, tf.greater_equal),
    "equal": Operation((FLOAT, FLOAT), BOOL, tf.equal),
    "not equal": Operation((INT, INT), BOOL, tf.not_equal),
    "not": Operation((BOOL,), BOOL, tf.logical_not),
    "logical and": Operation((BOOL, BOOL), BOOL, tf.logical_and),
    "logical xor": Operation((BOOL, BOOL), BOOL, tf.math.logical_xor),
    "any": Operation((BOOL,), BOOL, _wide(lambda x: tf.reduce_any(x, 1, keepdims=True))),
    "all": Operation((BOOL,), BOOL, _wide(lambda x: tf.reduce_all(x, 0, keepdims=True))),
    "where": Operation((BOOL, FLOAT, FLOAT), FLOAT, tf.where),
    "where int": Operation((BOOL, INT, INT), INT, tf.where),
    "one hot": Operation((INT,), FLOAT, lambda x: tf.one_hot(x[:, 0], WIDTH)),
    "positions": Operation((FLOAT, INT), FLOAT, lambda x, at: tf.gather(x, _bounded(at), batch_dims=1)),
    "rows": Operation(
        (INT,), FLOAT, lambda at: tf.gather(np.arange(36, dtype=np.float32).reshape(6, 6), _bounded(at)[:, 0])
    ),
    "searched": Operation((FLOAT,), INT, lambda x: _searched(x)),
    "bucket": Operation((FLOAT,), INT, lambda x: tf.raw_ops.Bucketize(input=x, boundaries=[-7.0, -0.5, 0.0, 3.0])),
    "searched rows": Operation((INT, INT), INT, lambda x, y: tf.searchsorted(tf.sort(x, 1), y)),
    "segments": Operation(
        (FLOAT, INT),
        FLOAT,
        lambda x, at: tf.broadcast_to(tf.math.unsorted_segment_max(x, _bounded(at)[:, 0], WIDTH)[:1], tf.shape(x)),
    ),
    "mask": Operation((INT,), FLOAT, lambda n: tf.sequence_mask(n[:, 1], WIDTH, tf.float32)),
    "branch": Operation((BOOL, FLOAT), FLOAT, lambda b, x: tf.cond(tf.reduce_any(b), lambda: x * 2.0, lambda: x - 1.0)),
    "loop": Operation(
        (INT,), INT, lambda x: tf.while_loop(lambda n, y: n < 3, lambda n, y: (n + 1, y * 2 - n), [0, x])[1]
    ),
}

_MATRIX = (np.arange(36).reshape(6, 6) % 7 - 3).astype(np.float32) / 8
_KERNEL = (np.arange(12).reshape(3, 2, 2) % 5 - 2).astype(np.float32) / 4

SMOOTH: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "exp": lambda x: tf.exp(tf.minimum(x, 5.0)),
    "expm1": lambda x: tf.math.expm1(tf.minimum(x, 5.0)),
    "log1p": lambda x: tf.math.log1p(tf.abs(x)),
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "softplus": lambda x: tf.nn.softplus(tf.clip_by_value(x, -20, 20)),
    "softsign": tf.nn.softsign,
    "elu": tf.nn.elu,
    "selu": tf.nn.selu,
    "gelu": tf.nn.gelu,
    "swish": tf.nn.silu,
    "erf": tf.math.erf,
    "erfc": tf.math.erfc,
    "atan": tf.atan,
    "asinh": lambda x: tf.asinh(tf.clip_by_value(x, -99, 99)),
    "sqrt": lambda x: tf.sqrt(0.01 + tf.abs(x)),
    "rsqrt": lambda x: tf.math.rsqrt(1.0 + tf.abs(x)),
    "reciprocal": lambda x: tf.math.reciprocal(1.0 + tf.abs(x)),
    "pow": lambda x: tf.pow(tf.minimum(tf.abs(x), 99.0), 1.5),
    "no nan": lambda x: tf.math.divide_no_nan(x, tf.nn.relu(x)),
    "xlogy": lambda x: tf.math.xlogy(x, 1.0 + tf.abs(x)),
    "softmax": lambda x: tf.nn.softmax(tf.clip_by_value(x, -50, 50)),
    "log softmax": lambda x: tf.nn.log_softmax(tf.clip_by_value(x, -50, 50)),
    "matmul": lambda x: tf.matmul(tf.clip_by_value(x, -99, 99), _MATRIX),
    "einsum": lambda x: tf.einsum("bi,ji->bj", tf.clip_by_value(x, -99, 99), _MATRIX),
    "gram": lambda x: tf.matmul(tf.matmul(tf.tanh(x), tf.tanh(x), transpose_b=True), x),
    "convolution": lambda x: tf.reshape(
        tf.nn.conv1d(tf.reshape(tf.clip_by_value(x, -99, 99), [-1, 3, 2]), _KERNEL, 1, "SAME"), [-1, WIDTH]
    ),
    "pool": lambda x: tf.reshape(tf.nn.avg_pool1d(tf.reshape(x, [-1, 6, 1]), 3, 1, "SAME"), [-1, WIDTH]),
    "mean": _wide(lambda x: tf.reduce_mean(x, 1, keepdims=True)),
    "std": _wide(lambda x: tf.math.reduce_std(tf.tanh(x), 1, keepdims=True)),
    "logsumexp": _wide(lambda x: tf.reduce_logsumexp(tf.clip_by_value(x, -50, 50), 1, keepdims=True)),
    "norm": _wide(lambda x: tf.norm(tf.clip_by_value(x, -99, 99), axis=1, keepdims=True)),
    "normal": lambda x: tf.nn.l2_normalize(tf.tanh(x) + 2.0, 1),
    "cumsum": lambda x: tf.cumsum(tf.clip_by_value(x, -99, 99), 1),
    "resize": lambda x: tf.reshape(tf.image.resize(tf.reshape(x, [-1, 2, 3, 1]), [3, 2]), [-1, WIDTH]),
    "spectrum": lambda x: tf.concat([tf.abs(tf.signal.rfft(tf.tanh(x)))[:, :3]] * 2, 1),
}


def compute(
    steps: Sequence[tuple[int, int, int, int]], smooth: Sequence[int], **inputs: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The last float, integer and boolean of the exact steps, and the smooth ones after the float.

    steps   operation and operands, each modulo the number that there are
    smooth  operations in turn
    """
    known: dict[str, list[tf.Tensor]] = {FLOAT: [inputs["x"]], INT: [inputs["n"]], BOOL: [inputs["x"] > 0]}
    names = list(EXACT)
    for step, *operands in steps:
        operation = EXACT[names[step % len(names)]]
        given = [known[kind][at % len(known[kind])] for kind, at in zip(operation.kinds, operands, strict=False)]
        known[operation.result].append(operation.compute(*given))
    outputs = {"exact": known[FLOAT][-1], "int": known[INT][-1], "bool": known[BOOL][-1]}
    value = outputs["exact"]
    functions = list(SMOOTH.values())
    for each in smooth:
        value = functions[each % len(functions)](tf.clip_by_value(value, -1e6, 1e6))
    return outputs | {"smooth": value}


def describe(steps: Sequence[tuple[int, int, int, int]], smooth: Sequence[int]) -> str:
    """The operations by name, for a failure's message."""
    exact = [f"{list(EXACT)[step % len(EXACT)]} {operands}" for step, *operands in steps]
    return "; ".join([*exact, *(list(SMOOTH)[each % len(SMOOTH)] for each in smooth)])
