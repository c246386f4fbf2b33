"""Models of tables, graphs and recommendations, and those of single computations."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tests.collection.cases import Case, function, layers, network, spec, weights

L = keras.layers


def wide_and_deep() -> keras.Model:
    numbers = keras.Input((4,), name="numbers")
    kind = keras.Input((1,), dtype="int32", name="kind")
    x = L.Concatenate()([L.Flatten()(L.Embedding(8, 3)(kind)), L.Dense(6, activation="selu")(numbers)])
    return keras.Model([numbers, kind], L.Dense(1, activation="sigmoid")(x))


def preprocessing() -> keras.Model:
    age, code = keras.Input((1,), name="age"), keras.Input((1,), dtype="int32", name="code")
    bins = L.Discretization(bin_boundaries=[18.0, 30.0, 45.0, 65.0])(age)
    hot = L.CategoryEncoding(5, "one_hot")(bins)
    return keras.Model([age, code], L.Dense(2)(L.Concatenate()([hot, L.CategoryEncoding(6, "one_hot")(code)])))


def two_towers() -> keras.Model:
    user, item = keras.Input((1,), dtype="int64", name="user"), keras.Input((1,), dtype="int64", name="item")
    u, i = L.Flatten()(L.Embedding(50, 6)(user)), L.Flatten()(L.Embedding(40, 6)(item))
    return keras.Model([user, item], {"score": L.Dot(1, normalize=True)([u, i])})


def message_passing(nodes: tf.Tensor, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
    messages = tf.gather(nodes @ weights(4, 5), source)
    summed = tf.math.unsorted_segment_sum(messages, target, tf.shape(nodes)[0])
    return {"nodes": tf.nn.relu(summed), "graph": tf.reduce_mean(summed, 0)}


def convolved_graph(nodes: tf.Tensor, adjacency: tf.Tensor) -> tf.Tensor:
    degree = tf.math.rsqrt(tf.reduce_sum(adjacency, -1, keepdims=True) + 1.0)
    return tf.nn.relu(degree * (adjacency @ (degree * (nodes @ weights(3, 4)))))


def graph_attention(nodes: tf.Tensor, edges: tf.Tensor) -> tf.Tensor:
    source, target = edges[:, 0], edges[:, 1]
    score = tf.exp(tf.reduce_sum(tf.gather(nodes, source) * tf.gather(nodes, target), -1, keepdims=True) * 0.1)
    total = tf.tensor_scatter_nd_add(tf.zeros_like(nodes[:, :1]), target[:, None], score)
    return tf.math.divide_no_nan(
        tf.tensor_scatter_nd_add(tf.zeros_like(nodes), target[:, None], score * tf.gather(nodes, source)), total
    )


def nearest(x: tf.Tensor) -> dict[str, tf.Tensor]:
    rows = weights(30, 4)
    distance = tf.reduce_sum((x[:, None] - rows) ** 2, -1)
    best, at = tf.math.top_k(-distance, 3)
    return {"distance": -best, "at": at}


def trees(x: tf.Tensor) -> tf.Tensor:
    feature, limit = np.array([0, 2, 1, 3, 0, 1, 2]), weights(7)
    node = tf.zeros_like(x[:, 0], tf.int32)
    for _ in range(3):
        value = tf.gather(x, tf.gather(feature, node), batch_dims=1)
        node = 2 * node + 1 + tf.cast(value > tf.gather(limit, node), tf.int32)
        node = tf.minimum(node, 6)
    return tf.gather(weights(7, seed=2), node)


def day_of_week(seconds: tf.Tensor) -> dict[str, tf.Tensor]:
    day = seconds // 86_400
    return {"weekday": (day + 4) % 7, "hour": (seconds % 86_400) // 3600, "rest": tf.math.floormod(seconds, 7)}


def mixture(x: tf.Tensor) -> dict[str, tf.Tensor]:
    gates = tf.nn.softmax(x @ weights(5, 3))
    best, at = tf.math.top_k(gates, 2)
    experts = tf.einsum("bi,eio->beo", x, weights(3, 5, 2))
    chosen = tf.gather(experts, at, batch_dims=1)
    return {"y": tf.reduce_sum(chosen * best[..., None], 1), "expert": at}


def statistics(x: tf.Tensor) -> dict[str, tf.Tensor]:
    mean, variance = tf.nn.moments(x, [1])
    return {
        "mean": mean,
        "variance": variance,
        "std": tf.math.reduce_std(x, 1),
        "lse": tf.reduce_logsumexp(x, 1),
        "norm": tf.norm(x, axis=1),
        "l1": tf.norm(x, 1, axis=1),
        "any": tf.reduce_any(x > 0, 1),
        "all": tf.reduce_all(x > 0, 1),
        "prod": tf.reduce_prod(x, 1),
        "count": tf.math.count_nonzero(x, 1),
        "median": tf.sort(x, 1)[:, 3],
    }


def activations(x: tf.Tensor) -> dict[str, tf.Tensor]:
    names = ("elu", "gelu", "leaky_relu", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign")
    made = {name: getattr(tf.nn, name)(x) for name in (*names, "tanh", "log_softmax", "crelu")}
    others = (
        "celu",
        "glu",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "log_sigmoid",
        "mish",
        "sparse_plus",
        "squareplus",
    )
    return made | {f"k_{name}": getattr(keras.activations, name)(x) for name in others}


def elementary(x: tf.Tensor) -> dict[str, tf.Tensor]:
    names = (
        "abs",
        "acosh",
        "asinh",
        "atan",
        "ceil",
        "cos",
        "cosh",
        "erf",
        "erfc",
        "exp",
        "expm1",
        "floor",
        "log1p",
        "log_sigmoid",
        "negative",
        "reciprocal",
        "rint",
        "round",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "tan",
        "tanh",
    )
    return {name: getattr(tf.math, name)(x) for name in names}


def special(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "lgamma": tf.math.lgamma(x),
        "digamma": tf.math.digamma(x),
        "i0": tf.math.bessel_i0e(x),
        "ndtri": tf.math.ndtri(0.05 + 0.9 * tf.sigmoid(x)),
        "erfinv": tf.math.erfinv(0.9 * tf.tanh(x)),
    }


def pairs(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "atan2": tf.atan2(x, y),
        "mod": tf.math.floormod(x, y),
        "pow": tf.pow(tf.abs(x), y),
        "div": x / y,
        "floordiv": x // y,
        "no_nan": tf.math.divide_no_nan(x, y),
        "xlogy": tf.math.xlogy(x, tf.abs(y)),
        "squared": tf.math.squared_difference(x, y),
        "max": tf.maximum(x, y),
        "equal": tf.equal(x, y),
        "multiply_no_nan": tf.math.multiply_no_nan(x, y),
        "truncate": tf.truncatediv(x, y),
        "xdivy": tf.math.xdivy(x, y),
    }


def whole_numbers(a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "div": a // b,
        "mod": a % b,
        "truncatemod": tf.raw_ops.TruncateMod(x=a, y=b),
        "and": tf.bitwise.bitwise_and(a, b),
        "or": tf.bitwise.bitwise_or(a, b),
        "xor": tf.bitwise.bitwise_xor(a, b),
        "max": tf.maximum(a, b),
        "min": tf.minimum(a, b),
        "less": a < b,
        "abs": tf.abs(a),
        "sign": tf.sign(a),
        "true": a / b,
    }


def shifts(a: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"left": tf.bitwise.left_shift(a, 3), "right": tf.bitwise.right_shift(a, 2), "not": tf.bitwise.invert(a)}


def linear_algebra(x: tf.Tensor) -> dict[str, tf.Tensor]:
    gram = tf.matmul(x, x, transpose_a=True) + tf.eye(3)
    return {
        "gram": gram,
        "trace": tf.linalg.trace(gram),
        "diag": tf.linalg.diag_part(gram),
        "upper": tf.linalg.band_part(gram, 0, -1),
        "made": tf.linalg.diag(x[:, 0]),
        "cross": tf.linalg.cross(x[:, 0], x[:, 1]),
    }


def searched(x: tf.Tensor) -> dict[str, tf.Tensor]:
    edges = tf.constant([-1.5, -0.5, 0.0, 0.0, 0.7, 2.0])
    return {
        "left": tf.searchsorted(edges, x),
        "right": tf.searchsorted(edges, x, "right"),
        "bucket": tf.raw_ops.Bucketize(input=x, boundaries=[-1.0, 0.0, 1.0]),
    }


def searched_rows(edges: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return tf.searchsorted(tf.sort(edges, -1), x, "right")


def sampled(x: tf.Tensor) -> tf.Tensor:
    noise = tf.random.stateless_normal(tf.shape(x), [3, 4])
    return x + noise


def sampled_by_seed(seed: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "uniform": tf.random.stateless_uniform([8], seed),
        "integers": tf.random.stateless_uniform([8], seed, 0, 100, tf.int32),
    }


def shaped(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "shape": tf.shape(x),
        "size": tf.size(x),
        "rank": tf.rank(x),
        "flat": tf.reshape(x, [-1]),
        "rolled": tf.roll(x, 2, 1),
        "reversed": x[:, ::-1],
        "last": x[..., -1],
        "strided": x[1:, 1:-1:2],
        "stacked": tf.stack([x, x * 2.0], 1),
        "tiled": tf.tile(x, [1, 2]),
        "repeated": tf.repeat(x, [1, 2, 0, 1, 3, 1], 1),
        "moved": tf.transpose(x),
        "grid": tf.meshgrid(x[:, 0], x[0])[1],
        "wide": tf.broadcast_to(x[:, None], [tf.shape(x)[0], 2, 6]),
    }


def chosen(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "where": tf.where(x > 0),
        "values": tf.boolean_mask(x, x > 0),
        "unique": tf.unique(tf.cast(tf.round(tf.reshape(tf.clip_by_value(x, -9.0, 9.0), [-1])), tf.int32))[0],
        "clipped": tf.clip_by_value(x, -0.5, 0.5),
    }


def scattered(x: tf.Tensor) -> dict[str, tf.Tensor]:
    at = tf.constant([[0, 1], [1, 0], [0, 1]])
    made = tf.scatter_nd(at, x[:3, 0], [2, 3])
    return {
        "made": made,
        "updated": tf.tensor_scatter_nd_update(made, [[1, 2]], x[:1, 1]),
        "max": tf.tensor_scatter_nd_max(made, at, x[:3, 1]),
    }


def branched(x: tf.Tensor, big: tf.Tensor) -> tf.Tensor:
    return tf.cond(big, lambda: x * 2.0, lambda: tf.nn.relu(x) - 1.0)


def switched(x: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    return tf.switch_case(which, [lambda: x + 1.0, lambda: x * x, lambda: -x])


TABLES = [
    Case(
        "linear",
        "tables",
        function(
            lambda w, b, x: x @ w + b,
            variables=lambda: [tf.Variable(weights(4, 2)), tf.Variable(weights(2))],
            x=spec(None, 4),
        ),
        is_quick=True,
    ),
    Case(
        "mlp", "tables", layers((6,), lambda: L.Dense(8, "relu"), L.BatchNormalization, lambda: L.Dense(3, "softmax"))
    ),
    Case("wide and deep", "tables", network(wide_and_deep)),
    Case("preprocessing layers", "tables", network(preprocessing), ranges={"age": (0, 90), "code": (0, 5)}),
    Case("two towers", "tables", network(two_towers)),
    Case(
        "hashed buckets of numbers",
        "tables",
        function(lambda x: tf.one_hot(tf.math.floormod(x, 16), 16), x=spec(None, dtype=tf.int64)),
    ),
    Case(
        "message passing",
        "graphs",
        function(
            message_passing, nodes=spec(None, 4), source=spec(None, dtype=tf.int32), target=spec(None, dtype=tf.int32)
        ),
        ranges={"source": (0, 0), "target": (0, 0)},
    ),
    Case(
        "graph convolution",
        "graphs",
        function(convolved_graph, nodes=spec(None, 6, 3), adjacency=spec(None, 6, 6)),
        ranges={"adjacency": (0, 1)},
    ),
    Case(
        "graph attention",
        "graphs",
        function(graph_attention, nodes=spec(None, 4), edges=spec(None, 2, dtype=tf.int32)),
        ranges={"edges": (0, 0)},
    ),
    Case("nearest neighbours", "tables", function(nearest, x=spec(None, 4))),
    Case("decision tree", "tables", function(trees, x=spec(None, 4))),
    Case("weekday", "tables", function(day_of_week, seconds=spec(None, dtype=tf.int64)), is_quick=True),
    Case("mixture of experts", "tables", function(mixture, x=spec(None, 5))),
    Case("statistics", "computations", function(statistics, x=spec(None, 6))),
    Case("activations", "computations", function(activations, x=spec(None, 6))),
    Case("elementary functions", "computations", function(elementary, x=spec(None, 6))),
    Case("special functions", "computations", function(special, x=spec(None, 6))),
    Case("two floats", "computations", function(pairs, x=spec(None), y=spec(None))),
    Case(
        "two integers",
        "computations",
        function(whole_numbers, a=spec(None, dtype=tf.int32), b=spec(None, dtype=tf.int32)),
    ),
    Case(
        "two long integers",
        "computations",
        function(whole_numbers, a=spec(None, dtype=tf.int64), b=spec(None, dtype=tf.int64)),
    ),
    Case("shifts", "computations", function(shifts, a=spec(None, dtype=tf.int32))),
    Case("linear algebra", "computations", function(linear_algebra, x=spec(None, 3, 3))),
    Case(
        "inverse",
        "computations",
        function(lambda x: tf.linalg.inv(tf.matmul(x, x, transpose_b=True) + tf.eye(3)), x=spec(None, 3, 3)),
    ),
    Case("determinant", "computations", function(tf.linalg.det, input=spec(None, 3, 3))),
    Case("search", "computations", function(searched, x=spec(None)), is_quick=True),
    Case("search in rows", "computations", function(searched_rows, edges=spec(None, 5), x=spec(None, 3))),
    Case("stateless noise", "random", function(sampled, x=spec(None, 4))),
    Case("stateless by seed", "random", function(sampled_by_seed, seed=spec(2, dtype=tf.int32))),
    Case("shapes", "computations", function(shaped, x=spec(None, 6))),
    Case("chosen values", "computations", function(chosen, x=spec(None, 6))),
    Case("scattered values", "computations", function(scattered, x=spec(4, 2))),
    Case("branch", "control flow", function(branched, x=spec(None), big=spec(dtype=tf.bool)), is_quick=True),
    Case("switch case", "control flow", function(switched, x=spec(None), which=spec(dtype=tf.int32))),
    Case("histogram", "computations", function(lambda x: tf.histogram_fixed_width(x, [-1.0, 1.0], 5), x=spec(None))),
    Case(
        "bincount",
        "computations",
        function(lambda x: tf.math.bincount(x, minlength=6, maxlength=6), x=spec(None, dtype=tf.int32)),
        ranges={"x": (0, 5)},
    ),
    Case(
        "confusion",
        "computations",
        function(
            lambda a, b: tf.math.confusion_matrix(a, b, 3), a=spec(None, dtype=tf.int32), b=spec(None, dtype=tf.int32)
        ),
        ranges={"a": (0, 2), "b": (0, 2)},
    ),
    Case(
        "percentile by sort",
        "computations",
        function(lambda x: tf.gather(tf.sort(x, -1), [1, 3, 5], axis=-1), x=spec(None, 7)),
    ),
    Case(
        "sparse product",
        "computations",
        function(
            lambda x: tf.sparse.sparse_dense_matmul(tf.sparse.SparseTensor([[0, 1], [2, 0]], [2.0, 3.0], [3, 4]), x),
            x=spec(4, None),
        ),
    ),
    Case(
        "embedding bag",
        "computations",
        function(
            lambda ids: tf.nn.embedding_lookup_sparse(weights(9, 3), tf.sparse.from_dense(ids), None, combiner="mean"),
            ids=spec(None, 4, dtype=tf.int64),
        ),
        ranges={"ids": (1, 8)},
    ),
]
