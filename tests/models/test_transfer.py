"""The bases of `transfer` and the scaling of images that each expects."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ladle import models

TRANSFER = models.get("transfer")
TINY = {**TRANSFER.tiny, "height": 8, "width": 8}


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_a_base_of_caffe_gets_blue_first_less_the_means(channels: int) -> None:
    model = TRANSFER.build(TRANSFER.configured(**{**TINY, "base": "vgg16", "size": 32, "channels": channels}))
    scaled = keras.Model(model.input, model.get_layer("blue_first").output)
    image = np.full((1, 8, 8, channels), [1.0, 0.5, 0.0][:channels], np.float32)
    expected = keras.applications.vgg16.preprocess_input(255.0 * np.broadcast_to(image, (1, 8, 8, 3)))
    np.testing.assert_allclose(np.asarray(scaled(image))[0, 0, 0], expected[0, 0, 0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["vgg19", "resnet50", "inception_v3", "xception"])
def test_every_base_is_frozen_and_its_top_unfrozen(base: str) -> None:
    config = TRANSFER.configured(**{**TINY, "base": base, "size": 75})
    model = TRANSFER.build(config)
    _, freeze, head, unfreeze, both = TRANSFER.stages(config)
    freeze.begin(model)
    head.begin(model)
    assert len(model.trainable_weights) == 2
    unfreeze.begin(model)
    both.begin(model)
    assert 2 < len(model.trainable_weights) < len(model.weights)
    norms = [layer for layer in model.get_layer(base).layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert not any(norm.trainable for norm in norms)
    assert model(np.zeros((1, 8, 8, config.channels), np.float32)).shape == (1, config.num_classes)


def test_an_unknown_base_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match='unknown base "vgg17"; expected one of efficientnet_lite0, vgg16, '):
        TRANSFER.build(TRANSFER.configured(**{**TINY, "base": "vgg17"}))
