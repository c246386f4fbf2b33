"""Sees each request: makes its observation and gives it to the access log, the request log, traces and shadows.

A server has an observer only if something wants to see requests; without one, requests do no work for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace

from ladle.clients.wire.arrays import Array
from ladle.serving.telemetry.access_log import AccessLog
from ladle.serving.telemetry.metrics import Metrics
from ladle.serving.telemetry.observation import Observation
from ladle.serving.telemetry.tracing import TraceContext, Tracing, ids

MAX_CAPTURED = 100_000
"""Requests of one profile."""
_MAX_EXAMPLES = 16


class Capture:
    """The requests of a profile, and the inputs of one predict of each model, version and signature."""

    def __init__(self) -> None:
        self.requests: list[Observation] = []
        self.examples: dict[tuple[str, int, str], Mapping[str, Array]] = {}

    def add(self, observation: Observation) -> None:
        """Takes a request that was answered, without its inputs and outputs."""
        if len(self.requests) >= MAX_CAPTURED:
            return
        key = observation.model, observation.version, observation.signature
        if observation.kind == "predict" and key not in self.examples and len(self.examples) < _MAX_EXAMPLES:
            self.examples[key] = observation.inputs
        self.requests.append(observation.times())


class Observer:
    """Gives each observation to those who want it; None: nobody.

    access_log   writes a line for each request
    request_log  gets each request that was answered with OK
    tracing      makes spans
    traffic      gets each request with its code and seconds: the splits and shadows of models
    metrics      keeps traced requests as exemplars of the latency

    `capture` gets every request while a profile is taken.
    """

    def __init__(
        self,
        access_log: AccessLog | None = None,
        request_log: Callable[[Observation], None] | None = None,
        tracing: Tracing | None = None,
        metrics: Metrics | None = None,
        traffic: Callable[[Observation, str, float], None] | None = None,
    ) -> None:
        self._traffic = traffic
        self._access_log = access_log
        self._request_log = request_log
        self._tracing = tracing
        self._metrics = metrics
        self.capture: Capture | None = None

    @property
    def traces(self) -> bool:
        """Whether callers' trace contexts are read."""
        return self._tracing is not None

    def begin(
        self,
        protocol: str,
        method: str,
        request_id: str,
        arrived: float | None = None,
        context: TraceContext | None = None,
    ) -> Observation:
        """The observation of a request that has arrived.

        arrived  `time.monotonic()` seconds; None: now
        context  of the caller's trace
        """
        now = time.perf_counter()
        began = now if arrived is None else now - time.monotonic() + arrived
        observation = Observation(protocol, method, request_id, began)
        if self._tracing is not None:
            self._tracing.begin(observation, context)
        return observation

    def end(self, observation: Observation, model: str, api: str, code: str, seconds: float) -> None:
        """The request has been answered.

        model    that it named, for one that reached none
        api      as in `Metrics.request`
        code     canonical code, or OK
        seconds  from its arrival
        """
        trace_id, span_id = ids(observation)
        if self._access_log is not None:
            self._access_log.write(observation, model, code, seconds, trace_id)
        if self._tracing is not None and observation.span is not None:
            self._tracing.end(observation, model, code, api)
            if self._metrics is not None and code == "OK":
                key = observation.model or model, observation.signature, api, observation.protocol.upper()
                self._metrics.exemplar(key, seconds, trace_id, span_id)
        observation.finished = time.perf_counter()
        if self.capture is not None:
            self.capture.add(observation)
        if self._traffic is not None:
            self._traffic(observation, code, seconds)
        observation.merged = ()  # they hold the inputs of other requests
        if self._request_log is not None and code == "OK":
            self._request_log(observation)


def trace_context(headers: Mapping[bytes, bytes]) -> TraceContext:
    """The trace context in a request's headers, by name in lower case."""
    return headers.get(b"traceparent", b"").decode("latin-1"), headers.get(b"tracestate", b"").decode("latin-1")


def make_observer(
    options: SimpleNamespace,
    request_log: Callable[[Observation], None] | None,
    tracing: Tracing | None,
    metrics: Metrics,
    traffic: Callable[[Observation, str, float], None] | None = None,
) -> Observer | None:
    """The observer that the flags ask for; None if nothing is to be seen."""
    wants = options.access_log or options.profile_dir
    if not wants and request_log is None and tracing is None and traffic is None:
        return None
    access_log = AccessLog(as_json=options.log_format == "json") if options.access_log else None
    return Observer(access_log, request_log, tracing, metrics, traffic)
