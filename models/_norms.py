"""How long gradients are before and after clipping: two metrics of training, means over an epoch's steps.

They show what clipping does. Where both are equal, nothing was clipped; where the first one grows and the second does
not, clipping holds the steps short. Both are joint norms: the root of the sum of squares over all weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ladle.models._optimizers import Clipped, clipped, clipping

NAMES = ("gradient_norm", "clipped_norm")


def norms(config: Clipped) -> list[keras.metrics.Metric]:
    """The two metrics, named NAMES, if the config clips gradients; else none."""
    return [keras.metrics.Mean(name=name) for name in NAMES] if clipping(config) else []


def update(
    metrics: Sequence[keras.metrics.Metric], before: Sequence[tf.Tensor], after: Sequence[tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Update the metrics with the gradients of a step before and after clipping; their results by name."""
    for metric, gradients in zip(metrics, (before, after) if metrics else (), strict=True):
        metric.update_state(tf.linalg.global_norm(gradients))
    return {metric.name: metric.result() for metric in metrics}


def _dense(gradients: Sequence[Any]) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def report_norms(model: keras.Model, config: Clipped) -> None:
    """Make the training step of a compiled model tell the norms of its gradients, if the config clips them.

    Only this model's step and optimizer change, not their classes: a saved file names Keras's own, and loads anywhere.
    """
    metrics = norms(config)
    # The optimizer that scales the loss for mixed_float16 applies gradients within a condition: nothing is told there.
    if not metrics or isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        return
    model.norms = metrics  # Keras resets them with the others, and a checkpoint holds them
    apply, train, test = model.optimizer.apply, model.train_step, model.test_step

    def measured(gradients: Sequence[Any], *arguments: Any, **settings: Any) -> Any:
        # As Keras, `clipped` takes an embedding's gradient as slices: a word that occurs twice counts as two.
        update(metrics, _dense(gradients), _dense(clipped(gradients, config)))
        return apply(gradients, *arguments, **settings)

    def without_norms(answer: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in answer.items() if name not in NAMES}

    def train_step(batch: Any) -> dict[str, Any]:
        return {**without_norms(train(batch)), **{metric.name: metric.result() for metric in metrics}}

    model.optimizer.apply = measured
    model.train_step = train_step
    model.test_step = lambda batch: without_norms(test(batch))
