"""The cores that this process may use, which of them are busy computing, and thread priorities.

Threads that compute get a lower priority than the event loop: it reads and writes the requests of everyone.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import struct
import sys
import threading
import time
from collections.abc import Iterator

NICE = 10
"""Added to the niceness of threads that compute, so that the event loop gets a core as soon as it needs one."""
_SLICE_NS = 5_000_000
"""Time slice that those threads request, in nanoseconds. From Linux 6.12 on, a waking thread interrupts one whose slice
is longer than its own. With equal slices, the computing thread keeps the core until the next timer tick, up to 4 ms."""
_RECENT_S = 0.1
_SPARE_SHARE = 4
_COUNT_EVERY_S = 1.0

_sharing_processes = [1]


class LoopActivity:
    """When the event loop last ran a quick request itself: `quick_at`, in `time.perf_counter()` seconds."""

    __slots__ = ("quick_at",)

    def __init__(self) -> None:
        self.quick_at = 0.0


loop_activity = LoopActivity()


def share_cores(processes: int) -> None:
    """Sets how many processes share the cores. Call it before anything reads `cpu_count`."""
    _sharing_processes[0] = processes


def cpu_count() -> int:
    """Cores that this process may use; with several workers, its share of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // _sharing_processes[0])


def process_count() -> int:
    """Processes that share the cores and the memory."""
    return _sharing_processes[0]


def run_threads(threads: int | None = None) -> tuple[int, int]:
    """Threads for runs of any length, and further ones that are kept for short runs.

    threads  of the first kind; None: as many as cores, at least 2
    """
    any_length = threads or max(2, cpu_count())
    return any_length, max(1, any_length // _SPARE_SHARE)


class _Holding(threading.local):
    """Whether this thread holds a core."""

    value = 0


class Cores:
    """Counts the cores that running models use. Any thread may call it.

    overtaken  how often a core was taken by force although none was free: what ran then was held up
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0
        self._count, self._counted_at = 0, -math.inf
        self._holding = _Holding()
        self.overtaken = 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Takes a core by force for this thread, for all that it does in the block; `held` is then 1."""
        if self._holding.value:
            yield
            return
        self.take(1, force=True)
        self._holding.value = 1
        try:
            yield
        finally:
            self._holding.value = 0
            self.give(1)

    @property
    def held(self) -> int:
        """Cores that this thread holds: 1 within `holding`, else 0."""
        return self._holding.value

    def take(self, threads: int, force: bool = False) -> bool:
        """Takes this many cores if they are free, and always with `force`; False if it did not."""
        # While the event loop runs quick requests itself, it needs a whole core: one is then not free.
        now = time.perf_counter()
        is_loop_busy = now - loop_activity.quick_at < _RECENT_S
        if now - self._counted_at > _COUNT_EVERY_S:  # asking the system takes 2 µs
            self._count, self._counted_at = cpu_count(), now
        with self._lock:
            if self._taken + threads > self._count - is_loop_busy:
                if not force:
                    return False
                self.overtaken += 1
            self._taken += threads
            return True

    def give(self, threads: int) -> None:
        """Returns cores that `take` took."""
        with self._lock:
            self._taken -= threads


def lower_priority() -> None:
    """Lowers the priority of this thread below the event loop's, and of threads that it starts (Linux only).

    Engines start their own threads from the thread that loads or first runs a model, and those inherit the priority.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            own = threading.get_native_id()
            # Counted from the main thread's niceness, which is what the process was started with: counted from this
            # thread's own, it would sink further each time the function is called.
            os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICE))
        _set_slice(_SLICE_NS)


_SETATTR, _GETATTR = {"x86_64": (314, 315), "aarch64": (274, 275)}.get(platform.machine(), (0, 0))
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime, ...


def _set_slice(nanoseconds: int) -> None:
    """Sets the time slice of this thread and of those that it starts: sched_setattr(2), which glibc does not wrap."""
    if not _SETATTR:
        return
    system = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if system.syscall(_GETATTR, 0, attributes, _ATTRIBUTES.size, 0):
        return
    size, policy, flags, nice, priority, _, *others = _ATTRIBUTES.unpack(attributes.raw)
    if policy != os.SCHED_OTHER:  # under another policy the runtime field means something else
        return
    system.syscall(_SETATTR, 0, _ATTRIBUTES.pack(size, policy, flags, nice, priority, nanoseconds, *others), 0)
