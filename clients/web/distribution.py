"""Whether a model classifies although its signatures do not say so: ask it, and see whether its numbers are shares."""

from __future__ import annotations

from typing import Any

import numpy as np

from ladle.clients.errors import LadleError, Unavailable
from ladle.clients.library import tasks
from ladle.clients.library.client import Client
from ladle.clients.transport.metadata import Metadata
from ladle.clients.wire.arrays import Array

ROWS = 4
FREE_AXES = (32, 224)
"""Lengths of free axes, tried in turn: a signature does not say which lengths the model accepts."""
MOST_VALUES = 1_000_000
TOLERANCE = 1e-3
TIMEOUT_S = 2.0


def signatures(client: Client, metadata: Metadata) -> tasks.Signatures:
    """The signatures of a version, with its `distribution` if it has one.

    A model whose task is known from its signatures is not asked. Unavailable: the model server does not answer.
    """
    found = tasks.of_metadata(metadata)
    if "probabilities" in found.distributions:
        return tasks.of_metadata(metadata, "probabilities")
    for name in found.distributions:
        if _holds_shares(client, metadata, name):
            return tasks.of_metadata(metadata, name)
    return found


def are_shares(rows: Array) -> bool:
    """Whether each row of numbers [b, n], n > 1, is not negative and sums to 1."""
    if rows.ndim != 2 or not len(rows) or rows.shape[1] < 2:
        return False
    sums = rows.astype(np.float64).sum(axis=1)
    return bool(np.all(rows >= -TOLERANCE) and np.all(np.abs(sums - 1) <= TOLERANCE))


def _holds_shares(client: Client, metadata: Metadata, output: str) -> bool:
    [(name, info)] = metadata.signature("serving_default").inputs.items()
    for length in FREE_AXES:
        batch, *rest = info.shape or ()
        shape = (batch or ROWS, *(axis or length for axis in rest))
        if np.prod(shape) > MOST_VALUES:
            shape = (batch or 1, *shape[1:])
        options: Any = {"version": metadata.version, "timeout_s": TIMEOUT_S, "outputs": [output]}
        try:
            answer = client.predict(metadata.name, {name: _inputs(shape, info.numpy)}, **options)
        except Unavailable:
            raise
        except LadleError:  # it refuses such inputs, or it is too slow to be asked
            continue
        return are_shares(np.asarray(answer[output]))
    return False


def _inputs(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Random rows, of which the first is zero and the last large: sums of 1 by chance do not last."""
    array = np.random.default_rng(0).random(shape)
    array[0] = 0
    array[-1] *= 10
    return array.astype(dtype)
