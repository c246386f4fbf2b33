"""How deep the lists and objects of a JSON text are nested, found before anything is built from it."""

from __future__ import annotations

import re

import numpy as np

from ladle.serving.errors import InvalidArgument

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def check_depth(body: bytes, limit: int) -> None:
    """InvalidArgument when the nesting is deeper than `limit`; 0 allows any."""
    if limit <= 0 or body.count(b"[") + body.count(b"{") <= limit:
        return
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKET)
    depth = int(np.cumsum(_STEPS[np.frombuffer(brackets, np.uint8)], dtype=np.int64).max(initial=0))
    if depth > limit:
        raise InvalidArgument(
            f"JSON Parse error: lists and objects are nested {depth} deep; at most {limit} are read here"
        )
