"""The rules that the header fields of a request keep in HTTP/2 (RFC 9113 §8.2, §8.3)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ladle.serving.grpc.http2.hpack import Headers

_NAMES = re.compile(rb"(?::?[!#$%&'*+\-.^_`|~0-9a-z]+\n)*\Z")
_NOT_IN_VALUES = b"\0\r\n"
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED = frozenset((b":method", b":scheme", b":path"))
_OF_CONNECTION = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))


class Checked(NamedTuple):
    """fault           what makes the request malformed; "" for nothing
    content_length  of the body, if the request declares it
    """

    fault: str
    content_length: int | None = None


@lru_cache(maxsize=128)  # clients repeat their headers; few, since one request may have 64 KiB of them
def check_request(headers: Headers) -> Checked:
    """Checks the fields of a request."""
    fault = _check_fields(headers)
    if fault:
        return Checked(fault)
    names = [name for name, _ in headers]
    pseudo = [name for name in names if name[:1] == b":"]
    if any(name[:1] == b":" for name in names[len(pseudo) :]):
        return Checked("a pseudo-header behind a field")
    if len(set(pseudo)) < len(pseudo) or not _REQUIRED <= set(pseudo) <= _PSEUDO:
        return Checked("pseudo-headers that are missing, unknown or repeated")
    fields = dict(headers)
    if not fields[b":path"]:
        return Checked("an empty :path")
    if not _OF_CONNECTION.isdisjoint(names):
        return Checked("a field for the connection, which HTTP/2 has none of")
    if fields.get(b"te", b"trailers") != b"trailers":
        return Checked("a te other than trailers")
    length = fields.get(b"content-length")
    if length is not None and (not length.isdigit() or len(length) > 18 or names.count(b"content-length") > 1):
        return Checked("a content-length that is no number")
    return Checked("", None if length is None else int(length))


def check_trailers(headers: Headers) -> str:
    """What makes the trailers of a request malformed; "" for nothing."""
    if any(name[:1] == b":" for name, _ in headers):
        return "a pseudo-header among the trailers"
    return _check_fields(headers)


def _check_fields(headers: Headers) -> str:
    # All names at once, and all values: a regular expression a field would cost as much as decoding them.
    names = b"".join([name + b"\n" for name, _ in headers])
    if not _NAMES.match(names) or names.count(b"\n") > len(headers):
        return "a field name with an illegal character"
    values = [value for _, value in headers]
    text = b"".join(values)
    if len(text.translate(None, _NOT_IN_VALUES)) < len(text) or any(value != value.strip(b" \t") for value in values):
        return "a field value with an illegal character"
    return ""
