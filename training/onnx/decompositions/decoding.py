"""Classes of steps become sequences."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def _greedy(operation: Any) -> list[tf.Tensor] | None:
    """CTCGreedyDecoder: logits [steps, b, classes] -> places, ids and shape of a sparse [b, length], and scores [b, 1].

    The best class of each step, without blanks, and without repetitions if they are merged; a check demands that no
    sequence is longer than the logits.
    """
    logits, lengths = operation.inputs
    classes, blank = tf.shape(logits, tf.int64)[2], int(operation.get_attr("blank_index"))
    best = tf.transpose(tf.argmax(logits, 2))
    counts = tf.sequence_mask(lengths, tf.shape(logits)[0])
    kept = tf.logical_and(counts, tf.not_equal(best, classes + blank if blank < 0 else blank))
    if operation.get_attr("merge_repeated"):
        before = tf.concat([tf.fill([tf.shape(best)[0], 1], tf.constant(-1, tf.int64)), best[:, :-1]], 1)
        kept = tf.logical_and(kept, tf.not_equal(best, before))
    at = tf.where(kept)
    number = tf.cumsum(tf.cast(kept, tf.int32), 1)
    place = tf.cast(tf.gather_nd(number, at), tf.int64) - 1
    longest = tf.reduce_max(tf.concat([tf.reshape(number, [-1]), [0]], 0))
    most = tf.where(counts, tf.transpose(tf.reduce_max(logits, 2)), tf.zeros([], logits.dtype))
    return [
        tf.stack([at[:, 0], place], 1),
        tf.gather_nd(best, at),
        tf.stack([tf.shape(best, tf.int64)[0], tf.cast(longest, tf.int64)]),
        -tf.reduce_sum(most, 1, keepdims=True),
    ]


DECODING = {"CTCGreedyDecoder": _greedy}
