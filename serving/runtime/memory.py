"""The memory of the process and of the machine: how much there is, how much is used, how to give some back.

glibc keeps freed memory for later allocations. After a model was loaded or unloaded, or after a large run, that can be
gigabytes, which containers count and other models could use.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_DELAY_S = 1.0
_SAMPLE_S = 0.02
_STATM = Path("/proc/self/statm")
_CGROUPS = Path("/sys/fs/cgroup")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_NO_LIMIT = 2**62
STRING_BYTES = 32
"""What a string counts against the limit of a request's bytes, however short it is: in memory it takes more."""


def most_strings(max_bytes: int) -> int:
    """The strings that a request may hold. Measured: two million of two bytes took 0.2 to 1 s and up to 250 MB."""
    return max_bytes // STRING_BYTES


def trim_memory() -> None:
    """Returns what the C allocator keeps (glibc only). It takes milliseconds: too long for a request."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)


class _Trimmer:
    """Trims a second after it was asked to, at most once a second.

    Each trim holds the allocator's locks for milliseconds. One for each of fifty models that are unloaded at once held
    up the requests beside them by 20 to 30 ms.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_asked = self._is_waiting = False

    def trim_soon(self) -> None:
        with self._lock:
            self._is_asked = True
            if not self._is_waiting:
                self._wait()

    def _wait(self) -> None:
        self._is_asked, self._is_waiting = False, True
        timer = threading.Timer(_DELAY_S, self._trim)
        timer.name, timer.daemon = "trim", True
        timer.start()

    def _trim(self) -> None:
        trim_memory()
        with self._lock:
            self._is_waiting = False
            if self._is_asked:  # the references to a version that was unloaded since the wait began may still be there
                self._wait()


_trimmer = _Trimmer()


def trim_memory_soon() -> None:
    """Trims from a thread a second later: the caller's last references to an unloaded version are gone by then."""
    _trimmer.trim_soon()


def spare_collections() -> None:
    """Leaves out of garbage collections what exists now: modules, above all. Later objects are collected as ever.

    A full collection looks at every object: 40,000 after a start, which holds up all requests for 10 to 30 ms.
    """
    gc.freeze()


def total_bytes() -> int:
    """Memory that this process may use: that of the machine, or less if its control group or a limit says so."""
    limits = [_machine_bytes(), *_cgroup_limits(), *_process_limits()]
    return min(limit for limit in limits if limit > 0)


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    except (AttributeError, ValueError, OSError):
        return _NO_LIMIT


def _cgroup_limits() -> Iterator[int]:
    """The limits of the process's control group and of those around it, of both versions of the interface."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            home, file = (_CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (_CGROUPS, "memory.max")
            # Inside a container the path may be that of the machine, which is not there: then the root has the limit.
            inner = Path(path.lstrip("/"))
            for folder in (inner, *inner.parents):
                with contextlib.suppress(OSError, ValueError):  # "max" is no number
                    yield int((home / folder / file).read_text())


def _process_limits() -> Iterator[int]:
    with contextlib.suppress(ImportError, OSError):
        import resource

        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            limit = resource.getrlimit(kind)[0]
            if limit != resource.RLIM_INFINITY:
                yield limit


def resident_bytes() -> int:
    """Memory that the process uses; 0 where /proc is missing."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


class Watch:
    """How much the process has grown, at most, since the watch began.

    is_alone  nothing else was watched at the time
    """

    def __init__(self) -> None:
        self.before_bytes = resident_bytes()
        self.grown_bytes = 0
        self.is_alone = True

    def sample(self, now_bytes: int) -> None:
        self.grown_bytes = max(self.grown_bytes, now_bytes - self.before_bytes)


class _Watcher:
    """Samples the memory of the process while something is watched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()

    @contextlib.contextmanager
    def watch(self) -> Iterator[Watch]:
        mine = Watch()
        with self._lock:
            for other in self._watches:
                other.is_alone = mine.is_alone = False
            self._watches.add(mine)
            if len(self._watches) == 1:
                threading.Thread(target=self._sample, name="memory", daemon=True).start()
        try:
            yield mine
        finally:
            with self._lock:
                self._watches.discard(mine)
            mine.sample(resident_bytes())

    def _sample(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                if not self._watches:
                    return
                now = resident_bytes()
                for watch in self._watches:
                    watch.sample(now)
            pause.wait(_SAMPLE_S)


watch_memory = _Watcher().watch
"""Context manager that samples the process's memory fifty times a second, for what takes much of it and long."""
