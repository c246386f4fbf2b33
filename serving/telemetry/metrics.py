"""The counters and histograms of one process; `prometheus.py` writes them as text.

Times are in microseconds, as in TensorFlow Serving's metrics. Only the event loop calls `request`, `arm`, `runtime`,
`queued`, `batch` and `examples`: they take no lock and cost about a microsecond. Any thread may call the others.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ladle.serving.telemetry import usage
from ladle.serving.telemetry.prometheus import (
    EXAMPLE_LIMITS,
    EXEMPLARS,
    LATENCY_LIMITS,
    QUEUE_LIMITS,
    SIZE_LIMITS,
)

Snapshot = dict[str, list[Any]]
"""By metric: pairs [label values, value], of types that JSON has. A histogram is a list: its buckets, then its sum."""

ShadowKey = tuple[str, str, str, str]
"""Model, its version that answered, the shadow as `MODEL/LABEL`, and the shadow's version."""

_SERIES_IN_PIECE = 128
MAX_REFUSED = 1000
"""Most names that only refused requests carry. Callers can make up any number; the rest are counted as OTHER."""
OTHER = "(other)"
_UPSTREAM_METHODS = ("Predict", "Classify", "Regress")
"""The gRPC methods in TensorFlow Serving's own metrics; the metrics of Ladle have all methods."""


