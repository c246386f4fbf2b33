"""What `http_server` takes and gives: requests, answers, limits."""

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
    """body_bytes and header_bytes of a request; seconds to send one, or to take its answer; seconds that a connection
    may be idle; connections at once, 0 for any number; bytes of all bodies that are arriving."""

    body_bytes: int = 2**26
    header_bytes: int = 2**16
    read_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    connections: int = 0
    buffered_bytes: int = 2**30


class Request(NamedTuple):
    """A whole request. `path` is percent-encoded and ends with the query, if any; header names are lower case;
    `arrived` in `time.monotonic()` seconds."""

    method: str
    path: bytes
    headers: dict[bytes, bytes]
    body: bytes
    arrived: float


class Answer(NamedTuple):
    """`headers`: whole lines, each with its CR LF; content-length, date and connection are added."""

    status: int
    body: bytes
    headers: bytes = JSON


Application = Callable[[Request], Coroutine[Any, Any, Answer]]


@functools.lru_cache(maxsize=256)
def head(status: int, headers: bytes, date: bytes, close: bool) -> bytes:
    """The head of an answer up to the number of its content-length."""
    try:
        reason = HTTPStatus(status).phrase.encode()
    except ValueError:  # 499, for one
        reason = b"Error"
    last = b"connection: close\r\n" if close else b""
    return b"HTTP/1.1 %d %b\r\n%bdate: %b\r\n%bcontent-length: " % (status, reason, headers, date, last)


def origin_form(target: bytes) -> bytes:
    """A request's target as path and query, also where it names scheme and host, as to a proxy (RFC 9112, 3.2.2)."""
    found = _SCHEME_AND_HOST.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest
