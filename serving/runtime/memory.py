"""Returns freed memory to the operating system.

glibc keeps freed memory for later allocations. After a model was loaded or unloaded that can be gigabytes, which
containers count and other models could use.
"""

from __future__ import annotations

import ctypes
import sys
import threading

_DELAY_S = 1.0


def trim_memory() -> None:
    """Returns what the C allocator keeps (glibc only). It takes milliseconds: too long for a request."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)


def trim_memory_soon() -> None:
    """Trims from a thread a second later: the caller's last references to an unloaded version are gone by then."""
    timer = threading.Timer(_DELAY_S, trim_memory)
    timer.daemon = True
    timer.start()
