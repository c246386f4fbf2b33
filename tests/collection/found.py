"""Models written without a look at the converter, of which each found a fault in it."""

from __future__ import annotations

import tensorflow as tf

from tests.collection.cases import Case, function, spec, weights


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
]
