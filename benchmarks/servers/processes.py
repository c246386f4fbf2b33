"""Server processes: start them, wait for them, measure their memory and CPU with all children, stop them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class StartError(RuntimeError):
    """A server ended or was not ready in time. The message has the end of its log."""


@dataclass(frozen=True)
class Memory:
    """Memory of a process and its children in MB of 10^6 bytes.

    rss_mb  resident memory; pages that processes share count in each of them
    pss_mb  the same, but a shared page is divided among the processes that share it
    """

    rss_mb: float
    pss_mb: float


class Child:
    """A process in its own session, together with the processes that it starts."""

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.log = log
        self._started = time.monotonic()
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    def wait_until(self, reached: Callable[[], bool], timeout_s: float = 120.0) -> float:
        """Wait until `reached()`; seconds since the start. Raises StartError if the process ends or the time is up."""
        while time.monotonic() - self._started < timeout_s:
            with contextlib.suppress(OSError):
                if reached():
                    return time.monotonic() - self._started
            if self._process.poll() is not None:
                raise StartError(f"ended with {self._process.returncode}: {self._log_tail()}")
            time.sleep(0.005)
        raise StartError(f"not ready after {timeout_s:.0f} s: {self._log_tail()}")

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-600:]

    def memory(self) -> Memory:
        """Memory of the whole process tree now."""
        rss = pss = 0.0
        for number in self._tree():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                    name, _, value = line.partition(":")
                    if name in ("Rss", "Pss"):
                        kilobytes = int(value.split()[0])
                        rss += kilobytes * (name == "Rss")
                        pss += kilobytes * (name == "Pss")
        return Memory(rss * 1024 / 1e6, pss * 1024 / 1e6)

    def settled_memory(self, quiet_s: float = 6.0, timeout_s: float = 60.0) -> Memory:
        """Memory once no process has begun or ended for a while: those that look at graphs end when they are idle."""
        limit, tree, since = time.monotonic() + timeout_s, self._tree(), time.monotonic()
        while time.monotonic() < min(since + quiet_s, limit):
            time.sleep(0.1)
            if self._tree() != tree:
                tree, since = self._tree(), time.monotonic()
        return self.memory()

    def cpu_s(self) -> float:
        """CPU seconds that the process tree has used so far, including children that have ended."""
        ticks = 0
        for number in self._tree():
            fields = _stat(number)
            # utime, stime, and the same of the children it has waited for (proc(5)).
            ticks += sum(int(value) for value in fields[11:15]) if fields else 0
        return ticks / _TICKS

    def _tree(self) -> list[int]:
        """Ids of the processes in the child's session and of their descendants in other sessions."""
        parents, found = {}, set()
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (fields := _stat(int(entry))):
                parents[int(entry)] = int(fields[1])
                if int(fields[3]) == self._process.pid:
                    found.add(int(entry))
        size = 0
        while size != len(found):
            size = len(found)
            found |= {child for child, parent in parents.items() if parent in found}
        return sorted(found)

    def stop(self) -> None:
        """Send SIGTERM, wait up to 10 s, then send SIGKILL to every process that is left."""
        tree = self._tree()
        if self._process.poll() is None:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        # The tree before the end too: an orphan has another parent now and would not be found.
        for number in {*tree, *self._tree()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _stat(number: int) -> list[str]:
    """Fields of /proc/N/stat after the name: state, parent, group, session, ...; empty if the process is gone."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def machine_busy_s() -> float:
    """CPU seconds that all processes on the machine have used since it started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft, *_ = (int(value) for value in fields)
    return (user + nice + system + irq + soft) / _TICKS
