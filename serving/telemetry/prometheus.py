"""Metrics in Prometheus's text format: TensorFlow Serving's names, labels and buckets, and metrics of our own.

Our own begin with `:ladle:serving:`. Metrics of the process have the names that Prometheus's client libraries use.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ladle.serving.telemetry import usage


def _exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    return tuple(scale * growth**k for k in range(count))


PATH = "/monitoring/prometheus/metrics"
LATENCY_LIMITS = _exponential(10, 1.8, 33)
"""Microseconds: 10 to about 25 minutes."""
QUEUE_LIMITS = _exponential(100, 1.2, 52)
"""Microseconds: 100 to about a second."""
SIZE_LIMITS = _exponential(1, 2, 15)
_SERIES_IN_PIECE = 16
EXAMPLE_LIMITS = _exponential(1, 2, 15)
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
EXEMPLARS = "own_request_latency_exemplars"
"""In a snapshot, beside the metrics: by labels, [bucket, trace id, span id, value, seconds since 1970] each."""


@dataclass(frozen=True)
class Metric:
    """The name in Prometheus, the kind (counter, gauge or histogram), its labels, and a histogram's bucket limits.

    is_least  of several processes the least value counts, not the sum
    is_most   of several processes the largest value counts
    """

    name: str
    kind: str
    labels: tuple[str, ...] = ()
    limits: tuple[float, ...] = ()
    is_least: bool = False
    is_most: bool = False


_TF = ":tensorflow:serving:"
_BATCHING = f"{_TF}batching_session:"
_OWN = ":ladle:serving:"
_REQUEST_LABELS = ("model_name", "signature", "API", "entrypoint")
_ARM_LABELS = ("model_name", "split", "arm", "version")
_SHADOW_LABELS = ("model_name", "version", "shadow", "shadow_version")
METRICS = {
    "request_count": Metric(f"{_TF}request_count", "counter", ("model_name", "status")),
    "request_latency": Metric(
        f"{_TF}request_latency", "histogram", ("model_name", "API", "entrypoint"), LATENCY_LIMITS
    ),
    "runtime_latency": Metric(f"{_TF}runtime_latency", "histogram", ("model_name", "API", "runtime"), LATENCY_LIMITS),
    "request_example_counts": Metric(f"{_TF}request_example_counts", "histogram", ("model",), EXAMPLE_LIMITS),
    "request_example_count_total": Metric(f"{_TF}request_example_count_total", "counter", ("model",)),
    "model_warmup_latency": Metric(f"{_TF}model_warmup_latency", "histogram", ("model_path", "status"), LATENCY_LIMITS),
    "model_warmup_records_read": Metric(f"{_TF}model_warmup_records_read", "counter", ("model_path", "status")),
    "queuing_latency": Metric(f"{_BATCHING}queuing_latency", "histogram", ("thread_pool_name",), QUEUE_LIMITS),
    "padding_size": Metric(f"{_BATCHING}padding_size", "histogram", ("execution_batch_size",), SIZE_LIMITS),
    "input_batch_size": Metric(f"{_BATCHING}input_batch_size", "histogram", (), SIZE_LIMITS),
    "processed_batch_size": Metric(f"{_BATCHING}processed_batch_size", "histogram", (), SIZE_LIMITS),
    "wrapped_run_count": Metric(f"{_BATCHING}wrapped_run_count", "counter"),
    "own_request_count": Metric(f"{_OWN}request_count", "counter", (*_REQUEST_LABELS, "status")),
    "own_request_latency": Metric(f"{_OWN}request_latency", "histogram", _REQUEST_LABELS, LATENCY_LIMITS),
    "own_runtime_latency": Metric(
        f"{_OWN}runtime_latency", "histogram", ("model_name", "signature", "API"), LATENCY_LIMITS
    ),
    "own_rows": Metric(f"{_OWN}row_count", "counter", ("model_name", "signature", "API")),
    "own_queue_depth": Metric(f"{_OWN}queue_depth", "gauge", ("model_name",)),
    "own_batch_size": Metric(f"{_OWN}batch_size", "histogram", ("model_name", "signature"), SIZE_LIMITS),
    "own_load_latency": Metric(f"{_OWN}load_latency", "histogram", ("model_name", "status"), LATENCY_LIMITS),
    "own_request_log": Metric(f"{_OWN}request_log_count", "counter", ("model_name", "status")),
    "own_versions": Metric(f"{_OWN}loaded_version", "gauge", ("model_name", "version")),
    "own_split_requests": Metric(f"{_OWN}split_request_count", "counter", (*_ARM_LABELS, "status")),
    "own_split_latency": Metric(f"{_OWN}split_request_latency", "histogram", _ARM_LABELS, LATENCY_LIMITS),
    "own_shadow": Metric(f"{_OWN}shadow_count", "counter", (*_SHADOW_LABELS, "result")),
    "own_shadow_outputs": Metric(f"{_OWN}shadow_output_count", "counter", (*_SHADOW_LABELS, "output", "result")),
    "own_shadow_difference": Metric(
        f"{_OWN}shadow_largest_difference", "gauge", (*_SHADOW_LABELS, "output"), is_most=True
    ),
    "own_shadow_latency": Metric(
        f"{_OWN}shadow_runtime_latency", "histogram", (*_SHADOW_LABELS, "run"), LATENCY_LIMITS
    ),
    "own_store_up": Metric(f"{_OWN}store_up", "gauge", ("store",), is_least=True),
    "own_store_fetched": Metric(f"{_OWN}store_fetched_bytes", "counter"),
    "own_store_failures": Metric(f"{_OWN}store_failed_fetches", "counter"),
    "own_cache_bytes": Metric(f"{_OWN}cache_bytes", "gauge"),
    "own_cache_limit": Metric(f"{_OWN}cache_limit_bytes", "gauge"),
    "own_processes": Metric(f"{_OWN}processes", "gauge"),
    "process_cpu_seconds": Metric("process_cpu_seconds_total", "counter"),
    "process_memory": Metric("process_resident_memory_bytes", "gauge"),
    "process_open_fds": Metric("process_open_fds", "gauge"),
    "process_start_time": Metric("process_start_time_seconds", "gauge", is_least=True),
}


async def render_in_pieces(snapshots: Sequence[Mapping[str, Sequence[Any]]], openmetrics: bool = False) -> bytes:
    """`render`, giving way to the event loop after every piece: hundreds of models would hold up requests.

    openmetrics  as OpenMetrics, with exemplars
    """
    pieces = []
    for piece in _render_open(snapshots) if openmetrics else _render(snapshots):
        pieces.append(piece)
        await asyncio.sleep(0)
    return b"".join(pieces)


def render(snapshots: Sequence[Mapping[str, Sequence[Any]]]) -> bytes:
    """The snapshots of one or several processes, merged, as text. Histograms without a sample are left out."""
    return b"".join(_render(snapshots))


def _render(snapshots: Sequence[Mapping[str, Sequence[Any]]]) -> Iterator[bytes]:
    """The text in pieces, each made in less than a millisecond."""
    for key, metric in sorted(METRICS.items(), key=lambda item: item[1].name):
        total: dict[tuple[str, ...], Any] = {}
        merge = min if metric.is_least else max if metric.is_most else _sum
        for snapshot in snapshots:
            rows = snapshot.get(key, ())
            for start in range(0, len(rows), _SERIES_IN_PIECE):
                for labels, value in rows[start : start + _SERIES_IN_PIECE]:
                    before = total.get(tuple(labels))
                    total[tuple(labels)] = value if before is None else merge(before, value)
                if len(snapshots) > 1:
                    yield b""
        yield f"# TYPE {metric.name} {metric.kind}\n".encode()
        series = sorted(total.items())
        for start in range(0, len(series), _SERIES_IN_PIECE):
            lines = [_series(metric, labels, value) for labels, value in series[start : start + _SERIES_IN_PIECE]]
            yield "".join(lines).encode("utf-8", "replace")


def _render_open(snapshots: Sequence[Mapping[str, Sequence[Any]]]) -> Iterator[bytes]:
    """The text as OpenMetrics: a counter's name must end in _total, so one that does not is of no known type."""
    kinds = {metric.name: metric for metric in METRICS.values()}
    exemplars = _exemplars(snapshots)
    for piece in _render(snapshots):
        lines = piece.decode("utf-8", "replace").splitlines()
        for place, line in enumerate(lines):
            if line.startswith("# TYPE "):
                metric = kinds[line.split()[2]]
                kind = metric.kind if metric.kind != "counter" or metric.name.endswith("_total") else "unknown"
                name = metric.name.removesuffix("_total") if kind == "counter" else metric.name
                lines[place] = f"# TYPE {name} {kind}"
            elif exemplars and line.rpartition(" ")[0] in exemplars:
                lines[place] = f"{line} # {exemplars[line.rpartition(' ')[0]]}"
        yield "".join(f"{line}\n" for line in lines).encode()
    yield b"# EOF\n"


