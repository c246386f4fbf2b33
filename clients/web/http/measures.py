"""What the gateway counts and times: Prometheus metrics, a registry of its own for every application."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
NO_MODEL = ""


class Measures:
    """Threads share it. With PROMETHEUS_MULTIPROC_DIR set, the metrics of all worker processes are added up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ladle_gateway_requests",
            "Requests answered.",
            ("route", "method", "status", "model"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "ladle_gateway_request_duration_seconds",
            "From the request's arrival to its answer.",
            ("route", "model"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._server_seconds = Histogram(
            "ladle_gateway_model_duration_seconds",
            "Calls of the model server.",
            ("model", "verb"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._running = Gauge(
            "ladle_gateway_requests_in_progress",
            "Requests that are being answered.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def began(self) -> None:
        self._running.inc()

    def ended(self) -> None:
        self._running.dec()

    def answered(self, route: str, method: str, status: int, model: str, seconds: float) -> None:
        """`route`: the rule, never the address; `model`: one that the server knows, or NO_MODEL."""
        self._requests.labels(route, method, str(status), model).inc()
        self._seconds.labels(route, model).observe(seconds)

    def asked(self, model: str, verb: str, seconds: float) -> None:
        self._server_seconds.labels(model, verb).observe(seconds)

    def text(self) -> bytes:
        """Prometheus's text format."""
        if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        multiprocess.MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)
