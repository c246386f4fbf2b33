"""Carries the trace of the calling program to the server. Only called where the program has imported OpenTelemetry."""

from __future__ import annotations

from typing import Any

Headers = tuple[tuple[str, str], ...]


def start_span(name: str, address: str) -> tuple[Any, Headers]:
    """A span for one request, and the headers that carry it."""
    from opentelemetry import propagate, trace

    attributes = {"server.address": address, "rpc.method": name}
    tracer = trace.get_tracer("ladle.clients")
    span = tracer.start_span(f"ladle {name}", kind=trace.SpanKind.CLIENT, attributes=attributes)
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    return span, tuple((key.lower(), value) for key, value in carrier.items())


def end_span(span: Any, error: BaseException | None = None) -> None:
    """Ends a span of `start_span`, with the error that the request ended in."""
    if error is not None:
        from opentelemetry import trace

        span.record_exception(error)
        span.set_status(trace.StatusCode.ERROR, type(error).__name__)
    span.end()
