"""The management channel: calls between the supervisor and a worker, in both directions, over a socket pair.

One thread reads and one writes. A call or an answer is queued for the writer, so neither a caller nor the reader ever
waits for the socket: when both ends send more than the socket holds, each still reads what the other sends.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ladle.serving.errors import Internal, ServingError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

log = logging.getLogger(__name__)


class ChannelClosed(Exception):  # noqa: N818
    """The other process has ended. Raised by every call to it; the supervisor replaces the worker."""


class Channel:
    """One end of the channel. At the other end, each call runs in a thread of its own, unless it is in `quick`.

    operations  functions that the other end may call, by name
    quick       functions that run in the reading thread, in the order of the calls; they must not wait or call back
    on_close    called once, when the other process has ended
    """

    def __init__(
        self,
        connection: Connection,
        operations: Mapping[str, Callable[..., Any]],
        quick: Mapping[str, Callable[..., Any]] | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._operations = operations
        self._quick = quick or {}
        self._on_close = on_close
        self._numbers = itertools.count()
        self._pending: dict[int, Future[Any]] = {}
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards _pending and _closed; never held across anything that waits
        self._closed = False

    def start(self) -> None:
        threading.Thread(target=self._read, name="channel-read", daemon=True).start()
        threading.Thread(target=self._write, name="channel-write", daemon=True).start()

    def begin(self, operation: str, *arguments: Any) -> Future[Any]:
        """Starts a call. The future raises the other end's ServingError, or ChannelClosed."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # a caller that times out must not cancel it: the answer sets it later
        with self._lock:
            number = next(self._numbers)
            self._pending[number] = future
            is_closed = self._closed
        if is_closed:
            self._fail_all()
        else:
            self._send(("call", number, operation, arguments))
        return future

    def call(self, operation: str, *arguments: Any) -> Any:
        """Makes a call and waits for its result; errors as for `begin`."""
        return self.begin(operation, *arguments).result()

    def _send(self, message: Any) -> None:
        self._outbox.put(pickle.dumps(message))  # pickled here: the sender may change its objects afterwards

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send_bytes(message)
            except OSError:
                self._fail_all()
                return

    def _read(self) -> None:
        while True:
            try:
                kind, number, *content = self._connection.recv()
            except (EOFError, OSError):
                break
            if kind == "done":
                self._done(number, *content)
            elif content[0] in self._quick:
                self._answer(number, self._quick[content[0]], content[1])
            else:
                operation = self._operations[content[0]]
                threading.Thread(target=self._answer, args=(number, operation, content[1]), daemon=True).start()
        self._fail_all()
        self._outbox.put(None)
        self._on_close()

    def _answer(self, number: int, operation: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            result, is_error = operation(*arguments), False
        except ServingError as error:
            result, is_error = error, True
        except Exception:
            log.exception("a call from the other process failed")
            result, is_error = Internal("the server's log has the details"), True
        self._send(("done", number, is_error, result))

    def _done(self, number: int, is_error: bool, result: Any) -> None:
        with self._lock:
            future = self._pending.pop(number, None)
        if future is None:
            return
        if is_error:
            future.set_exception(result)
        else:
            future.set_result(result)

    def _fail_all(self) -> None:
        with self._lock:
            self._closed = True
            pending, self._pending = list(self._pending.values()), {}
        for future in pending:
            future.set_exception(ChannelClosed())
