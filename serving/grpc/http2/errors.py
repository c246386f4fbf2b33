"""HTTP/2's error codes (RFC 9113 §7), and the error that ends a connection."""

from __future__ import annotations

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11


class Http2Error(Exception):
    """A connection error (RFC 9113 §5.4.1). Raised by the frame and header readers.

    The connection answers with GOAWAY of this `code` and closes; it never becomes a gRPC status.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code


class HpackError(Http2Error):
    """A header block that cannot be decoded (RFC 7541). From then on both sides' tables may differ."""

    def __init__(self, reason: str) -> None:
        super().__init__(COMPRESSION_ERROR, reason)


class HeadersTooLargeError(Http2Error):
    """Headers so far beyond the limit that decoding them only to keep HPACK's table right would cost too much."""

    def __init__(self, reason: str) -> None:
        super().__init__(ENHANCE_YOUR_CALM, reason)
