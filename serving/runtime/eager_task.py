"""Runs a coroutine at once, and makes it a task only if it has to wait.

Most requests to a small model never wait, or only until the current tick ends. An asyncio task would start one tick
later and deliver its result another tick later; for such requests that is a large part of their time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any


class TickFuture(asyncio.Future[Any]):
    """A future that is done when the current tick of the event loop ends.

    resume  continues the coroutine that waits for it; None when an asyncio task waits, which continues by itself
    """

    resume: Callable[[], None] | None = None


class TickTask:
    """A coroutine that waits for a `TickFuture`: a task in as far as a server needs one, without a task's cost."""

    # Until an instance has its own: every small request makes one.
    _task: asyncio.Task[Any] | None = None  # once the coroutine waits for anything else
    _value: Any = None
    _error: BaseException | None = None

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        future: TickFuture,
        callback: Callable[[Any], object] | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._future: TickFuture | None = future
        self._callback = callback
        future.resume = self._resume

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Sets the one callback; it gets an object with `cancelled`, `exception` and `result`, as a task has them."""
        self._callback = callback

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def cancel(self) -> None:
        """Raises CancelledError in the coroutine, where it waits."""
        if self._task is not None:
            self._task.cancel()
        elif self._future is not None:
            self._future.resume = None
            self._future.cancel()
            self._resume()

    def _resume(self) -> None:
        self._future = None
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as done:
            self._value = done.value
        except BaseException as error:
            # Drops this frame from the traceback. The frame refers to self and self to the error: such a cycle would
            # keep the request's arrays in memory until the garbage collector runs.
            self._error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        else:
            self._task = asyncio.get_running_loop().create_task(_Started(self._coroutine, awaited))
            if self._callback is not None:
                self._task.add_done_callback(self._callback)
            return
        if self._callback is not None:
            try:
                self._callback(self)
            except Exception as error:
                loop = asyncio.get_running_loop()
                loop.call_exception_handler({"message": "an answer could not be written", "exception": error})


PENDING = (asyncio.Task, TickTask)
"""The types that `start` returns for a coroutine that waits."""
Pending = asyncio.Task[Any] | TickTask


def start(coroutine: Coroutine[Any, Any, Any]) -> Pending | Any:
    """The coroutine's result if it never waits, else a task that continues it. Raises what the coroutine raises."""
    try:
        awaited = coroutine.send(None)
    except StopIteration as done:
        return done.value
    return follow(coroutine, awaited)


def follow(
    coroutine: Coroutine[Any, Any, Any], awaited: Any, callback: Callable[[Any], object] | None = None
) -> Pending:
    """A task that continues a coroutine which has been started with `send(None)` and waits for `awaited`.

    callback  as for `add_done_callback`
    """
    if type(awaited) is TickFuture:
        return TickTask(coroutine, awaited, callback)
    task = asyncio.get_running_loop().create_task(_Started(coroutine, awaited))
    if callback is not None:
        task.add_done_callback(callback)
    return task


def wake(futures: Iterable[TickFuture]) -> None:
    """Continues the coroutines that wait for these futures, which are done, without another tick."""
    for future in futures:
        if future.resume is not None:
            resume, future.resume = future.resume, None
            resume()


class _Started(Coroutine[Any, Any, Any]):
    """A coroutine that has started and waits for `awaited`, as a coroutine that a task can take over.

    A task that took the coroutine itself would send it None at once and lose what it waits for. The first step of this
    one gives the task `awaited`, and every other step is the coroutine's own.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited
        self._is_taken_over = False

    def send(self, value: Any) -> Any:
        if self._is_taken_over:
            return self._coroutine.send(value)
        self._is_taken_over = True
        return self._awaited

    def throw(self, *error: Any) -> Any:
        # A task that is cancelled before its first step throws here, where the coroutine may hold what it has waited
        # for: a granted semaphore, say. It gets the error as from a running task: the future is cancelled, and the
        # coroutine sees CancelledError when the future is done; at once, if there is none or it is done already.
        if not self._is_taken_over:
            self._is_taken_over = True
            if isinstance(self._awaited, asyncio.Future) and self._awaited.cancel():
                return self._awaited
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise RuntimeError("only a task runs this")
