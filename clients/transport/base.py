"""A server's methods with arrays in and out, over either protocol, for threads and for event loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ladle.clients.transport.exchange import Send, Steps, drive, drive_async
from ladle.clients.transport.metadata import Metadata, VersionStatus
from ladle.clients.transport.protocol import Protocol
from ladle.clients.wire.arrays import Array

T = TypeVar("T")
Self = TypeVar("Self", bound="Transport")


class Transport(ABC):
    """A client of one server. Threads may share it, and forked processes: each opens its own connections."""

    protocol: Protocol

    @abstractmethod
    def send(self, step: Send) -> Any:
        """One exchange; raises what `protocol.explain` understands."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections. A closed client answers Cancelled."""

    @property
    def address(self) -> str:
        return self.protocol.address

    def run(self, steps: Steps[T]) -> T:
        return drive(steps, self.send)

    def predict(
        self,
        name: str,
        inputs: Mapping[str, Any],
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 30.0,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Run a signature: arrays by name -> arrays by name; strings are object arrays of bytes.

        An array is sent with the dtype it has; lists, numbers, bytes and str get the signature's dtype.
        Without `version` or `label`: the latest version. `outputs`: only these; over gRPC no other is sent.
        """
        return self.run(
            self.protocol.predict(name, inputs, signature, version, label, self.protocol.deadline(timeout_s), outputs)
        )

    def metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float = 30.0
    ) -> Metadata:
        """The signatures of a model version, asked afresh."""
        return self.run(self.protocol.metadata(name, version, label, self.protocol.deadline(timeout_s)))

    def known_metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float = 30.0
    ) -> Metadata:
        """The metadata, at most `protocol.METADATA_AGE_S` old."""
        return self.run(self.protocol.known_metadata(name, version, label, self.protocol.deadline(timeout_s)))

    def status(self, name: str, version: int | None = None, timeout_s: float = 30.0) -> list[VersionStatus]:
        """The state of every version ever seen, or of one; the highest first."""
        return self.run(self.protocol.status(name, version, self.protocol.deadline(timeout_s)))

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncTransport(ABC):
    """The same for an event loop; connections belong to the loop that is running when they are first used."""

    protocol: Protocol

    @abstractmethod
    async def send(self, step: Send) -> Any:
        """One exchange; raises what `protocol.explain` understands."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections. A closed client answers Cancelled."""

    async def run(self, steps: Steps[T]) -> T:
        return await drive_async(steps, self.send)
