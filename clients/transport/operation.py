"""Operations: what a client does, written as generators that touch no socket (sans-I/O).

An operation yields what to send and receives the answer. `ladle.clients.transport.base` runs it in a thread or in an
event loop, so each method of the two clients is written once.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from ladle.clients.errors import Cancelled, DeadlineExceeded, LadleError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send one request, in the transport's own type, to the host with the index `host`; yields its answer."""

    request: Any
    host: int
    headers: tuple[tuple[str, str], ...]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before the next attempt."""

    seconds: float


Operation = Generator[Send | Pause, Any, T]
"""Yields `Send` and `Pause`, receives answers, returns a `T`."""


class NotExecuted(Exception):  # noqa: N818
    """The server certainly did not run the request, so it is safe to send it again.

    error          what the caller gets when no attempts are left
    unreachable    no connection was made: another host may answer
    retry_after_s  when the server asks to be tried again
    """

    def __init__(self, error: LadleError, unreachable: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.unreachable, self.retry_after_s = error, unreachable, retry_after_s


class BrokenConnection(Exception):  # noqa: N818
    """The connection ended before the answer was complete: the server may have run the request."""

    def __init__(self, error: LadleError) -> None:
        super().__init__(str(error))
        self.error = error


class ClosedError(Exception):
    """The transport was closed."""


def too_late(address: str, timeout_s: float, remark: str = "") -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer from {address} within {timeout_s:.3g} s{remark}")


def closed(address: str) -> Cancelled:
    return Cancelled(f"this client of {address} is closed; make another")
