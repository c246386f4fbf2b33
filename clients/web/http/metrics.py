"""Prometheus metrics of the gateway, in a registry of their own for each application."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
NO_MODEL = ""


class GatewayMetrics:
    """Threads share it. With PROMETHEUS_MULTIPROC_DIR set, `text` adds up the metrics of all worker processes.

    requests       requests by route, method, status and model. The route is the rule, never the path, and the model one
                   that the server knows or NO_MODEL: callers must not be able to create time series.
    seconds        from the arrival of a request to its response, by route and model
    model_seconds  calls of the model server, by model and verb
    in_progress    requests that have no response yet
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "ladle_gateway_requests",
            "Requests answered.",
            ("route", "method", "status", "model"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "ladle_gateway_request_duration_seconds",
            "Time from the arrival of a request to its response.",
            ("route", "model"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.model_seconds = Histogram(
            "ladle_gateway_model_duration_seconds",
            "Time of the calls of the model server.",
            ("model", "verb"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.in_progress = Gauge(
            "ladle_gateway_requests_in_progress",
            "Requests that have no response yet.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def text(self) -> bytes:
        """The metrics in Prometheus's text format."""
        if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            return generate_latest(self._registry)
        all_processes = CollectorRegistry()
        multiprocess.MultiProcessCollector(all_processes)  # type: ignore[no-untyped-call]
        return generate_latest(all_processes)
