"""What the HTTP server's connections share."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ladle.serving.rest.http.messages import Application, Limits
from ladle.serving.runtime.turns import Turns


class Head(NamedTuple):
    """The head of a request that has nothing special: HTTP/1.1, with a length, and without Expect, Upgrade or close.

    path  as a request has it
    """

    method: str
    path: bytes
    headers: dict[bytes, bytes]
    length: int


class Open(Protocol):
    """A connection, as the server has it."""

    def check_timeout(self, now: float) -> None: ...

    def abort(self) -> None: ...


class ServerState:
    """What the connections of a server share.

    accepted        connections since the start
    buffered_bytes  of the bodies that are arriving or being answered
    headers         of answers that the connection gives itself: refusals
    date            of this second, as HTTP writes it
    is_draining     the server stops, and connections close after their answers
    turns           connections that have sent more than fits a turn of the event loop
    heads           heads that were parsed before, by their bytes: clients repeat them from request to request
    """

    def __init__(self, application: Application, limits: Limits, headers: bytes) -> None:
        self.heads: dict[bytes, Head] = {}
        self.application = application
        self.limits = limits
        self.headers = headers
        self.connections: set[Open] = set()
        self.accepted = 0
        self.buffered_bytes = 0
        self.date = b""
        self.is_draining = False
        self.turns = Turns()
