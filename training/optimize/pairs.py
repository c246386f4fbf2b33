"""Measures two graphs in pairs in one run, and decides what the figures allow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Any]

GAIN = 1.1
"""Smallest ratio for which a version is worth its place."""
SURE = 0.9
"""Share of the pairs in which the new graph must be the faster one."""
ROWS = (1, 16)
"""Rows of a request: alone, and as batching merges them. The smaller ratio counts."""
_BLOCK_S = 4e-3  # a block of calls: long beside the clock and beside an interrupt
_PAIRS, _FEWEST = 41, 9
_SECONDS = 3.0

HIGHER = frozenset({"accuracy", "mean_iou", "iou", "r_squared", "elbo", "diversity", "agreement"})
"""Headlines of which more is better; of the others less is."""
SHARES = frozenset({"accuracy", "mean_iou", "iou", "r_squared", "agreement"})
"""Headlines between 0 and 1: a point is 0.01. Of the others a point is a hundredth of the value before."""


@dataclass(frozen=True)
class Speed:
    """Milliseconds of a run of each graph, and their ratio.

    ratio   median over the pairs of the time before, divided by that after
    faster  share of the pairs in which the new graph was the faster one
    """

    rows: int
    before_ms: float
    after_ms: float
    ratio: float
    faster: float


def measure(before: Run, after: Run, inputs: Arrays, seconds: float = _SECONDS) -> list[Speed]:
    """Time both graphs on real inputs, at each number of ROWS that there are; about `seconds` for each."""
    most = min(len(array) for array in inputs.values())
    return [
        _measure(before, after, {name: np.ascontiguousarray(array[:rows]) for name, array in inputs.items()}, seconds)
        for rows in ROWS
        if rows <= most
    ]


def _measure(before: Run, after: Run, request: Arrays, seconds: float) -> Speed:
    rows = min(len(array) for array in request.values())
    for run in (before, after):  # the first runs allocate
        run(request)
        run(request)
    once = max(_block(before, request, 1), _block(after, request, 1))
    calls = max(1, int(_BLOCK_S / max(once, 1e-7)))
    found: list[tuple[float, float]] = []
    deadline = time.perf_counter() + seconds
    while len(found) < _PAIRS and (len(found) < _FEWEST or time.perf_counter() < deadline):
        # Each graph begins every other pair, so that neither has the warmer cache.
        if len(found) % 2:
            late = _block(after, request, calls)
            found.append((_block(before, request, calls), late))
        else:
            early = _block(before, request, calls)
            found.append((early, _block(after, request, calls)))
    return summary(rows, found)


def summary(rows: int, pairs: Sequence[tuple[float, float]]) -> Speed:
    """The speed that pairs of seconds (before, after) show."""
    return Speed(
        rows,
        statistics.median(pair[0] for pair in pairs) * 1e3,
        statistics.median(pair[1] for pair in pairs) * 1e3,
        statistics.median(pair[0] / pair[1] for pair in pairs),
        sum(pair[1] < pair[0] for pair in pairs) / len(pairs),
    )


def _block(run: Run, request: Arrays, calls: int) -> float:
    """Seconds of a call, over so many."""
    start = time.perf_counter()
    for _ in range(calls):
        run(request)
    return (time.perf_counter() - start) / calls


def worst(speeds: Sequence[Speed]) -> Speed:
    """The speed that counts: that of the request which gains least."""
    return min(speeds, key=lambda speed: speed.ratio)


def too_slow(speeds: Sequence[Speed]) -> str:
    """Why these speeds are no reason for a new version; empty if they are."""
    speed = worst(speeds)
    rows = f"{speed.rows} row{'s' * (speed.rows > 1)}"
    if speed.ratio < GAIN:
        return f"{speed.ratio:.2f}× as fast on {rows}; expected {GAIN:g}× or more"
    unsure = [each for each in speeds if each.faster < SURE]
    if unsure:
        return f"faster in {unsure[0].faster:.0%} of the pairs only; expected {SURE:.0%} or more"
    return ""


def points_lost(headline: str, before: float, after: float) -> float:
    """How many points worse the headline is: hundredths of 1 for shares, percent of the value before for others."""
    worse = before - after if headline in HIGHER else after - before
    return 100 * worse / (1.0 if headline in SHARES else abs(before) or 1.0)


def too_poor(headline: str, before: float, after: float, tolerance: float) -> str:
    """Why a headline refuses the graph; empty if it does not. NaN refuses it.

    tolerance  most points that may be lost
    """
    lost = points_lost(headline, before, after)
    if lost <= tolerance:
        return ""
    name = headline.replace("_", " ")
    return f"{name} {before:.4g} → {after:.4g}, {lost:.2g} points worse; at most {tolerance:g} are allowed"
