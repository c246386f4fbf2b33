"""Transports: they open connections to one server and run operations, in a thread or in an event loop."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, TypeVar

from ladle.clients.transport.operation import Operation, Pause, Send
from ladle.clients.transport.protocol import Protocol

T = TypeVar("T")
Self = TypeVar("Self", bound="Transport")


class Transport(ABC):
    """Connections to one server for blocking callers.

    Threads may share a transport. After a fork, each process opens its own connections.
    """

    protocol: Protocol

    @abstractmethod
    def send(self, step: Send) -> Any:
        """Send one request and return its answer; raises what `protocol.explain` understands."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections. From then on every call raises Cancelled."""

    @property
    def address(self) -> str:
        """The server's host and port; several are separated by commas."""
        return self.protocol.address

    def run(self, operation: Operation[T]) -> T:
        """Perform an operation in this thread and return its result."""
        answer: Any = None
        failure: Exception | None = None
        try:
            while True:
                step = operation.send(answer) if failure is None else operation.throw(failure)
                answer = failure = None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    continue
                try:
                    answer = self.send(step)
                except Exception as error:  # the operation decides whether to retry
                    failure = error
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            operation.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncTransport(ABC):
    """Connections to one server for an event loop; they belong to the loop that runs when they are first used."""

    protocol: Protocol

    @abstractmethod
    async def send(self, step: Send) -> Any:
        """Send one request and return its answer; raises what `protocol.explain` understands."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections. From then on every call raises Cancelled."""

    @property
    def address(self) -> str:
        """The server's host and port; several are separated by commas."""
        return self.protocol.address

    async def run(self, operation: Operation[T]) -> T:
        """Perform an operation in the running event loop and return its result."""
        answer: Any = None
        failure: Exception | None = None
        try:
            while True:
                step = operation.send(answer) if failure is None else operation.throw(failure)
                answer = failure = None
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    continue
                try:
                    answer = await self.send(step)
                except Exception as error:  # the operation decides whether to retry
                    failure = error
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            operation.close()
