from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models import _derivatives as derivatives
from ladle.models.backprop import ACTIVATIONS, ERRORS, OUTPUTS


def numbers(*shape: int) -> tf.Tensor:
    return tf.random.stateless_normal(shape, seed=[1, 2])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_of_an_activation_is_the_tapes(name: str) -> None:
    function, derivative = ACTIVATIONS[name]
    z = numbers(4, 5)
    with tf.GradientTape() as tape:
        tape.watch(z)
        o = function(z)
    np.testing.assert_allclose(derivative(o), tape.gradient(o, z), rtol=1e-4, atol=1e-6)


def test_the_jacobian_of_the_softmax_is_the_tapes() -> None:
    z = numbers(3, 6)
    with tf.GradientTape() as tape:
        tape.watch(z)
        p = tf.nn.softmax(z)
    np.testing.assert_allclose(derivatives.softmax_jacobian(p), tape.batch_jacobian(p, z), atol=1e-6)


def test_the_jacobian_turns_the_gradient_of_the_cross_entropy_into_p_minus_t() -> None:
    p, t = tf.nn.softmax(numbers(3, 6)), tf.one_hot([0, 5, 2], 6)
    through = tf.linalg.matvec(derivatives.softmax_jacobian(p), -t / p)
    np.testing.assert_allclose(derivatives.cross_entropy(p, t), through, atol=1e-6)


def tapes(model: Any, image: tf.Tensor, label: tf.Tensor) -> list[tf.Tensor]:
    """∂E/∂W and ∂E/∂b of each layer by a tape, means over the batch."""
    weights = [variable.value for pair in model.pairs for variable in (pair.w, pair.b)]
    with tf.GradientTape() as tape:
        error = tf.reduce_mean(model.error(model.forward(image)[0][-1], model.target(label)))
    found: list[tf.Tensor] = tape.gradient(error, weights)
    return found


def assert_by_hand(model: Any, image: tf.Tensor, label: tf.Tensor) -> None:
    outputs, _ = model.forward(image)
    by_hand = model.gradients(outputs, model.backward(outputs, model.target(label)))
    for ours, tapes_own in zip(by_hand, tapes(model, image, label), strict=True):
        np.testing.assert_allclose(ours, tapes_own, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("num_classes", [2, 10])
def test_the_gradients_of_a_perceptron_are_the_tapes(num_classes: int, tiny: Any, batch: Any) -> None:
    config = tiny("perceptron", num_classes=num_classes)
    model = models.get("perceptron").build(config)
    assert model.pairs[0].w.shape == (784, 1 if num_classes == 2 else 10)
    assert_by_hand(model, *batch("perceptron", config))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("output", "error"), [*itertools.product(OUTPUTS, ERRORS)])
def test_the_gradients_of_every_layer_are_the_tapes(
    activation: str, output: str, error: str, tiny: Any, batch: Any
) -> None:
    config = tiny("backprop_mlp", activation=activation, output=output, error=error)
    assert_by_hand(models.get("backprop_mlp").build(config), *batch("backprop_mlp", config))


def test_a_step_goes_against_the_tapes_gradient(tiny: Any, batch: Any) -> None:
    config = tiny("backprop_mlp", learning_rate=0.5)
    model = models.get("backprop_mlp").build(config)
    image, label = batch("backprop_mlp", config)
    before, gradients = model.get_weights(), tapes(model, image, label)
    model.train_step((image, label))
    for weight, was, gradient in zip(model.get_weights(), before, gradients, strict=True):
        np.testing.assert_allclose(weight, was - 0.5 * gradient.numpy(), atol=1e-6)


def test_one_output_answers_two_probabilities_and_the_outputs_share_one_otherwise(tiny: Any, batch: Any) -> None:
    for classes in (2, 10):
        config = tiny("perceptron", num_classes=classes)
        model = models.get("perceptron").build(config)
        image, _ = batch("perceptron", config)
        o = model.forward(image)[0][-1].numpy()
        wanted = np.concatenate([1 - o, o], axis=1) if classes == 2 else o / o.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(tf.nn.softmax(model(image)), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["perceptron", "backprop_mlp"])
def test_the_served_gradients_are_those_of_each_image(name: str, tiny: Any, batch: Any) -> None:
    network, config = models.get(name), tiny(name)
    model = network.build(config)
    labels = models.Assets(tuple("abcdefghij"))
    image, _ = batch(name, config)
    target = tf.constant(np.arange(8) % 10, tf.int64)
    answer = network.signatures(model, config, labels)["gradients"](image=image, target=target)
    with tf.GradientTape() as tape:
        tape.watch(image)
        error = model.error(model.forward(image)[0][-1], model.target(target))
    np.testing.assert_allclose(answer["error"], error, rtol=1e-5)
    np.testing.assert_allclose(answer["image_gradient"], tape.gradient(error, image), atol=1e-6)
    wanted = tapes(model, image[3:4], target[3:4])
    for n in range(1, len(model.pairs) + 1):
        served = answer[f"weight_gradient{n}"][3].numpy()
        np.testing.assert_allclose(served.reshape(wanted[2 * n - 2].shape), wanted[2 * n - 2], atol=1e-6)
        np.testing.assert_allclose(answer[f"delta{n}"][3], wanted[2 * n - 1], atol=1e-6)
    assert answer["weight_gradient1"].shape[:4] == image.shape


def test_a_descent_along_the_image_gradient_makes_the_error_smaller(tiny: Any, batch: Any) -> None:
    network, config = models.get("perceptron"), tiny("perceptron")
    model = network.build(config)
    image, _ = batch("perceptron", config)
    ask = network.signatures(model, config, models.Assets(tuple("abcdefghij")))["gradients"]
    target = tf.zeros([8], tf.int64)
    before = ask(image=image, target=target)
    after = ask(image=image - 0.1 * before["image_gradient"], target=target)
    assert (after["error"].numpy() < before["error"].numpy()).all()


@pytest.mark.parametrize("wrong", [{"activation": "sine"}, {"output": "linear"}, {"error": "hinge"}])
def test_an_unknown_choice_is_refused_with_the_known_ones(wrong: dict[str, str], tiny: Any) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f'got {name} "{value}"; expected one of s'):
        models.get("backprop_mlp").build(tiny("backprop_mlp", **wrong))
