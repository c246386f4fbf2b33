"""Casts one after another change values in a graph as they do in TensorFlow."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper
import pytest
import tensorflow as tf

from ladle.training.onnx.convert import session, to_onnx
from ladle.training.onnx.rewrites import casts

FLOATS = np.array([0.5, -0.5, 0.0, -0.0, 1.5, 2.0, 255.5, 0.1, 1e-8, 65519.0, 2.0**24 + 2], np.float32)
INTEGERS = np.array([0, 1, 256, -256, 257, 65536, 2**24 + 1, 2**31 - 1, -(2**31)], np.int32)


@pytest.mark.parametrize(
    ("values", "chain"),
    [
        (FLOATS, [tf.int32, tf.bool]),
        (FLOATS, [tf.int64, tf.bool, tf.float32]),
        (FLOATS[:9], [tf.float16, tf.float32]),
        (FLOATS, [tf.bfloat16, tf.float32]),
        (INTEGERS, [tf.int8, tf.bool]),
        (INTEGERS, [tf.uint8, tf.bool]),
        (INTEGERS, [tf.float32, tf.int64]),
        (INTEGERS, [tf.float32, tf.float64]),
        (INTEGERS, [tf.int64, tf.float64, tf.int64]),
    ],
    ids=lambda value: " to ".join(t.name for t in value) if isinstance(value, list) else value.dtype.name,
)
def test_a_cast_between_casts_keeps_its_effect(values: np.ndarray, chain: list[tf.DType]) -> None:
    def compute(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for dtype in chain:
            x = tf.cast(x, dtype)
        return {"out": x}

    model = to_onnx(tf.function(compute), {"x": tf.TensorSpec([None], values.dtype)})
    found = session(model.SerializeToString(), threads=1)({"x": values})["out"]
    np.testing.assert_array_equal(found, compute(values)["out"].numpy())


def test_a_dtype_holds_all_values_of_another_one_where_numpy_casts_safely() -> None:
    dtypes = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    names = {
        name: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name))
        for name in (*dtypes, "float16", "float32", "float64")
    }
    unsafe = {(wide, narrow) for wide in ("float64",) for narrow in ("int64", "uint64")}  # numpy calls these safe
    for wide, w in names.items():
        for narrow, n in names.items():
            expected = np.can_cast(narrow, wide) and (wide, narrow) not in unsafe
            assert casts.holds_all(w, n) is expected, f"{wide} of {narrow}"
