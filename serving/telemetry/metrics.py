"""What the server counts and times, one `Metrics` a process; `prometheus.py` writes it down.

Times are kept in microseconds, as TensorFlow Serving's metrics are. `request`, `runtime`, `queued`, `batch` and
`examples` belong to the event loop: they take no lock and cost about a microsecond. The others may be called anywhere.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ladle.serving.telemetry import prometheus
from ladle.serving.telemetry.prometheus import EXAMPLE_LIMITS, LATENCY_LIMITS, QUEUE_LIMITS, SIZE_LIMITS

Snapshot = dict[str, list[Any]]
"""[label values, value] pairs by metric; JSON and pickle can hold it. A histogram is its buckets, then its sum."""

MAX_REFUSED = 1000
"""Names that only refused requests know: as many are kept apart, the rest are counted under OTHER."""
OTHER = "(other)"
_COUNTED = ("Predict", "Classify", "Regress")
"""The gRPC methods that upstream's metrics know; ours know all."""


class Metrics:
    """The counters of a process.

    thread_pool  the name that upstream's batching metrics bear
    """

    def __init__(self, thread_pool: str = "model_server_batch_threads") -> None:
        self.thread_pool = thread_pool
        self._requests: dict[tuple[str, str, str, str, str], list[float]] = {}
        self._refused = 0
        self._runs: dict[tuple[str, str, str], list[float]] = {}
        self._queued_runs: dict[tuple[str, str, str], list[float]] = {}
        self._spent: dict[tuple[str, str, str], list[float]] = {}
        self._rows: dict[tuple[str, str, str], int] = {}
        self._queued: dict[str, int] = {}
        self._batches: dict[tuple[str, str], list[float]] = {}
        self._padding: dict[int, list[float]] = {}
        self._queueing = _cells(QUEUE_LIMITS)
        self._task_sizes = _cells(SIZE_LIMITS)
        self._batch_sizes = _cells(SIZE_LIMITS)
        self._examples: dict[str, list[float]] = {}
        self._warmups: dict[tuple[str, str], list[float]] = {}
        self._warmup_records: dict[tuple[str, str], int] = {}
        self._loads: dict[tuple[str, str], list[float]] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def request(self, model: str, api: str, entrypoint: str, code: str, seconds: float, signature: str = "") -> None:
        """An answered request.

        api         Predict, Classify, ... over gRPC; predict, classify, regress over REST; "" for a GET
        entrypoint  GRPC or REST
        code        canonical, OK included
        """
        key = (model, signature, api, entrypoint, code)
        cells = self._requests.get(key)
        if cells is None:
            cells = self._new_request(key)
        micros = seconds * 1e6
        cells[bisect_left(LATENCY_LIMITS, micros)] += 1
        cells[-1] += micros

    def _new_request(self, key: tuple[str, str, str, str, str]) -> list[float]:
        model, _, api, entrypoint, code = key
        if code != "OK":  # the caller may have made the names up
            is_known = any(model == loaded for loaded, _ in list(self._versions))  # which `loaded` may add to
            if not is_known and self._refused >= MAX_REFUSED:
                model = OTHER
            key = (model[:MAX_REFUSED], "", api, entrypoint, code)
            self._refused += not is_known and key not in self._requests
        return self._requests.setdefault(key, _cells(LATENCY_LIMITS))

    def runtime(
        self,
        model: str,
        signature: str,
        seconds: float,
        rows: int,
        api: str = "Predict",
        spent: Sequence[float] = (),
    ) -> None:
        """A run of an engine for `rows` rows.

        api    Predict, Classify, Regress or MultiInference, over both protocols
        spent  seconds that each request took whose rows they are, its wait included; none: one, which did not wait
        """
        key = (model, signature, api)
        runs = self._runs if not spent else self._queued_runs
        cells = runs.get(key)
        if cells is None:
            cells = runs[key] = _cells(LATENCY_LIMITS)
            self._rows.setdefault(key, 0)
        micros = seconds * 1e6
        cells[bisect_left(LATENCY_LIMITS, micros)] += 1
        cells[-1] += micros
        self._rows[key] += rows
        if spent:
            cells = self._spent.setdefault(key, _cells(LATENCY_LIMITS))
            _observe_each(cells, LATENCY_LIMITS, spent, 1e6)

    def queued(self, model: str, delta: int) -> None:
        """Requests that joined (> 0) or left (< 0) a queue."""
        self._queued[model] = self._queued.get(model, 0) + delta

    def batch(
        self,
        model: str,
        signature: str,
        rows: int,
        padding: int,
        queue_seconds: float | Sequence[float],
        sizes: Sequence[int] = (),
    ) -> None:
        """A merged run.

        rows           of all its requests together        padding  rows added to reach an allowed size
        queue_seconds  how long each request of it waited  sizes    rows of each request; as one without
        """
        cells = self._batches.get((model, signature))
        if cells is None:
            cells = self._batches[model, signature] = _cells(SIZE_LIMITS)
        _observe(cells, SIZE_LIMITS, rows)
        _observe(self._batch_sizes, SIZE_LIMITS, rows + padding)
        _observe_each(self._task_sizes, SIZE_LIMITS, sizes or (rows,))
        waited = (queue_seconds,) if isinstance(queue_seconds, float | int) else queue_seconds
        _observe_each(self._queueing, QUEUE_LIMITS, waited, 1e6)
        _observe(self._padding.setdefault(rows + padding, _cells(SIZE_LIMITS)), SIZE_LIMITS, padding)

    def examples(self, model: str, count: int) -> None:
        """The tf.Examples of a MultiInference request."""
        _observe(self._examples.setdefault(model, _cells(EXAMPLE_LIMITS)), EXAMPLE_LIMITS, count)

    def warmup(self, path: str, status: str, seconds: float, records: int) -> None:
        """A version's recorded requests were answered, or one failed with this code."""
        with self._lock:
            _observe(self._warmups.setdefault((path, status), _cells(LATENCY_LIMITS)), LATENCY_LIMITS, seconds * 1e6)
            self._warmup_records[path, status] = self._warmup_records.get((path, status), 0) + records

    def loaded(self, model: str, version: int, code: str = "OK", seconds: float = 0.0) -> None:
        """An attempt to load a version has ended; with OK it is there."""
        with self._lock:
            _observe(self._loads.setdefault((model, code), _cells(LATENCY_LIMITS)), LATENCY_LIMITS, seconds * 1e6)
            if code == "OK":
                self._versions[model, str(version)] = 1

    def serves(self, available: Mapping[str, Iterable[int]]) -> None:
        """The versions of each model that answer now."""
        with self._lock:
            self._versions = {(model, str(version)): 1 for model, versions in available.items() for version in versions}

    def snapshot(self) -> Snapshot:
        """All of it now, for `render` here or in another process. Any thread: what grows is copied first."""
        counts: dict[tuple[str, str], float] = {}
        latencies: dict[tuple[str, str, str], list[float]] = {}
        by_signature: dict[tuple[str, ...], list[float]] = {}
        by_code: dict[tuple[str, ...], float] = {}
        for (model, signature, api, entrypoint, code), cells in list(self._requests.items()):
            number = sum(cells[:-1])
            by_code[model, signature, api, entrypoint, code] = number
            if code == "OK":
                by_signature[model, signature, api, entrypoint] = list(cells)
            if entrypoint == "GRPC" and api not in _COUNTED:
                continue
            counts[model, code] = counts.get((model, code), 0) + number
            if code == "OK":
                _add(latencies, (model, api, entrypoint), cells)
        runs = dict(self._runs)
        for key, cells in list(self._queued_runs.items()):
            _add(runs, key, cells)
        requests: dict[tuple[str, str, str], list[float]] = {}
        for (model, _, api), cells in [*list(self._runs.items()), *list(self._spent.items())]:
            _add(requests, (model, api, "TF1"), cells)
        with self._lock:
            found: dict[str, Mapping[Any, Any]] = {
                "request_count": counts,
                "request_latency": latencies,
                "runtime_latency": requests,
                "request_example_counts": self._examples,
                "request_example_count_total": {model: cells[-1] for model, cells in list(self._examples.items())},
                "model_warmup_latency": self._warmups,
                "model_warmup_records_read": self._warmup_records,
                "own_request_count": by_code,
                "own_request_latency": by_signature,
                "own_runtime_latency": runs,
                "own_rows": self._rows,
                "own_queue_depth": self._queued,
                "own_batch_size": self._batches,
                "own_load_latency": self._loads,
                "own_versions": self._versions,
                **_process(),
            }
            if self._batches:
                found |= {
                    "queuing_latency": {self.thread_pool: self._queueing},
                    "padding_size": {str(size): cells for size, cells in list(self._padding.items())},
                    "input_batch_size": {(): self._task_sizes},
                    "processed_batch_size": {(): self._batch_sizes},
                    "wrapped_run_count": {(): sum(self._task_sizes[:-1])},
                }
            return {
                metric: [
                    [[key] if isinstance(key, str) else list(key), _copy(value)] for key, value in list(values.items())
                ]
                for metric, values in found.items()
            }

    @staticmethod
    def render(snapshots: Sequence[Snapshot]) -> bytes:
        """The text that Prometheus reads, of one process or several added up."""
        return prometheus.render(snapshots)


