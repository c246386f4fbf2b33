"""Traces: the spans of each request, in the trace of its caller (W3C Trace Context), exported over OTLP.

gRPC predict          from arrival to answer
  read                until the inputs are arrays
  queue               until an engine is free
  batch               a merged run, with links to the other requests in it
    run               the engine
  write               until the answer is bytes
"""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any

from ladle.clients.wire.otlp import TRACE_HEADERS, is_wanted, make_provider
from ladle.serving.errors import StartError
from ladle.serving.telemetry.observation import Observation

log = logging.getLogger(__name__)

TraceContext = tuple[str, str]
"""The values of `traceparent` and `tracestate`; "" for one that the caller did not send."""
_MAX_LINKS = 128
_FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Codes that are a server's fault, by OpenTelemetry's conventions for RPCs."""


class Tracing:
    """Makes the spans of observed requests; `provider` exports them."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._trace = trace
        self._tracer = provider.get_tracer("ladle.serving")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, observation: Observation, context: TraceContext | None) -> None:
        """Starts the span of a request, if the caller's sampling decision or the sampler wants it."""
        carrier = {name: value for name, value in zip(TRACE_HEADERS, context or (), strict=False) if value}
        parent = (
            self._propagator.extract(carrier) if carrier else self._trace.set_span_in_context(self._trace.INVALID_SPAN)
        )
        # One offset for all spans of a request: their order is that of one clock.
        observation.epoch_ns = time.time_ns() - time.perf_counter_ns()
        name = f"{observation.protocol} {observation.method}"
        span = self._tracer.start_span(
            name, parent, kind=self._trace.SpanKind.SERVER, start_time=_nanoseconds(observation, observation.arrived)
        )
        if span.is_recording():
            observation.span = span

    def end(self, observation: Observation, model: str, code: str, api: str) -> None:
        """Ends the span of a request and makes those of its parts, whose times are known only now."""
        span, now = observation.span, time.perf_counter()
        if span is None:
            return
        span.set_attributes(
            {
                "rpc.system": "grpc" if observation.protocol == "gRPC" else "http",
                "rpc.method": api or observation.method,
                "ladle.model": (observation.model or model)[:256],
                "ladle.status": code,
            }
        )
        if observation.request_id:
            span.set_attribute("ladle.request_id", observation.request_id[:256])
        if observation.model:
            span.set_attribute("ladle.version", observation.version)
            span.set_attribute("ladle.signature", observation.signature)
        if observation.rows:
            span.set_attribute("ladle.rows", observation.rows)
        if code in _FAULTS:
            span.set_status(self._trace.StatusCode.ERROR, code)
        self._parts(observation, now)
        span.end(_nanoseconds(observation, now))

    def _parts(self, seen: Observation, now: float) -> None:
        inside = self._trace.set_span_in_context(seen.span)
        self._part(seen, "read", inside, seen.arrived, seen.queued or now)
        if not seen.began:
            if seen.queued:
                self._part(seen, "queue", inside, seen.queued, now)
            return
        self._part(seen, "queue", inside, seen.queued, seen.began)
        around = inside
        if seen.merged:
            spans = [task.observation.span for task in seen.merged if task.observation is not None]
            others = [span for span in spans if span is not None and span is not seen.span][:_MAX_LINKS]
            batch = self._tracer.start_span(
                "batch",
                inside,
                attributes={
                    "ladle.batch.requests": len(seen.merged),
                    "ladle.batch.rows": seen.merged_rows,
                    "ladle.batch.padding": seen.padding,
                },
                links=[self._trace.Link(span.get_span_context()) for span in others],
                start_time=_nanoseconds(seen, seen.began),
            )
            around = self._trace.set_span_in_context(batch)
        self._part(seen, "run", around, seen.began, seen.ended)
        if seen.merged:
            batch.end(_nanoseconds(seen, seen.ended))
        self._part(seen, "write", inside, seen.ended, now)

    def _part(self, seen: Observation, name: str, context: Any, began: float, ended: float) -> None:
        span = self._tracer.start_span(name, context, start_time=_nanoseconds(seen, began))
        span.end(_nanoseconds(seen, ended))

    def close(self) -> None:
        """Exports what waits, for a few seconds at most."""
        self._provider.shutdown()


def ids(observation: Observation) -> tuple[str, str]:
    """The ids of the trace and of the request's span, in hexadecimal; "" for a request that is not traced."""
    if observation.span is None:
        return "", ""
    context = observation.span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def _nanoseconds(observation: Observation, moment: float) -> int:
    """`time.perf_counter()` seconds as nanoseconds since 1970."""
    return observation.epoch_ns + int(moment * 1e9)


def make_tracing(options: SimpleNamespace) -> Tracing | None:
    """The traces that --otlp_endpoint or OpenTelemetry's variables ask for; None if nobody does.

    StartError when the flag is given and OpenTelemetry is not installed.
    """
    if not is_wanted(options.otlp_endpoint):
        return None
    if options.otlp_endpoint and not options.otlp_endpoint.startswith(("http://", "https://")):
        raise StartError(f"INVALID_ARGUMENT: got --otlp_endpoint={options.otlp_endpoint}; expected http://HOST:PORT")
    try:
        return Tracing(make_provider("ladle-server", options.otlp_endpoint))
    except ModuleNotFoundError as error:
        missing = f"traces need {error.name}; install it with: pip install 'ladle[otel]'"
        if options.otlp_endpoint:
            raise StartError(f"FAILED_PRECONDITION: --otlp_endpoint: {missing}") from None
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s", missing)
        return None
