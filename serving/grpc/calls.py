"""The contract between the gRPC methods and the two servers that carry them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from ladle.serving.telemetry.observation import Observation
from ladle.serving.telemetry.tracing import TraceContext


class CallContext(Protocol):
    """What a method knows of its call.

    deadline     `time.monotonic()` seconds at which the caller gives up; None: never
    request_id   the caller's `x-request-id`; "" without one
    observation  of the call; None: nothing wants to know
    trace_context  of the caller; None: nothing is traced
    is_large     its message is so large that threads read it
    """

    observation: Observation | None
    trace_context: TraceContext | None
    is_large: bool

    @property
    def deadline(self) -> float | None: ...

    @property
    def request_id(self) -> str: ...


class Answer(NamedTuple):
    """A serialized response, and the model and signature that it comes from, for metrics and log."""

    message: bytes
    model: str = ""
    signature: str = ""


AnswerParts = tuple[bytes, str, str]
"""An Answer, or the plain tuple of its parts, which is made in a fraction of the time."""

Method = Callable[[Any, CallContext], Awaitable[AnswerParts]]
"""Takes a parsed request. Raises ServingError."""


class Handler(NamedTuple):
    """A method on serialized messages: one of the three is set. grpcio's own handlers have the same attributes."""

    unary_unary: Callable[[bytes, CallContext], Awaitable[bytes]] | None = None
    unary_stream: Callable[[bytes, CallContext], AsyncIterator[bytes]] | None = None
    stream_stream: Callable[[AsyncIterator[bytes], CallContext], AsyncIterator[bytes]] | None = None


class StatusError(Exception):
    """Ends a call with a status other than OK, a name of `errors.NUMBERS`. Raised by methods; both servers send it."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
