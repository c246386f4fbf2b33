from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models.linear import cross_entropy_gradient, squared_error_gradient


def points(n: int = 50, width: int = 3) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    random = np.random.default_rng(0)
    x, w = random.normal(size=(n, width)), random.normal(size=width)
    return (*(tf.constant(a, tf.float32) for a in (x, random.random(n), w)), tf.constant(0.3))


def test_the_gradient_of_the_squared_error_equals_that_of_the_tape() -> None:
    x, y, w, b = points()
    with tf.GradientTape() as tape:
        tape.watch([w, b])
        loss = tf.reduce_sum((tf.linalg.matvec(x, w) + b - y) ** 2) / 50
    by_hand = squared_error_gradient(x, tf.linalg.matvec(x, w) + b - y)
    for ours, tapes in zip(by_hand, tape.gradient(loss, [w, b]), strict=True):
        np.testing.assert_allclose(ours, tapes, rtol=1e-5)


def test_the_gradient_of_the_cross_entropy_equals_that_of_the_tape() -> None:
    x, y, w, b = points()
    with tf.GradientTape() as tape:
        tape.watch([w, b])
        p = tf.sigmoid(tf.linalg.matvec(x, w) + b)
        loss = -tf.reduce_mean(y * tf.math.log(p) + (1 - y) * tf.math.log(1 - p))
    for ours, tapes in zip(cross_entropy_gradient(x, p, y), tape.gradient(loss, [w, b]), strict=True):
        np.testing.assert_allclose(ours, tapes, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["linear_regression", "logistic_regression"])
def test_weights_begin_at_zero(name: str, tiny: Any) -> None:
    assert not any(weight.any() for weight in models.get(name).build(tiny(name)).get_weights())


def test_linear_regression_finds_the_line() -> None:
    network = models.get("linear_regression")
    model = network.build(network.configured(learning_rate=0.05))
    x = tf.random.stateless_uniform([100, 1], seed=[0, 0], minval=-3, maxval=3)
    step = tf.function(model.train_step)
    for _ in range(300):
        step((x, 1.5 * x[:, 0] - 0.25))
    np.testing.assert_allclose(model.pair.w, [1.5], atol=1e-3)
    np.testing.assert_allclose(model.pair.b, -0.25, atol=1e-3)


def test_logistic_regression_classifies_two_classes_and_refuses_more() -> None:
    network = models.get("logistic_regression")
    with pytest.raises(ValueError, match="num_classes is 3"):
        network.build(network.configured(num_classes=3))
