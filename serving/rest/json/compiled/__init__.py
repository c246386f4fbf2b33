"""Lists of numbers to and from JSON, compiled by Cython where the machine that installs has a C compiler.

Both functions are None where it had none: `request.py` and `numbers.py` then do the same work through simdjson, NumPy
and orjson, with the same results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ladle.clients.wire.arrays import Array

__all__ = ["ReadList", "WriteList", "read_list", "write_list"]

ReadList = Callable[[bytes, int, str], tuple[bytearray, tuple[int, ...], int] | None]
WriteList = Callable[[Array, bool], bytes]
read_list: ReadList | None = None
write_list: WriteList | None = None

with contextlib.suppress(ImportError):
    from ladle.serving.rest.json.compiled.reader import read_list
    from ladle.serving.rest.json.compiled.writer import write_list
