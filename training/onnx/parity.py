"""Do two engines give the same answers? TensorFlow is the reference, ONNX Runtime is compared with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Arrays]

ABSOLUTE = 1e-4
"""Largest difference of a float output."""
RELATIVE = 1e-6
"""The same as a share of the output's largest magnitude, where that allows more: float32 keeps seven digits."""
LEVELS = 1
"""Largest difference of a uint8 output: a rounded pixel."""


class MismatchError(ValueError):
    """The engines disagree; the message names the output and the difference."""


@dataclass(frozen=True)
class Parity:
    """How well two engines agree.

    inputs        compared rows
    max_abs       largest absolute difference of any float output
    max_rel       the same divided by the largest magnitude of its output
    argmax_equal  all class ids are the same
    ties          class ids in maps that differ because two classes score the same within the tolerance
    """

    inputs: int
    max_abs: float
    max_rel: float
    argmax_equal: bool
    ties: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Its entry in the model card."""
        entry = {"inputs": self.inputs, "max_abs": self.max_abs, "max_rel": self.max_rel}
        return {**entry, "argmax_equal": self.argmax_equal, **({"ties": self.ties} if self.ties else {})}


def compare(reference: Run, other: Run, requests: Iterable[Arrays], rows: int) -> Parity:
    """Run both engines on all requests; MismatchError if an output differs in name, dtype, shape or by too much.

    Float outputs may differ by ABSOLUTE or RELATIVE, uint8 images by LEVELS, all else must be the same; in maps of
    class ids (rank > 1) a class may be swapped for one that scores the same within the tolerance.
    """
    max_abs, max_rel, ties = 0.0, 0.0, 0
    for request in requests:
        wanted = reference(request)
        try:
            got = other(request)
        except Exception as error:  # engines have no common error type
            said = str(error).partition("\n")[0]
            raise MismatchError(f"it fails on inputs that the other takes: {said[:200]}") from error
        if sorted(wanted) != sorted(got):
            raise MismatchError(f"outputs are {', '.join(sorted(got))}; wanted are {', '.join(sorted(wanted))}")
        for name, a in wanted.items():
            b = got[name]
            if a.shape != b.shape or a.dtype != b.dtype:
                raise MismatchError(f'output "{name}" is {_type(b)}; wanted is {_type(a)}')
            if np.issubdtype(a.dtype, np.floating):
                difference, scale = _difference(name, a, b)
                max_abs = max(max_abs, difference)
                max_rel = max(max_rel, difference / scale if scale else 0.0)
            elif a.dtype == np.uint8:
                _same_pixels(name, a, b)
            elif not np.array_equal(a, b):
                ties += _ties(name, a, b, wanted)
    return Parity(rows, max_abs, max_rel, argmax_equal=ties == 0, ties=ties)


def tolerance(scale: float) -> float:
    """How far values of that magnitude may be apart."""
    return max(ABSOLUTE, RELATIVE * scale)


def _difference(name: str, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Largest difference and magnitude of a float output."""
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(b[finite]).all():
        raise MismatchError(f'output "{name}" has NaN or infinity in other places')
    if not finite.any():
        return 0.0, 0.0
    a, b = a[finite].astype(np.float64), b[finite].astype(np.float64)
    difference, scale = float(np.abs(a - b).max()), float(np.abs(a).max())
    if difference > tolerance(scale):
        raise MismatchError(f'output "{name}" differs by {difference:.2g}; at most {tolerance(scale):.2g} is allowed')
    return difference, scale


def _same_pixels(name: str, a: np.ndarray, b: np.ndarray) -> None:
    levels = int(np.abs(a.astype(np.int16) - b.astype(np.int16)).max(initial=0))
    if levels > LEVELS:
        raise MismatchError(f'output "{name}" differs by {levels} levels of 255; at most {LEVELS} is allowed')


def _ties(name: str, a: np.ndarray, b: np.ndarray, outputs: Arrays) -> int:
    """How many entries of a class map differ, if scores of some output explain all of them; else MismatchError."""
    differ = a != b
    if a.ndim > 1 and np.issubdtype(a.dtype, np.integer):
        for scores in outputs.values():
            if scores.shape[:-1] != a.shape or not np.issubdtype(scores.dtype, np.floating):
                continue
            if max(a.max(), b.max()) >= scores.shape[-1] or min(a.min(), b.min()) < 0:
                continue
            ours = np.take_along_axis(scores, a[..., np.newaxis].astype(np.int64), axis=-1)[..., 0]
            theirs = np.take_along_axis(scores, b[..., np.newaxis].astype(np.int64), axis=-1)[..., 0]
            # Two scores that each moved by the tolerance can swap when they are twice that apart.
            if (np.abs(ours - theirs)[differ] <= 2 * tolerance(float(np.abs(scores).max()))).all():
                return int(differ.sum())
    raise MismatchError(f'output "{name}" differs in {differ.sum()} of {differ.size} entries')


def _type(a: np.ndarray) -> str:
    return f"{a.dtype} {list(a.shape)}"
