"""What families share that is neither a network nor a signature: seeds of the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def seeds(seed: int) -> Iterator[int]:
    """Independent seeds without end, the same ones for the same `seed`: one for each layer that draws numbers."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))
