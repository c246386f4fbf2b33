from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models.vae import kl_divergence


@pytest.fixture
def vae(tiny: Any) -> Any:
    return models.get("vae").build(tiny("vae"))


def test_widths_are_those_that_are_fixed() -> None:
    network = models.get("vae")
    model = network.build(network.config)
    shapes = {layer.name: tuple(layer.kernel.shape) for m in model.layers for layer in m.layers if layer.weights}
    assert shapes == {
        "encoder_dense": (784, 128),
        "z_mean": (128, 10),
        "z_log_var": (128, 10),
        "decoder_dense": (10, 128),
        "logits": (128, 784),
    }


def test_kl_divergence_is_that_of_two_normal_distributions() -> None:
    random = np.random.default_rng(0)
    mean, log_var = random.normal(size=(2, 5, 10)).astype(np.float32)
    expected = -0.5 * np.sum(log_var + 1 - mean**2 - np.exp(log_var), axis=1)
    np.testing.assert_allclose(kl_divergence(mean, log_var), expected, rtol=1e-5)
    np.testing.assert_allclose(kl_divergence(tf.zeros([2, 3]), tf.zeros([2, 3])), [0, 0])


def test_loss_is_the_reconstruction_error_and_beta_times_the_divergence(tiny: Any, batch: Any) -> None:
    config = tiny("vae", beta=3.0)
    model = models.get("vae").build(config)
    image = batch("vae", config)
    epsilon = tf.random.stateless_normal([8, config.latent_dim], seed=[0, 0])
    loss, reconstruction, kl = model.losses_of(image, epsilon, training=False)

    mean, log_var = (x.numpy() for x in model.encoder(image))
    p = tf.sigmoid(model.decoder(mean + np.exp(0.5 * log_var) * epsilon)).numpy().astype(np.float64)
    x = image.numpy()
    entropy = -np.sum(x * np.log(p) + (1 - x) * np.log(1 - p)) / 8
    assert float(reconstruction) == pytest.approx(entropy, rel=1e-5)
    assert float(loss) == pytest.approx(float(reconstruction) + 3 * float(kl), rel=1e-6)


def test_loss_falls_on_one_batch(tiny: Any, batch: Any, losses: Any) -> None:
    config = tiny("vae", learning_rate=1e-2)
    values = losses(models.get("vae").build(config), batch("vae", config))
    assert values[-1] < values[0] - 5


def test_training_draws_new_noise_and_validation_the_same(vae: Any, batch: Any) -> None:
    image = batch("vae", vae.config)
    before = vae.noise.state.numpy()
    vae.train_step(image)
    assert (vae.noise.state.numpy() != before).any()
    vae.reset_metrics()
    one = float(vae.test_step(image)["loss"])
    vae.reset_metrics()
    assert float(vae.test_step(image)["loss"]) == one


def test_a_run_restored_from_its_variables_reaches_the_same_weights(vae: Any, tiny: Any, batch: Any) -> None:
    image = batch("vae", vae.config)
    vae.train_step(image)
    other = models.get("vae").build(tiny("vae"))
    for model in (vae, other):
        assert len(model.optimizer.variables) > 2
    for mine, theirs in zip(
        other.variables + other.optimizer.variables, vae.variables + vae.optimizer.variables, strict=True
    ):
        mine.assign(theirs)
    for model in (vae, other):
        model.train_step(image)
    for mine, theirs in zip(other.weights, vae.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_reconstruct_is_encode_and_decode(vae: Any, batch: Any) -> None:
    served = models.get("vae").signatures(vae, vae.config, models.Assets())
    assert set(served) == {"serving_default", "reconstruct_bytes", "encode", "decode", "generate"}
    image = batch("vae", vae.config)
    whole = served["serving_default"](image=image)["reconstruction"]
    code = served["encode"](image=image)
    assert {k: (v.dtype, v.shape.as_list()) for k, v in code.items()} == {
        "code": (tf.float32, [8, 2]),
        "log_var": (tf.float32, [8, 2]),
    }
    halves = served["decode"](code=code["code"])
    np.testing.assert_allclose(halves["image"], whole, atol=1e-6)
    assert halves["images"].dtype == tf.uint8
    np.testing.assert_allclose(halves["images"], 255 * whole, atol=0.51)


def test_generate_gives_the_same_images_for_the_same_seed(vae: Any) -> None:
    generate = models.get("vae").signatures(vae, vae.config, models.Assets())["generate"]
    one, same, other = (
        generate(n=tf.constant(3), seed=tf.constant(seed, tf.int64))["images"].numpy() for seed in (1, 1, 2)
    )
    assert one.shape == (3, 28, 28, 1)
    assert one.dtype == np.uint8
    assert (one == same).all()
    assert (one != other).any()


def test_a_saved_model_file_reads_back_to_equal_reconstructions(vae: Any, batch: Any, tmp_path: Any) -> None:
    image = batch("vae", vae.config)
    vae.train_step(image)
    vae.save(tmp_path / "vae.keras")
    read = keras.saving.load_model(tmp_path / "vae.keras")
    assert read.config == vae.config
    np.testing.assert_array_equal(read(image), vae(image))


TWO_REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from models._blocks import scaled_loss

def trained(strategy):
    with strategy.scope():
        weight = keras.Variable(np.float32(1.0))
        optimizer = keras.optimizers.SGD(0.5)
        optimizer.build([weight])

    @tf.function
    def step():
        def replica():
            with tf.GradientTape() as tape:
                loss = scaled_loss(optimizer, 3.0 * weight.value)
            optimizer.apply(tape.gradient(loss, [weight.value]), [weight])
        strategy.run(replica)

    step()
    return float(weight.numpy())

print(trained(tf.distribute.get_strategy()), trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])))
"""


@pytest.mark.slow
def test_a_custom_step_on_two_replicas_is_as_long_as_on_one() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", TWO_REPLICAS], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["-0.5", "-0.5"]
