"""The cores that this process may use, which of them computing takes, and threads that leave them to the event loop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
import threading
import time

NICE = 10
"""Added to the niceness of threads that compute: the event loop gets a core as soon as it wants one."""
_SLICE_NS = 5_000_000
"""What those threads ask to run at a time. Linux (from 6.12) lets a thread that wakes interrupt one that asks for more;
else the one that computes keeps the core until the next tick, up to 4 ms."""
_LATELY_S = 0.1

_processes = [1]
_quick_at = [0.0]


def share_cores(processes: int) -> None:
    """Says that this process is one of so many that share the cores; before anything asks for their number."""
    _processes[0] = processes


def cpu_count() -> int:
    """Cores that this process may use; its share of them where there are workers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // _processes[0])


def note_quick(now: float) -> None:
    """Says that the event loop answered a quick request by itself, at this `time.perf_counter()`."""
    _quick_at[0] = now


class Cores:
    """Which cores are free for a run that would take several; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, threads: int, force: bool = False) -> bool:
        """Takes them when so many are free. One belongs to the event loop while it answers quick requests by itself."""
        quick = time.perf_counter() - _quick_at[0] < _LATELY_S
        with self._lock:
            if not force and self._taken + threads > cpu_count() - quick:
                return False
            self._taken += threads
            return True

    def give(self, threads: int) -> None:
        with self._lock:
            self._taken -= threads


def step_back() -> None:
    """Lets the event loop go before this thread and before all threads that it starts, as engines do (Linux only)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            own = threading.get_native_id()
            # The main thread's niceness is what the process was started with.
            os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICE))
        _set_slice(_SLICE_NS)


_SETATTR, _GETATTR = {"x86_64": (314, 315), "aarch64": (274, 275)}.get(platform.machine(), (0, 0))
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime, ...


def _set_slice(nanoseconds: int) -> None:
    """What this thread asks to run at a time (sched_setattr(2)), and those that it starts."""
    if not _SETATTR:
        return
    system = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if system.syscall(_GETATTR, 0, attributes, _ATTRIBUTES.size, 0):
        return
    size, policy, flags, nice, priority, _, *others = _ATTRIBUTES.unpack(attributes.raw)
    if policy != os.SCHED_OTHER:
        return
    system.syscall(_SETATTR, 0, _ATTRIBUTES.pack(size, policy, flags, nice, priority, nanoseconds, *others), 0)
