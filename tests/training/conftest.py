"""Tiny networks with generated data, ready to be trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import pytest

from ladle import models
from ladle.training import data
from ladle.training.data.pipeline import Prepared, prepare

Ready = Callable[..., tuple[keras.Model, Prepared]]


@pytest.fixture
def ready() -> Ready:
    """`ready(name, count=..., **overrides)`: the network at its tiny size, built, and its generated data."""

    def made(name: str = "lenet5", count: int = 200, **overrides: Any) -> tuple[keras.Model, Prepared]:
        network = models.get(name)
        config = network.configured(**{**network.tiny, **overrides})
        size = {"height": 32, "width": 32} if network.task == "segment" else {}
        prepared = prepare(network, config, data.load(config.data, synthetic=True, count=count, **size))
        keras.utils.set_random_seed(config.seed)
        return network.build(prepared.config), prepared

    return made


@pytest.fixture
def with_config() -> Callable[..., Prepared]:
    """A copy of prepared data with some options changed."""

    def changed(prepared: Prepared, **overrides: Any) -> Prepared:
        return dataclasses.replace(prepared, config=dataclasses.replace(prepared.config, **overrides))

    return changed
