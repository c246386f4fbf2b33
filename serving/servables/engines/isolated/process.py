"""The server's side of TensorFlow's process: it starts with the first version that needs it and ends with the last."""

from __future__ import annotations

import atexit
import contextlib
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ladle.clients.wire.arrays import Array
from ladle.serving.runtime.child_process import describe, environment
from ladle.serving.servables.engines.isolated import messages

log = logging.getLogger(__name__)

_CHILD = "ladle.serving.servables.engines.isolated.child"


class ProcessEndedError(Exception):
    """The process ended while it ran the call.

    was_stopped  because the server ended it
    """

    def __init__(self, was_stopped: bool) -> None:
        super().__init__()
        self.was_stopped = was_stopped


class TensorflowProcess:
    """The process, and the sockets on which it answers one call at a time. Any thread may use it.

    generation  grows when the process has ended: whatever was loaded before has gone with it
    """

    def __init__(self) -> None:
        self.generation = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: list[socket.socket] = []
        self._users = 0
        self._stopped = -1  # the last generation that the server ended

    def enter(self) -> None:
        """Counts a version that may need the process."""
        with self._lock:
            self._users += 1

    def leave(self, key: int) -> None:
        """The version of this key has been unloaded. With the last one, the process ends."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._stop()
            if self._process is None:
                return
        with contextlib.suppress(ProcessEndedError, OSError):
            self.call({"do": "unload", "key": key})

    def stop(self) -> None:
        """Ends the process."""
        with self._lock:
            self._stop()

    def call(self, head: Mapping[str, Any], arrays: Sequence[Array] = ()) -> tuple[dict[str, Any], list[Array], int]:
        """The answer to a message, and the generation that gave it. ProcessEndedError when the process ended instead.

        OSError when no process can be started.
        """
        line, generation = self._connect()
        try:
            messages.send(line, head, arrays)
            answer, found = messages.receive(line)
        except (OSError, EOFError):
            line.close()
            raise ProcessEndedError(self._note_end(generation)) from None
        except BaseException:  # half a message may be on the line
            line.close()
            raise
        with self._lock:
            if generation == self.generation:
                self._idle.append(line)
            else:
                line.close()
        return answer, found, generation

    def _connect(self) -> tuple[socket.socket, int]:
        with self._lock:
            if self._process is None:
                self._start()
            if self._idle:
                return self._idle.pop(), self.generation
            assert self._control is not None
            ours, theirs = _pair()
            try:
                with theirs:
                    socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            except OSError:  # it has just ended: the caller's first message finds that out
                pass
            return ours, self.generation

    def _note_end(self, generation: int) -> bool:
        """Forgets the process if it is the one that ended; whether the server itself ended it."""
        with self._lock:
            if generation != self.generation:
                return generation == self._stopped
            assert self._process is not None
            self._process.kill()  # if it only closed a socket, it is of no use either
            status = self._process.wait()
            log.error("TensorFlow's process ended (%s); it starts again", describe(status))
            self._forget()
            return False

    def _start(self) -> None:
        control, theirs = _pair()
        with theirs:
            command = [sys.executable, "-m", _CHILD, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        self._control = control

    def _stop(self) -> None:
        if self._process is not None:
            self._stopped = self.generation
            self._process.kill()
            self._process.wait()
            self._forget()

    def _forget(self) -> None:
        self.generation += 1
        self._process = None
        for line in (*self._idle, self._control):
            if line is not None:
                line.close()
        self._idle, self._control = [], None


def _pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for end in pair:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, messages.BUFFER_BYTES)
    return pair


process = TensorflowProcess()
atexit.register(process.stop)
