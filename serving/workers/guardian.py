"""`--workers=1`: a small process that starts the server again when native code ends it, or when it hangs.

The guardian is the process that was started. It imports no engine, answers no request, and has one thread. It forks the
server, which runs as it would alone. The server hands its listening sockets to the guardian: they stay open when the
server dies, so connections wait in the kernel's queue until the next server accepts them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ladle.serving.runtime.child_process import describe
from ladle.serving.runtime.native_calls import native_calls
from ladle.serving.runtime.process_exit import exit_now
from ladle.serving.workers.crashes import Crashes

log = logging.getLogger(__name__)

_RESTART_DELAY_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # after servers that ended before they had opened their ports
_MOST_EARLY_ENDS = 6  # before the first server that opened its ports
_TICK_S = 1.0
_HANGS_AFTER_TICKS = 10  # without a sign of the event loop


class Link:
    """The server's end of the connection to its guardian.

    sockets     listening sockets of the servers before, by address
    is_restart  whether there was a server before that opened its ports
    """

    def __init__(self, connection: socket.socket, sockets: dict[str, socket.socket]) -> None:
        self._connection = connection
        self._sockets = sockets
        self.is_restart = bool(sockets)

    def keep(self, address: str, make: Callable[[], socket.socket]) -> socket.socket:
        """The listening socket of an earlier server, or a new one, which the guardian keeps. OSError from `make`."""
        found = self._sockets.pop(address, None)
        if found is None:
            found = make()
            with contextlib.suppress(OSError):  # the guardian has ended
                socket.send_fds(self._connection, [f"{address}\n".encode()], [found.fileno()])
        return found

    def report_ready(self) -> None:
        """Tells the guardian that the ports are open."""
        with contextlib.suppress(OSError):
            self._connection.send(b"\n")

    def fileno(self) -> int:
        """A file descriptor that can be read once the guardian has ended."""
        return self._connection.fileno()


class Guardian:
    """The process that starts the server and replaces it.

    serve  runs the server with this link until it stops; its exit status
    """

    def __init__(self, serve: Callable[[Link], int]) -> None:
        self._serve = serve
        self._crashes = Crashes(1)
        self._sockets: dict[str, socket.socket] = {}
        self._process = 0
        self._connection: socket.socket
        self._signals = 0
        self._is_ready = False

    def run(self) -> int:
        """The exit status, when the server has stopped."""
        awake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        has_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # without nohup
        stops = [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if has_terminal else [])]
        for number in stops:
            signal.signal(number, self._on_signal)
        was_ready, early_ends = False, 0
        while not self._signals:
            if self._fork():
                signal.set_wakeup_fd(-1)
                os.close(awake)
                os.close(wake)
                for number in stops:  # SIGINT comes from a terminal to both processes; the guardian passes it on
                    signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
                self._run_server()
            status = self._wait(awake)
            was_ready |= self._is_ready
            if self._signals:
                return status if status >= 0 else 128 - status
            blamed = self._crashes.ended(0, -status if status < 0 else 0)
            early_ends = 0 if self._is_ready else early_ends + 1
            # A first server that dies without a load to blame cannot start, such as for want of an instruction set.
            cannot_start = not was_ready and (status > 0 or not blamed or early_ends >= _MOST_EARLY_ENDS)
            if status == 0 or cannot_start:
                return status if status >= 0 else 128 - status
            delay = _RESTART_DELAY_S[min(early_ends, len(_RESTART_DELAY_S) - 1)]
            log.error(
                "the server ended (%s)%s; starting it again%s",
                describe(status),
                f": {blamed}" if blamed else "",
                f" in {delay:g} s" if delay else "",
            )
            if delay:
                select.select([awake], [], [], delay)
        return 0

    def _fork(self) -> bool:
        """Starts a server; whether this process is the server."""
        sys.stdout.flush()
        sys.stderr.flush()
        own, servers = socket.socketpair()
        self._is_ready = False
        self._process = os.fork()
        self._connection, other = (servers, own) if self._process == 0 else (own, servers)
        other.close()
        return self._process == 0

    def _run_server(self) -> NoReturn:
        """Runs the server in the forked process, which ends here and never returns to the guardian's caller."""
        status = 1
        try:
            native_calls.attach(self._crashes.descriptor, 0)
            status = self._serve(Link(self._connection, self._sockets))
        except Exception:
            log.exception("the server ended")
        exit_now(status)

    def _wait(self, awake: int) -> int:
        """Waits until the server has ended; its exit status, negative for a signal."""
        received = b""
        beats, silent_ticks, next_tick = 0, 0, time.monotonic() + _TICK_S
        if self._signals:  # it came while the server was forked
            self._send(signal.SIGTERM)
        with self._connection:
            while True:
                wait_s = max(0.0, next_tick - time.monotonic())
                connection = self._connection.fileno()
                readable, _, _ = select.select([connection, awake], [], [], wait_s)
                if awake in readable:
                    os.read(awake, 4096)
                if connection in readable:
                    data, descriptors = self._receive()
                    if not data:
                        break
                    received = self._handle(received + data, descriptors)
                if time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + _TICK_S
                    self._reap_orphans()
                    before, beats = beats, self._crashes.beats(0)
                    silent_ticks = silent_ticks + 1 if self._is_ready and beats == before else 0
                    if silent_ticks >= _HANGS_AFTER_TICKS and not self._signals:
                        log.error("the server has not answered for %d s; replacing it", silent_ticks)
                        self._send(signal.SIGKILL)
                        silent_ticks = 0
        while True:  # PID 1 of a container also gets the children of processes that have ended
            ended, status = os.waitpid(-1, 0)
            if ended == self._process:
                self._process = 0
                return os.waitstatus_to_exitcode(status)

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._connection, 4096, 8)
        except ConnectionResetError:
            return b"", []
        return data, descriptors

    def _handle(self, data: bytes, descriptors: list[int]) -> bytes:
        """Handles whole lines: an empty one says that the ports are open, another is the address of a socket."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            if not line:
                self._is_ready = True
            elif descriptors:
                kept = socket.socket(fileno=descriptors.pop(0))
                if self._signals:
                    kept.close()
                else:
                    self._sockets[line.decode()] = kept
        return rest

    def _reap_orphans(self) -> None:
        if os.getpid() == 1:
            with contextlib.suppress(ChildProcessError):
                while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    if ended.si_pid == self._process:
                        return
                    os.waitpid(ended.si_pid, 0)

    def _on_signal(self, number: int, frame: Any) -> None:
        """Stops the server; at the second signal, at once."""
        self._signals += 1
        for kept in self._sockets.values():  # the server's own are then the last ones, and its closing them counts
            kept.close()
        self._sockets.clear()
        self._send(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)
        if self._signals > 1:
            os._exit(1)

    def _send(self, number: int) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, number)
