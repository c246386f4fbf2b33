"""Tells rows on which TensorFlow itself gives another answer as soon as the last digits of its inputs change.

A deep network that nobody has trained can be chaotic: a difference of one rounding grows from layer to layer until it
decides the output. On such a row two right engines differ, so the row says nothing about a graph.
"""

from __future__ import annotations

import time

import numpy as np

from ladle.training.onnx.parity import Arrays, Run

_ULPS = (1, 4, 16)
"""How far each float of the inputs is moved, up or down: so many of float32's roundings of it. Zero stays."""
_MOST_NUDGES, _SECONDS = 96, 20.0
"""Rows that have not moved by then are steady."""
_FIRST = 12
"""Nudges after which the search ends if no row at all has moved."""
_FACTOR = 4.0
"""The engines may differ by as many times what TensorFlow's answer has moved by."""


class Steadiness:
    """Asks TensorFlow the same with nudged inputs."""

    def __init__(self, reference: Run) -> None:
        self._reference = reference

    def unsteady(self, request: Arrays, name: str, expected: np.ndarray, got: np.ndarray, allowed: float) -> np.ndarray:
        """Of the rows of an output that differ by more than `allowed`, in turn, which are unsteady: booleans.

        A row is unsteady if TensorFlow's own answer moves by more than `allowed`, and by a quarter of the difference,
        when the inputs are nudged. An output that has no row for each of the inputs' rows counts as one.
        """
        count = len(expected) if expected.ndim else 0
        is_rows = count > 0 and all(array.ndim and len(array) == count for array in request.values())
        shape = (count, -1) if is_rows else (1, -1)
        difference = _largest(expected.reshape(shape), got.reshape(shape))
        differing = np.flatnonzero(difference > allowed)
        needed = np.maximum(allowed, difference[differing] / _FACTOR)
        found = np.zeros(len(differing), bool)
        if not any(array.dtype.kind == "f" and array.any() for array in request.values()):
            return found
        random, start = np.random.default_rng(0), time.monotonic()
        moved, base, asked = np.zeros(len(differing)), None, request
        for nudge in range(_MOST_NUDGES):
            waiting = np.flatnonzero(~found)
            is_vain = nudge == _FIRST and not found.any()
            if not len(waiting) or is_vain or time.monotonic() - start > _SECONDS:
                break
            if is_rows and (base is None or len(base) != len(waiting)):  # only those that are still to be told
                asked = {key: array[differing[waiting]] for key, array in request.items()}
                base = None
            try:
                if base is None:
                    base = self._answer(asked, name, is_rows)
                    if (_largest(base, self._answer(asked, name, is_rows)) > allowed).any():  # random, not chaotic
                        return np.zeros(len(differing), bool)
                other = self._answer(nudged(random, asked, _ULPS[nudge % len(_ULPS)]), name, is_rows)
            except Exception:  # TensorFlow takes only as many rows as there were
                return found
            moved[waiting] = np.maximum(moved[waiting], _largest(base, other))
            found = moved >= needed
        return found

    def _answer(self, request: Arrays, name: str, is_rows: bool) -> np.ndarray:
        output = self._reference(request)[name]
        return output.reshape(len(output) if is_rows else 1, -1)


def nudged(random: np.random.Generator, request: Arrays, ulps: int) -> dict[str, np.ndarray]:
    """The same request, with each float moved up or down by so many of float32's roundings of it."""
    made = dict(request)
    for name, array in request.items():
        if array.dtype.kind == "f":
            step = ulps * float(np.finfo(np.float32).eps) * random.choice(np.array([-1.0, 1.0]), array.shape)
            made[name] = (array * (1 + step)).astype(array.dtype)
    return made


def _largest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The largest difference of the finite values in each row, 0 without any."""
    both = np.isfinite(a) & np.isfinite(b)
    difference = np.abs(np.where(both, a, 0).astype(np.float64) - np.where(both, b, 0))
    return np.asarray(difference.max(axis=1, initial=0.0))
