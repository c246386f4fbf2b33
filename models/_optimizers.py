"""How a step moves the weights: the optimizers to choose from, weight decay, and gradients that are held short."""

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
    """The options of a network that Keras's optimizers teach."""

    optimizer: str = option("adam", "adam | adamw | sgd | rmsprop")
    momentum: float = option(0.0, "share of the last step that sgd or rmsprop adds to the next")
    nesterov: bool = option(False, "sgd measures the gradient where its momentum leads (Nesterov 1983)")
    weight_decay: float = option(0.0, "share of each kernel that a step takes away, times the learning rate")


class Clipped(Protocol):
    """The options of every network that say how long a gradient may be; 0: as long as it is."""

    @property
    def clip_value(self) -> float: ...

    @property
    def clip_norm(self) -> float: ...

    @property
    def clip_global_norm(self) -> float: ...


class Optimized(Clipped, Protocol):
    """What an optimizer is made of."""

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
    """The argument by which a Keras optimizer clips gradients, or none; ValueError when a config has more than one."""
    named = ("clip_value", "clip_norm", "clip_global_norm")
    given = {name: getattr(config, name) for name in named if getattr(config, name)}
    if len(given) > 1:
        told = " and ".join(f"{name} {value:g}" for name, value in given.items())
        raise ValueError(f"{told} are set; expected at most one way to clip: set the others to 0")
    keras_names = dict(zip(named, ("clipvalue", "clipnorm", "global_clipnorm"), strict=True))
    for name, value in given.items():
        if value < 0:
            raise ValueError(f"{name} is {value:g}; expected a length above 0, or 0 for no clipping")
    return {keras_names[name]: value for name, value in given.items()}


def clipped(gradients: Sequence[tf.Tensor], config: Clipped) -> list[tf.Tensor]:
    """The same for a step that is written out: gradients in, gradients no longer than the config allows out.

    By value: each number; by norm: each tensor; by global norm: all together (Pascanu, Mikolov, Bengio 2013).
    """
    if config.clip_value:
        return [tf.clip_by_value(gradient, -config.clip_value, config.clip_value) for gradient in gradients]
    if config.clip_norm:
        return [tf.clip_by_norm(gradient, config.clip_norm) for gradient in gradients]
    if config.clip_global_norm:
        return list(tf.clip_by_global_norm(gradients, config.clip_global_norm)[0])
    return list(gradients)


def optimizer(config: Optimized, weights: Sequence[Any]) -> keras.optimizers.Optimizer:
    """The optimizer that a config asks for, built for these weights so that a checkpoint finds its variables.

    Weight decay is decoupled from the gradient (Loshchilov, Hutter 2019, arXiv:1711.05101) and takes from kernels
    alone. ValueError: an unknown optimizer, or options that it has no use for.
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
        made.exclude_from_weight_decay(var_list=[w for w in weights if not w.name.endswith("kernel")])
    made.build(weights)
    return made
