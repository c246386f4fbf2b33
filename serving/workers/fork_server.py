"""Workers are forked from one process that has imported everything, so that they share the memory of the modules.

That process, the fork server, runs no request and has one thread. It also reaps the workers, for they are its children,
and tells the supervisor how each has ended. The two sides speak in lines over a socket:

    supervisor  NUMBER                         with the descriptor of the worker's connection
    server      forked PID | failed ERRNO      the answers, in the order of the questions
    server      ended PID STATUS               later; the status as `subprocess` gives it

Whoever stops the supervisor may signal all its processes, as systemd does. The workers then drain, and the fork server
must stay to reap them: signals to stop are blocked in it from its first moment, and it ends with the supervisor.
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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from ladle.serving.runtime.child_process import describe

log = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_KILLED_S = 10.0  # a process that has got SIGKILL is gone by then
_ENDED = "the process that forks workers has ended"


class Forked:
    """A worker process, as `subprocess.Popen` in what a supervisor does with one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status = 0
        self._has_ended = threading.Event()
        self._lock = threading.Lock()
        self._handle = _handle(pid)

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
        with self._lock:
            self._status = status
            self._has_ended.set()
            if self._handle is not None:
                os.close(self._handle)

    def kill_now(self) -> None:
        """Kills it and waits until it is gone, where the system can say so."""
        self.kill()
        if self._handle is not None:
            select.select([self._handle], [], [], _KILLED_S)
        with contextlib.suppress(ChildProcessError):  # it is ours if we are the first process of a container
            os.waitpid(self.pid, 0)

    def _send(self, number: int) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._has_ended.is_set():
                return
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, number)
            else:
                os.kill(self.pid, number)


def _handle(pid: int) -> int | None:
    """A descriptor of a process, which no later process with the same id can be taken for; None without such ones."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # forbidden in some containers
            return os.pidfd_open(pid)
    return None


class ForkServer:
    """The supervisor's side: starts the fork server with the first worker, and again should it end. Thread-safe.

    memory       descriptor of the memory in which native calls are noted
    arguments    the server's flags as text, for the workers
    environment  that of the workers
    """

    def __init__(self, memory: int, arguments: Sequence[str], environment: Callable[[], Mapping[str, str]]) -> None:
        self._memory, self._arguments, self._environment = memory, arguments, environment
        self._lock = threading.Lock()  # never held while another process is waited for
        self._is_stopped = False
        self._current: _Running | None = None

    def fork(self, number: int, connection: int) -> Forked:
        """A new worker with this number, which inherits the descriptor `connection`. OSError when none is to be had."""
        with self._lock:
            if self._is_stopped:
                raise OSError(0, "the server stops")
            if self._current is None or self._current.has_ended:
                self._current = self._start()
            answer = self._current.ask(number, connection)
        return answer.result()

    def stop(self) -> None:
        """Ends the fork server, and workers that are left."""
        with self._lock:
            self._is_stopped = True
            current = self._current
        if current is not None:
            current.stop()

    def _start(self) -> _Running:
        own, servers = socket.socketpair()
        with servers:
            inherited = [servers.fileno(), self._memory]
            command = [sys.executable, "-m", "ladle.serving.worker_command", *map(str, inherited), *self._arguments]
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # the new process inherits this thread's mask
            try:
                process = subprocess.Popen(command, pass_fds=inherited, start_new_session=True, env=self._environment())
            except BaseException:
                own.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _Running(process, own)


class _Running:
    """A fork server that runs, and its workers."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.has_ended = False
        self._is_stopped = False
        self._process, self._control = process, control
        self._lock = threading.Lock()  # guards the answers
        self._answers: deque[Future[Forked]] = deque()
        self._workers: dict[int, Forked] = {}
        self._reader = threading.Thread(target=self._read, name="fork-server", daemon=True)
        try:
            self._reader.start()
        except RuntimeError:  # the system has no thread left
            process.kill()
            process.wait()
            control.close()
            raise

    def ask(self, number: int, connection: int) -> Future[Forked]:
        """The worker, when it has been forked; OSError in the future, or at once, when it cannot be."""
        answer: Future[Forked] = Future()
        with self._lock:
            if self.has_ended:
                raise OSError(0, _ENDED)
            self._answers.append(answer)  # first: the answer may be read before the next line here runs
            try:
                socket.send_fds(self._control, [b"%d\n" % number], [connection])
            except OSError:
                self._answers.pop()
                raise OSError(0, _ENDED) from None
        return answer

    def stop(self) -> None:
        """Ends it and what it has forked."""
        self._is_stopped = True
        self._process.kill()
        self._reader.join(_KILLED_S)

    def _read(self) -> None:
        """Hears of workers until the fork server ends."""
        try:
            with contextlib.suppress(OSError), self._control.makefile("rb") as lines:
                for line in lines:
                    self._hear(*line.split())
        finally:
            self._end()

    def _hear(self, word: bytes, *numbers: bytes) -> None:
        first, *rest = map(int, numbers)
        if word == b"ended":
            self._workers.pop(first).end(rest[0])
        elif word == b"forked":
            self._workers[first] = Forked(first)
            self._answers.popleft().set_result(self._workers[first])
        else:
            self._answers.popleft().set_exception(OSError(first, os.strerror(first)))

    def _end(self) -> None:
        with self._lock:
            self.has_ended = True
            answers = list(self._answers)
        self._process.kill()  # a line that could not be read
        status = self._process.wait()
        self._control.close()
        if not self._is_stopped:
            log.error("%s (%s); replacing it and its %d workers", _ENDED, describe(status), len(self._workers))
        for worker in self._workers.values():  # nobody would hear how they end
            worker.kill_now()
            worker.end(1)  # not by SIGKILL, which might be blamed on a request
        for answer in answers:
            answer.set_exception(OSError(0, _ENDED))


def serve(control: socket.socket, run: Callable[[int, int], None]) -> None:
    """The fork server's side: forks a worker for each line, until the supervisor closes `control`.

    run  in the forked process, with the worker's number and the descriptor of its connection; it never returns
    """
    awake, wake = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])  # whoever started the server may have blocked it
    gc.collect()
    gc.freeze()  # what no collection of a worker looks at stays shared
    while True:
        readable, _, _ = select.select([control.fileno(), awake], [], [])
        if awake in readable:
            os.read(awake, 4096)
            _reap(control)
        if control.fileno() in readable:
            try:
                data, descriptors, _, _ = socket.recv_fds(control, 64, 1)
            except ConnectionResetError:
                return
            if not data:
                return
            # One line at a time has a descriptor with it, and the kernel ends a read at the next one.
            if not _fork(control, descriptors[0]):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(awake)
                os.close(wake)
                control.close()
                os.setsid()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
                run(int(data), descriptors[0])


def _fork(control: socket.socket, descriptor: int) -> bool:
    """Forks and tells the supervisor; False in the new process."""
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