def _exemplars(snapshots: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, str]:
    """The newest exemplar of each bucket, by the bucket's line without its number."""
    metric = METRICS["own_request_latency"]
    found: dict[str, str] = {}
    since: dict[str, float] = {}
    limits = [*(f"{limit:.6g}" for limit in metric.limits), "+Inf"]
    for snapshot in snapshots:
        for labels, places in snapshot.get(EXEMPLARS, ()):
            for place, trace_id, span_id, value, moment in places:
                line = _line(f"{metric.name}_bucket", metric, labels, "", f'le="{limits[place]}"')
                line = line.replace("%%", "%").strip()
                if moment >= since.get(line, 0.0):
                    since[line] = moment
                    found[line] = f'{{trace_id="{trace_id}",span_id="{span_id}"}} {value:.6g} {moment:.3f}'
    return found


def _sum(a: Any, b: Any) -> Any:
    return [x + y for x, y in zip(a, b, strict=True)] if isinstance(a, list) else a + b


def _series(metric: Metric, labels: tuple[str, ...], value: Any) -> str:
    if not metric.limits:
        return str(_line(metric.name, metric, labels) % value)
    counts = list(accumulate(value[:-1]))
    return _template(metric, labels) % (*counts, value[-1], counts[-1]) if counts[-1] else ""


