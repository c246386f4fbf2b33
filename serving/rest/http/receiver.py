"""What one HTTP/1.1 client sends: httptools parses it; the limits of a request are kept here."""

from __future__ import annotations

import io
import re
import time

import httptools

from ladle.serving.rest.http.messages import origin_form
from ladle.serving.rest.http.state import Head, ServerState

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?\Z")  # RFC 9112 §3.2
_MAX_HEADERS = 128
_MAX_CHUNK_OVERHEAD = 2**24  # bytes of chunk sizes and extensions in one request
MAX_KEPT_HEADS, MAX_KEPT_HEAD = 512, 2**10
_SPECIAL = {b"expect", b"upgrade", b"transfer-encoding", b"trailer"}


class Receiver:
    """The request that arrives on a connection. httptools calls the methods named `on_...`."""

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._is_reading = False  # part of a request has arrived
        self._is_refused = False  # nothing more is parsed; the connection closes after its answers
        self._since = time.monotonic()  # of the last change between idle, reading, running and blocked
        self._chunk = b""  # in which the present request began, if its head may be kept
        self._in_head = False
        self._wire_bytes = 0
        self._size = 0  # of the head; then of the body
        self._length = 0  # of the body, where the head says it
        self._path, self._body = b"", b""
        self._body_parts: io.BytesIO | None = None
        self._headers: dict[bytes, bytes] = {}
        self._has_two_hosts = False
        self._is_http_1_0 = False
        self._owes_continue = False  # 100 Continue follows the answers that are still due
        self._arriving_bytes = 0  # of the body, in `buffered_bytes`

    # The connection's part

    def _complete(self, method: str, path: bytes, headers: dict[bytes, bytes], body: bytes, keep_alive: bool) -> None:
        """The request has arrived."""
        raise NotImplementedError

    def _refuse(self, status: int, message: str, headers: bytes = b"") -> None:
        """Answers a request before its end, and closes."""
        raise NotImplementedError

    def _send_continue(self) -> None:
        """The client may wait for 100 Continue."""
        raise NotImplementedError

    # Parsing

    def _parse(self, data: bytes) -> None:
        self._chunk = b""
        if not self._is_reading:
            self._chunk = data if data.find(b"\r\n\r\n", 0, MAX_KEPT_HEAD) > 0 else b""
            self._is_reading, self._in_head, self._since = True, True, time.monotonic()
            if b" RTSP/" in data[: data.find(b"\n") + 1]:  # llhttp parses it, too, and does not tell
                self._refuse(400, "this is not HTTP/1.1")
                return
        self._wire_bytes += len(data)
        while data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                if self._is_refused:
                    return
                self._chunk = b""
                data = self._remove_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse(400, "this is not HTTP/1.1")
                return
        if self._in_head and self._wire_bytes > self._limits.header_bytes:
            self._refuse(431, f"the request's head is larger than {self._limits.header_bytes} bytes")
        elif self._is_reading and not self._in_head:
            overhead = self._wire_bytes - self._size  # head, chunk sizes and extensions, trailers
            if overhead > 2 * self._limits.header_bytes + min(8 * self._size, _MAX_CHUNK_OVERHEAD):
                self._refuse(413, "the request's body comes in too small chunks")

    def _keep_head(self, method: str) -> None:
        """Keeps the head of the present request, if it came in one chunk with its body and has nothing special."""
        chunk, self._chunk = self._chunk, b""
        end = chunk.find(b"\r\n\r\n") + 4
        headers, heads = self._headers, self._server.heads
        is_whole = b"content-length" in headers and len(chunk) - end == self._length == self._size
        if is_whole and not _SPECIAL.intersection(headers):
            if len(heads) >= MAX_KEPT_HEADS:
                heads.clear()
            heads[chunk[:end]] = Head(method, origin_form(self._path), headers, self._length)

    def _remove_upgrade(self) -> bytes:
        """The head of a request for another protocol, without its Upgrade. CONNECT stays as it is, and is refused.

        httptools stops at an upgrade; the head goes into a new parser, so that the request is answered over HTTP/1.1.
        """
        method = self._parser.get_method()
        self._parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":
            return b"CONNECT\r\n"
        kept = {name: value for name, value in self._headers.items() if name not in (b"upgrade", b"connection")}
        if b"close" in [token.strip().lower() for token in self._headers.get(b"connection", b"").split(b",")]:
            kept[b"connection"] = b"close"
        lines = b"".join([b"%b: %b\r\n" % header for header in kept.items()])
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._path, lines)

    # httptools

    def on_message_begin(self) -> None:
        self._is_reading = self._in_head = True
        self._path, self._body, self._size, self._body_parts, self._headers = b"", b"", 0, None, {}
        self._has_two_hosts = self._owes_continue = False

    def on_url(self, url: bytes) -> None:
        self._path += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer, which is dropped
            name = name.lower()
            if name in self._headers:
                self._has_two_hosts |= name == b"host"
                if name == b"connection":  # a list, which may come in several lines
                    value = self._headers[name] + b"," + value
            self._headers[name] = value
            self._count(len(name) + len(value))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.header_bytes or len(self._headers) > _MAX_HEADERS:
            limit = f"{self._limits.header_bytes} bytes, {_MAX_HEADERS} lines"
            self._refuse(431, f"the request's head is larger than the limit: {limit}")

    def on_headers_complete(self) -> None:
        self._in_head, self._size = False, 0
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse(505, f"got HTTP/{version}; expected HTTP/1.1")
            return
        self._is_http_1_0 = version == "1.0"
        host = self._headers.get(b"host", b"" if self._is_http_1_0 else None)
        if host is None or self._has_two_hosts or not _HOST.match(host):
            self._refuse(400, "got no Host header, several, or a malformed one; expected exactly one")
            return
        self._length = int(self._headers.get(b"content-length", b"0"))
        if self._length > self._limits.body_bytes:
            self._too_large()
        elif b"expect" in self._headers and not self._is_http_1_0 and not self._parser.should_upgrade():
            self._owes_continue = self._headers[b"expect"].lower() == b"100-continue"
            self._send_continue()

    def on_body(self, body: bytes) -> None:
        if self._is_refused:
            return
        self._owes_continue = False  # the client did not wait for it
        self._size += len(body)
        if self._size > self._limits.body_bytes:
            self._too_large()
        elif not self._body:
            self._body = body
        else:
            if self._body_parts is None:
                self._body_parts = io.BytesIO()  # gives its bytes without a copy, where a bytearray makes one
                self._body_parts.write(self._body)
            self._body_parts.write(body)
        self._server.buffered_bytes += len(body)
        self._arriving_bytes += len(body)
        if self._server.buffered_bytes > self._limits.buffered_bytes:
            self._refuse_many()

    def _refuse_many(self) -> None:
        self._refuse(503, "too many large requests arrive at once; try again later", b"retry-after: 1\r\n")

    def on_message_complete(self) -> None:
        if self._is_refused or self._parser.should_upgrade():
            return
        method, keep_alive = self._parser.get_method().decode(), self._parser.should_keep_alive()
        if self._chunk and keep_alive and not self._is_http_1_0:
            self._keep_head(method)
        body = self._body if self._body_parts is None else self._body_parts.getvalue()
        self._body, self._body_parts = b"", None
        self._is_reading, self._owes_continue, self._wire_bytes = False, False, 0
        keep_alive = keep_alive and not self._is_http_1_0
        self._complete(method, origin_form(self._path), self._headers, body, keep_alive)

    def _drop_body(self) -> None:
        """Drops what has arrived of the present body."""
        self._server.buffered_bytes -= self._arriving_bytes
        self._body, self._body_parts, self._arriving_bytes = b"", None, 0

    def _too_large(self) -> None:
        self._refuse(413, f"the request's body is larger than {self._limits.body_bytes} bytes")
