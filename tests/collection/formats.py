"""Models whose dtypes, shapes, signatures or files are unusual: TensorFlow 1, state, strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.collection.cases import Case, frozen_graph, function, layers, network, spec, weights

L, v1 = keras.layers, tf.compat.v1


def half_network(policy: str) -> Any:
    def make() -> keras.Model:
        x = inputs = keras.Input((8,))
        x = L.Dense(6, "relu", dtype=policy)(x)
        return keras.Model(inputs, L.Dense(3, "softmax", dtype="float32")(L.LayerNormalization(dtype=policy)(x)))

    return network(make)


def fake_quantized(x: tf.Tensor) -> tf.Tensor:
    kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(weights(4, 3), [-1.0] * 3, [1.0] * 3, num_bits=8)
    return tf.quantization.fake_quant_with_min_max_args(
        tf.quantization.fake_quant_with_min_max_args(x, -6, 6) @ kernel, -6, 6
    )


def several(folder: Path) -> None:
    module = tf.Module()
    module.w = tf.Variable(weights(4, 3))
    features = tf.function(lambda x: {"features": tf.nn.relu(x @ module.w)})
    scores = tf.function(lambda x: {"scores": tf.nn.softmax(x @ module.w), "class": tf.argmax(x @ module.w, -1)})
    module.a, module.b = features, scores
    x = tf.TensorSpec([None, 4], tf.float32, name="x")
    signatures = {"serving_default": scores.get_concrete_function(x), "features": features.get_concrete_function(x)}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def without_inputs(folder: Path) -> None:
    module = tf.Module()
    module.table = tf.Variable(weights(3, 2))
    module.run = tf.function(lambda: {"table": module.table * 2.0, "version": tf.constant(3)})
    tf.saved_model.save(module, str(folder), signatures=module.run.get_concrete_function())


def counter(folder: Path) -> None:
    module = tf.Module()
    module.count = tf.Variable(0.0, name="count")
    module.run = tf.function(lambda x: {"y": x + module.count.assign_add(1.0)})
    spec_x = tf.TensorSpec([None], tf.float32, name="x")
    tf.saved_model.save(module, str(folder), signatures=module.run.get_concrete_function(spec_x))


def dense(x: Any, units: int, name: str) -> Any:
    w = v1.get_variable(f"{name}_w", [x.shape[-1], units], initializer=v1.random_normal_initializer(0, 0.3, 1))
    return tf.matmul(x, w) + v1.get_variable(f"{name}_b", [units], initializer=v1.constant_initializer(0.1))


def classic() -> Any:
    x = v1.placeholder(tf.float32, [None, 5], "x")
    return {"x": x}, {"y": tf.nn.softmax(dense(tf.nn.relu(dense(x, 6, "a")), 3, "b"))}


def training_feed() -> Any:
    x, training = v1.placeholder(tf.float32, [None, 5], "x"), v1.placeholder_with_default(False, [], "is_training")
    hidden = tf.nn.relu(dense(x, 6, "a"))
    hidden = v1.cond(training, lambda: hidden * 0.5, lambda: hidden * 1.0)
    return {"x": x}, {"y": dense(hidden, 3, "b")}


def training_input() -> Any:
    x, training = v1.placeholder(tf.float32, [None, 5], "x"), v1.placeholder(tf.bool, [], "is_training")
    hidden = v1.cond(training, lambda: x * 0.5, lambda: x * 1.0)
    return {"x": x, "is_training": training}, {"y": dense(hidden, 3, "b")}


def switch_and_merge() -> Any:
    v1.disable_control_flow_v2()
    try:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        y = v1.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: -x)
        return {"x": x}, {"y": dense(y, 2, "a")}
    finally:
        v1.enable_control_flow_v2()


def old_loop() -> Any:
    v1.disable_control_flow_v2()
    try:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        _, y = v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 0.5 + 1.0), [tf.constant(0), x])
        return {"x": x}, {"y": y}
    finally:
        v1.enable_control_flow_v2()


def batch_norm_v1() -> Any:
    x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
    y, _, _ = v1.nn.fused_batch_norm(
        x,
        tf.constant([1.0, 2, 3]),
        tf.constant([0.1, 0.2, 0.3]),
        tf.constant([0.5, 0.4, 0.3]),
        tf.constant([1.0, 0.5, 2.0]),
        is_training=False,
    )
    return {"x": x}, {"y": tf.nn.max_pool2d(y, 2, 2, "SAME")}


def partitioned() -> Any:
    x = v1.placeholder(tf.int32, [None], "ids")
    table = v1.get_variable(
        "table", [10, 3], partitioner=v1.fixed_size_partitioner(2), initializer=v1.random_normal_initializer(0, 0.3, 1)
    )
    return {"ids": x}, {"rows": tf.nn.embedding_lookup(table, x)}


def resource_variables() -> Any:
    x = v1.placeholder(tf.float32, [None, 3], "x")
    w = v1.get_variable("w", [3, 2], use_resource=True, initializer=v1.random_normal_initializer(0, 0.3, 1))
    return {"x": x}, {"y": tf.matmul(x, w)}


def word_table() -> Any:
    words = v1.placeholder(tf.string, [None], "words")
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["a", "b", "c"], tf.constant([0, 1, 2], tf.int64)), 3
    )
    return {"words": words}, {"ids": table.lookup(words)}


def number_table(ids: Any = None) -> Any:
    x = v1.placeholder(tf.int64, [None], "x")
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant([5, 7, 9], tf.int64), tf.constant([0, 1, 2], tf.int64)), -1
    )
    return {"x": x}, {"ids": table.lookup(x)}


def old_image() -> Any:
    x = v1.placeholder(tf.uint8, [None, None, None, 3], "image")
    y = v1.image.resize_bilinear(tf.cast(x, tf.float32), [8, 8]) / 255.0
    return {"image": x}, {"y": tf.nn.conv2d(y, tf.constant(weights(3, 3, 3, 4)), 2, "VALID")}


def python_function(x: tf.Tensor) -> tf.Tensor:
    return tf.py_function(lambda v: v * 2.0, [x], tf.float32)


def of_dtype(dtype: Any, compute: Any = None) -> Any:
    return function(compute or (lambda x: {"sum": x + x, "max": tf.reduce_max(x, -1)}), x=spec(None, 4, dtype=dtype))


def words(text: tf.Tensor) -> tf.Tensor:
    return tf.strings.length(tf.strings.lower(text))


def hashed(text: tf.Tensor) -> tf.Tensor:
    return tf.gather(weights(16, 3), tf.strings.to_hash_bucket_fast(text, 16))


def vectorized() -> keras.Model:
    text = keras.Input((), dtype="string", name="text")
    layer = L.TextVectorization(output_sequence_length=4, vocabulary=["good", "bad", "film"])
    return keras.Model(text, L.GlobalAveragePooling1D()(L.Embedding(5, 3)(layer(text))))


def string_lookup() -> keras.Model:
    text = keras.Input((1,), dtype="string", name="text")
    return keras.Model(text, L.Dense(2)(L.StringLookup(vocabulary=["x", "y"], output_mode="one_hot")(text)))


def labels(x: tf.Tensor) -> dict[str, tf.Tensor]:
    scores = tf.nn.softmax(x @ weights(4, 3))
    return {"label": tf.gather(tf.constant(["cat", "dog", "cow"]), tf.argmax(scores, -1)), "scores": scores}


def parsed(examples: tf.Tensor) -> tf.Tensor:
    found = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([4], tf.float32)})
    return found["x"] @ weights(4, 2)


def decoded(image: tf.Tensor) -> tf.Tensor:
    pictures = tf.map_fn(
        lambda b: tf.image.resize(tf.io.decode_jpeg(b, 3), [8, 8]), image, fn_output_signature=tf.float32
    )
    return tf.reduce_mean(pictures, [1, 2])


def integer_lookup() -> keras.Model:
    ids = keras.Input((1,), dtype="int64", name="ids")
    return keras.Model(ids, L.Dense(2)(L.Flatten()(L.Embedding(5, 3)(L.IntegerLookup(vocabulary=[10, 20, 30])(ids)))))


def crossed() -> keras.Model:
    a, b = keras.Input((1,), dtype="string", name="a"), keras.Input((1,), dtype="string", name="b")
    return keras.Model([a, b], L.Dense(2)(L.HashedCrossing(8, output_mode="one_hot")((a, b))))


def hashing() -> keras.Model:
    ids = keras.Input((1,), dtype="int64", name="ids")
    return keras.Model(ids, L.Dense(2)(L.Hashing(6, output_mode="one_hot")(ids)))


FORMATS = [
    Case("mixed precision", "dtypes", half_network("mixed_float16")),
    Case("mixed bfloat16", "dtypes", half_network("mixed_bfloat16")),
    Case(
        "float16 in and out",
        "dtypes",
        of_dtype(tf.float16, lambda x: tf.nn.relu(x @ tf.cast(weights(4, 3), tf.float16))),
    ),
    Case(
        "bfloat16 in and out",
        "dtypes",
        of_dtype(tf.bfloat16, lambda x: tf.nn.relu(x @ tf.cast(weights(4, 3), tf.bfloat16))),
    ),
    Case(
        "float64",
        "dtypes",
        of_dtype(tf.float64, lambda x: tf.nn.softmax(x @ tf.cast(weights(4, 3), tf.float64))),
        is_quick=True,
    ),
    Case(
        "float64 network",
        "dtypes",
        layers(
            (5,),
            lambda: L.Dense(4, "tanh", dtype="float64"),
            lambda: L.LayerNormalization(dtype="float64"),
            lambda: L.Dense(2, "gelu", dtype="float64"),
            dtype="float64",
        ),
    ),
    Case("float64 lstm", "dtypes", layers((5, 3), lambda: L.LSTM(4, dtype="float64"), dtype="float64")),
    Case(
        "float64 convolution",
        "dtypes",
        layers(
            (8, 8, 2), lambda: L.Conv2D(4, 3, dtype="float64"), lambda: L.MaxPooling2D(dtype="float64"), dtype="float64"
        ),
    ),
    Case("int8", "dtypes", of_dtype(tf.int8)),
    Case("uint8", "dtypes", of_dtype(tf.uint8)),
    Case("int16", "dtypes", of_dtype(tf.int16)),
    Case("uint16", "dtypes", of_dtype(tf.uint16)),
    Case("uint32", "dtypes", of_dtype(tf.uint32)),
    Case(
        "uint64", "dtypes", of_dtype(tf.uint64, lambda x: {"same": tf.reverse(x, [-1]), "equal": tf.equal(x, x[:, :1])})
    ),
    Case("int64", "dtypes", of_dtype(tf.int64)),
    Case(
        "bool",
        "dtypes",
        of_dtype(
            tf.bool,
            lambda x: {
                "not": tf.logical_not(x),
                "any": tf.reduce_any(x, -1),
                "all": tf.reduce_all(x, -1),
                "xor": tf.math.logical_xor(x, x[:, :1]),
                "n": tf.cast(x, tf.int32),
            },
        ),
    ),
    Case("complex inside", "dtypes", function(lambda x: tf.abs(tf.complex(x, -x)), x=spec(None))),
    Case(
        "int8 kernel",
        "dtypes",
        function(
            lambda x: x @ (tf.cast(tf.constant(np.arange(-6, 6, dtype=np.int8).reshape(4, 3)), tf.float32) * 0.02),
            x=spec(None, 4),
        ),
    ),
    Case("quantization aware", "dtypes", function(fake_quantized, x=spec(None, 4))),
    Case(
        "casts",
        "dtypes",
        function(
            lambda x: {
                "i": tf.cast(x, tf.int32),
                "b": tf.cast(x, tf.bool),
                "d": tf.cast(x, tf.float64),
                "h": tf.cast(x, tf.float16),
            },
            x=spec(None),
        ),
        ranges={"x": (-1000, 1000)},
    ),
    Case(
        "cast wraps",
        "dtypes",
        function(lambda x: {"byte": tf.cast(x, tf.uint8), "short": tf.cast(x, tf.int16)}, x=spec(None, dtype=tf.int32)),
    ),
    Case("unknown rank", "shapes", function(lambda x: tf.nn.relu(x) * 2.0, x=tf.TensorSpec(None, tf.float32))),
    Case(
        "unknown rank reduced",
        "shapes",
        function(lambda x: tf.reduce_sum(tf.reshape(x, [-1, 2]), -1), x=tf.TensorSpec(None, tf.float32)),
    ),
    Case("scalar in", "shapes", function(lambda x: {"y": x * 2.0, "grid": x + tf.range(3.0)}, x=spec())),
    Case("fixed shape", "shapes", function(lambda x: tf.linalg.matvec(weights(3, 4), x), x=spec(4))),
    Case(
        "free axes",
        "shapes",
        function(lambda x, y: tf.matmul(x, y, transpose_b=True), x=spec(None, None, 4), y=spec(None, None, 4)),
    ),
    Case("several signatures", "signatures", several, is_quick=True),
    Case("no inputs", "signatures", without_inputs),
    Case(
        "passed through",
        "signatures",
        function(lambda x, key: {"key": key, "y": x * 2.0}, x=spec(None), key=spec(None, dtype=tf.int64)),
    ),
    Case("same name in and out", "signatures", function(lambda x: {"x": x + 1.0}, x=spec(None))),
    Case(
        "unused input", "signatures", function(lambda x, training: x * 2.0, x=spec(None), training=spec(dtype=tf.bool))
    ),
    Case(
        "constant output",
        "signatures",
        function(lambda x: {"y": x + 1.0, "classes": tf.constant([3, 5])}, x=spec(None)),
    ),
    Case("tf1 mlp", "tf1", frozen_graph(classic)),
    Case("tf1 training feed", "tf1", frozen_graph(training_feed), is_quick=True),
    Case("tf1 training input", "tf1", frozen_graph(training_input)),
    Case("tf1 two tags", "tf1", frozen_graph(classic, tags=[["serve"], ["serve", "gpu"]])),
    Case("tf1 switch and merge", "tf1", frozen_graph(switch_and_merge)),
    Case("tf1 loop", "tf1", frozen_graph(old_loop)),
    Case("tf1 batch norm", "tf1", frozen_graph(batch_norm_v1)),
    Case("tf1 partitioned table", "tf1", frozen_graph(partitioned), ranges={"ids": (0, 9)}),
    Case("tf1 resource variable", "tf1", frozen_graph(resource_variables)),
    Case("tf1 photo", "tf1", frozen_graph(old_image), lengths=(9, 16)),
    Case("counter", "state", counter, refused="changes the variable count"),
    Case("python function", "state", function(python_function, x=spec(None)), refused="py_function"),
    Case(
        "assertion",
        "state",
        function(lambda x: tf.debugging.check_numerics(x, "bad"), x=spec(None)),
    ),
    Case("unseeded noise", "random", function(lambda x: x + tf.random.normal(tf.shape(x)), x=spec(None)), refused=""),
    Case("unsafe cast", "dtypes", function(lambda x: tf.cast(x, tf.uint8), x=spec(None)), refused="outside 0..255"),
    Case("word lengths", "strings", function(words, text=spec(None, dtype=tf.string)), strings=True),
    Case("hash buckets", "strings", function(hashed, text=spec(None, dtype=tf.string)), strings=True),
    Case("text vectorization", "strings", network(vectorized), strings=True),
    Case("string lookup", "strings", network(string_lookup), strings=True),
    Case("labels", "strings", function(labels, x=spec(None, 4)), strings=True),
    Case("examples", "strings", function(parsed, examples=spec(None, dtype=tf.string)), strings=True),
    Case("jpeg", "strings", function(decoded, image=spec(None, dtype=tf.string)), strings=True),
    Case("tf1 word table", "strings", frozen_graph(word_table), strings=True),
    Case("number table", "strings", frozen_graph(number_table), strings=True),
    Case("integer lookup", "strings", network(integer_lookup), strings=True),
    Case("hashed crossing", "strings", network(crossed), strings=True),
    Case("hashing of numbers", "strings", network(hashing), strings=True),
]
