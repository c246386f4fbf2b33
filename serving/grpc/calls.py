"""The contract between the gRPC methods and the two servers that carry them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

import grpc

from ladle.serving.telemetry.observation import Observation
from ladle.serving.telemetry.tracing import TraceContext


class CallContext(Protocol):
    """What a method knows of its call.

    deadline     `time.monotonic()` seconds at which the caller gives up; None: never
    request_id   the caller's `x-request-id`; "" without one
    observation  of the call; None: nothing wants to know
    trace_context  of the caller; None: nothing is traced
    """

    observation: Observation | None
    trace_context: TraceContext | None

    @property
    def deadline(self) -> float | None: ...

    @property
    def request_id(self) -> str: ...


class Answer(NamedTuple):
    """A serialized response, and the model and signature that it comes from, for metrics and log."""

    message: bytes
    model: str = ""
    signature: str = ""


Method = Callable[[Any, CallContext], Awaitable[Answer]]
"""Takes a parsed request. Raises ServingError."""


class StatusError(Exception):
    """Ends a call with a status other than OK. Raised by methods; both servers send it as it is."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
