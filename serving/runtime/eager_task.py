"""Runs a coroutine at once, and makes a task of it only if it has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any


class Waiter(asyncio.Future[Any]):
    """A future that is done by the end of the event loop's next turn.

    then  goes on with the coroutine that waits for it, unless that is a task
    """

    then: Callable[[], None] | None = None


class Suspended:
    """A coroutine that waits for a `Waiter`, without the cost of a task; as much of one as a server needs."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waiter: Waiter) -> None:
        self._coroutine = coroutine
        self._waiter: Waiter | None = waiter
        self._task: asyncio.Task[Any] | None = None  # once it waits for something else
        self._callback: Callable[[Any], object] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        waiter.then = self._go_on

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Calls it with what has `cancelled`, `exception` and `result`, as a task does. There is one callback."""
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
        """Ends the coroutine where it waits."""
        if self._task is not None:
            self._task.cancel()
        elif self._waiter is not None:
            self._waiter.then = None
            self._waiter.cancel()
            self._go_on()

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = None
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as done:
            self._value = done.value
        except BaseException as error:
            # Without this frame, through which it would hold itself.
            self._error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        else:
            self._task = loop.create_task(_go_on(self._coroutine, awaited))
            if self._callback is not None:
                self._task.add_done_callback(self._callback)
            return
        if self._callback is not None:
            try:
                self._callback(self)
            except Exception as error:
                loop.call_exception_handler({"message": "an answer could not be given", "exception": error})


UNDONE = (asyncio.Task, Suspended)
"""What `start` gives for a coroutine that waits."""
Undone = asyncio.Task[Any] | Suspended


def start(coroutine: Coroutine[Any, Any, Any]) -> Undone | Any:
    """What the coroutine returns, if it never waits; else what goes on with it. Raises what it raises.

    Most requests to a small model never wait, or not beyond this turn of the event loop: a task would cost them two
    turns more.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as done:
        return done.value
    if isinstance(awaited, Waiter):
        return Suspended(coroutine, awaited)
    return asyncio.get_running_loop().create_task(_go_on(coroutine, awaited))


def wake(waiters: Iterable[Waiter]) -> None:
    """Goes on with the coroutines that wait for these, which are done."""
    for waiter in waiters:
        if waiter.then is not None:
            then, waiter.then = waiter.then, None
            then()


async def _go_on(coroutine: Coroutine[Any, Any, Any], awaited: Any) -> Any:
    return await _Rest(coroutine, awaited)


class _Rest:
    """The rest of a coroutine that waits for `awaited`."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited = self._awaited
        try:
            while True:
                try:
                    sent = yield awaited
                except GeneratorExit:
                    self._coroutine.close()
                    raise
                except BaseException as error:  # a cancellation, for one
                    awaited = self._coroutine.throw(error)
                else:
                    awaited = self._coroutine.send(sent)
        except StopIteration as done:
            return done.value
