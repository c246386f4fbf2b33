"""The learning rate over a run: a linear warm-up, then constant or falling in one of five ways."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ladle.models import Config
from ladle.training.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

SCHEDULES = ("constant", "cosine", "exponential", "step", "polynomial", "inverse_time")
_USED_BY = {
    "decay": ("exponential", "step", "inverse_time"),
    "decay_epochs": ("step",),
    "decay_power": ("polynomial",),
    "decay_to": ("cosine", "polynomial"),
}
"""Options that apply to some schedules only."""


def check(config: Config) -> None:
    """Raise UsageError for an unknown schedule, or for an option that is missing, out of range or without effect."""
    kind = config.schedule
    if kind not in SCHEDULES:
        raise UsageError(f'got schedule "{kind}"; expected one of {", ".join(SCHEDULES)}')
    if not 0 <= config.warmup < 1:
        raise UsageError(f"got warmup {config.warmup:g}; expected a share of the run, from 0 to below 1")
    defaults = Config()
    for name, schedules in _USED_BY.items():
        if kind not in schedules and getattr(config, name) != getattr(defaults, name):
            raise UsageError(f"{name} has no effect with schedule {kind}; it requires {' or '.join(schedules)}")
    if kind in ("exponential", "step") and not 0 < config.decay < 1:
        raise UsageError(f"schedule {kind}: got decay {config.decay:g}; expected a factor between 0 and 1")
    if kind == "inverse_time" and not config.decay > 0:
        raise UsageError(f"schedule inverse_time: got decay {config.decay:g}; expected a number above 0")
    if kind == "step" and (not config.decay_epochs or min(config.decay_epochs) < 1):
        raise UsageError("schedule step: got no decay_epochs; expected epochs from 1 on, such as 30,60,90")
    if not 0 <= config.decay_to <= 1:
        raise UsageError(f"got decay_to {config.decay_to:g}; expected a share from 0 to 1")
    if config.decay_power <= 0:
        raise UsageError(f"got decay_power {config.decay_power:g}; expected a number above 0")


def factor(config: Config, step: tf.Tensor, total: int) -> tf.Tensor:
    """The learning rate's multiplier, float32 [], at a step (int64 [], from 0) of a run of `total` steps.

    Schedules begin to fall where the warm-up ends. `step` alone counts its epochs from the start of the run.
    """
    import tensorflow as tf  # late, so that options are checked without it

    warm = config.warmup * total
    epoch = max(total / config.epochs, 1.0)  # in steps
    step = tf.cast(step, tf.float32)
    done = tf.maximum(step - warm, 0.0)
    passed = tf.clip_by_value(done / max(total - warm, 1.0), 0.0, 1.0)  # share of the run after the warm-up
    match config.schedule:
        case "cosine":
            scale = _falling(config, 0.5 * (1.0 + tf.cos(math.pi * passed)))
        case "exponential":
            scale = tf.pow(config.decay, done / epoch)
        case "step":
            reached = tf.stack([step >= n * epoch for n in config.decay_epochs])
            scale = tf.pow(config.decay, tf.reduce_sum(tf.cast(reached, tf.float32)))
        case "polynomial":
            scale = _falling(config, tf.pow(1.0 - passed, config.decay_power))
        case "inverse_time":
            scale = 1.0 / (1.0 + config.decay * done / epoch)
        case _:
            scale = tf.ones([])
    if warm > 0:
        # step + 1: the first step already learns, and the step after the warm-up has the full rate.
        scale = tf.where(step < warm, (step + 1.0) / (math.floor(warm) + 1.0), scale)
    return scale


def _falling(config: Config, scale: tf.Tensor) -> tf.Tensor:
    """Map a fall from 1 to 0 to a fall from 1 to `decay_to`."""
    return config.decay_to + (1.0 - config.decay_to) * scale if config.decay_to else scale


def assigner(config: Config, optimizers: list[Any], total: int) -> Callable[[tf.Tensor], None]:
    """A function of the step that sets the rate of every optimizer: its own base rate times `factor`."""
    check(config)
    if config.schedule == "constant" and config.warmup == 0:
        return lambda step: None
    rates = [rate(optimizer) for optimizer in optimizers]
    # Read before any checkpoint is loaded. The rate is a function of the step and the base alone, so a resumed run
    # does not scale a rate that was scaled before.
    bases = [float(variable.value.numpy()) for variable in rates]

    def assign(step: tf.Tensor) -> None:
        scale = factor(config, step, total)
        for variable, base in zip(rates, bases, strict=True):
            variable.assign(base * scale)

    return assign


def rate(optimizer: Any) -> Any:
    """The variable that holds an optimizer's learning rate; looks inside a LossScaleOptimizer."""
    return getattr(optimizer, "inner_optimizer", optimizer).learning_rate
