"""Eigenvalues and singular values of small matrices, with their vectors, by rotations in float64.

Jacobi 1846. The signs of vectors are others than those of TensorFlow's kernels: a model whose outputs depend on them
differs, and stays on TensorFlow. So does one with a QR factorisation: where columns depend on each other, rounding
decides what Q is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

_MOST_COLUMNS = 24
_SWEEPS = 9
"""After each sweep, the rest beside the diagonal is about the square of what it was."""


def _sides(matrix: tf.Tensor) -> tuple[int, int] | None:
    """Rows and columns of matrices, if they are known and small."""
    if matrix.shape.rank is None or matrix.dtype not in (tf.float32, tf.float64):
        return None
    rows, columns = matrix.shape[-2:]
    if rows is None or columns is None or not 0 < min(rows, columns) <= _MOST_COLUMNS or max(rows, columns) > 512:
        return None
    return rows, columns


def _pairs(size: int) -> list[list[tuple[int, int]]]:
    """Rounds of a tournament: each round has pairs of different rows, and each pair is in one round."""
    players: list[int | None] = [*range(size), *([None] if size % 2 else [])]
    rounds = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        both = zip(players[:half], reversed(players[half:]), strict=True)
        rounds.append([(min(p, q), max(p, q)) for p, q in both if p is not None and q is not None])
        players = [players[0], players[-1], *players[1:-1]]
    return rounds


def _as_matrices(values: tf.Tensor) -> tf.Tensor:
    return tf.expand_dims(tf.expand_dims(values, -1), -1)


def _rotated(symmetric: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Eigenvalues, ascending, and eigenvectors of symmetric float64 [..., size, size]."""
    identity = np.eye(size)
    if size == 1:
        return symmetric[..., 0], tf.zeros_like(symmetric) + identity
    rounds = _pairs(size)
    cosines, sines, firsts, seconds = (np.zeros((len(rounds), size // 2, size, size)) for _ in range(4))
    for n, pairs in enumerate(rounds):
        for k, (p, q) in enumerate(pairs):
            firsts[n, k, p, p], seconds[n, k, q, q] = 1, 1
            cosines[n, k, p, p] = cosines[n, k, q, q] = 1
            sines[n, k, p, q], sines[n, k, q, p] = 1, -1
    between = np.maximum(sines, 0)

    def entries(matrix: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.expand_dims(matrix, -3) * places, [-2, -1])  # [..., pairs]

    def turn(n: tf.Tensor, matrix: tf.Tensor, vectors: tf.Tensor) -> list[tf.Tensor]:
        at = tf.math.floormod(n, len(rounds))
        p, q, off = (entries(matrix, tf.gather(places, at)) for places in (firsts, seconds, between))
        is_zero = tf.equal(off, 0.0)
        ratio = (q - p) / tf.where(is_zero, tf.ones_like(off), 2.0 * off)
        sign = tf.where(ratio >= 0, tf.ones_like(ratio), -tf.ones_like(ratio))
        tangent = tf.where(is_zero, tf.zeros_like(off), sign / (tf.abs(ratio) + tf.sqrt(ratio * ratio + 1.0)))
        cosine = 1.0 / tf.sqrt(tangent * tangent + 1.0)
        rotation = identity + tf.reduce_sum(
            _as_matrices(cosine - 1.0) * tf.gather(cosines, at) + _as_matrices(tangent * cosine) * tf.gather(sines, at),
            -3,
        )
        turned = tf.linalg.matrix_transpose(rotation) @ matrix @ rotation
        return [n + 1, turned, vectors @ rotation]

    start = [tf.constant(0), symmetric, tf.zeros_like(symmetric) + identity]
    shapes = [each.shape for each in start]
    _, matrix, vectors = tf.while_loop(lambda n, *_: n < _SWEEPS * len(rounds), turn, start, shape_invariants=shapes)
    values = tf.reduce_sum(matrix * identity, -1)  # [..., size]
    order = tf.math.top_k(-values, size)[1]
    is_next = tf.equal(tf.expand_dims(order, -2), np.arange(size)[:, None])
    chosen = tf.cast(is_next, tf.float64)  # [..., size, size]
    return tf.reduce_sum(tf.expand_dims(values, -1) * chosen, -2), vectors @ chosen


def _eigh(operation: Any) -> list[tf.Tensor] | None:
    """SelfAdjointEigV2, which reads the lower triangle."""
    [given] = operation.inputs
    sides = _sides(given)
    if sides is None:
        return None
    wide, place = tf.cast(given, tf.float64), np.arange(sides[0])
    mirrored = tf.where(place[:, None] >= place, wide, tf.linalg.matrix_transpose(wide))
    values, vectors = _rotated(mirrored, sides[0])
    kept = tf.cast(vectors, given.dtype) if operation.get_attr("compute_v") else tf.zeros([0], given.dtype)
    return [tf.cast(values, given.dtype), kept]


def _svd(operation: Any) -> list[tf.Tensor] | None:
    """Singular values are roots of the eigenvalues of the matrix times its transpose, on the shorter side."""
    [given] = operation.inputs
    sides = _sides(given)
    if sides is None or (operation.get_attr("full_matrices") and operation.get_attr("compute_uv")):
        return None
    rows, columns = sides
    wide = tf.cast(given, tf.float64)
    tall = wide if rows >= columns else tf.linalg.matrix_transpose(wide)
    _, ascending = _rotated(tf.linalg.matrix_transpose(tall) @ tall, min(sides))
    vectors = tf.reverse(ascending, [-1])
    # The smallest eigenvalues have lost their digits; the products have them.
    images = tall @ vectors
    lengths = tf.sqrt(tf.reduce_sum(images * images, -2))
    if not operation.get_attr("compute_uv"):
        empty = tf.zeros([0], given.dtype)
        return [tf.cast(lengths, given.dtype), empty, empty]
    is_zero = tf.equal(lengths, 0.0)
    units = images / tf.where(is_zero, tf.ones_like(lengths), lengths)[..., None, :]
    left, right = (units, vectors) if rows >= columns else (vectors, units)
    return [tf.cast(x, given.dtype) for x in (lengths, left, right)]


FACTORS = {"SelfAdjointEigV2": _eigh, "Svd": _svd}