class Metrics:
    """The metrics of a process.

    thread_pool  label value of the batching metrics
    """

    def __init__(self, thread_pool: str = "model_server_batch_threads") -> None:
        self.thread_pool = thread_pool
        self._requests: dict[tuple[str, str, str, str, str], list[float]] = {}
        self._refused = 0
        self._runs: dict[tuple[str, str, str], list[float]] = {}
        self._queued_runs: dict[tuple[str, str, str], list[float]] = {}
        self._request_times: dict[tuple[str, str, str], list[float]] = {}
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
        self._logged: dict[tuple[str, str], int] = {}
        self._arms: dict[tuple[str, str, str, str, str], int] = {}
        self._arm_times: dict[tuple[str, str, str, str], list[float]] = {}
        self._shadows: dict[tuple[str, ...], int] = {}
        self._shadow_outputs: dict[tuple[str, ...], int] = {}
        self._shadow_differences: dict[tuple[str, ...], float] = {}
        self._shadow_times: dict[tuple[str, ...], list[float]] = {}
        self._exemplars: dict[tuple[str, str, str, str], dict[int, tuple[str, str, float, float]]] = {}
        self._usages: weakref.WeakValueDictionary[tuple[str, str], usage.Usage] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def usage_of(self, model: str, version: int) -> usage.Usage:
        """The statistics of a version that is loaded; they last as long as somebody keeps them."""
        with self._lock:
            found = self._usages[model, str(version)] = usage.Usage()
            return found

    def request(self, model: str, api: str, entrypoint: str, code: str, seconds: float, signature: str = "") -> None:
        """Counts an answered request.

        api         Predict, Classify, ... over gRPC; predict, classify, regress over REST; "" for a GET
        entrypoint  GRPC or REST
        code        a canonical code or OK
        """
        key = (model, signature, api, entrypoint, code)
        cells = self._requests.get(key)
        if cells is None:
            cells = self._new_request(key)
        micros = seconds * 1e6
        cells[bisect_left(LATENCY_LIMITS, micros)] += 1
        cells[-1] += micros

    def exemplar(self, key: tuple[str, str, str, str], seconds: float, trace_id: str, span_id: str) -> None:
        """Keeps a traced request as the example of its bucket of the request latency.

        key  model, signature, api and entrypoint, as in `request`
        """
        micros = seconds * 1e6
        place = bisect_left(LATENCY_LIMITS, micros)
        self._exemplars.setdefault(key, {})[place] = trace_id, span_id, micros, time.time()

    def _new_request(self, key: tuple[str, str, str, str, str]) -> list[float]:
        model, _, api, entrypoint, code = key
        if code != "OK":  # the caller may have made up the names
            is_known = any(
                model == loaded for loaded, _ in list(self._versions)
            )  # a copy: `loaded` may add to it in a thread
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
        request_s: Sequence[float] = (),
    ) -> None:
        """Counts a run of an engine.

        rows       of all its requests
        api        Predict, Classify, Regress or MultiInference, over both protocols
        request_s  seconds that each of its requests took, from arrival; empty for a single request that did not wait
        """
        key = (model, signature, api)
        runs = self._runs if not request_s else self._queued_runs
        cells = runs.get(key)
        if cells is None:
            cells = runs[key] = _cells(LATENCY_LIMITS)
            self._rows.setdefault(key, 0)
        micros = seconds * 1e6
        cells[bisect_left(LATENCY_LIMITS, micros)] += 1
        cells[-1] += micros
        self._rows[key] += rows
        if request_s:
            cells = self._request_times.setdefault(key, _cells(LATENCY_LIMITS))
            _observe_each(cells, LATENCY_LIMITS, request_s, 1e6)

    def queued(self, model: str, delta: int) -> None:
        """Counts requests that join (> 0) or leave (< 0) the queue of a model."""
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
        """Counts a merged run.

        rows           of all its requests
        padding        rows added to reach an allowed size
        queue_seconds  that each of its requests waited
        sizes          rows of each request; empty for a single request
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
        """Counts the tf.Examples of a MultiInference request."""
        _observe(self._examples.setdefault(model, _cells(EXAMPLE_LIMITS)), EXAMPLE_LIMITS, count)

    def warmup(self, path: str, status: str, seconds: float, records: int) -> None:
        """Counts a warm-up: `records` requests were answered, or one failed with the code `status`."""
        with self._lock:
            _observe(self._warmups.setdefault((path, status), _cells(LATENCY_LIMITS)), LATENCY_LIMITS, seconds * 1e6)
            self._warmup_records[path, status] = self._warmup_records.get((path, status), 0) + records

    def loaded(self, model: str, version: int, code: str = "OK", seconds: float = 0.0) -> None:
        """Counts an attempt to load a version; with code OK, the version is loaded."""
        with self._lock:
            _observe(self._loads.setdefault((model, code), _cells(LATENCY_LIMITS)), LATENCY_LIMITS, seconds * 1e6)
            if code == "OK":
                self._versions[model, str(version)] = 1

    def logged(self, model: str, status: str) -> None:
        """Counts a request of the request log: `written`, `dropped` or `failed`."""
        with self._lock:
            self._logged[model, status] = self._logged.get((model, status), 0) + 1

    def arm(self, model: str, split: str, arm: str, version: int, code: str, seconds: float) -> None:
        """Counts an answered request to a split, by the arm that it got; its time counts if the code is OK."""
        key = model, split, arm, str(version)
        self._arms[*key, code] = self._arms.get((*key, code), 0) + 1
        if code == "OK":
            _observe(self._arm_times.setdefault(key, _cells(LATENCY_LIMITS)), LATENCY_LIMITS, seconds * 1e6)

    def shadow(self, key: ShadowKey, result: str) -> None:
        """Counts a copied request: `same`, `different`, `failed` or `dropped`."""
        with self._lock:
            self._shadows[*key, result] = self._shadows.get((*key, result), 0) + 1

    def shadow_answered(
        self, key: ShadowKey, outputs: Mapping[str, tuple[bool, float | None]], answer_s: float, shadow_s: float
    ) -> None:
        """Counts an answer of a shadow that was compared.

        outputs             by name: whether it is the same, and the largest difference of two numbers
        answer_s, shadow_s  seconds that the run of the caller's answer took, and the shadow's
        """
        self.shadow(key, "same" if all(is_same for is_same, _ in outputs.values()) else "different")
        with self._lock:
            for name, (is_same, largest) in outputs.items():
                counted = *key, name, "same" if is_same else "different"
                self._shadow_outputs[counted] = self._shadow_outputs.get(counted, 0) + 1
                if largest is not None:
                    before = self._shadow_differences.get((*key, name), 0.0)
                    self._shadow_differences[*key, name] = max(before, largest)
            for run, seconds in (("answer", answer_s), ("shadow", shadow_s)):
                cells = self._shadow_times.setdefault((*key, run), _cells(LATENCY_LIMITS))
                _observe(cells, LATENCY_LIMITS, seconds * 1e6)

    def set_available(self, available: Mapping[str, Iterable[int]]) -> None:
        """Sets the available versions of each model."""
        with self._lock:
            self._versions = {(model, str(version)): 1 for model, versions in available.items() for version in versions}

    def snapshot(self) -> Snapshot:
        """All metrics as they are now, for `prometheus.render` in this process or another."""
        found: Snapshot = {}
        for _ in self._fill(found):
            pass
        return found

    def requests_by_model(self) -> dict[str, float]:
        """The number of requests that each model has answered."""
        found: dict[str, float] = {}
        for (model, *_), cells in list(self._requests.items()):
            found[model] = found.get(model, 0.0) + sum(cells[:-1])
        return found

    async def snapshot_in_pieces(self) -> Snapshot:
        """`snapshot`, with a turn of the event loop after every piece: hundreds of models would hold up requests."""
        found: Snapshot = {}
        for _ in self._fill(found):
            await asyncio.sleep(0)
        return found

    def _fill(self, snapshot: Snapshot) -> Iterator[None]:
        # Other threads, and requests between two pieces, may add keys meanwhile, and a dictionary must not grow while
        # it is iterated: hence the copies.
        counts: dict[tuple[str, str], float] = {}
        latencies: dict[tuple[str, str, str], list[float]] = {}
        by_signature: dict[tuple[str, ...], list[float]] = {}
        by_code: dict[tuple[str, ...], float] = {}
        for i, ((model, signature, api, entrypoint, code), cells) in enumerate(list(self._requests.items())):
            if i % _SERIES_IN_PIECE == 0:
                yield
            number = sum(cells[:-1])
            by_code[model, signature, api, entrypoint, code] = number
            if code == "OK":
                by_signature[model, signature, api, entrypoint] = list(cells)
            if entrypoint == "GRPC" and api not in _UPSTREAM_METHODS:
                continue
            counts[model, code] = counts.get((model, code), 0) + number
            if code == "OK":
                _add(latencies, (model, api, entrypoint), cells)
        runs = dict(self._runs)
        for key, cells in list(self._queued_runs.items()):
            _add(runs, key, cells)
        yield
        requests: dict[tuple[str, str, str], list[float]] = {}
        for (model, _, api), cells in [*list(self._runs.items()), *list(self._request_times.items())]:
            _add(requests, (model, api, "TF1"), cells)
        yield
        with self._lock:  # never across a yield: those who wait for it may be on the event loop
            locked: dict[str, Mapping[Any, Any]] = {
                "model_warmup_latency": self._warmups,
                "model_warmup_records_read": self._warmup_records,
                "own_load_latency": self._loads,
                "own_versions": self._versions,
                "own_request_log": self._logged,
                "own_shadow": self._shadows,
                "own_shadow_outputs": self._shadow_outputs,
                "own_shadow_difference": self._shadow_differences,
                "own_shadow_latency": self._shadow_times,
            }
            snapshot[usage.KEY] = usage.rows(list(self._usages.items()))
            for metric, values in locked.items():
                snapshot[metric] = _rows(values.items())
        found: dict[str, Mapping[Any, Any]] = {
            "request_count": counts,
            "request_latency": latencies,
            "runtime_latency": requests,
            "request_example_counts": self._examples,
            "request_example_count_total": {model: cells[-1] for model, cells in list(self._examples.items())},
            "own_request_count": by_code,
            "own_request_latency": by_signature,
            "own_runtime_latency": runs,
            "own_rows": self._rows,
            "own_queue_depth": self._queued,
            "own_batch_size": self._batches,
            "own_split_requests": self._arms,
            "own_split_latency": self._arm_times,
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
        for metric, values in found.items():
            yield
            snapshot[metric] = _rows(list(values.items()))
        if self._exemplars:
            snapshot[EXEMPLARS] = [
                [list(key), [[place, *value] for place, value in list(places.items())]]
                for key, places in list(self._exemplars.items())
            ]


def _rows(items: Iterable[tuple[Any, Any]]) -> list[Any]:
    return [[[key] if isinstance(key, str) else list(key), _copy(value)] for key, value in items]


def _cells(limits: Sequence[float]) -> list[float]:
    """An empty histogram: a count per limit, a count of larger values, and the sum."""
    return [0] * (len(limits) + 2)


def _observe(cells: list[float], limits: Sequence[float], value: float) -> None:
    cells[bisect_left(limits, value)] += 1
    cells[-1] += value


def _observe_each(cells: list[float], limits: Sequence[float], values: Sequence[float], scale: float = 1) -> None:
    first = values[0]
    if values.count(first) == len(values):  # requests that arrived together; much faster than one by one
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


@functools.lru_cache(maxsize=1)
def _start_time() -> float:
    """When this process started, in seconds since 1970; OSError where the system has no /proc."""
    with open("/proc/self/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])  # since the system started
    with open("/proc/stat", "rb") as file:
        started = next(int(line.split()[1]) for line in file if line.startswith(b"btime"))
    return started + ticks / os.sysconf("SC_CLK_TCK")


def _process() -> dict[str, Mapping[Any, float]]:
    """CPU time of this process, and on Linux its memory, open files and start."""
    found: dict[str, Mapping[Any, float]] = {"own_processes": {(): 1}, "process_cpu_seconds": {(): time.process_time()}}
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
        found["process_start_time"] = {(): _start_time()}
        found["process_memory"] = {(): pages * os.sysconf("SC_PAGE_SIZE")}
        found["process_open_fds"] = {(): len(os.listdir("/proc/self/fd")) - 1}
    except OSError:
        pass
    return found
