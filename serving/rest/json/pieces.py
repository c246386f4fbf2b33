"""A large list of numbers, read in pieces that stay in the processor's cache.

simdjson holds Python's global lock while it parses, and takes six times the text in memory. In one piece, 35 MB of
pixels take up to 1.7 times as long, and hold up the event loop for a tenth of a second.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import simdjson

from ladle.clients.wire.arrays import Array

FROM_BYTES = 2**21
"""Smaller bodies gain nothing."""
_PIECE_BYTES = 2**17
_BLANKS = b" \t\r\n"
_local = threading.local()  # `parser`: simdjson's parsers must not be shared by threads


class Buffer(NamedTuple):
    """How the numbers are read.

    code, dtype  simdjson's code of the buffer that holds them, and NumPy's dtype of it
    kept         the dtype that they are converted to
    """

    code: str
    dtype: str
    kept: Any


def read(body: bytes, start: int, buffer: Buffer, not_skeleton: bytes) -> tuple[Array, bytes] | None:
    """The numbers of the list at `start`, flat, and the skeleton of the body from there on.

    not_skeleton  the bytes that the skeleton leaves out: those of numbers, and white space

    None when the body is no JSON object that ends with a list of numbers. The list may be uneven, and an element may be
    missing: the skeleton tells the one, and has more places than there are numbers in the other case.
    """
    end = body.rfind(b"]") + 1
    if end <= start or body[end:].strip(_BLANKS) != b"}":
        return None
    parser = getattr(_local, "parser", None)
    if parser is None:
        parser = _local.parser = simdjson.Parser()
    numbers: list[Array] = []
    skeletons: list[bytes] = []
    depth, at = 0, start
    try:
        parser.parse(body[:start] + b"[]}")
        while at < end:
            # From after one comma to before another: with the brackets that are open there, it is a list by itself.
            stop = body.find(b",", at + _PIECE_BYTES, end)
            stop = end if stop < 0 else stop
            text = body[at:stop]
            skeleton = text.translate(None, not_skeleton)
            before, depth = depth, depth + skeleton.count(b"[") - skeleton.count(b"]")
            document: Any = parser.parse(b"".join((b"[" * before, text, b"]" * depth)))
            found = document.as_buffer(of_type=buffer.code)
            del document  # the parser parses no other one while it is there
            numbers.append(np.frombuffer(found, buffer.dtype).astype(buffer.kept, copy=False))
            skeletons.append(skeleton)
            at = stop + 1
    except (AttributeError, TypeError, ValueError):  # no list, no numbers or not of this kind, no JSON
        return None
    return np.concatenate(numbers), b",".join(skeletons) + b"}"
