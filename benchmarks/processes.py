"""Server processes: started, awaited, weighed with all their children, stopped."""

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
    """A server ended or was not ready in time; the message has the end of its log."""


@dataclass(frozen=True)
class Memory:
    """Of a process and its children, in MB of 10^6 bytes: resident, and with shared pages counted in parts."""

    rss_mb: float
    pss_mb: float


class Child:
    """A process in a session of its own, with what it starts."""

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
        """Seconds from the start until `reached()`; StartError when the process ends or time is up."""
        while time.monotonic() - self._started < timeout_s:
            with contextlib.suppress(OSError):
                if reached():
                    return time.monotonic() - self._started
            if self._process.poll() is not None:
                raise StartError(f"ended with {self._process.returncode}: {self._last_words()}")
            time.sleep(0.005)
        raise StartError(f"not ready after {timeout_s:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-600:]

    def memory(self) -> Memory:
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

    def cpu_s(self) -> float:
        """CPU seconds used so far, by children that ended as well."""
        ticks = 0
        for number in self._tree():
            fields = _stat(number)
            ticks += sum(int(value) for value in fields[11:15]) if fields else 0
        return ticks / _TICKS

    def _tree(self) -> list[int]:
        """Processes of our session, and children of those that left it."""
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
        """SIGTERM; SIGKILL for what remains after ten seconds."""
        tree = self._tree()
        if self._process.poll() is None:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for number in {*tree, *self._tree()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _stat(number: int) -> list[str]:
    """Fields of /proc/N/stat after the name: state, parent, group, session, ... ; empty when it is gone."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def machine_busy_s() -> float:
    """CPU seconds that all processes of the machine have used since it started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft, *_ = (int(value) for value in fields)
    return (user + nice + system + irq + soft) / _TICKS
