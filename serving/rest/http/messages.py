"""What the HTTP server and its application exchange: requests, answers, limits."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

_SCHEME_AND_HOST = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)

JSON = b"content-type: application/json\r\n"


@dataclass(frozen=True)
class Limits:
    """Limits of the HTTP server; each is a flag.

    body_bytes      of one request
    header_bytes    of one request line with its headers
    read_timeout_s  for a request to arrive, and for a client to accept an answer
    keep_alive_s    that a connection may be idle
    connections     open at once; 0: any number
    buffered_bytes  of the bodies that are arriving or being answered, on all connections together
    """

    body_bytes: int = 2**26
    header_bytes: int = 2**16
    read_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    connections: int = 0
    buffered_bytes: int = 2**30


class Request(NamedTuple):
    """A whole request.

    path      percent-encoded, ends with the query string, if any
    headers   by name in lower case
    arrived   `time.monotonic()` seconds
    unread_s  seconds for which the server was too busy to read it; 0 for one that followed another on its connection
    """

    method: str
    path: bytes
    headers: dict[bytes, bytes]
    body: bytes
    arrived: float
    unread_s: float = 0.0


class Answer(NamedTuple):
    """`headers` are whole lines, each with its CR LF; the server adds content-length, date and connection."""

    status: int
    body: bytes
    headers: bytes = JSON


AnswerParts = tuple[int, bytes, bytes]
"""An Answer, or the plain tuple of its parts, which is made in a fraction of the time."""

Application = Callable[[Request], Coroutine[Any, Any, AnswerParts]]


@functools.lru_cache(maxsize=256)
def response_head(status: int, headers: bytes, date: bytes, close: bool) -> bytes:
    """The head of an answer, up to the number of its content-length. Within a second all answers share it."""
    try:
        reason = HTTPStatus(status).phrase.encode()
    except ValueError:  # 499 has no standard phrase
        reason = b"Error"
    last = b"connection: close\r\n" if close else b""
    return b"HTTP/1.1 %d %b\r\n%bdate: %b\r\n%bcontent-length: " % (status, reason, headers, date, last)


def origin_form(target: bytes) -> bytes:
    """A request target as path and query. Clients of a proxy send scheme and host before them (RFC 9112 §3.2.2)."""
    if target.startswith(b"/"):
        return target
    found = _SCHEME_AND_HOST.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest
