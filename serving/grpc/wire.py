"""gRPC's wire format: statuses, time-outs, packed messages; and what a method is told about its call."""

from __future__ import annotations

import logging
import time
import zlib

import grpc

from ladle.serving.grpc.http2.hpack import encode
from ladle.serving.telemetry.request_id import HEADER

log = logging.getLogger(__name__)

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Aborted(Exception):  # noqa: N818
    """A method's end with a status other than OK."""


class Context:
    """What a method is told about its call."""

    def __init__(self, deadline: float | None, request_id: bytes = b"") -> None:
        self._deadline = deadline
        self._request_id = request_id

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The caller's headers, as far as a method asks for one: its request's id."""
        return ((HEADER, self._request_id.decode("latin-1")),) if self._request_id else ()

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None: it waits for ever."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        raise Aborted(code, details)


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str]:
    if isinstance(error, Aborted):
        code, details = error.args
        return code, details
    log.error("a method failed", exc_info=error)
    return grpc.StatusCode.INTERNAL, "internal error; the server's log has the details"


def trailers(code: grpc.StatusCode, details: str) -> bytes:
    text = b"".join(
        b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in details.encode("utf-8", "replace")
    )
    return encode([(b"grpc-status", b"%d" % code.value[0]), (b"grpc-message", text)])


def read_timeout(text: bytes) -> float | None:
    """Seconds of a `grpc-timeout`; None without one."""
    unit = _UNITS.get(text[-1:])
    return int(text[:-1]) * unit if unit is not None and text[:-1].isdigit() and len(text) <= 9 else None


def unpack(data: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding not in (b"gzip", b"deflate"):
        name = encoding.decode("latin-1")
        raise Aborted(grpc.StatusCode.UNIMPLEMENTED, f"Compression algorithm '{name}' is not known; use gzip")
    unpacker = zlib.decompressobj(wbits=31 if encoding == b"gzip" else 15)
    try:
        unpacked = unpacker.decompress(data, limit + 1)
    except zlib.error:
        raise Aborted(grpc.StatusCode.INVALID_ARGUMENT, "the compressed message is damaged") from None
    if len(unpacked) > limit:
        text = f"Received message larger than max ({len(unpacked)} vs. {limit}) once unpacked"
        raise Aborted(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
    if not unpacker.eof:
        raise Aborted(grpc.StatusCode.INVALID_ARGUMENT, "the compressed message is damaged")
    return unpacked
