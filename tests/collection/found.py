"""Models written without a look at the converter, of which each found a fault in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.collection.cases import Case, frozen_graph, function, network, spec, weights

v1 = tf.compat.v1


def life(board: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Conway's game of life: an input says how many steps its loop takes."""
    cells = tf.cast(board, tf.int32)
    for _ in tf.range(steps):
        near = [tf.roll(cells, [down, right], [1, 2]) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        count = tf.add_n(near) - cells
        cells = tf.cast(tf.equal(count, 3) | (tf.equal(count, 2) & tf.equal(cells, 1)), tf.int32)
    return tf.cast(cells, tf.bool)


def drawn(seed: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    return tf.tanh(tf.random.stateless_normal([count, 4], seed) @ weights(4, 3))


def segments(x: tf.Tensor, ids: tf.Tensor) -> dict[str, tf.Tensor]:
    """Sorted segments, of which some have no rows."""
    return {
        "sum": tf.math.segment_sum(x, ids),
        "mean": tf.math.segment_mean(x, ids),
        "max": tf.math.segment_max(x, ids),
        "min": tf.math.segment_min(x, ids),
    }


def attention_over_edges(x: tf.Tensor, edges: tf.Tensor) -> tf.Tensor:
    """A softmax over the edges of each node; TensorFlow refuses edges that are not in order."""
    source, target = edges[:, 0], edges[:, 1]
    score = tf.reduce_sum(tf.gather(x, source) * tf.gather(x, target), 1)
    share = tf.exp(score - tf.gather(tf.math.segment_max(score, source), source))
    return share / tf.gather(tf.math.segment_sum(share, source), source)


def of_levels(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """Fake quantisation as in training that knows of it."""
    return {
        "variables": tf.quantization.fake_quant_with_min_max_vars(x, -1.0, 2.0, 8),
        "numbers": tf.quantization.fake_quant_with_min_max_args(tf.nn.relu6(x), 0.0, 6.0),
        "channels": tf.quantization.fake_quant_with_min_max_vars_per_channel(x, [-1.0] * 3, [1.5] * 3, 8, True),
    }


def checked_root(x: tf.Tensor) -> tf.Tensor:
    tf.debugging.assert_greater_equal(x, 0.0, message="x must not be negative")
    return tf.sqrt(x)


def three_columns(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(tf.ensure_shape(x, [None, 3]) * 2.0)


def without(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
    left, at = tf.raw_ops.ListDiff(x=x, y=y)
    return {"left": left, "at": at, "rank": tf.raw_ops.Rank(input=x)}


def phase(x: tf.Tensor) -> tf.Tensor:
    """Angles of a spectrum: in silence, the last digit decides which they are."""
    return tf.math.angle(tf.signal.rfft(x))


def price(text: tf.Tensor) -> dict[str, tf.Tensor]:
    digits = tf.strings.regex_replace(text, r"[^0-9.]", "")
    is_number = tf.strings.regex_full_match(digits, r"[0-9]+(\.[0-9]+)?")
    plain = tf.strings.regex_replace(text, r"(a|an|the) ", "")
    return {"price": tf.strings.to_number(tf.where(is_number, digits, "0")) * 2.0, "plain": plain}


def bytes_of(text: tf.Tensor) -> tf.Tensor:
    codes = tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=12), tf.int32)
    return tf.reduce_mean(tf.gather(weights(256, 3), codes), 1)


def loudness(wav: tf.Tensor) -> dict[str, tf.Tensor]:
    sound, rate = tf.audio.decode_wav(wav, desired_channels=1, desired_samples=800)
    return {"loudness": tf.sqrt(tf.reduce_mean(sound**2)), "rate": rate}


def loan(amount: tf.Tensor, rate: tf.Tensor, years: tf.Tensor) -> dict[str, tf.Tensor]:
    """Scalars and a word."""
    months = tf.cast(years * 12, tf.float32)
    return {
        "monthly": amount * (1.0 + rate) / tf.maximum(months, 1.0),
        "is_right": tf.logical_and(rate > 0.0, years > 0),
        "kind": tf.where(years > 10, "long", "short"),
    }


def old_variable(name: str, *shape: int) -> Any:
    """A variable of TensorFlow 1 that is no resource."""
    return v1.get_variable(name, initializer=weights(*shape), use_resource=False)


def old_network() -> Any:
    x, keep = v1.placeholder(tf.float32, [None, 8, 8, 1], "x"), v1.placeholder_with_default(1.0, [], "keep")
    hidden = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, old_variable("k", 3, 3, 1, 2), 1, "SAME")), 2, 2, "SAME")
    hidden = v1.nn.dropout(tf.reshape(hidden, [-1, 32]), keep_prob=keep, seed=1)
    return {"x": x}, {"y": tf.nn.softmax(tf.matmul(hidden, old_variable("w", 32, 3)))}


