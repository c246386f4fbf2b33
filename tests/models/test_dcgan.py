from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle import models


def test_images_have_the_size_and_the_colours_of_the_data(tiny: Any) -> None:
    for size, channels in ((28, 1), (32, 3), (64, 3)):
        model = models.get("dcgan").build(tiny("dcgan", height=size, width=size, channels=channels))
        image = model(tf.zeros([2, 4]))
        assert image.shape == (2, size, size, channels)
        assert np.abs(image).max() <= 1


def test_the_discriminator_learns_to_tell_real_from_fake(tiny: Any, batch: Any) -> None:
    model = models.get("dcgan").build(tiny("dcgan", learning_rate=1e-3))
    model.optimizer.learning_rate = 0.0  # the generator stands still
    step = tf.function(model.train_step)
    for _ in range(60):
        step(batch("dcgan", tiny("dcgan")))
    for metric in model.metrics:
        metric.reset_state()
    told = step(batch("dcgan", tiny("dcgan")))
    assert float(told["real"]) > float(told["fake"]) + 0.2


def test_another_size_is_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match="images are 30×30"):
        models.get("dcgan").build(tiny("dcgan", height=30, width=30))
