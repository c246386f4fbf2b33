from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models._network import VOID
from ladle.models._segmentation import (
    BorderCrossEntropy,
    PadToMultiple,
    PixelAccuracy,
    Standardize,
    border_weights,
)


@pytest.fixture(scope="module")
def unet() -> Any:
    network = models.get("unet")
    return network.build(network.configured(**network.tiny))


@pytest.mark.parametrize("size", [(64, 64), (61, 70), (3, 5), (1, 1)], ids=str)
def test_a_mask_has_the_size_of_its_image(unet: Any, size: tuple[int, int]) -> None:
    assert unet(tf.zeros([2, *size, 1])).shape == (2, *size, 2)


def test_there_is_a_channel_for_the_background_and_each_class(tiny: Any) -> None:
    model = models.get("unet").build(tiny("unet", num_classes=3, channels=3))
    assert model(tf.zeros([1, 8, 8, 3])).shape == (1, 8, 8, 4)


def test_each_stage_halves_the_size_and_doubles_the_filters() -> None:
    network = models.get("unet")
    model = network.build(network.config)
    assert [model.get_layer(f"down{n}_conv2").filters for n in (1, 2, 3, 4)] == [16, 32, 64, 128]
    assert model.get_layer("bottom_conv2").filters == 256
    # Joined, not added: the channels of skip and way up stand side by side.
    assert [model.get_layer(f"up{n}_join").output.shape[-1] for n in (1, 2, 3, 4)] == [32, 64, 128, 256]


def test_padding_repeats_the_last_row_and_column() -> None:
    image = tf.reshape(tf.range(6.0), [1, 2, 3, 1])
    padded = PadToMultiple(4)(image)[0, ..., 0]
    np.testing.assert_array_equal(padded, [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])


def test_pixels_weigh_more_the_nearer_a_border_is() -> None:
    mask = np.zeros((1, 9, 9), np.int32)
    mask[:, :, 5:] = 1
    weights = border_weights(tf.constant(mask), 2, weight=3.0, width=3)
    np.testing.assert_allclose(weights[0, 4], [1, 1, 2, 3, 4, 4, 3, 2, 1])


def test_a_mask_without_borders_weighs_the_same_everywhere() -> None:
    np.testing.assert_allclose(border_weights(tf.ones([1, 6, 6], tf.int32), 2, 3.0, 3), 1)


def test_borders_between_any_two_classes_count() -> None:
    mask = tf.constant([[[0, 1, 1, 1, 2]] * 5])
    np.testing.assert_allclose(border_weights(mask, 3, 1.0, 1)[0, 2], [2, 2, 1, 2, 2])


def test_the_loss_is_the_weighted_cross_entropy() -> None:
    mask = np.zeros((2, 8, 8), np.int32)
    mask[:, 2:6, 2:6] = 1
    logits = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype(np.float32)
    log_p = logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))
    entropy = -np.take_along_axis(log_p, mask[..., None], -1)[..., 0]
    weights = border_weights(tf.constant(mask), 2, 4.0, 2).numpy()
    expected = np.sum(entropy * weights) / np.sum(weights)
    assert float(BorderCrossEntropy(4.0, 2)(mask, logits)) == pytest.approx(expected, rel=1e-5)
    assert float(BorderCrossEntropy(0.0, 2)(mask, logits)) == pytest.approx(entropy.mean(), rel=1e-5)


def test_loss_falls_on_one_batch(tiny: Any, batch: Any, losses: Any) -> None:
    config = tiny("unet", height=16, width=16)
    values = losses(models.get("unet").build(config), batch("unet", config), steps=60)
    assert values[-1] < 0.5 * values[0]


def test_iou_is_that_of_the_objects_without_the_background(unet: Any) -> None:
    image = tf.random.stateless_uniform([2, 16, 16, 1], seed=[0, 0])
    found = tf.argmax(unet(image), -1).numpy() == 1
    mask = found.copy()
    mask[:, :8] = ~mask[:, :8]
    unet.reset_metrics()
    figures = unet.test_step((image, tf.constant(mask, tf.int32)))
    assert float(figures["iou"]) == pytest.approx(np.sum(mask & found) / np.sum(mask | found))


