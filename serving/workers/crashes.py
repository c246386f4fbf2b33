"""What a process ran in native code when it died, and which of it is to blame."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

from ladle.serving.runtime import native_calls as shared

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS}
_TWICE = 2


class Crashes:
    """The supervisor's end of the shared memory. Any thread may call it.

    descriptor  of the memory, for the processes
    """

    def __init__(self, workers: int) -> None:
        self.descriptor = shared.open_file(workers)
        self._words = shared.map_file(self.descriptor)
        self._lock = threading.Lock()
        self._out_of_memory = _out_of_memory_kills()

    def beats(self, worker: int) -> int:
        """How often the process's event loop has shown that it runs."""
        count: int = self._words[shared.heartbeat(worker)]
        return count

    def ended(self, worker: int, number: int) -> str:
        """Notes that a process has died by this signal, and blames what it ran. A sentence for the log, or "".

        SIGKILL counts only if the system has just killed a process because memory ran out: an operator's `kill -9`, or
        the supervisor's when a process hangs, says nothing about the requests that were running.
        """
        with self._lock:
            requests, loads = ({self._words[slot] for slot in part} - {0} for part in shared.slots(worker))
            for part in shared.slots(worker):
                for slot in part:
                    self._words[slot] = 0
            kills = _out_of_memory_kills()
            is_crash = number in _CRASHES or (number == signal.SIGKILL and kills > self._out_of_memory)
            self._out_of_memory = kills
            if not is_crash or not (requests or loads):
                return ""
            return self._blame(requests, loads)

    def _blame(self, requests: set[int], loads: set[int]) -> str:
        rows = {form: self._row(form) for form in requests | loads}
        for row in rows.values():
            self._words[row + 1] += 1
        # A request is likelier than a load to have done it: loads also run because the process was just started.
        guilty = _only_suspect(self._words, [rows[form] for form in requests])
        if guilty is None:
            guilty = _only_suspect(self._words, [rows[form] for form in loads])
        for row in rows.values():
            if guilty is not None:  # the crash is explained, so the others are not blamed for it
                self._words[row + 1] -= 1
            else:
                self._words[row + 2] = shared.SUSPECT
        if guilty is not None:
            self._words[guilty + 1] = _TWICE
            self._words[guilty + 2] = shared.REFUSED
        self._words[0] += 1
        ran = ", ".join(
            f"{len(forms)} form{'' if len(forms) == 1 else 's'} of {what}"
            for forms, what in ((requests, "request"), (loads, "load"))
            if forms
        )
        if guilty is None:
            return f"it ran {ran}; one that ends the process again is refused"
        return f"it ran {ran}; one of them has done it twice and is refused from now on"

    def _row(self, form: int) -> int:
        """The form's row; a new one takes a free row, or that of the form with the fewest crashes."""
        rows = list(shared.rows())
        for row in rows:
            if self._words[row] == form:
                return row
        row = min(
            rows, key=lambda row: (self._words[row] != 0, self._words[row + 2] == shared.REFUSED, self._words[row + 1])
        )
        self._words[row] = form
        self._words[row + 1] = 0
        self._words[row + 2] = shared.SUSPECT
        return row


def _only_suspect(words: memoryview, rows: list[int]) -> int | None:
    """The only row with two crashes that has not returned since the first one.

    Without one, a row that has returned: only some values crash it. It needs a third crash if it did not run alone.
    """
    suspects = [row for row in rows if words[row + 1] >= _TWICE and words[row + 2] == shared.SUSPECT]
    if not suspects:
        suspects = [row for row in rows if words[row + 1] >= _TWICE + (len(rows) > 1)]
    most = max((words[row + 1] for row in suspects), default=0)
    worst = [row for row in suspects if words[row + 1] == most]
    return worst[0] if len(worst) == 1 else None


def _out_of_memory_kills() -> int:
    """How many processes the kernel has killed because memory ran out, in this control group or on this machine."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        group = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        events = Path(f"/sys/fs/cgroup{group[3:]}/memory.events").read_text()
        return int(next(line for line in events.splitlines() if line.startswith("oom_kill ")).split()[1])
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/vmstat").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("oom_kill ")).split()[1])
    return 0
