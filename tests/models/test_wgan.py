from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models._gan import sliced_wasserstein
from ladle.models.wgan import gradient_penalty


@pytest.fixture
def gan(tiny: Any) -> Any:
    return models.get("wgan_gp").build(tiny("wgan_gp"))


def test_the_generator_of_64_pixels_is_the_fixed_one() -> None:
    network = models.get("wgan_gp")
    model = network.build(network.configured(height=64, width=64, channels=3))
    assert model.generator.input_shape == (None, 100)
    assert model.generator.get_layer("reshape").output.shape == (None, 3, 3, 512)
    layers = [model.generator.get_layer(f"deconv{n}") for n in (1, 2, 3)]
    assert [(x.filters, x.kernel_size[0], x.strides[0], x.padding) for x in layers] == [
        (256, 3, 3, "valid"),
        (128, 5, 2, "valid"),
        (3, 4, 3, "valid"),
    ]
    assert model.generator.output_shape == (None, 64, 64, 3)


@pytest.mark.parametrize("size", [28, 32, 64])
def test_images_have_the_size_asked_for(tiny: Any, size: int) -> None:
    model = models.get("wgan_gp").build(tiny("wgan_gp", height=size, width=size, channels=3))
    image = model(tf.zeros([2, model.config.latent_dim]))
    assert image.shape == (2, size, size, 3)
    assert float(tf.reduce_max(tf.abs(image))) <= 1
    assert model.critic(image).shape == (2, 1)


def test_another_size_is_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match="30×28; expected squares of 28, 32, 64"):
        models.get("wgan_gp").build(tiny("wgan_gp", height=30))


def test_the_critic_has_no_batch_normalisation_and_the_generator_has(gan: Any) -> None:
    kinds = {
        model.name: {type(layer) for layer in model.layers} & {keras.layers.BatchNormalization}
        for model in (gan.critic, gan.generator)
    }
    assert kinds == {"critic": set(), "generator": {keras.layers.BatchNormalization}}


def test_the_recipe_is_the_fixed_one() -> None:
    config = models.get("wgan_gp").config
    assert config.penalty == 10
    assert config.critic_steps > 1


def test_the_penalty_of_a_linear_critic_is_known_by_hand() -> None:
    w = tf.constant([3.0, 0.0, 4.0, 0.0], shape=[1, 2, 2, 1])  # length 5, so the slope is 5 everywhere
    real, fake = tf.ones([6, 2, 2, 1]), tf.zeros([6, 2, 2, 1])
    t = tf.reshape(tf.linspace(0.0, 1.0, 6), [6, 1, 1, 1])
    value = gradient_penalty(lambda x: tf.reduce_sum(w * x, axis=[1, 2, 3]), real, fake, t)
    assert float(value) == pytest.approx((5 - 1) ** 2, rel=1e-5)


def test_the_penalty_is_taken_between_the_images() -> None:
    real, fake = tf.ones([2, 1, 1, 1]), tf.zeros([2, 1, 1, 1])
    t = tf.constant([0.25, 1.0], shape=[2, 1, 1, 1])
    # critic(x) = 2 x², slope 4 x: 1 at a quarter of the way, 4 at the real image.
    value = gradient_penalty(lambda x: 2 * tf.reduce_sum(x**2, axis=[1, 2, 3]), real, fake, t)
    assert float(value) == pytest.approx((0 + (4 - 1) ** 2) / 2, rel=1e-5)


def test_the_sliced_distance_is_that_of_a_shift() -> None:
    images = tf.random.stateless_uniform([50, 2, 2, 1], seed=[0, 0])
    directions = tf.eye(4)
    assert float(sliced_wasserstein(images, images[::-1], directions)) == 0
    assert float(sliced_wasserstein(images, images + 0.5, directions)) == pytest.approx(0.5, rel=1e-5)


def test_a_step_trains_the_critic_several_times_and_the_generator_once(gan: Any, batch: Any) -> None:
    critic, generator = ([w.numpy() for w in m.trainable_weights] for m in (gan.critic, gan.generator))
    gan.train_step(batch("wgan_gp", gan.config)[:5])  # divides by no two
    steps = [int(optimizer.iterations) for optimizer in gan.optimizers]
    assert steps == [1, gan.config.critic_steps]
    for before, model in ((critic, gan.critic), (generator, gan.generator)):
        assert any((a != w.numpy()).any() for a, w in zip(before, model.trainable_weights, strict=True))


def test_critic_loss_falls_on_one_batch(gan: Any, batch: Any, losses: Any) -> None:
    values = losses(gan, batch("wgan_gp", gan.config), steps=40)
    assert values[-1] < values[0]


def test_inference_is_the_same_alone_and_in_a_batch(gan: Any, batch: Any, losses: Any) -> None:
    losses(gan, batch("wgan_gp", gan.config), steps=3)
    z = tf.random.stateless_normal([4, gan.config.latent_dim], seed=[0, 0])
    np.testing.assert_allclose(gan(z)[:1], gan(z[:1]), atol=1e-6)
    assert np.abs(gan.generator(z, training=True) - gan(z)).max() > 1e-3


