"""The cores that this process may use, and threads that leave them to the event loop."""

from __future__ import annotations

import contextlib
import os
import threading

NICE = 5
"""Niceness of threads that compute: the event loop gets a core as soon as it wants one."""


_processes = [1]


def share_cores(processes: int) -> None:
    """Says that this process is one of so many that share the cores; before anything asks for their number."""
    _processes[0] = processes


def cpu_count() -> int:
    """Cores that this process may use; its share of them where there are workers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // _processes[0])


def step_back() -> None:
    """Lets the event loop go before this thread and before all threads that it starts, as engines do (Linux only)."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
