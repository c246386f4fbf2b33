"""What both transports share: the methods' form, cached metadata, and the patience with a server that is not there."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from clients.errors import Cancelled, DeadlineExceeded, InvalidArgument, Unavailable
from clients.metadata import Metadata, TensorInfo, VersionStatus
from clients.wire.tensors import Array

T = TypeVar("T")
Self = TypeVar("Self", bound="Transport")

METADATA_AGE_S = 10.0
FIRST_PAUSE_S = 0.1
ATTEMPTS = 4


class NothingRan(Exception):  # noqa: N818
    """A try that reached no model; `error` is what the caller gets when there are no tries left."""

    def __init__(self, error: Unavailable) -> None:
        super().__init__(str(error))
        self.error = error


class Transport(ABC):
    """A client of one server. Threads may share it.

    Every call ends within `timeout_s` seconds, retries included, and raises `LadleError`s alone. Only a call
    that certainly ran nothing is tried again: no connection, or a full batching queue.
    """

    address: str

    def __init__(self) -> None:
        self._known: dict[tuple[str, int | None, str | None], tuple[float, Metadata]] = {}
        self.labels: dict[str, tuple[str, ...] | None] = {}  # a cache of `clients.call`, by name/version

    @abstractmethod
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

    @abstractmethod
    def metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float = 30.0
    ) -> Metadata:
        """The signatures of a model version, asked afresh."""

    @abstractmethod
    def status(self, name: str, version: int | None = None, timeout_s: float = 30.0) -> list[VersionStatus]:
        """The state of every version ever seen, or of one; the highest first."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections. A closed client answers Cancelled."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def known_metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float = 30.0
    ) -> Metadata:
        """The metadata, at most `METADATA_AGE_S` old."""
        key = (name, version, label)
        asked, metadata = self._known.get(key, (-METADATA_AGE_S, None))
        if metadata is None or time.monotonic() - asked > METADATA_AGE_S:
            metadata = self.metadata(name, version, label, timeout_s)
            self._known[key] = (time.monotonic(), metadata)
        return metadata

    def forget(self, name: str) -> None:
        """Drop a model's cached metadata, because an answer did not fit it."""
        for key in [key for key in self._known if key[0] == name]:
            self._known.pop(key, None)

    def _arrays(
        self,
        name: str,
        inputs: Mapping[str, Any],
        signature: str,
        version: int | None,
        label: str | None,
        timeout_s: float,
    ) -> dict[str, Array]:
        """Inputs as arrays; the signature is asked for only when something is not an array yet."""
        if version is not None and label is not None:
            raise InvalidArgument(f'version {version} and label "{label}" were given; name one of them')
        if all(isinstance(value, (np.ndarray, np.generic)) for value in inputs.values()):
            return {key: np.asarray(value) for key, value in inputs.items()}
        declared = self.known_metadata(name, version, label, timeout_s).signature(signature).inputs
        return {key: as_array(value, declared.get(key), f'{name}: input "{key}"') for key, value in inputs.items()}

    def _retry(self, call: Callable[[float], T], timeout_s: float) -> T:
        """`call(seconds left)` until it runs; pauses double from `FIRST_PAUSE_S`."""
        deadline, pause = Deadline(self.address, timeout_s), FIRST_PAUSE_S
        for attempt in range(ATTEMPTS):
            try:
                return call(deadline.left_s())
            except NothingRan as missed:
                if attempt + 1 == ATTEMPTS or time.monotonic() + pause >= deadline.end:
                    raise missed.error from None
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")


def as_array(value: Any, info: TensorInfo | None, what: str) -> Array:
    """A list, number, bytes or str as an array of the declared dtype; arrays keep their own."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    try:
        if info is None:
            return np.asarray(value)
        if info.dtype == "string":
            return np.array(value, object)
        array = np.asarray(value)
        if array.size and not np.can_cast(array.dtype, info.numpy, "same_kind"):
            raise InvalidArgument(f"{what} is {array.dtype}; wanted {info}")
        return array.astype(info.numpy)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(f"{what} is not a tensor ({error}); wanted {info}") from None


class Deadline:
    """When a call that starts now must have ended, `end` in monotonic time."""

    def __init__(self, address: str, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise InvalidArgument(f"timeout_s is {timeout_s:g}; a call needs some seconds")
        self.end = time.monotonic() + timeout_s
        self._error = too_late(address, timeout_s)

    def left_s(self) -> float:
        """The seconds left; DeadlineExceeded when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise self._error
        return left


def nothing_answers(address: str) -> Unavailable:
    return Unavailable(f"nothing answers at {address}; start it with `ladle serve`")


def too_late(address: str, timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer from {address} within {timeout_s:.3g} s")


def closed(address: str) -> Cancelled:
    return Cancelled(f"this client of {address} is closed; make another")
