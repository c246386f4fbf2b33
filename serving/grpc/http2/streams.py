"""One request and its answer on an HTTP/2 connection, and the memory of those that have ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ladle.serving.grpc.http2.frames import DATA, frame

MAX_REMEMBERED = 512
"""Ended streams that a connection remembers."""


@dataclass(eq=False)
class Stream:
    """A stream that is open, or on which the answer is not sent yet.

    send_window     bytes that the client still accepts
    call            the application's
    is_complete     the client has sent END_STREAM
    expected_bytes  of the body that are still to come, if the request declares its length
    uncredited      bytes received and not yet given back to the client's window
    pending         body of the answer that waits for the window; `trailers` follow it
    """

    id: int
    send_window: int
    expected_bytes: int | None = None
    last_progress: float = field(default_factory=time.monotonic)
    # Until a stream has its own: every small request makes one.
    call: Any = field(default=None, init=False)
    is_complete: bool = field(default=False, init=False)
    uncredited: int = field(default=0, init=False)
    pending: bytearray | bytes = field(default=b"", init=False)
    trailers: bytes | None = field(default=None, init=False)

    def queue(self, data: bytes) -> None:
        """Appends a part of the answer's body to `pending`."""
        if not self.pending:
            self.pending = bytearray(data)
        else:
            self.pending += data

    def take(self, window: int, max_frame: int) -> tuple[list[bytes], int]:
        """DATA frames of what is pending, as far as both windows allow; and the number of their body bytes."""
        parts, taken, pending = list[bytes](), 0, self.pending
        while isinstance(pending, bytearray) and pending:
            size = min(len(pending), window - taken, self.send_window, max_frame)
            if size <= 0:
                break
            parts.append(frame(DATA, 0, self.id, bytes(pending[:size])))
            del pending[:size]
            self.send_window -= size
            taken += size
            self.last_progress = time.monotonic()
        return parts, taken
