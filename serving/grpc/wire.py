"""gRPC's wire format over HTTP/2: status trailers and compressed messages."""

from __future__ import annotations

import logging
import zlib

from ladle.serving.errors import NUMBERS
from ladle.serving.grpc.calls import StatusError
from ladle.serving.grpc.http2.hpack import encode

log = logging.getLogger(__name__)


def status_of(error: BaseException) -> tuple[str, str]:
    """Code and details for what a method raised. Anything but a StatusError is logged and becomes INTERNAL."""
    if isinstance(error, StatusError):
        return error.code, error.details
    log.error("a method failed", exc_info=error)
    return "INTERNAL", "internal error; the server's log has the details"


def encode_trailers(code: str, details: str) -> bytes:
    """The header block that ends a failed call. gRPC percent-encodes the message, since HTTP/2 fields are ASCII."""
    text = b"".join(
        b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in details.encode("utf-8", "replace")
    )
    return encode([(b"grpc-status", b"%d" % NUMBERS[code]), (b"grpc-message", text)])


def read_message(body: bytes | bytearray, encoding: bytes, max_bytes: int) -> bytes:
    """The message of a body: one byte that says whether it is compressed, four of its length, its bytes.

    StatusError when the body is not exactly one message, or the message is damaged or too large once decompressed.
    """
    size = len(body) - 5
    if type(body) is bytes and 0 <= size <= max_bytes and body[0] == 0 and int.from_bytes(body[1:5], "big") == size:
        return body[5:]
    check_message(body, encoding)
    if len(body) > max_bytes + 5:
        text = f"Received message larger than max ({len(body) - 5} vs. {max_bytes})"
        raise StatusError("RESOURCE_EXHAUSTED", text)
    if not body[0]:
        return bytes(memoryview(body)[5:])  # one copy; a slice of a bytearray would be a second one
    return decompress(bytes(body[5:]), encoding, max_bytes)


def check_message(body: bytes | bytearray, encoding: bytes) -> None:
    """StatusError when a body is not exactly one message, or is compressed in a way that is not known."""
    if len(body) < 5 or len(body) != 5 + int.from_bytes(body[1:5], "big") or body[0] > 1:
        raise StatusError("INVALID_ARGUMENT", "the request is not one whole message")
    if body[0] and encoding not in (b"gzip", b"deflate"):
        name = encoding.decode("latin-1")
        raise StatusError("UNIMPLEMENTED", f"Compression algorithm '{name}' is not known; use gzip")


def decompress(data: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """The message that was compressed. StatusError when it is damaged or has more than `max_bytes`."""
    decompressor = zlib.decompressobj(wbits=31 if encoding == b"gzip" else 15)
    try:
        # The bound goes into zlib: a few kilobytes can hold gigabytes, which must not be made before they are refused.
        message = decompressor.decompress(data, max_bytes + 1)
    except zlib.error:
        raise StatusError("INVALID_ARGUMENT", "the compressed message is damaged") from None
    if len(message) > max_bytes:
        text = f"Received message larger than max ({len(message)} vs. {max_bytes}) once decompressed"
        raise StatusError("RESOURCE_EXHAUSTED", text)
    if not decompressor.eof:
        raise StatusError("INVALID_ARGUMENT", "the compressed message is damaged")
    return message
