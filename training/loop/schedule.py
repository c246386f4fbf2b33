"""The learning rate over a run, after a linear warm-up: constant, or falling in one of five ways."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ladle.models import Config
from ladle.training.errors import UsageError

SCHEDULES = ("constant", "cosine", "exponential", "step", "polynomial", "inverse_time")
_USED = {
    "decay": ("exponential", "step", "inverse_time"),
    "decay_epochs": ("step",),
    "decay_power": ("polynomial",),
    "decay_to": ("cosine", "polynomial"),
}


def check(config: Config) -> None:
    """UsageError: an unknown schedule, options that are missing, senseless or another schedule's, no room for a run."""
    kind = config.schedule
    if kind not in SCHEDULES:
        raise UsageError(f'no schedule "{kind}"; there is {", ".join(SCHEDULES)}')
    if not 0 <= config.warmup < 1:
        raise UsageError(f"warmup is {config.warmup}; wanted is a share of the run, 0 up to but not 1")
    defaults = Config()
    for name, schedules in _USED.items():
        if kind not in schedules and getattr(config, name) != getattr(defaults, name):
            raise UsageError(
                f"{name} is set, but schedule {kind} has no use for it; it goes with {' or '.join(schedules)}"
            )
    if kind in ("exponential", "step") and not 0 < config.decay < 1:
        raise UsageError(f"schedule {kind}: decay is {config.decay:g}; wanted is a factor between 0 and 1")
    if kind == "inverse_time" and not config.decay > 0:
        raise UsageError(f"schedule inverse_time: decay is {config.decay:g}; wanted is a number above 0")
    if kind == "step" and (not config.decay_epochs or min(config.decay_epochs) < 1):
        raise UsageError("schedule step: decay_epochs names no epochs; wanted are some, such as 30,60,90")
    if not 0 <= config.decay_to <= 1 or config.decay_power <= 0:
        raise UsageError("decay_to is a share from 0 to 1, decay_power a number above 0; give such")


def factor(config: Config, step: tf.Tensor, total: int) -> tf.Tensor:
    """By what the learning rate is multiplied at a step (int64 [], from 0) of a run of `total`: float32 [].

    All but `step` fall from the end of the warm-up on; `step` counts the epochs of the run.
    """
    warm = config.warmup * total
    epoch = max(total / config.epochs, 1.0)  # in steps
    step = tf.cast(step, tf.float32)
    done = tf.maximum(step - warm, 0.0)
    passed = tf.clip_by_value(done / max(total - warm, 1.0), 0.0, 1.0)  # share of the run
    match config.schedule:
        case "cosine":
            scale = _ending(config, 0.5 * (1.0 + tf.cos(math.pi * passed)))
        case "exponential":
            scale = tf.pow(config.decay, done / epoch)
        case "step":
            reached = tf.stack([step >= n * epoch for n in config.decay_epochs])
            scale = tf.pow(config.decay, tf.reduce_sum(tf.cast(reached, tf.float32)))
        case "polynomial":
            scale = _ending(config, tf.pow(1.0 - passed, config.decay_power))
        case "inverse_time":
            scale = 1.0 / (1.0 + config.decay * done / epoch)
        case _:
            scale = tf.ones([])
    if warm > 0:
        scale = tf.where(step < warm, (step + 1.0) / (math.floor(warm) + 1.0), scale)
    return scale


def _ending(config: Config, scale: tf.Tensor) -> tf.Tensor:
    """A fall from 1 to 0 as one from 1 to `decay_to`."""
    return config.decay_to + (1.0 - config.decay_to) * scale if config.decay_to else scale


def assigner(config: Config, optimizers: list[Any], total: int) -> Callable[[tf.Tensor], None]:
    """A function of the step that sets every optimizer's rate; each keeps its own share of the run's value."""
    check(config)
    if config.schedule == "constant" and config.warmup == 0:
        return lambda step: None
    rates = [rate(optimizer) for optimizer in optimizers]
    bases = [float(variable.value.numpy()) for variable in rates]

    def assign(step: tf.Tensor) -> None:
        scale = factor(config, step, total)
        for variable, base in zip(rates, bases, strict=True):
            variable.assign(base * scale)

    return assign


def rate(optimizer: Any) -> Any:
    """The variable that holds an optimizer's learning rate, through a wrapper that scales losses too."""
    return getattr(optimizer, "inner_optimizer", optimizer).learning_rate
