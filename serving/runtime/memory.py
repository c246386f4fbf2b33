"""Gives back to the system what the C allocator keeps after large allocations were freed."""

from __future__ import annotations

import ctypes
import sys
import threading

_SOON_S = 1.0


def give_back() -> None:
    """Takes milliseconds; for memory that only loading a version needed, or that an unloaded one has left."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)


def give_back_soon() -> None:
    """The same from a thread, once what has just been let go of is freed."""
    timer = threading.Timer(_SOON_S, give_back)
    timer.daemon = True
    timer.start()
