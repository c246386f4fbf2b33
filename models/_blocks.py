"""What families share that is neither a network nor a signature: seeds of the weights, configs read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

C = TypeVar("C")


def seeds(seed: int) -> Iterator[int]:
    """Independent seeds without end, the same ones for the same `seed`: one for each layer that draws numbers."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def from_saved(config: type[C], fields: Mapping[str, Any]) -> C:
    """The config whose fields a model file holds; JSON turned tuples into lists."""
    return config(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
