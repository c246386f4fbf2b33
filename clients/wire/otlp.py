"""Exports OpenTelemetry spans over OTLP/HTTP. Imports OpenTelemetry only when someone asks for an exporter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

TRACE_HEADERS = ("traceparent", "tracestate")
"""The headers of W3C Trace Context, which carry a trace over HTTP and as gRPC metadata."""


def is_wanted(endpoint: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans are exported: to `endpoint`, or to one that OpenTelemetry's own variables name."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if endpoint:
        return True
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp")
    return exporter == "otlp" and any(environment.get(name) for name in names)


def make_provider(service: str, endpoint: str = "") -> Any:
    """A TracerProvider that exports in batches from a thread of its own; its sampler is $OTEL_TRACES_SAMPLER's.

    service   the name of the service, unless $OTEL_SERVICE_NAME has another
    endpoint  http://HOST:PORT of a collector; empty: $OTEL_EXPORTER_OTLP_ENDPOINT

    ModuleNotFoundError: OpenTelemetry is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create({**name, "process.pid": os.getpid()}))
    url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return provider
