"""How large a tensor may become on the host: a few bytes of text or one number can ask for gigabytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ladle.serving.errors import InvalidArgument, ResourceExhausted

MAX_ELEMENTS = 2**26
"""Elements of a tensor that an operation on the host makes."""
MAX_EXAMPLE_BYTES = 2**26
_NUMBERED_BYTES = 8
_TAG, _SMALL, _PART = 0x0A, 16, 2**20


def check_size(shape: Sequence[int]) -> None:
    """ResourceExhausted for a tensor of more than MAX_ELEMENTS, InvalidArgument for a negative size."""
    if any(size < 0 for size in shape):
        raise InvalidArgument(f"shape {list(shape)} has a negative size")
    if math.prod(shape) > MAX_ELEMENTS:
        raise ResourceExhausted(
            f"the request needs a tensor of shape {list(shape)}; at most {MAX_ELEMENTS} elements are computed; send "
            "fewer or shorter texts at a time"
        )


def most_numbered(max_bytes: int) -> int:
    """The examples, features and strings that a request may hold; measured, each takes about 40 bytes once parsed."""
    return max_bytes // _NUMBERED_BYTES


def too_many(count: int, max_bytes: int) -> InvalidArgument:
    """The error for so many of them."""
    return InvalidArgument(
        f"got about {count} examples, features and strings; expected at most {most_numbered(max_bytes)} in a request, "
        f"since each counts {_NUMBERED_BYTES} bytes of --max_request_bytes; send several requests"
    )


def check_number(message: bytes, max_bytes: int = MAX_EXAMPLE_BYTES) -> None:
    """InvalidArgument when a serialized request holds more examples, features and strings, found before any is made.

    Counted are those of less than 16 bytes: larger ones take their memory on the wire, too.
    """
    most = most_numbered(max_bytes)
    if len(message) <= 2 * most:  # each takes two bytes at least
        return
    octets, count = np.frombuffer(message, np.uint8), 0
    for start in range(0, len(octets), _PART):
        part = octets[start : start + _PART + 1]
        # The tag of field 1 with a length, which all of them have but the value of a feature, and a small length.
        count += int(np.count_nonzero((part[:-1] == _TAG) & (part[1:] < _SMALL)))
    if count > most:
        raise too_many(count, max_bytes)
