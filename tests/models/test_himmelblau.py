from __future__ import annotations

import numpy as np
import tensorflow as tf

from ladle import models
from ladle.models.himmelblau import himmelblau, slope

MINIMA = np.array([[3, 2], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]])


def test_the_hand_derived_gradient_equals_that_of_the_tape() -> None:
    points = tf.random.stateless_uniform([100, 2], seed=[0, 0], minval=-5, maxval=5)
    with tf.GradientTape() as tape:
        tape.watch(points)
        value = tf.reduce_sum(himmelblau(points))
    np.testing.assert_allclose(slope(points), tape.gradient(value, points), rtol=1e-4, atol=1e-3)


def test_three_starts_reach_three_minima() -> None:
    network = models.get("himmelblau")
    served = network.signatures(network.build(network.config), network.config, models.Assets())
    answer = served["serving_default"](**{k: tf.constant(v) for k, v in network.example(network.config).items()})
    assert {name: value.shape.as_list() for name, value in answer.items()} == {
        "value": [3],
        "minimum": [3, 2],
        "path": [3, 201, 2],
    }
    distance = np.linalg.norm(answer["minimum"].numpy()[:, None] - MINIMA, axis=-1)  # [3, 4]
    assert len({*distance.argmin(axis=1)}) == 3
    assert distance.min(axis=1).max() < 1e-4
    np.testing.assert_allclose(answer["value"], 0, atol=1e-6)
    np.testing.assert_array_equal(answer["path"][:, 0], network.example(network.config)["x"])
    np.testing.assert_array_equal(answer["path"][:, -1], answer["minimum"])