def _cells(limits: Sequence[float]) -> list[float]:
    """An empty histogram: a count for each limit, one for what lies beyond, and the sum."""
    return [0] * (len(limits) + 2)


def _observe(cells: list[float], limits: Sequence[float], value: float) -> None:
    cells[bisect_left(limits, value)] += 1
    cells[-1] += value


def _observe_each(cells: list[float], limits: Sequence[float], values: Sequence[float], scale: float = 1) -> None:
    first = values[0]
    if values.count(first) == len(values):  # as of requests that arrived together
        cells[bisect_left(limits, first * scale)] += len(values)
        cells[-1] += first * scale * len(values)
        return
    for value in values:
        _observe(cells, limits, value * scale)


def _add(total: dict[Any, list[float]], key: Any, cells: list[float]) -> None:
    before = total.get(key)
    total[key] = list(cells) if before is None else [a + b for a, b in zip(before, cells, strict=True)]


def _copy(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _process() -> dict[str, Mapping[Any, float]]:
    """This process's own figures; memory and open files where the system tells them."""
    found: dict[str, Mapping[Any, float]] = {"own_processes": {(): 1}, "process_cpu_seconds": {(): time.process_time()}}
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
        found["process_memory"] = {(): pages * os.sysconf("SC_PAGE_SIZE")}
        found["process_open_fds"] = {(): len(os.listdir("/proc/self/fd")) - 1}
    except OSError:
        pass
    return found