def test_bytes_and_tensors_are_answered_alike(unet: Any) -> None:
    network = models.get("unet")
    served = network.signatures(unet, network.configured(**network.tiny), models.Assets(("background", "cell")))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 13, 21, 1), dtype=np.uint8)
    answer = served["serving_default"](image=tf.constant(pixels, tf.float32) / 255)
    assert {k: (v.dtype, v.shape.as_list()) for k, v in answer.items()} == {
        "class_map": (tf.int64, [2, 13, 21]),
        "probabilities": (tf.float32, [2, 13, 21, 2]),
    }
    by_bytes = served["serving_bytes"](image_bytes=tf.stack([tf.io.encode_png(p) for p in pixels]))
    np.testing.assert_allclose(by_bytes["probabilities"], answer["probabilities"], atol=1e-5)
    masks = [tf.io.decode_png(png)[..., 0] for png in by_bytes["mask_png_bytes"]]
    np.testing.assert_array_equal(masks, by_bytes["class_map"])


def test_signatures_need_a_label_for_the_background_too(unet: Any) -> None:
    network = models.get("unet")
    with pytest.raises(ValueError, match="got 1 labels; expected 2"):
        network.signatures(unet, network.config, models.Assets(("cell",)))


def test_a_saved_model_file_reads_back_to_equal_masks(unet: Any, tmp_path: Any) -> None:
    unet.save(tmp_path / "unet.keras")
    read = keras.saving.load_model(tmp_path / "unet.keras")
    image = tf.random.stateless_uniform([1, 10, 13, 1], seed=[0, 0])
    np.testing.assert_array_equal(read(image), unet(image))


def test_standardized_images_do_not_depend_on_their_exposure(tiny: Any) -> None:
    model = models.get("unet").build(tiny("unet", standardize=True))
    image = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    bright = model(tf.constant(image))
    dark = model(tf.constant(0.5 * image + 0.1))
    np.testing.assert_allclose(dark, bright, atol=1e-2)
    plain = models.get("unet").build(tiny("unet"))
    assert np.abs(plain(tf.constant(image)) - plain(tf.constant(0.5 * image + 0.1))).max() > 0.1
    assert np.isfinite(model(tf.ones([1, 16, 16, 1]))).all(), "a plain image has no variance"


def test_a_dim_image_is_standardized_to_all_digits() -> None:
    image = (np.random.default_rng(0).integers(4, 7, (1, 256, 256, 1)) / 255).astype(np.float32)
    exact = image.astype(np.float64) - image.mean(dtype=np.float64)
    exact /= np.sqrt(np.square(exact).mean() + 1 / 255**2)
    np.testing.assert_allclose(Standardize()(image), exact, atol=1e-6)


def test_pixels_without_a_class_change_neither_loss_nor_metrics(tiny: Any) -> None:
    model = models.get("unet").build(tiny("unet"))
    random = np.random.default_rng(0)
    image, mask = random.random((2, 16, 16, 1), np.float32), random.integers(0, 2, (2, 16, 16))
    mask[:, :4] = VOID
    logits = model(image, training=False)
    values = []
    for at_void in ([-9.0, 9.0], [9.0, -9.0]):  # whatever the network says there
        changed = tf.concat([tf.broadcast_to(at_void, [2, 4, 16, 2]), logits[:, 4:]], axis=1)
        values.append([float(model.loss(mask, changed)), float(PixelAccuracy()(mask, changed))])
    assert np.isfinite(values).all()
    assert values[0] == pytest.approx(values[1])
    figures = model.train_step((tf.constant(image), tf.constant(mask, tf.int32)))
    assert np.isfinite([float(value) for value in figures.values()]).all()
    assert float(BorderCrossEntropy(4.0, 3)(np.full_like(mask, VOID), logits)) == 0
