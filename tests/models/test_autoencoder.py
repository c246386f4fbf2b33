from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle import models


def test_layers_are_those_of_its_description() -> None:
    model = models.get("autoencoder").build(models.get("autoencoder").config)
    widths = [
        layer.units for half in (model.encoder, model.decoder) for layer in half.layers if hasattr(layer, "units")
    ]
    assert widths == [256, 128, 20, 128, 256, 784]


@pytest.mark.parametrize(("name", "option"), [("denoising_autoencoder", "noise"), ("dropout_autoencoder", "dropout")])
def test_training_corrupts_the_input_and_compares_with_the_original(name: str, option: str, tiny: Any) -> None:
    image = tf.random.stateless_uniform([4, 28, 28, 1], seed=[0, 0], minval=0.1)
    corrupted = models.get(name).build(tiny(name)).corrupted(image)
    assert corrupted.shape == image.shape
    assert 0.1 < np.mean(corrupted.numpy() != image.numpy()) <= 1.0
    assert 0.0 <= np.min(corrupted) <= np.max(corrupted) <= 1.0
    whole = models.get(name).build(tiny(name, **{option: 0.0})).corrupted(image)
    np.testing.assert_array_equal(whole, image)


def test_the_discriminator_trains_the_encoder_and_not_the_decoder(tiny: Any) -> None:
    model = models.get("adversarial_autoencoder").build(tiny("adversarial_autoencoder"))
    model.optimizer.learning_rate = 0.0  # of the reconstruction
    halves = (model.encoder, model.decoder, model.discriminator)
    before = [half.get_weights() for half in halves]
    told = model.train_step(tf.random.stateless_uniform([8, 28, 28, 1], seed=[0, 0]))
    changed = [
        any((a != b).any() for a, b in zip(half.get_weights(), old, strict=True))
        for half, old in zip(halves, before, strict=True)
    ]
    assert changed == [True, False, True]
    assert set(told) == {"loss", "discriminator_loss", "encoder_loss"}


def test_images_come_from_codes_and_seeds(tiny: Any) -> None:
    network, config = models.get("autoencoder"), tiny("autoencoder")
    served = network.signatures(network.build(config), config, models.Assets())
    assert set(served) == {"serving_default", "reconstruct_bytes", "encode", "decode", "generate"}
    code = served["encode"](image=tf.zeros([3, 28, 28, 1]))["code"]
    assert code.shape == (3, config.latent_dim)
    one, same = (served["generate"](n=tf.constant(4), seed=tf.constant(7, tf.int64))["images"] for _ in range(2))
    assert one.shape == (4, 28, 28, 1)
    np.testing.assert_array_equal(one, same)


def test_squared_error_is_for_real_values(tiny: Any, batch: Any, losses: Any) -> None:
    config = tiny("autoencoder", loss="squared_error")
    model, image = models.get("autoencoder").build(config), batch("autoencoder", config)
    output = model(image, training=False).numpy()
    wanted = np.mean(0.5 * np.sum((output - np.asarray(image)) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(model.test_step(image)["loss"], wanted, rtol=1e-5)
    values = losses(model, image, steps=40)
    assert values[-1] < 0.8 * values[0]
    served = models.get("autoencoder").signatures(model, config, models.Assets())
    back = served["serving_default"](image=tf.constant(image))["reconstruction"].numpy()
    assert 0 <= back.min() <= back.max() <= 1


def test_an_unknown_loss_is_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match="expected one of cross_entropy, squared_error"):
        models.get("autoencoder").build(tiny("autoencoder", loss="absolute"))
