"""Threads that compute have a lower priority than the event loop."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ladle.serving.runtime.cores import NICE, lower_priority

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has thread priorities")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux
def test_a_thread_passes_its_lower_priority_on_to_threads_that_it_starts() -> None:
    with ThreadPoolExecutor(1, initializer=lower_priority) as outer:
        with ThreadPoolExecutor(1) as inner:
            below = outer.submit(lambda: inner.submit(niceness).result()).result()
        assert outer.submit(niceness).result() == below == min(19, niceness() + NICE)
