"""Threads that compute leave the cores to the event loop."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ladle.serving.runtime.cores import NICE, step_back

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has priorities of threads")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux
def test_a_thread_that_steps_back_is_nicer_than_the_process_and_so_are_those_that_it_starts() -> None:
    with ThreadPoolExecutor(1, initializer=step_back) as back:
        with ThreadPoolExecutor(1) as forth:
            below = back.submit(lambda: forth.submit(niceness).result()).result()
        assert back.submit(niceness).result() == below == min(19, niceness() + NICE)
