"""Models of a second search for faults: each found one, or a kind that had no graph."""

from __future__ import annotations

import keras
import tensorflow as tf

from tests.collection.cases import Case, function, network, spec, weights


def generation(ids: tf.Tensor) -> tf.Tensor:
    """Greedy generation by attention to the keys and values of earlier steps, which a loop writes to a cache."""
    table, kernels = weights(16, 8, seed=1), [weights(8, 8, seed=n) for n in range(2, 6)]
    rows, steps, token = tf.shape(ids)[0], 8, ids
    keys, values = tf.zeros([rows, steps, 8]), tf.zeros([rows, steps, 8])
    said = tf.TensorArray(tf.int32, steps)
    for step in tf.range(steps):
        x = tf.gather(table, token)
        by_step = tf.tensor_scatter_nd_update(tf.transpose(keys, [1, 0, 2]), [[step]], [x @ kernels[1]])
        keys = tf.transpose(by_step, [1, 0, 2])
        is_now = tf.cast(tf.range(steps)[None, :, None] == step, tf.float32)
        values = values * (1 - is_now) + is_now * (x @ kernels[2])[:, None]
        scores = tf.einsum("bd,btd->bt", x @ kernels[0], keys)
        shares = tf.nn.softmax(tf.where(tf.range(steps)[None] <= step, scores, -1e9))
        token = tf.argmax(tf.einsum("bt,btd->bd", shares, values) @ kernels[3] @ table.T, -1, output_type=tf.int32)
        said = said.write(step, token)
    return tf.transpose(said.stack())


def products(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
    """Einsums, of which the first is none that a matrix product can be."""
    return {
        "diagonal": tf.einsum("bii->bi", x),
        "product": tf.einsum("bij,bjk->bik", x, y),
        "rows": tf.einsum("bij,bkj->bi", x, x),
        "turned": tf.einsum("...ij->...ji", x),
        "all": tf.einsum("bij,bij->", x, y),
    }


def factors(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """What models compute of factors, whose signs no two libraries agree in."""
    values, left, right = tf.linalg.svd(x)
    spread, axes = tf.linalg.eigh(tf.matmul(x, x, transpose_a=True) + tf.eye(3))
    return {
        "values": values,
        "nearest": tf.matmul(left[..., :2] * values[..., None, :2], right[..., :2], transpose_b=True),
        "inverse": tf.linalg.pinv(x + tf.eye(4, 3)),
        "spread": spread,
        "whitened": x @ tf.matmul(axes * tf.math.rsqrt(spread)[..., None, :], axes, transpose_b=True),
    }


def principal_axes(x: tf.Tensor) -> tf.Tensor:
    """Variances along the principal axes of all rows: TensorFlow refuses no rows, whose mean is NaN."""
    centred = x - tf.reduce_mean(x, 0)
    return tf.linalg.eigvalsh(tf.matmul(centred, centred, transpose_a=True) / tf.cast(tf.shape(x)[0], tf.float32))


def kept_rows(x: tf.Tensor) -> tf.Tensor:
    """Rows that a branch in a loop appends to a list."""
    rows = tf.TensorArray(tf.float32, size=0, dynamic_size=True, clear_after_read=False)
    for n in tf.range(tf.shape(x)[0]):
        if tf.reduce_sum(x[n]) > 0:
            rows = rows.write(rows.size(), x[n])
    return rows.stack()


def half_moments(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """Of float16: the sum of the squares of 200 is infinite."""
    return {
        "variance": tf.math.reduce_variance(x, -1),
        "mean": tf.reduce_mean(x, -1),
        "log of sums": tf.reduce_logsumexp(x, -1),
        "finite": tf.math.is_finite(x),
    }


def proposals(x: tf.Tensor) -> tf.Tensor:
    """The best boxes of each image, by a loop over images."""

    def of_one(row: tf.Tensor) -> tf.Tensor:
        boxes, scores = row[:, :4], row[:, 4]
        kept, _ = tf.image.non_max_suppression_padded(boxes, scores, 6, 0.5, 0.1, pad_to_max_output_size=True)
        return tf.gather(boxes, kept)

    return tf.map_fn(of_one, x)


def over_two_axes() -> keras.Model:
    x = keras.Input((4, 5, 8), name="x")
    return keras.Model(x, keras.layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))(x, x))


SECOND = [
    Case(
        "generation with a cache",
        "transformers",
        function(generation, ids=spec(None, dtype=tf.int32)),
        ranges={"ids": (0, 15)},
        is_quick=True,
    ),
    Case("attention over two axes", "transformers", network(over_two_axes)),
    Case("factors of matrices", "computations", function(factors, x=spec(None, 4, 3)), ranges={"x": (-2, 2)}),
    Case("principal axes", "computations", function(principal_axes, x=spec(None, 4)), ranges={"x": (-2, 2)}),
    Case("rows that a loop keeps", "control flow", function(kept_rows, x=spec(None, 3))),
    Case("moments of float16", "dtypes", function(half_moments, x=spec(None, 8, dtype=tf.float16))),
    Case("boxes of each image", "detection", function(proposals, x=spec(None, 20, 5)), ranges={"x": (0, 1)}),
    Case(
        "exponential of a matrix",
        "computations",
        function(tf.linalg.expm, input=spec(None, 3, 3)),
        ranges={"input": (-2, 2)},
    ),
    Case("einsums of all kinds", "computations", function(products, x=spec(None, 4, 4), y=spec(None, 4, 4))),
]
