"""Convolution by hand: what known kernels make of known images."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models.filters import FILTERS, KERNELS, convolve


@pytest.fixture
def filters(tiny: Any) -> Any:
    return models.get("filters").build(tiny("filters", height=8, width=6))


def answers(model: Any, image: np.ndarray) -> dict[str, np.ndarray]:
    found = models.get("filters").signatures(model, model.config, models.Assets())["serving_default"](image=image)
    return {name: value.numpy()[0, :, :, 0] for name, value in found.items()}


@pytest.mark.parametrize("name", list(KERNELS))
def test_the_sum_of_shifted_images_is_the_convolution_of_tensorflow(name: str) -> None:
    image = np.random.default_rng(0).random((2, 5, 7, 3)).astype("f4")
    kernel = np.array(KERNELS[name], np.float32)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    wanted = tf.nn.depthwise_conv2d(padded, np.repeat(kernel[:, :, None, None], 3, axis=2), [1, 1, 1, 1], "VALID")
    np.testing.assert_allclose(convolve(tf.constant(image), tf.constant(kernel)), wanted, atol=1e-5)


def test_an_even_area_keeps_its_brightness_or_becomes_black(filters: Any) -> None:
    found = answers(filters, np.full((1, 8, 6, 1), 0.5, "f4"))
    assert list(found) == list(FILTERS)
    for name, brightness in (("sharpen", 0.5), ("blur", 0.5), ("edge", 0), ("sobel", 0)):
        np.testing.assert_allclose(found[name], brightness, atol=1e-6)


def test_a_border_between_black_and_white_is_white_for_sobel_and_grey_for_blur(filters: Any) -> None:
    image = np.zeros((1, 8, 6, 1), "f4")
    image[:, :, 3:] = 1
    found = answers(filters, image)
    np.testing.assert_allclose(found["sobel"], np.tile([0, 0, 1, 1, 0, 0], (8, 1)))
    np.testing.assert_allclose(found["blur"], np.tile([0, 0, 0.25, 0.75, 1, 1], (8, 1)))
    np.testing.assert_allclose(found["edge"], np.tile([0, 0, 1, 1, 0, 0], (8, 1)))  # ±3, clipped
    np.testing.assert_allclose(found["sharpen"], image[0, :, :, 0])  # -1 and 2, clipped


def test_sobel_finds_borders_in_every_direction_alike(filters: Any) -> None:
    image = np.random.default_rng(1).random((1, 6, 6, 1)).astype("f4")
    model = models.get("filters").build(models.get("filters").configured(height=6, width=6))
    turned = np.rot90(image, axes=(1, 2)).copy()
    np.testing.assert_allclose(answers(model, turned)["sobel"], np.rot90(answers(model, image)["sobel"]), atol=1e-6)


def test_training_changes_no_kernel_and_a_saved_file_reads_back(filters: Any, tmp_path: Any) -> None:
    image = tf.constant(np.random.default_rng(2).random((4, 8, 6, 1)).astype("f4"))
    assert filters.trainable_variables == []
    filters.train_step(image)
    filters.save(tmp_path / "filters.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "filters.keras")(image), filters(image))
