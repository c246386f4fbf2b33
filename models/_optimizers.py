"""Optimizers to choose from, weight decay and gradient clipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import tensorflow as tf

from ladle.models._network import option

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")


@dataclass(frozen=True)
class OptimizerConfig:
    """Options of networks that train with a Keras optimizer."""

    optimizer: str = option("adam", "adam | adamw | sgd | rmsprop")
    momentum: float = option(0.0, "momentum of sgd and rmsprop: share of the last step added to the next")
    nesterov: bool = option(False, "Nesterov momentum for sgd (Nesterov 1983)")
    weight_decay: float = option(
        0.0, "decoupled weight decay of kernels: a step subtracts this times the learning rate times the weight"
    )


class Clipped(Protocol):
    """The clipping options that every network has; 0 means no clipping."""

    @property
    def clip_value(self) -> float: ...

    @property
    def clip_norm(self) -> float: ...

    @property
    def clip_global_norm(self) -> float: ...


class Optimized(Clipped, Protocol):
    """The options from which an optimizer is made."""

    @property
    def learning_rate(self) -> float: ...

    @property
    def optimizer(self) -> str: ...

    @property
    def momentum(self) -> float: ...

    @property
    def nesterov(self) -> bool: ...

    @property
    def weight_decay(self) -> float: ...


def clipping(config: Clipped) -> dict[str, float]:
    """The clipping argument of a Keras optimizer, or none; ValueError if a config sets more than one."""
    named = ("clip_value", "clip_norm", "clip_global_norm")
    given = {name: getattr(config, name) for name in named if getattr(config, name)}
    if len(given) > 1:
        both = " and ".join(f"{name} {value:g}" for name, value in given.items())
        raise ValueError(f"{both} are set; expected at most one way to clip: set the others to 0")
    keras_names = dict(zip(named, ("clipvalue", "clipnorm", "global_clipnorm"), strict=True))
    for name, value in given.items():
        if value < 0:
            raise ValueError(f"{name} is {value:g}; expected a length above 0, or 0 for no clipping")
    return {keras_names[name]: value for name, value in given.items()}


def clipped(gradients: Sequence[tf.Tensor], config: Clipped) -> list[tf.Tensor]:
    """Clip gradients in a hand-written training step, as the config says.

    By value: each element; by norm: each tensor; by global norm: all together (Pascanu, Mikolov, Bengio 2013).
    """
    if config.clip_value:
        return [tf.clip_by_value(gradient, -config.clip_value, config.clip_value) for gradient in gradients]
    if config.clip_norm:
        return [tf.clip_by_norm(gradient, config.clip_norm) for gradient in gradients]
    if config.clip_global_norm:
        return list(tf.clip_by_global_norm(gradients, config.clip_global_norm)[0])
    return list(gradients)


def optimizer(config: Optimized, weights: Sequence[Any]) -> keras.optimizers.Optimizer:
    """The optimizer of a config, built for these weights so that a checkpoint can restore its variables.

    Weight decay is decoupled from the gradient (Loshchilov, Hutter 2019, arXiv:1711.05101) and applies to kernels only.
    ValueError for an unknown optimizer, or for options that it does not have.
    """
    name = config.optimizer
    if name not in OPTIMIZERS:
        raise ValueError(f'unknown optimizer "{name}"; expected one of {", ".join(OPTIMIZERS)}')
    if not 0 <= config.momentum < 1:
        raise ValueError(f"momentum is {config.momentum:g}; expected at least 0 and less than 1")
    if config.momentum and name not in ("sgd", "rmsprop"):
        raise ValueError(f"{name} has its own momentum; leave momentum at 0, or choose sgd or rmsprop")
    if config.nesterov and not (name == "sgd" and config.momentum):
        raise ValueError("nesterov requires optimizer=sgd and momentum > 0")
    if name == "adamw" and not config.weight_decay:
        raise ValueError("adamw requires weight_decay > 0; set it, for example to 0.004")
    settings: dict[str, Any] = {"weight_decay": config.weight_decay or None, **clipping(config)}
    if name == "sgd":
        made = keras.optimizers.SGD(config.learning_rate, config.momentum, config.nesterov, **settings)
    elif name == "rmsprop":
        made = keras.optimizers.RMSprop(config.learning_rate, momentum=config.momentum, **settings)
    else:
        kind = keras.optimizers.AdamW if name == "adamw" else keras.optimizers.Adam
        made = kind(config.learning_rate, **settings)
    if config.weight_decay:
        # Biases and the scales of normalisation layers do not overfit; decaying them only biases the outputs.
        made.exclude_from_weight_decay(var_list=[w for w in weights if not w.name.endswith("kernel")])
    made.build(weights)  # now, as a checkpoint can be restored only into variables that exist
    return made
