"""What the requests of each version took: the statistics of the Open Inference Protocol, which metrics do not have."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

KEY = "own_usage"
"""In a snapshot, beside the metrics: [[model, version], values], values as `Usage.values` has them."""
FIELDS = ("requests", "request_s", "failed", "failed_s", "queue_s", "run_s", "runs", "rows", "last")


class Usage:
    """One version in one process, since it was loaded. The event loop adds to it in place: every request comes here.

    requests, request_s  that were answered, and seconds from when they could run to their answers
    failed, failed_s     that reached the version and failed or were refused, and their seconds
    queue_s, run_s       of the answered ones, waiting and in the engine; all of a merged run's time for each of them
    runs, rows           runs of the engine that succeeded, and their rows
    last                 when a request last ran; `time.perf_counter()`, 0.0: never
    """

    __slots__ = (*FIELDS, "__weakref__")

    def __init__(self) -> None:
        self.requests = self.failed = self.runs = self.rows = 0
        self.request_s = self.failed_s = self.queue_s = self.run_s = self.last = 0.0

    def values(self) -> list[float]:
        """The fields in order; `last` in seconds since 1970."""
        found = [float(getattr(self, name)) for name in FIELDS]
        if self.last:
            found[-1] = time.time() - (time.perf_counter() - self.last)
        return found


def totals(snapshots: Iterable[Mapping[str, Sequence[Any]]]) -> dict[tuple[str, str], dict[str, float]]:
    """The fields of each version, by model and version, of all processes together."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for snapshot in snapshots:
        for (model, version), values in snapshot.get(KEY, ()):
            total = found.setdefault((model, version), dict.fromkeys(FIELDS, 0.0))
            for name, value in zip(FIELDS, values, strict=True):
                total[name] = max(total[name], value) if name == "last" else total[name] + value
    return found


def rows(usages: Iterable[tuple[tuple[str, str], Usage]]) -> list[Any]:
    """What a snapshot holds of versions by model and version."""
    return [[list(key), usage.values()] for key, usage in usages]
