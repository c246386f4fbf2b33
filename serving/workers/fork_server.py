"""Workers are forked from one process that has imported everything, so that they share the memory of the modules.

That process, the fork server, runs no request and has one thread. It also reaps the workers, for they are its children,
and tells the supervisor how each has ended. The two sides speak in lines over a socket:

    supervisor  NUMBER                         with the descriptor of the worker's connection
    server      forked PID | failed ERRNO      the answer
    server      ended PID STATUS               later; the status as `subprocess` gives it
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

log = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Forked:
    """A worker process, as `subprocess.Popen` in what a supervisor does with one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status = 0
        self._has_ended = threading.Event()

    def terminate(self) -> None:
        """Sends SIGTERM, unless it has ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL, unless it has ended."""
        self._send(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal; subprocess.TimeoutExpired after `timeout` seconds."""
        if not self._has_ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0.0)
        return self._status

    def end(self, status: int) -> None:
        """Notes the exit status."""
        self._status = status
        self._has_ended.set()

    def _send(self, number: int) -> None:
        if not self._has_ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServer:
    """The supervisor's side: starts the fork server with the first worker, and again should it end. Thread-safe.

    memory     descriptor of the memory in which native calls are noted
    arguments  the server's flags as text, for the workers
    """

    def __init__(self, memory: int, arguments: Sequence[str], environment: Callable[[], Mapping[str, str]]) -> None:
        self._memory, self._arguments, self._environment = memory, arguments, environment
        self._lock = threading.Lock()  # one worker at a time is asked for
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False
        self._control: socket.socket
        self._answer: Future[Forked] = Future()

    def fork(self, number: int, connection: int) -> Forked:
        """A new worker with this number, which inherits the descriptor `connection`. OSError when none is to be had."""
        with self._lock:
            if self._is_stopped:
                raise OSError(0, "the server stops")
            if self._process is None or self._process.poll() is not None:
                self._start()
            self._answer = Future()
            try:
                socket.send_fds(self._control, [b"%d\n" % number], [connection])
            except OSError:
                raise OSError(0, "the process that forks workers has ended") from None
            return self._answer.result()

    def stop(self) -> None:
        """Ends the fork server; its workers run on."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                with contextlib.suppress(OSError):
                    self._control.shutdown(socket.SHUT_RDWR)
                self._process.wait()

    def _start(self) -> None:
        own, servers = socket.socketpair()
        with servers:
            inherited = [servers.fileno(), self._memory]
            command = [sys.executable, "-m", "ladle.serving.worker_command", *map(str, inherited), *self._arguments]
            self._process = subprocess.Popen(
                command, pass_fds=inherited, start_new_session=True, env=self._environment()
            )
        self._control = own
        threading.Thread(target=self._read, args=(own,), name="fork-server", daemon=True).start()

    def _read(self, control: socket.socket) -> None:
        """Hears of workers until the fork server ends."""
        alive: dict[int, Forked] = {}
        with control, control.makefile("rb") as lines:
            try:
                for line in lines:
                    word, number, *status = line.split()
                    if word == b"forked":
                        alive[int(number)] = forked = Forked(int(number))
                        self._answer.set_result(forked)
                    elif word == b"failed":
                        self._answer.set_exception(OSError(int(number), os.strerror(int(number))))
                    else:
                        alive.pop(int(number)).end(int(status[0]))
            except OSError:
                pass
        # Nobody would hear how these workers end.
        for forked in alive.values():
            forked.kill()
            forked.end(-signal.SIGKILL)
        if alive and not self._is_stopped:
            log.error("the process that forks workers has ended; replacing it and its workers")
        if not self._answer.done():
            self._answer.set_exception(OSError(0, "the process that forks workers has ended"))


def serve(control: socket.socket, run: Callable[[int, int], None]) -> None:
    """The fork server's side: forks a worker for each line, until the supervisor closes `control`.

    run  in the forked process, with the worker's number and the descriptor of its connection; it never returns
    """
    # Whoever stops the supervisor may signal all its processes: the workers then drain, and this one must stay to reap
    # them. It ends with the supervisor.
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(awake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.collect()
    gc.freeze()  # what is not looked at by a worker's collections stays shared
    while True:
        readable, _, _ = select.select([control.fileno(), awake], [], [])
        if awake in readable:
            os.read(awake, 4096)
            _reap(control)
        if control.fileno() in readable:
            data, descriptors, _, _ = socket.recv_fds(control, 64, 1)
            if not data:
                return
            if not _fork(control, descriptors[0]):
                signal.set_wakeup_fd(-1)
                for number in (*_STOPS, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                for descriptor in (awake, wake):
                    os.close(descriptor)
                control.close()
                os.setsid()
                run(int(data), descriptors[0])


def _fork(control: socket.socket, descriptor: int) -> bool:
    """Forks and tells the supervisor; False in the new process."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError as error:
        _tell(control, b"failed %d\n" % (error.errno or 0))
    else:
        if pid == 0:
            return False
        _tell(control, b"forked %d\n" % pid)
    os.close(descriptor)
    return True


def _reap(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):  # there is none
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _tell(control, b"ended %d %d\n" % (pid, os.waitstatus_to_exitcode(status)))


def _tell(control: socket.socket, line: bytes) -> None:
    with contextlib.suppress(OSError):  # the supervisor has ended, which the next `recv_fds` shows
        control.sendall(line)
