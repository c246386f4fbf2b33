"""How large a tensor may become on the host: a few bytes of text or one number can ask for gigabytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ladle.serving.errors import InvalidArgument, ResourceExhausted

MAX_ELEMENTS = 2**26
"""Elements of a tensor that an operation on the host makes."""


def check_size(shape: Sequence[int]) -> None:
    """ResourceExhausted for a tensor of more than MAX_ELEMENTS, InvalidArgument for a negative size."""
    if any(size < 0 for size in shape):
        raise InvalidArgument(f"shape {list(shape)} has a negative size")
    if math.prod(shape) > MAX_ELEMENTS:
        raise ResourceExhausted(
            f"the request needs a tensor of shape {list(shape)}; at most {MAX_ELEMENTS} elements are computed; send "
            "fewer or shorter texts at a time"
        )
