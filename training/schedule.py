"""The learning rate over a run: constant or half a cosine, after a linear warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from models import Config
from training._errors import UsageError

SCHEDULES = ("constant", "cosine")


def check(config: Config) -> None:
    """UsageError: an unknown schedule, or a warm-up that leaves nothing of the run."""
    if config.schedule not in SCHEDULES:
        raise UsageError(f'no schedule "{config.schedule}"; there is {" and ".join(SCHEDULES)}')
    if not 0 <= config.warmup < 1:
        raise UsageError(f"warmup is {config.warmup}; wanted is a share of the run, 0 up to but not 1")


def factor(config: Config, step: tf.Tensor, total: int) -> tf.Tensor:
    """By what the learning rate is multiplied at a step (int64 [], from 0) of a run of `total`: float32 []."""
    warm = config.warmup * total
    step = tf.cast(step, tf.float32)
    scale = tf.ones([])
    if config.schedule == "cosine":
        left = tf.clip_by_value((step - warm) / max(total - warm, 1.0), 0.0, 1.0)
        scale = 0.5 * (1.0 + tf.cos(math.pi * left))
    if warm > 0:
        scale = tf.where(step < warm, (step + 1.0) / (math.floor(warm) + 1.0), scale)
    return scale


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
