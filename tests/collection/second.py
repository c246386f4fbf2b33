"""Models of a second search for faults: each found one, or a kind that had no graph."""

from __future__ import annotations

import tensorflow as tf

from tests.collection.cases import Case, function, spec, weights


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


SECOND = [
    Case(
        "generation with a cache",
        "transformers",
        function(generation, ids=spec(None, dtype=tf.int32)),
        ranges={"ids": (0, 15)},
        is_quick=True,
    ),
    Case("einsums of all kinds", "computations", function(products, x=spec(None, 4, 4), y=spec(None, 4, 4))),
]
