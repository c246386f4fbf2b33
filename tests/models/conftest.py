"""Small batches for `train_step`, by task, like those of the pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle import models


@pytest.fixture
def tiny() -> Callable[..., models.Config]:
    """The tiny config of the network of that name, with overrides."""

    def configured(name: str, **overrides: Any) -> models.Config:
        network = models.get(name)
        return network.configured(**{**network.tiny, **overrides})

    return configured


@pytest.fixture
def batch() -> Callable[..., Any]:
    """A batch of 8 for a network's task: `batch(name, config)`."""

    def made(name: str, config: Any) -> Any:
        random = np.random.default_rng(0)
        if models.get(name).task == "sentiment":
            tokens = random.integers(1, config.vocab_size, (8, config.max_length), dtype=np.int32)
            return tf.constant(tokens), tf.constant(np.arange(8) % 2, tf.float32)
        if models.get(name).task == "regress":
            x = random.normal(size=(8, config.features)).astype(np.float32)
            return tf.constant(x), tf.constant(x.sum(axis=1))
        if models.get(name).takes == "points":
            return tf.constant(random.normal(size=(8, 2)), tf.float32)
        image = random.random((8, config.height, config.width, config.channels), np.float32)
        if models.get(name).task == "classify":
            return tf.constant(image), tf.constant(np.arange(8) % config.num_classes, tf.int32)
        if models.get(name).task == "segment":
            mask = (image[..., 0] > 0.5).astype(np.int32)
            return tf.constant(image), tf.constant(mask)
        return tf.constant(image)

    return made


@pytest.fixture
def losses() -> Callable[..., list[float]]:
    """The first metric that `train_step` returns, after each step on one batch: `losses(model, batch, steps)`.

    To compile a step takes longer than a few steps that are not: `compiled=False`.
    """

    made: dict[Any, Any] = {}  # the step of a model is traced once, however often it trains on

    def trained(model: Any, batch: Any, steps: int = 30, compiled: bool = True) -> list[float]:
        step = made.setdefault(model, tf.function(model.train_step)) if compiled else model.train_step
        values = []
        for _ in range(steps):
            for metric in model.metrics:
                metric.reset_state()
            values.append(float(next(iter(step(batch).values()))))
        return values

    return trained
