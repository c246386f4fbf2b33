from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models.fcn import Unpool, _bilinear


def built(name: str, **overrides: Any) -> keras.Model:
    network = models.get(name)
    return network.build(network.configured(**overrides))


def layers_with_weights(model: keras.Model) -> int:
    """Convolutions and dense layers, projections of shortcuts aside."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return sum(isinstance(layer, kinds) and "shortcut" not in layer.name for layer in model.layers)


@pytest.mark.parametrize(
    ("name", "depth"),
    [("vgg11", 8 + 3), ("vgg13", 10 + 3), ("vgg16", 13 + 3), ("vgg19", 16 + 3), ("resnet18", 18), ("resnet34", 34)],
)
def test_a_network_is_as_deep_as_its_name_says(name: str, depth: int) -> None:
    assert layers_with_weights(built(name)) == depth


@pytest.mark.parametrize(("name", "depth"), [("resnet50", 50), ("densenet121", 121)])
def test_a_very_deep_network_is_as_deep_as_its_name_says(name: str, depth: int) -> None:
    assert layers_with_weights(built(name)) == depth


def test_alexnet_at_the_papers_size_has_the_papers_weights() -> None:
    assert built("alexnet", height=224, width=224, num_classes=1000).count_params() == 62_378_344


def test_vgg_reduces_an_image_of_32_pixels_to_one() -> None:
    model = built("vgg13")
    assert model.get_layer("block5_pool").output.shape == (None, 1, 1, 512)
    assert [model.get_layer(name).units for name in ("dense1", "dense2", "logits")] == [256, 128, 100]


def test_googlenet_is_22_layers_deep_and_1x1_convolutions_save_weights() -> None:
    with_them, without = built("googlenet"), built("googlenet", reduce=False)
    modules = sum(layer.name.endswith("_join") for layer in with_them.layers)
    stem = sum(layer.name.startswith("stem") and layer.name.endswith("_conv") for layer in with_them.layers)
    assert stem + 2 * modules + 1 == 22
    assert without.count_params() > 2 * with_them.count_params()


def test_densenet_121_has_seven_million_weights_for_100_classes() -> None:
    model = built("densenet121")
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert round(trainable / 1e6, 1) == 7.0


def test_a_dense_block_adds_its_growth_with_each_layer() -> None:
    model = built("densenet", blocks=(3,), growth=5)
    assert [model.get_layer(f"block1_layer{n}_join").output.shape[-1] for n in (1, 2, 3)] == [15, 20, 25]


def test_an_fcn_adds_predictions_of_finer_strides() -> None:
    names = {stride: {layer.name for layer in built(f"fcn{stride}s").layers} for stride in (32, 16, 8)}
    assert not any(name.startswith("add") for name in names[32])
    assert {name for name in names[16] if name.startswith("add")} == {"add16"}
    assert {name for name in names[8] if name.startswith("add")} == {"add16", "add8"}


@pytest.mark.parametrize("size", [(64, 64), (33, 70)], ids=str)
def test_an_fcns_mask_has_the_size_of_its_image(size: tuple[int, int], tiny: Any) -> None:
    assert models.get("fcn8s").build(tiny("fcn8s"))(tf.zeros([2, *size, 1])).shape == (2, *size, 2)


def test_transposed_convolutions_of_an_fcn_begin_as_interpolation() -> None:
    image = np.zeros((1, 4, 4, 2), np.float32)
    image[:, :, :, 0] = 7.0
    larger = tf.nn.conv2d_transpose(image, _bilinear(4, 2), [1, 8, 8, 2], 2, "SAME")
    np.testing.assert_allclose(larger[0, 2:6, 2:6, 0], 7.0)
    np.testing.assert_allclose(larger[..., 1], 0.0)


def test_an_fcn_refuses_an_unknown_stride() -> None:
    with pytest.raises(ValueError, match="stride is 4; expected 32, 16 or 8"):
        built("fcn8s", stride=4)


def test_class_weights_count_pixels_of_a_class_more(tiny: Any) -> None:
    from ladle.models._segmentation import BorderCrossEntropy

    mask = tf.constant([[[0, 1]]])
    logits = tf.constant([[[[0.0, 0.0], [0.0, 0.0]]]])
    plain = BorderCrossEntropy(0.0, 1, reduction=None)(mask, logits)
    weighted = BorderCrossEntropy(0.0, 1, (1.0, 3.0), reduction=None)(mask, logits)
    np.testing.assert_allclose(weighted / plain, [[[0.5, 1.5]]], rtol=1e-6)
    with pytest.raises(ValueError, match="class_weights has 3 numbers; expected 2"):
        models.get("unet").build(tiny("unet", class_weights=(1.0, 2.0, 3.0)))


def test_max_unpooling_puts_values_where_the_maxima_were() -> None:
    before = tf.constant([[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 7.0, 6.0]])[None, ..., None]  # [1, 2, 4, 1]
    pooled = tf.nn.max_pool2d(before, 2, 2, "VALID")  # 5 and 7
    found = Unpool()(tf.constant([[[[10.0], [20.0]]]]), before, pooled)
    assert found[0, ..., 0].numpy().tolist() == [[0, 10, 0, 0], [0, 0, 20, 0]]


@pytest.mark.parametrize("name", ["fcn32s", "fcn8s"])
def test_an_fcn_can_enlarge_by_unpooling(name: str, tiny: Any) -> None:
    model = models.get(name).build(tiny(name, decoder="unpool"))
    assert model(np.zeros((1, 40, 50, 1), np.float32)).shape == (1, 40, 50, 2)
    found = [layer.name for layer in model.layers if isinstance(layer, Unpool)]
    assert found == [f"unpool{stride}" for stride in (16, 8, 4, 2, 1)]


def test_an_fcn_refuses_an_unknown_decoder(tiny: Any) -> None:
    with pytest.raises(ValueError, match="expected one of deconv, unpool"):
        models.get("fcn8s").build(tiny("fcn8s", decoder="up"))
