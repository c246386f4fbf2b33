"""What a client does, as steps: a method is a generator that yields what to send and gets the answer.

The generator knows no socket. `drive` performs its steps in the calling thread, `drive_async` in an event loop: each
method of the two clients exists once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from ladle.clients.errors import Cancelled, DeadlineExceeded, InvalidArgument, LadleError, Unavailable

T = TypeVar("T")

LONGEST_S = 3e7
"""Seconds of the longest deadline, about a year: sockets take no more."""
DOWN_S = 2.0
"""For how long an address that did not answer is passed over while others do."""


@dataclass(frozen=True, slots=True)
class Send:
    """One request in the protocol's form to one of the addresses; its answer, or what the transport raises."""

    request: Any
    target: int
    headers: tuple[tuple[str, str], ...]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Steps = Generator[Send | Pause, Any, T]


def drive(steps: Steps[T], send: Callable[[Send], Any]) -> T:
    """Perform the steps in this thread; what the generator returns."""
    answer: Any = None
    failure: Exception | None = None
    try:
        while True:
            step = steps.send(answer) if failure is None else steps.throw(failure)
            answer = failure = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            try:
                answer = send(step)
            except Exception as error:  # the generator knows what it means
                failure = error
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


async def drive_async(steps: Steps[T], send: Callable[[Send], Awaitable[Any]]) -> T:
    """Perform the steps in the running event loop; what the generator returns."""
    answer: Any = None
    failure: Exception | None = None
    try:
        while True:
            step = steps.send(answer) if failure is None else steps.throw(failure)
            answer = failure = None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                answer = await send(step)
            except Exception as error:  # the generator knows what it means
                failure = error
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


class NothingRan(Exception):  # noqa: N818
    """A try that certainly reached no model.

    error          what the caller gets when there are no tries left
    unheard        the address did not take the request at all: another one may
    retry_after_s  when the server wants to be asked again
    """

    def __init__(self, error: LadleError, unheard: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.unheard, self.retry_after_s = error, unheard, retry_after_s


class BrokenConnection(Exception):  # noqa: N818
    """The connection ended before the answer was whole: the request may have run."""

    def __init__(self, error: LadleError) -> None:
        super().__init__(str(error))
        self.error = error


class ClosedError(Exception):
    """The transport was closed."""


class Rotation:
    """Which of several addresses is next: each in turn, but not those that just did not answer. Threads share it."""

    def __init__(self, count: int) -> None:
        self._turns = itertools.count()
        self._down_until = [0.0] * count

    def take(self) -> int:
        count = len(self._down_until)
        first = next(self._turns) % count
        if count == 1:
            return 0
        now = time.monotonic()
        order = [(first + i) % count for i in range(count)]
        return next((target for target in order if self._down_until[target] <= now), first)

    def unheard(self, target: int) -> bool:
        """Pass `target` over for a while; whether another is worth trying at once."""
        now = time.monotonic()
        self._down_until[target] = now + DOWN_S
        return any(until <= now for until in self._down_until)

    def heard(self, target: int) -> None:
        self._down_until[target] = 0.0


class Deadline:
    """When a call that starts now must have ended, `end` in monotonic time."""

    def __init__(self, address: str, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise InvalidArgument(f"timeout_s is {timeout_s:g}; a call needs some seconds")
        self.timeout_s = timeout_s
        self.end = time.monotonic() + min(timeout_s, LONGEST_S)
        self._address = address

    def left_s(self) -> float:
        """The seconds left; DeadlineExceeded when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise too_late(self._address, self.timeout_s)
        return left


def nothing_answers(address: str) -> Unavailable:
    return Unavailable(f"nothing answers at {address}; start it with `ladle serve`")


def too_late(address: str, timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer from {address} within {timeout_s:.3g} s")


def closed(address: str) -> Cancelled:
    return Cancelled(f"this client of {address} is closed; make another")
