"""Compressed bodies: gzip, and deflate where a protocol has it."""

from __future__ import annotations

import zlib

ENCODINGS: dict[bytes, int] = {b"gzip": 31, b"deflate": 15}
"""zlib's window bits by content coding."""
MAX_EXPANSION = 1032
"""Bytes that deflate can make of one."""


class BodyTooLargeError(Exception):
    """A compressed body exceeds the limit once decompressed. Raised while reading it; answered with 413."""


def decompress(body: bytes, max_bytes: int, coding: bytes = b"gzip") -> bytes:
    """The decompressed body; empty when it is damaged, as in TensorFlow Serving. BodyTooLargeError beyond the limit."""
    decompressor = zlib.decompressobj(wbits=ENCODINGS[coding])
    try:
        # The bound goes into zlib: 64 MiB of gzip can hold 64 GiB, which must not be made before they are refused.
        decompressed = decompressor.decompress(body, max_bytes + 1)
    except zlib.error:
        return b""
    if len(decompressed) > max_bytes:
        raise BodyTooLargeError
    return decompressed if decompressor.eof else b""


def compress(data: bytes, coding: bytes) -> bytes:
    """The data in a content coding, at the fastest level: an answer is sent once."""
    compressor = zlib.compressobj(1, wbits=ENCODINGS[coding])
    return compressor.compress(data) + compressor.flush()
