"""The Wasserstein GAN of points: its densities, its pictures, and that it learns."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models.toy_gan import EXTENT, HIGH, INK, LOW, drawn, grid
from ladle.training import data


@pytest.fixture
def gan(tiny: Any) -> Any:
    return models.get("toy_gan").build(tiny("toy_gan"))


@pytest.mark.parametrize(
    ("name", "modes", "deviation"), [("synthetic_ring", 8, 0.05), ("synthetic_grid", 25, 0.03)], ids=["ring", "grid"]
)
def test_the_densities_have_as_many_modes_as_they_say(name: str, modes: int, deviation: float) -> None:
    points = data.load(name, synthetic=True, count=2000).train.x
    assert points.dtype == np.float32
    assert np.abs(points).max() < EXTENT
    clusters: list[Any] = []
    for point in points:
        if all(np.linalg.norm(point - first) > 8 * deviation for first in clusters):
            clusters.append(point)
    assert len(clusters) == modes


def test_the_roll_is_a_spiral() -> None:
    points = data.load("synthetic_roll", synthetic=True, count=2000).train.x
    turn = 14 * np.linalg.norm(points, axis=1)
    off = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / 14 - points
    assert turn.min() > 1.1 * np.pi
    assert np.median(np.abs(off)) < 0.5
    assert np.abs(points).max() < EXTENT


def test_a_point_is_drawn_where_it_is_over_the_critics_score() -> None:
    side = 5
    where = grid(side)
    assert where[0].tolist() == [-EXTENT, EXTENT]  # the top left
    points = tf.constant([[[0.0, 0.0], [0.0, 0.0]], [[EXTENT, EXTENT], [9.0, 0.0]]])  # 9 lies outside
    images = drawn(points, tf.constant(where[:, 0]), side).numpy()
    assert images[0, 2, 2].tolist() == list(INK)
    assert images[1, 0, 4].tolist() == list(INK)
    assert images[0, 0, 0].tolist() == list(LOW)  # the score rises to the right
    assert images[0, 0, 4].tolist() == list(HIGH)


def test_the_same_seed_gives_the_same_pictures(gan: Any) -> None:
    served = models.get("toy_gan").signatures(gan, gan.config, models.Assets())
    one, same, other = (
        served["generate"](n=tf.constant(2), seed=tf.constant(seed, tf.int64))["images"].numpy() for seed in (7, 7, 8)
    )
    assert one.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_points_and_scores_are_those_of_generator_and_critic(gan: Any) -> None:
    served = models.get("toy_gan").signatures(gan, gan.config, models.Assets())
    z = tf.random.stateless_normal([3, 2], seed=[0, 0])
    x = served["serving_default"](z=z)["x"]
    np.testing.assert_allclose(x, gan(z), atol=1e-6)
    np.testing.assert_allclose(served["critic"](x=x)["value"], gan.critic(x)[:, 0], atol=1e-6)


def test_generated_points_come_nearer_to_the_real_ones(tiny: Any) -> None:
    config = tiny("toy_gan", units=(32, 32), learning_rate=1e-2)
    model = models.get("toy_gan").build(config)
    points = tf.constant(data.load("synthetic_ring", synthetic=True, count=400).train.x)

    def distance() -> float:
        model.reset_metrics()
        return float(model.test_step(points)["sliced_wasserstein"])

    before, step = distance(), tf.function(model.train_step)
    for _ in range(240):
        step(points)
    assert distance() < 0.6 * before


def test_a_saved_file_reads_back_to_equal_points(gan: Any, batch: Any, tmp_path: Any) -> None:
    gan.train_step(batch("toy_gan", gan.config))
    gan.save(tmp_path / "gan.keras")
    read = keras.saving.load_model(tmp_path / "gan.keras")
    z = tf.random.stateless_normal([3, 2], seed=[0, 0])
    np.testing.assert_array_equal(read(z), gan(z))
    np.testing.assert_array_equal(read.critic(gan(z)), gan.critic(gan(z)))
