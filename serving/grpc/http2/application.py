"""What a connection needs from the application that answers on it, and the limits that it enforces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ladle.serving.grpc.http2.hpack import Headers


@dataclass(frozen=True)
class Limits:
    """Limits of one connection; each is a flag of the server.

    header_bytes    of one request, as RFC 9113 §6.5.2 counts them: 32 bytes more for each field
    streams         open at once on one connection
    connections     open at once; 0: any number
    read_timeout_s  for a request to arrive, and for a client to accept an answer
    keepalive_s     of silence before the server sends PING
    """

    header_bytes: int = 2**16
    streams: int = 256
    connections: int = 0
    read_timeout_s: float = 60.0
    keepalive_s: float = 60.0


class Application(Protocol):
    """Answers requests. Every method is called on the event loop.

    `on_headers` may set `stream.call` to whatever the application needs to find the request again.
    """

    def on_headers(self, connection: Any, stream: Any, headers: Headers | None) -> None:
        """A request begins; `headers` is None when they exceed the limit."""

    def on_data(self, connection: Any, stream: Any, data: bytes, is_last: bool) -> None:
        """A part of the request's body; with `is_last` the request is complete, and `data` may be empty."""

    def on_cancel(self, stream: Any) -> None:
        """The client or the connection is gone; nobody reads the answer."""
