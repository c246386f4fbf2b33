from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models._network import Config as BaseConfig
from ladle.models._optimizers import OPTIMIZERS, OptimizerConfig, clipped, optimizer


@dataclass(frozen=True)
class Config(OptimizerConfig, BaseConfig):
    pass


GRADIENTS = [np.array([3.0, -4.0], np.float32), np.array([12.0], np.float32)]


def moved(steps: int = 1, gradients: list[np.ndarray] = GRADIENTS, **settings: Any) -> list[np.ndarray]:
    """How far two weights, zero at first, go down in steps of the same gradients at learning rate 1."""
    weights = [keras.Variable(np.zeros_like(gradient), name="kernel") for gradient in gradients]
    made = optimizer(Config(**{"optimizer": "sgd", "learning_rate": 1.0, **settings}), weights)
    for _ in range(steps):
        made.apply([tf.constant(gradient) for gradient in gradients], weights)
    return [-weight.numpy() for weight in weights]


CLIPPED = [
    pytest.param({"clip_value": 3.5}, [[3.0, -3.5], [3.5]], id="by value"),
    pytest.param({"clip_norm": 10.0}, [[3.0, -4.0], [10.0]], id="by norm"),
    pytest.param({"clip_global_norm": 6.5}, [[1.5, -2.0], [6.0]], id="by global norm"),
    pytest.param({}, [[3.0, -4.0], [12.0]], id="not"),
]


@pytest.mark.parametrize(("settings", "expected"), CLIPPED)
def test_gradients_are_clipped_alike_by_optimizers_and_by_hand(settings: Any, expected: Any) -> None:
    for found in (moved(**settings), clipped([tf.constant(g) for g in GRADIENTS], Config(**settings))):
        for gradient, numbers in zip(found, expected, strict=True):
            np.testing.assert_allclose(gradient, numbers, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, 3.0, id="plain"),
        pytest.param({"momentum": 0.5}, 1 + 1.5 + 1.75, id="momentum"),
        pytest.param({"momentum": 0.5, "nesterov": True}, 1.5 + 1.75 + 1.875, id="nesterov"),
    ],
)
def test_momentum_adds_part_of_the_last_step(settings: Any, expected: float) -> None:
    np.testing.assert_allclose(moved(3, [np.ones(1, np.float32)], **settings)[0], expected, rtol=1e-5)


def test_momentum_speeds_rmsprop_up_too() -> None:
    plain, carried = (moved(3, optimizer="rmsprop", momentum=momentum)[1][0] for momentum in (0.0, 0.5))
    assert carried > 1.4 * plain


def test_weight_decay_shrinks_kernels_only() -> None:
    weights = [keras.Variable(np.ones(1, np.float32), name=name) for name in ("recurrent_kernel", "bias")]
    made = optimizer(Config(optimizer="adamw", learning_rate=0.5, weight_decay=0.1), weights)
    made.apply([tf.zeros(1), tf.zeros(1)], weights)
    np.testing.assert_allclose([w.numpy()[0] for w in weights], [0.95, 1.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"optimizer": "sdg"}, f'"sdg"; expected one of {", ".join(OPTIMIZERS)}', id="unknown"),
        pytest.param({"optimizer": "adam", "momentum": 0.9}, "adam has its own momentum", id="adam's momentum"),
        pytest.param({"momentum": 1.0}, "momentum is 1; expected at least 0", id="momentum of 1"),
        pytest.param({"nesterov": True}, "nesterov requires optimizer=sgd and momentum > 0", id="nesterov alone"),
        pytest.param({"optimizer": "adamw"}, "adamw requires weight_decay > 0", id="adamw without decay"),
        pytest.param({"clip_value": 1.0, "clip_norm": 5.0}, "clip_value 1 and clip_norm 5 are set", id="two clippings"),
        pytest.param({"clip_norm": -1.0}, "clip_norm is -1; expected a length", id="negative length"),
    ],
)
def test_options_that_do_not_apply_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moved(**settings)


def of_all(model: Any) -> list[keras.optimizers.Optimizer]:
    listed = getattr(model, "optimizers", None)
    return list(listed) if listed is not None else [model.optimizer]


@pytest.mark.parametrize("name", ["mlp", "sentiment_gru", "unet", "autoencoder", "vae", "house_prices"])
def test_networks_of_every_task_take_the_options(name: str, tiny: Any) -> None:
    settings = {"optimizer": "sgd", "momentum": 0.9, "clip_norm": 0.0, "clip_global_norm": 2.0}
    for made in of_all(models.get(name).build(tiny(name, **settings))):
        assert isinstance(made, keras.optimizers.SGD)
        assert (made.momentum, made.global_clipnorm, made.clipnorm) == (0.9, 2.0, None)
        assert made.built


@pytest.mark.parametrize("name", ["wgan", "dcgan"])
def test_both_optimizers_of_a_generator_clip(name: str, tiny: Any) -> None:
    assert [made.clipvalue for made in of_all(models.get(name).build(tiny(name, clip_value=0.5)))] == [0.5, 0.5]


def test_the_defaults_are_those_of_the_networks() -> None:
    assert models.get("sentiment_lstm").config.clip_norm == 5.0
    assert models.get("tensor_mlp").config.clip_global_norm == 15.0
    assert not hasattr(models.get("tensor_mlp").config, "optimizer")  # its step is written out