@functools.lru_cache(maxsize=8192)
def _template(metric: Metric, labels: tuple[str, ...]) -> str:
    """The lines of one histogram with places for its numbers: to write each line anew takes several times as long."""
    limits = [*(f"{limit:.6g}" for limit in metric.limits), "+Inf"]
    lines = [_line(f"{metric.name}_bucket", metric, labels, "%d", f'le="{limit}"') for limit in limits]
    lines.append(_line(f"{metric.name}_sum", metric, labels))
    return "".join([*lines, _line(f"{metric.name}_count", metric, labels, "%d")])


def _line(name: str, metric: Metric, labels: Sequence[str], place: str = "%.15g", *more: str) -> str:
    pairs = [f'{label}="{_escape(text)}"' for label, text in zip(metric.labels, labels, strict=True)]
    return f"{name}{{{','.join([*pairs, *more])}}}".replace("%", "%%") + f" {place}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def counters(snapshot: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """The sum of each counter over its labels, by name: as Prometheus has it, and with `/`, as TensorFlow has it."""
    found = {}
    for key, metric in METRICS.items():
        if metric.kind == "counter":
            total = sum(value for _, value in snapshot.get(key, ()))
            found[metric.name] = found[metric.name.replace(":", "/")] = total
    return found


def requests_by_model(snapshots: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, float]:
    """The number of requests that each model has answered, of all processes."""
    found: dict[str, float] = {}
    for snapshot in snapshots:
        for labels, value in snapshot.get("own_request_count", ()):
            found[labels[0]] = found.get(labels[0], 0.0) + value
    return found


def totals(snapshots: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]]:
    """The counters and histograms of processes that have ended, added up, as one snapshot. Gauges ended with them."""
    found = {}
    for key, metric in METRICS.items():
        total: dict[tuple[str, ...], Any] = {}
        for snapshot in snapshots:
            for labels, value in snapshot.get(key, ()):
                before = total.get(tuple(labels))
                total[tuple(labels)] = value if before is None else _sum(before, value)
        if metric.kind != "gauge":
            found[key] = [[list(labels), value] for labels, value in total.items()]
    found[usage.KEY] = usage.merged(snapshots)
    return found
