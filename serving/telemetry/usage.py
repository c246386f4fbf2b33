"""What the requests of each version took: the statistics of the Open Inference Protocol, which metrics do not have."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

KEY = "own_usage"
"""In a snapshot, beside the metrics: [[model, version], values, batches], both as `Usage` has them."""
MOST_SIZES = 256
"""Batch sizes that are counted apart, in each version; a caller could send ever new ones."""
FIELDS = ("requests", "request_s", "failed", "failed_s", "queue_s", "run_s", "runs", "rows", "last")


class Usage:
    """One version in one process, since it was loaded. The event loop adds to it in place: every request comes here.

    requests, request_s  that were answered, and seconds from when they could run to their answers
    failed, failed_s     that reached the version and failed or were refused, and their seconds
    queue_s, run_s       of the answered ones, waiting and in the engine; all of a merged run's time for each of them
    runs, rows           runs of the engine that succeeded, and their rows
    last                 when a request last ran; `time.perf_counter()`, 0.0: never
    sizes                by the rows of a run: runs that succeeded, and their seconds in the engine
    """

    __slots__ = (*FIELDS, "__weakref__", "sizes")

    def __init__(self) -> None:
        self.requests = self.failed = self.runs = self.rows = 0
        self.request_s = self.failed_s = self.queue_s = self.run_s = self.last = 0.0
        self.sizes: dict[int, list[float]] = {}

    def answer(self, seconds: float, run_s: float, rows: int, requests: int = 1) -> None:
        """Counts requests that were answered in `seconds` together, `run_s` of them in the engine."""
        run_s = min(run_s, seconds)
        self.requests += requests
        self.request_s += seconds
        self.queue_s += seconds - run_s
        self.run_s += run_s
        self.rows += rows

    def fail(self, seconds: float) -> None:
        """Counts a request that failed after `seconds`."""
        self.failed += 1
        self.failed_s += seconds

    def run(self, rows: int, seconds: float) -> None:
        """Counts a run of the engine that succeeded."""
        self.runs += 1
        cell = self.sizes.get(rows) or self.new_size(rows)
        cell[0] += 1
        cell[1] += seconds

    def new_size(self, rows: int) -> list[float]:
        """The cell of a batch size that was not counted yet; beyond MOST_SIZES one that nobody reads."""
        cell = [0.0, 0.0]
        if len(self.sizes) < MOST_SIZES:
            self.sizes[rows] = cell
        return cell

    def batches(self) -> list[list[float]]:
        """Batch size, runs and seconds of each batch size."""
        return [[rows, *cell] for rows, cell in list(self.sizes.items())]

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
        for (model, version), values, _ in snapshot.get(KEY, ()):
            total = found.setdefault((model, version), dict.fromkeys(FIELDS, 0.0))
            for name, value in zip(FIELDS, values, strict=True):
                total[name] = max(total[name], value) if name == "last" else total[name] + value
    return found


def batches(snapshots: Iterable[Mapping[str, Sequence[Any]]]) -> dict[tuple[str, str], dict[int, list[float]]]:
    """Runs and seconds by batch size of each version, by model and version, of all processes together."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for snapshot in snapshots:
        for (model, version), _, sizes in snapshot.get(KEY, ()):
            of_version = found.setdefault((model, version), {})
            for size, runs, seconds in sizes:
                cell = of_version.setdefault(int(size), [0.0, 0.0])
                cell[0] += runs
                cell[1] += seconds
    return found


def merged(snapshots: Sequence[Mapping[str, Sequence[Any]]]) -> list[Any]:
    """The rows of several snapshots as those of one."""
    sizes = batches(snapshots)
    return [
        [list(key), list(values.values()), [[size, *cell] for size, cell in sizes[key].items()]]
        for key, values in totals(snapshots).items()
    ]


def rows(usages: Iterable[tuple[tuple[str, str], Usage]]) -> list[Any]:
    """What a snapshot holds of versions by model and version."""
    return [[list(key), usage.values(), usage.batches()] for key, usage in usages]