def old_columns() -> Any:
    """Feature columns as TensorFlow 1 writes them: tags and ids of which an example may have none."""
    text = v1.placeholder(tf.string, [None], "examples")
    found = v1.parse_example(
        text,
        {
            "age": v1.FixedLenFeature([1], tf.float32),
            "tags": v1.VarLenFeature(tf.string),
            "ids": v1.VarLenFeature(tf.int64),
        },
    )
    words = tf.lookup.KeyValueTensorInitializer(["red", "green"], tf.constant([0, 1], tf.int64))
    tags = tf.SparseTensor(
        found["tags"].indices,
        tf.lookup.StaticHashTable(words, 2).lookup(found["tags"].values),
        found["tags"].dense_shape,
    )
    bag = tf.nn.safe_embedding_lookup_sparse(old_variable("tags", 3, 2), tags, combiner="mean")
    ids = tf.SparseTensor(found["ids"].indices, found["ids"].values % 5, found["ids"].dense_shape)
    row = tf.concat([found["age"], bag, tf.nn.safe_embedding_lookup_sparse(old_variable("ids", 5, 2), ids)], 1)
    return {"examples": text}, {"y": tf.sigmoid(tf.matmul(row, old_variable("w", 5, 1)))}


def detector(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """Boxes around anchors, of which some have the same score."""
    anchors = np.abs(weights(12, 2)) + 0.2
    middle, size = tf.sigmoid(x[..., :2]) + anchors, tf.exp(tf.clip_by_value(x[..., 2:4], -2.0, 2.0))
    boxes, scores = tf.concat([middle - size, middle + size], -1)[0], tf.sigmoid(x[0, :, 4])
    kept = tf.image.non_max_suppression(boxes, scores, 5, 0.5, 0.3)
    return {"boxes": tf.gather(boxes, kept), "scores": tf.gather(scores, kept)}


def by_number(x: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    return tf.switch_case(n, [lambda: x + 1.0, lambda: x @ weights(3, 3), lambda: tf.nn.softmax(x)])


def smoothed(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """Exponential smoothing, from the first value on and from the last."""
    columns = tf.transpose(x)
    forth = tf.scan(lambda a, b: 0.8 * a + 0.2 * b, columns)
    back = tf.scan(lambda a, b: 0.8 * a + 0.2 * b, columns, tf.zeros_like(columns[0]), reverse=True)
    return {"forth": tf.transpose(forth), "back": tf.transpose(back)}


def decoded(logits: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
    [ids], score = tf.nn.ctc_greedy_decoder(tf.transpose(logits, [1, 0, 2]), lengths)
    return {"ids": tf.sparse.to_dense(ids, -1), "score": score}


def saliency(x: tf.Tensor) -> tf.Tensor:
    """What each input adds to the score of the first class: a gradient in a signature."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = tf.reduce_sum(tf.nn.softmax(x @ weights(3, 4))[:, 0])
    return tf.abs(tape.gradient(score, x))


def odd_names(folder: Path) -> None:
    """Inputs whose names are no names of Python, as many pipelines have them."""
    module = tf.Module()
    specs = [tf.TensorSpec([None, 2], tf.float32, "image/pixels"), tf.TensorSpec([None], tf.float32, "user-weight")]
    module.run = tf.function(lambda a, b: {"scores/all": a * b[:, None]}, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures=module.run)


def bags(ids: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """A mean of embeddings for each bag; an input says where the bags end."""
    rows = tf.RaggedTensor.from_row_splits(ids, offsets, validate=False)
    return tf.reduce_mean(tf.gather(weights(10, 3), rows), 1)


def masked_steps() -> keras.Model:
    """A mask by a value that random inputs do not have."""
    x = inputs = keras.Input((6, 2))
    x = keras.layers.GRU(4, return_sequences=True)(keras.layers.Dense(3)(keras.layers.Masking(-1.0)(x)))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(x))


def old_training() -> Any:
    """Batch normalisation with a Switch by is_training, as TensorFlow 1 has it."""
    v1.disable_control_flow_v2()
    try:
        x, training = v1.placeholder(tf.float32, [None, 4], "x"), v1.placeholder_with_default(False, [], "is_training")
        mean, variance = (
            v1.get_variable("mean", initializer=weights(4)),
            v1.get_variable("variance", initializer=[1.5] * 4),
        )
        now = tf.nn.moments(x, [0])
        mean, variance = v1.cond(training, lambda: now, lambda: (mean + 0.0, variance + 0.0))
        return {"x": x}, {"y": tf.nn.batch_normalization(x, mean, variance, 0.1, 1.2, 1e-3)}
    finally:
        v1.enable_control_flow_v2()


def rays(position: tf.Tensor) -> dict[str, tf.Tensor]:
    """Colours along rays: what is behind counts as far as light comes through, a product of all before."""
    steps = tf.linspace(2.0, 6.0, 8)
    points = tf.concat([f(position[:, None] * steps[:, None]) for f in (tf.sin, tf.cos)], -1)
    made = tf.tensordot(tf.nn.relu(tf.tensordot(points, weights(6, 8), 1)), weights(8, 4, seed=1), 1)
    opacity = 1.0 - tf.exp(-tf.nn.relu(made[..., 3]) * 0.5)
    share = opacity * tf.math.cumprod(1.0 - opacity + 1e-6, -1, exclusive=True)
    return {"colour": tf.reduce_sum(share[..., None] * tf.sigmoid(made[..., :3]), 1), "depth": share @ steps[:, None]}


def cast_twice(x: tf.Tensor, n: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "whole": tf.cast(tf.cast(x, tf.int32), tf.bool),
        "half": tf.cast(tf.cast(x, tf.float16), tf.float32),
        "byte": tf.cast(tf.cast(n, tf.int8), tf.bool),
        "digits": tf.cast(tf.cast(n, tf.float32), tf.int64),
    }


def word_pairs(word: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
    """Skip-gram: TensorFlow refuses one word beside many contexts."""
    return tf.einsum("be,bce->bc", tf.gather(weights(20, 6), word), tf.gather(weights(20, 6, seed=1), context))


def peaks(image: tf.Tensor) -> dict[str, tf.Tensor]:
    """Objects as peaks of a heat map, whose values end at 1."""
    heat = tf.sigmoid(tf.nn.conv2d(image, weights(3, 3, 3, 2), 1, "SAME"))
    heat *= tf.cast(tf.equal(heat, tf.nn.max_pool2d(heat, 3, 1, "SAME")), tf.float32)
    best, at = tf.math.top_k(tf.reshape(heat, [tf.shape(heat)[0], -1]), 5)
    return {"score": best, "kind": at % 2, "place": at // 2}


def unseen(user: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
    """The best items but for those that a user has seen."""
    scores, items = tf.math.top_k(tf.gather(weights(20, 4), user) @ weights(4, 15, seed=1), 8)
    is_seen = tf.reduce_any(tf.equal(items[:, :, None], seen[:, None]), -1)
    return tf.gather(items, tf.math.top_k(tf.where(is_seen, scores - 1e5, scores), 3)[1], batch_dims=1)


def parts(nodes: tf.Tensor, graph: tf.Tensor) -> tf.Tensor:
    """Nodes by graph, padded to one length."""
    each = tf.dynamic_partition(nodes, graph, 3)
    longest = tf.reduce_max([tf.shape(part)[0] for part in each])
    return tf.stack([tf.pad(part, [[0, longest - tf.shape(part)[0]], [0, 0]]) for part in each])


def with_states() -> keras.Model:
    x, h, c = keras.Input((5, 3), name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, next_h, next_c = keras.layers.LSTM(4, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], {"y": y, "next_h": next_h, "next_c": next_c})


def recurrence(x: tf.Tensor) -> tf.Tensor:
    """Each value from the two before it, which the loop reads from the list that it writes."""
    made = tf.TensorArray(tf.float32, 6, clear_after_read=False).write(0, x[:, 0]).write(1, x[:, 1])
    for n in tf.range(2, 6):
        made = made.write(n, made.read(n - 1) + 0.5 * made.read(n - 2) * x[:, n])
    return made.stack()


_INTEGERS, _TEXT = tf.int32, spec(None, dtype=tf.string)

FOUND = [
    Case(
        "steps of a loop as an input",
        "control flow",
        function(life, board=spec(None, None, None, dtype=tf.bool), steps=spec(dtype=_INTEGERS)),
        ranges={"steps": (0, 6)},
    ),
    Case(
        "drawn as often as asked",
        "random",
        function(drawn, seed=spec(2, dtype=_INTEGERS), count=spec(dtype=_INTEGERS)),
        ranges={"count": (0, 6)},
    ),
    Case(
        "sorted segments",
        "computations",
        function(segments, x=spec(None, 3), ids=spec(None, dtype=_INTEGERS)),
        ranges={"ids": (0, 4)},
        is_quick=True,
    ),
    Case(
        "softmax over edges",
        "graphs",
        function(attention_over_edges, x=spec(None, 3), edges=spec(None, 2, dtype=tf.int64)),
        ranges={"edges": (0, 0)},
    ),
    Case("levels of quantised training", "computations", function(of_levels, x=spec(None, 3))),
    Case("numbers that are not negative", "state", function(checked_root, x=spec(None, 2)), ranges={"x": (0, 9)}),
    Case("a length that only a check names", "state", function(three_columns, x=spec(None, None)), lengths=(3, 3)),
    Case(
        "elements that are not in a list",
        "computations",
        function(without, x=spec(None, dtype=tf.int64), y=spec(None, dtype=tf.int64)),
    ),
    Case("phase of a spectrum", "audio", function(phase, x=spec(None, 8)), refused="differs"),
    Case("prices in text", "strings", function(price, text=_TEXT), strings=True),
    Case("bytes as numbers", "strings", function(bytes_of, text=_TEXT), strings=True),
    Case("wav", "strings", function(loudness, wav=spec(dtype=tf.string)), strings=True),
    Case(
        "scalars and a word",
        "strings",
        function(loan, amount=spec(), rate=spec(), years=spec(dtype=_INTEGERS)),
        strings=True,
    ),
    Case("tf1 variables that are no resources", "tf1", frozen_graph(old_network), is_quick=True),
    Case("tf1 feature columns", "strings", frozen_graph(old_columns), strings=True),
    Case("boxes of a detector", "images", function(detector, x=spec(1, 12, 5))),
    Case("branches by number", "control flow", function(by_number, x=spec(None, 3), n=spec(dtype=_INTEGERS))),
    Case("smoothed series", "sequences", function(smoothed, x=spec(None, 7))),
    Case(
        "decoded speech of some length",
        "sequences",
        function(decoded, logits=spec(None, 8, 5), lengths=spec(None, dtype=_INTEGERS)),
        ranges={"lengths": (0, 8)},
    ),
    Case("saliency", "computations", function(saliency, x=spec(None, 3))),
    Case("names that Python cannot have", "signatures", odd_names, is_quick=True),
    Case("masked by a value", "sequences", network(masked_steps)),
    Case("tf1 batch norm by is_training", "tf1", frozen_graph(old_training)),
    Case(
        "grey photo of bytes", "images", function(tf.image.rgb_to_grayscale, images=spec(None, 4, 4, 3, dtype=tf.uint8))
    ),
    Case(
        "bags by their ends",
        "ragged",
        function(bags, ids=spec(None, dtype=tf.int64), offsets=spec(None, dtype=tf.int64)),
        ranges={"offsets": (0, 0)},
    ),
    Case("colours along rays", "images", function(rays, position=spec(None, 3))),
    Case(
        "casts after casts",
        "dtypes",
        function(cast_twice, x=spec(None), n=spec(None, dtype=_INTEGERS)),
        ranges={"x": (-1000, 1000)},
    ),
    Case(
        "pairs of words",
        "tables",
        function(word_pairs, word=spec(None, dtype=_INTEGERS), context=spec(None, 4, dtype=_INTEGERS)),
        ranges={"word": (0, 19), "context": (0, 19)},
    ),
    Case("peaks of a heat map", "images", function(peaks, image=spec(None, 8, 8, 3))),
    Case(
        "items that were not seen",
        "tables",
        function(unseen, user=spec(None, dtype=_INTEGERS), seen=spec(None, None, dtype=_INTEGERS)),
        ranges={"user": (0, 19), "seen": (0, 14)},
    ),
    Case(
        "parts of one length",
        "graphs",
        function(parts, nodes=spec(None, 3), graph=spec(None, dtype=_INTEGERS)),
        ranges={"graph": (0, 2)},
    ),
    Case("states in and out", "sequences", network(with_states)),
    Case("recurrence over two steps", "sequences", function(recurrence, x=spec(None, 6))),
]
