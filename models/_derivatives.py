"""Derivatives that back-propagation by hand needs, each by the output of its function: no tape.

A function's own output is at hand after the forward pass, so the backward pass computes no exponential again.
"""

from __future__ import annotations

import tensorflow as tf

LEAK = 0.2
"""Slope of the leaky ReLU below zero."""


def sigmoid(o: tf.Tensor) -> tf.Tensor:
    """σ'(z) = O(1 - O), with O = σ(z) = 1 / (1 + e⁻ᶻ); any shape."""
    return o * (1.0 - o)


def tanh(o: tf.Tensor) -> tf.Tensor:
    """tanh'(z) = 1 - O², with O = tanh(z); any shape."""
    return 1.0 - o**2


def relu(o: tf.Tensor) -> tf.Tensor:
    """1 where O = max(0, z) is positive, else 0; any shape. At z = 0, where there is no derivative, it is 0."""
    return tf.cast(o > 0, o.dtype)


def leaky_relu(o: tf.Tensor) -> tf.Tensor:
    """1 where O is positive, else LEAK, with O = z above zero and LEAK·z below; any shape."""
    return tf.where(o > 0, tf.ones_like(o), LEAK * tf.ones_like(o))


def softmax_jacobian(p: tf.Tensor) -> tf.Tensor:
    """∂p_i/∂z_j = p_i(δ_ij - p_j), with p = softmax(z): float32 [b, k] -> [b, k, k], symmetric."""
    return tf.linalg.diag(p) - p[:, :, tf.newaxis] * p[:, tf.newaxis, :]


def cross_entropy(p: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """∂E/∂z_k = p_k - t_k: float32 [b, k] and [b, k] -> [b, k].

    It holds for E = -Σ t_k log p_k with p = softmax(z) and Σ t_k = 1, where the Jacobian above turns ∂E/∂p_i = -t_i/p_i
    into p_k - t_k. It also holds for E = -Σ (t_k log p_k + (1 - t_k) log(1 - p_k)) with p = σ(z).
    """
    return p - target