def test_a_run_restored_from_its_variables_reaches_the_same_weights(gan: Any, tiny: Any, batch: Any) -> None:
    image = batch("wgan_gp", gan.config)
    gan.train_step(image)
    other = models.get("wgan_gp").build(tiny("wgan_gp"))
    state = [m.variables + [v for o in m.optimizers for v in o.variables] for m in (gan, other)]
    for theirs, mine in zip(*state, strict=True):
        mine.assign(theirs)
    for model in (gan, other):
        model.train_step(image)
    for a, b in zip(gan.weights, other.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_noise_and_seed_are_answered_with_images(gan: Any) -> None:
    served = models.get("wgan_gp").signatures(gan, gan.config, models.Assets())
    z = tf.random.stateless_normal([3, gan.config.latent_dim], seed=[0, 0])
    answer = served["serving_default"](z=z)
    assert answer["images"].dtype == tf.uint8
    assert answer["images"].shape == answer["raw"].shape == (3, 28, 28, 1)
    np.testing.assert_allclose(answer["images"], (answer["raw"] + 1) * 127.5, atol=0.51)
    one, same = (served["generate"](n=tf.constant(2), seed=tf.constant(7, tf.int64))["images"] for _ in range(2))
    np.testing.assert_array_equal(one, same)


def test_a_saved_model_file_reads_back_to_equal_images(gan: Any, batch: Any, tmp_path: Any) -> None:
    gan.train_step(batch("wgan_gp", gan.config))
    gan.save(tmp_path / "gan.keras")
    read = keras.saving.load_model(tmp_path / "gan.keras")
    z = tf.random.stateless_normal([3, gan.config.latent_dim], seed=[0, 0])
    np.testing.assert_array_equal(read(z), gan(z))
    for mine, theirs in zip(read.judge_optimizer.variables, gan.judge_optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_averaged_generator_is_the_mean_of_the_trained_one(tiny: Any, batch: Any) -> None:
    model = models.get("wgan_gp").build(tiny("wgan_gp", averaging=0.5, learning_rate=0.01))
    expected = [weight.numpy() for weight in model.generator.weights]  # both begin with the same weights
    for step in range(1, 13):
        model.train_step(batch("wgan_gp", model.config))
        keep = min(0.5, (1 + step) / (10 + step))
        expected = [keep * a + (1 - keep) * b.numpy() for a, b in zip(expected, model.generator.weights, strict=True)]
    for mean, weight in zip(expected, model.mean.weights, strict=True):
        np.testing.assert_allclose(weight, mean, atol=1e-5)


def test_the_averaged_generator_is_validated_and_served(tiny: Any, batch: Any, tmp_path: Any) -> None:
    model = models.get("wgan_gp").build(tiny("wgan_gp", averaging=0.9, learning_rate=0.01))
    image = batch("wgan_gp", model.config)
    for _ in range(3):
        model.train_step(image)
    z = tf.random.stateless_normal([3, model.config.latent_dim], seed=[0, 0])
    np.testing.assert_array_equal(model(z), model.mean(z, training=False))
    assert np.abs(model(z) - model.generator(z, training=False)).max() > 1e-3
    model.reset_metrics()
    before = float(model.test_step(image)["sliced_wasserstein"])
    model.mean.set_weights([0 * weight for weight in model.mean.get_weights()])
    model.reset_metrics()
    assert float(model.test_step(image)["sliced_wasserstein"]) != before
    plain = models.get("wgan_gp").build(tiny("wgan_gp"))
    assert model.count_params() == plain.count_params()
    model.save(tmp_path / "gan.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "gan.keras")(z), model(z))


def test_weights_of_a_clipped_critic_stay_within_their_bounds(tiny: Any, batch: Any) -> None:
    model = models.get("wgan").build(tiny("wgan", learning_rate=0.1))
    for _ in range(3):
        model.train_step(batch("wgan", tiny("wgan")))
    assert max(float(tf.reduce_max(tf.abs(v.value))) for v in model.critic.trainable_variables) <= 0.01
    assert any(float(tf.reduce_max(tf.abs(v.value))) > 0.01 for v in model.generator.trainable_variables)
    assert "penalty" not in model.train_step(batch("wgan", tiny("wgan")))


def test_validation_tells_the_largest_weight_of_a_clipped_critic_and_the_gradient_of_a_penalised_one(
    tiny: Any, batch: Any
) -> None:
    clipped = models.get("wgan").build(tiny("wgan", learning_rate=0.1))
    clipped.train_step(batch("wgan", tiny("wgan")))
    clipped.reset_metrics()
    assert float(clipped.test_step(batch("wgan", tiny("wgan")))["largest_weight"]) == pytest.approx(0.01)
    penalised = models.get("wgan_gp").build(tiny("wgan_gp"))
    penalised.reset_metrics()
    first = float(penalised.test_step(batch("wgan_gp", tiny("wgan_gp")))["gradient_norm"])
    for weight in penalised.critic.layers[-1].trainable_variables:
        weight.assign(2.0 * weight)
    penalised.reset_metrics()
    assert float(penalised.test_step(batch("wgan_gp", tiny("wgan_gp")))["gradient_norm"]) == pytest.approx(2 * first)
