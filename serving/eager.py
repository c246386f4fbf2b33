"""Runs a coroutine at once, and makes a task of it only if it has to wait."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator
from typing import Any


def start(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | Any:
    """What the coroutine returns, if it never waits; else the task that goes on with it. Raises what it raises.

    Most requests to a small model never wait: a task would cost them a turn of the event loop.
    """
    if sys.version_info >= (3, 12):
        task = asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
        return task.result() if task.done() else task
    try:
        awaited = coroutine.send(None)
    except StopIteration as done:
        return done.value
    return asyncio.get_running_loop().create_task(_go_on(coroutine, awaited))


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
