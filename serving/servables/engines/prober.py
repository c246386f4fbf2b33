"""Asks processes of `probe.py` about graphs: one for loads and requests, one in the background. Each ends when idle.

Starting a process and importing ONNX Runtime takes a quarter of a second, looking at a graph a tenth of that.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ladle.serving.runtime.child_process import environment
from ladle.serving.runtime.cores import lower_priority
from ladle.serving.servables.engines import probe
from ladle.serving.servables.engines.run_memory import Measurement

_ANSWER_S = 90.0
_IDLE_S = 5.0
_QUIET_S = 2.0


class Prober:
    """The process, which is started with the first question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: threading.Timer | None = None

    def look_at(self, path: Path, may_crash: bool) -> dict[str, Any]:
        """What `probe.py` found out about a graph; {} when it found out nothing, or no process is to be had."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            try:
                return self._ask({"path": str(path.absolute()), "may_crash": may_crash})
            except (OSError, ValueError, TimeoutError):
                self._stop()
                return {}
            finally:
                self._timer = threading.Timer(_IDLE_S, self.stop)
                self._timer.daemon = True
                self._timer.start()

    def stop(self) -> None:
        """Ends the process, if there is one."""
        with self._lock:
            self._stop()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = _start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(_ANSWER_S):
                raise TimeoutError
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return found

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError):
                process.__exit__(None, None, None)  # closes the pipes and waits


def _start() -> subprocess.Popen[bytes]:
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    command = [sys.executable, "-m", probe.__name__]
    return subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=nothing)


class Background:
    """Completes measurements in a thread, a while after the last one was added: loading needs the cores first.

    prober  its own: a request that needs a measurement, or a version that loads, must not wait for those of all others
    """

    def __init__(self) -> None:
        self.prober = Prober()
        self._changed = threading.Condition()
        self._waiting: list[Measurement] = []
        self._added_at = 0.0
        self._thread: threading.Thread | None = None

    def add(self, measurement: Measurement) -> None:
        with self._changed:
            self._waiting.append(measurement)
            self._added_at = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="measure", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        lower_priority()
        while True:
            with self._changed:
                left_s = self._added_at + _QUIET_S - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                    continue
                if not self._waiting:
                    self._thread = None
                    return
                measurement = self._waiting.pop(0)
            measurement.complete(in_background=True)


background = Background()
prober = Prober()
atexit.register(prober.stop)
atexit.register(background.prober.stop)
