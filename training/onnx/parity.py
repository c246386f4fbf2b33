"""Compares the outputs of two engines on the same requests: a reference (TensorFlow) and another (ONNX Runtime)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Arrays]

ABSOLUTE = 1e-4
"""Largest allowed difference of a float output of our own networks, and of probabilities."""
SPREAD = 1e-4
"""The same of an output of which only the numbers are known, relative to its spread: greatest value less the least."""
RELATIVE = 1e-6
"""The same, relative to the largest magnitude in the output. The larger bound counts: float32 has seven digits."""
HALF = 2**-9
"""The same for a graph that computes in float16, which has three digits."""
BRAIN = 2**-6
"""The same for a graph that computes in bfloat16, which has two digits."""
LEVELS = 1
"""Largest allowed difference of a uint8 output: a pixel may round either way."""


class MismatchError(ValueError):
    """Raised by `compare` when two engines disagree; the message names the output and the difference."""


class UnsteadyError(MismatchError):
    """Raised when most rows on which two engines disagree are unsteady: the reference disagrees with itself there."""


class Steady(Protocol):
    """Tells unsteady rows, see `steadiness.Steadiness`."""

    def unsteady(self, request: Arrays, name: str, expected: np.ndarray, got: np.ndarray, allowed: float) -> np.ndarray:
        """Of the rows that differ by more than `allowed`, which are unsteady."""


@dataclass(frozen=True)
class Parity:
    """How closely two engines agree.

    inputs        rows compared
    max_abs       largest absolute difference in any float output
    max_rel       the same divided by the largest magnitude of that output
    argmax_equal  whether all class ids are equal
    ties          class ids in maps that differ because two classes score the same within the tolerance
    spreads       the greatest spread of each float output
    unsteady      rows on which the reference itself answers otherwise when the last digit of the inputs changes
    """

    inputs: int
    max_abs: float
    max_rel: float
    argmax_equal: bool
    ties: int = 0
    spreads: Mapping[str, float] = field(default_factory=dict, compare=False)
    unsteady: int = 0

    def joined(self, other: Parity) -> Parity:
        """The agreement on the requests of both; the spreads of the first."""
        return Parity(
            self.inputs + other.inputs,
            max(self.max_abs, other.max_abs),
            max(self.max_rel, other.max_rel),
            argmax_equal=self.argmax_equal and other.argmax_equal,
            ties=self.ties + other.ties,
            spreads=self.spreads,
            unsteady=self.unsteady + other.unsteady,
        )

    def as_dict(self) -> dict[str, Any]:
        """The entry in the model card; `ties` and `unsteady` only if there are any."""
        entry = {"inputs": self.inputs, "max_abs": self.max_abs, "max_rel": self.max_rel}
        counts = {name: count for name, count in (("ties", self.ties), ("unsteady", self.unsteady)) if count}
        return {**entry, "argmax_equal": self.argmax_equal, **counts}


def compare(
    reference: Run,
    other: Run,
    requests: Iterable[Arrays],
    rows: int,
    relative: float = RELATIVE,
    *,
    by_spread: bool = False,
    spreads: Mapping[str, float] | None = None,
    steady: Steady | None = None,
) -> Parity:
    """Run both engines on every request and measure the differences.

    rows       number of rows in the requests, for the result
    relative   allowed difference of float outputs, relative to their largest magnitude
    by_spread  allow the SPREAD of an output instead of ABSOLUTE, except in probabilities
    spreads    of the outputs on usual inputs; None: those of these requests
    steady     tells rows on which the reference disagrees with itself; they count as neither agreeing nor differing

    MismatchError if an output differs in name, dtype or shape, or by more than is allowed: float outputs by
    `tolerance`, uint8 images by LEVELS, everything else not at all. In maps of class ids (rank > 1) a class may be
    replaced by one with the same score within the tolerance.
    """
    max_abs, max_rel, ties, unsteady = 0.0, 0.0, 0, 0
    found: list[_Found] = []
    for request in requests:
        expected = reference(request)
        try:
            got = other(request)
        except Exception as error:  # engines have no common error type
            cause = str(error).partition("\n")[0]
            raise MismatchError(f"it fails on inputs that the reference accepts: {cause[:200]}") from error
        if sorted(expected) != sorted(got):
            raise MismatchError(f"outputs are {', '.join(sorted(got))}; expected {', '.join(sorted(expected))}")
        for name, a in expected.items():
            b = got[name]
            if a.shape != b.shape or a.dtype != b.dtype:
                raise MismatchError(f'output "{name}" is {_type(b)}; expected {_type(a)}')
            if a.dtype.name == "bfloat16":  # not one of NumPy's own
                a, b = a.astype(np.float32), b.astype(np.float32)
            if np.issubdtype(a.dtype, np.floating):
                one = _difference(name, a, b)
                if one is None:
                    continue
                own = _absolute(one, one.high - one.low, by_spread)
                is_far = one.largest > tolerance(one.magnitude, relative, own)
                found.append(_Found(name, one, (request, a, b) if is_far else None))
            elif a.dtype == np.uint8:
                _same_pixels(name, a, b)
            elif not np.array_equal(a, b):
                ties += _ties(name, a, b, expected, relative)
    whole: dict[str, list[_Difference]] = {}
    for each in found:
        whole.setdefault(each.name, []).append(each.difference)
    spread_of = {name: max(one.high for one in each) - min(one.low for one in each) for name, each in whole.items()}
    usual = spread_of if spreads is None else spreads
    for each in found:
        one = each.difference
        spread = max(one.high - one.low, usual.get(each.name, 0.0))
        allowed = tolerance(one.magnitude, relative, _absolute(one, spread, by_spread))
        if one.largest > allowed:
            unsteady += _unsteady(each, allowed, steady)
        else:
            max_abs = max(max_abs, one.largest)
            max_rel = max(max_rel, one.largest / one.magnitude if one.magnitude else 0.0)
    return Parity(rows, max_abs, max_rel, argmax_equal=ties == 0, ties=ties, spreads=spread_of, unsteady=unsteady)


def _unsteady(found: _Found, allowed: float, steady: Steady | None) -> int:
    """How many rows of an output differ; MismatchError unless the reference disagrees with itself on all of them."""
    text = f'output "{found.name}" differs by {found.difference.largest:.2g}; at most {allowed:.2g} is allowed'
    if steady is None or found.far is None:
        raise MismatchError(text)
    request, expected, got = found.far
    rows = steady.unsteady(request, found.name, expected, got, allowed)
    if not rows.all():
        raise (UnsteadyError if rows.mean() >= 0.5 else MismatchError)(text)
    return len(rows)


def tolerance(magnitude: float, relative: float = RELATIVE, absolute: float = ABSOLUTE) -> float:
    """Largest allowed difference of a float output whose largest value has this magnitude."""
    return max(absolute, relative * magnitude)


@dataclass(frozen=True)
class _Difference:
    """Of a float output: the largest difference, and what the output's finite values are like."""

    largest: float
    low: float
    high: float
    is_probability: bool = False

    @property
    def magnitude(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class _Found:
    """The difference of an output on one request; the request and both outputs if it may be too large."""

    name: str
    difference: _Difference
    far: tuple[Arrays, np.ndarray, np.ndarray] | None


def _absolute(one: _Difference, spread: float, by_spread: bool) -> float:
    return SPREAD * spread if by_spread and not one.is_probability else ABSOLUTE


def _difference(name: str, a: np.ndarray, b: np.ndarray) -> _Difference | None:
    """How much two float outputs differ; None without finite values. MismatchError if NaN or infinity is elsewhere."""
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(b[finite]).all():
        raise MismatchError(f'output "{name}" has NaN or infinity in different places')
    if not finite.any():
        return None
    is_many = a.ndim > 0 and a.shape[-1] > 1
    is_probability = bool(
        is_many and finite.all() and a.min() >= 0 and np.allclose(a.sum(-1, np.float64), 1, atol=1e-3)
    )
    a, b = a[finite].astype(np.float64), b[finite].astype(np.float64)
    return _Difference(float(np.abs(a - b).max()), float(a.min()), float(a.max()), is_probability)


def _same_pixels(name: str, a: np.ndarray, b: np.ndarray) -> None:
    levels = int(np.abs(a.astype(np.int16) - b.astype(np.int16)).max(initial=0))
    if levels > LEVELS:
        raise MismatchError(f'output "{name}" differs by {levels} levels of 255; at most {LEVELS} is allowed')


def _ties(name: str, a: np.ndarray, b: np.ndarray, outputs: Arrays, relative: float) -> int:
    """Number of entries of a class map that differ; MismatchError unless tied scores in another output explain all."""
    differ = a != b
    if a.ndim > 1 and np.issubdtype(a.dtype, np.integer):
        for scores in outputs.values():
            if scores.shape[:-1] != a.shape or not np.issubdtype(scores.dtype, np.floating):
                continue
            if max(a.max(), b.max()) >= scores.shape[-1] or min(a.min(), b.min()) < 0:
                continue
            ours = np.take_along_axis(scores, a[..., np.newaxis].astype(np.int64), axis=-1)[..., 0]
            theirs = np.take_along_axis(scores, b[..., np.newaxis].astype(np.int64), axis=-1)[..., 0]
            # Each score may be off by the tolerance, so two that are up to twice that apart can change places.
            if (np.abs(ours - theirs)[differ] <= 2 * tolerance(float(np.abs(scores).max()), relative)).all():
                return int(differ.sum())
    raise MismatchError(f'output "{name}" differs in {differ.sum()} of {differ.size} entries')


def _type(a: np.ndarray) -> str:
    return f"{a.dtype} {list(a.shape)}"
