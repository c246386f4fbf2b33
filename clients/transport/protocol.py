"""The methods of a model server as steps, the same over both protocols: inputs checked, safe tries repeated."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ladle.clients.errors import InvalidArgument, LadleError, NotFound, Unimplemented
from ladle.clients.transport.access import Access
from ladle.clients.transport.exchange import (
    BrokenConnection,
    Deadline,
    NothingRan,
    Pause,
    Rotation,
    Send,
    Steps,
    nothing_answers,
)
from ladle.clients.transport.inputs import checked
from ladle.clients.transport.metadata import Metadata, VersionStatus
from ladle.clients.wire.arrays import Array

METADATA_AGE_S = 10.0
FIRST_PAUSE_S = 0.1
ATTEMPTS = 4
MAX_MESSAGE_BYTES = 2**31 - 1
"""What gRPC and protobuf can hold."""


class Protocol(ABC):
    """Requests and answers of one protocol, and what is remembered of the server. Threads share it.

    Every call ends within its `timeout_s`, tries included, and raises `LadleError`s alone. Tried again is only what
    certainly ran nothing (no connection, a full queue, an answer that says when to ask again) or changes nothing
    (metadata, status); pauses double from FIRST_PAUSE_S, unless the server names its own.
    """

    def __init__(
        self, address: str, hosts: Sequence[str], access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        if max_message_bytes < 1:
            raise InvalidArgument(f"max_message_bytes is {max_message_bytes}; a message needs some bytes")
        self.address, self.hosts, self.max_message_bytes = address, tuple(hosts), max_message_bytes
        self.access = access
        self._rotation = Rotation(len(hosts))
        self._known: dict[tuple[str, int | None, str | None], tuple[float, Metadata]] = {}
        self.labels: dict[str, tuple[str, ...] | None] = {}  # a cache of `ladle.clients.library.call`, by name/version

    def deadline(self, timeout_s: float) -> Deadline:
        """Of a call that starts now."""
        return Deadline(self.address, timeout_s)

    # What differs

    @abstractmethod
    def request_predict(
        self,
        name: str,
        arrays: Mapping[str, Array],
        signature: str,
        version: int | None,
        label: str | None,
        outputs: Sequence[str] | None,
    ) -> Any:
        """A Predict request in the transport's form."""

    @abstractmethod
    def read_predict(
        self, answer: Any, name: str, signature: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Steps[dict[str, Array]]:
        """The arrays of its answer."""

    @abstractmethod
    def _metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Steps[Metadata]: ...

    @abstractmethod
    def _status(self, name: str, version: int | None, deadline: Deadline) -> Steps[list[VersionStatus]]: ...

    @abstractmethod
    def _models(self, deadline: Deadline) -> Steps[dict[str, list[VersionStatus]] | None]:
        """Every model of the server; None: it has no way to tell."""

    @abstractmethod
    def read(self, answer: Any) -> Any:
        """The answer's content; raises what `explain` understands when it is none."""

    @abstractmethod
    def explain(self, error: Exception, timeout_s: float, host: str) -> Exception:
        """A LadleError, NothingRan or BrokenConnection for what a transport raised."""

    # What does not

    def predict(
        self,
        name: str,
        inputs: Mapping[str, Any],
        signature: str,
        version: int | None,
        label: str | None,
        deadline: Deadline,
        outputs: Sequence[str] | None = None,
    ) -> Steps[dict[str, Array]]:
        arrays = yield from self._checked(name, inputs, signature, version, label, deadline)
        request = self.request_predict(name, arrays, signature, version, label, outputs)
        answer = yield from self.ask(request, deadline)
        arrays = yield from self.read_predict(answer, name, signature, version, label, deadline)
        return arrays if outputs is None else _only(arrays, outputs)

    def metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Steps[Metadata]:
        one_of(version, label)
        found = yield from self._metadata(name, version, label, deadline)
        self._known[name, version, label] = (time.monotonic(), found)
        return found

    def known_metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Steps[Metadata]:
        """The metadata, at most METADATA_AGE_S old."""
        known = self._known.get((name, version, label))
        if known is not None and time.monotonic() - known[0] <= METADATA_AGE_S:
            return known[1]
        return (yield from self.metadata(name, version, label, deadline))

    def forget(self, name: str) -> None:
        """Drop a model's remembered metadata, because something did not fit it."""
        for key in [key for key in list(self._known) if key[0] == name]:  # other threads add to it
            self._known.pop(key, None)

    def status(self, name: str, version: int | None, deadline: Deadline) -> Steps[list[VersionStatus]]:
        return self._status(name, version, deadline)

    def models(self, names: Sequence[str] | None, deadline: Deadline) -> Steps[dict[str, list[VersionStatus]]]:
        found = yield from self._models(deadline)
        if found is not None:
            return found if names is None else {name: found[name] for name in names if name in found}
        if names is None:
            raise Unimplemented(
                f"{self.address} has no way to list its models, as TensorFlow Serving has none; name those to ask about"
            )
        found = {}
        for name in names:
            try:
                found[name] = yield from self._status(name, None, deadline)
            except NotFound:
                continue
        return found

    def ask(self, request: Any, deadline: Deadline, changes_nothing: bool = False) -> Steps[Any]:
        """Send until something answers or nothing may be tried any more."""
        pause_s, attempt = FIRST_PAUSE_S, 1
        told: LadleError | None = None
        while True:
            target = self._rotation.take()
            host = self.hosts[target]
            try:
                answer = self.read((yield Send(request, target, self.access.headers(), deadline.left_s())))
            except Exception as error:
                raised = error if isinstance(error, LadleError) else self.explain(error, deadline.timeout_s, host)
            else:
                self._rotation.heard(target)
                return answer
            retry_after_s = None
            if isinstance(raised, NothingRan):
                final: LadleError = raised.error
                if raised.unheard:
                    # Of a name's several addresses one refuses and another says why.
                    final = told = told if told and final.args == nothing_answers(host).args else final
                retry_after_s = raised.retry_after_s
                if raised.unheard and self._rotation.unheard(target):
                    continue  # another address is there: no pause
            elif isinstance(raised, BrokenConnection):
                final = raised.error
                if not changes_nothing:
                    raise final from None
            else:
                raise raised from None
            wait_s = pause_s * random.uniform(0.8, 1.2) if retry_after_s is None else retry_after_s  # noqa: S311
            if attempt == ATTEMPTS or time.monotonic() + wait_s >= deadline.end:
                raise final from None
            yield Pause(wait_s)
            pause_s *= 2
            attempt += 1

    def _checked(
        self,
        name: str,
        inputs: Mapping[str, Any],
        signature: str,
        version: int | None,
        label: str | None,
        deadline: Deadline,
    ) -> Steps[dict[str, Array]]:
        """Inputs as arrays that fit the signature; metadata that does not suit is asked for afresh once."""
        one_of(version, label)
        began = time.monotonic()
        try:
            metadata = yield from self.known_metadata(name, version, label, deadline)
        except Unimplemented:  # a server that tells no signatures checks them itself
            return checked(name, None, inputs)
        try:
            return checked(name, metadata.signature(signature), inputs)
        except InvalidArgument:
            if self._known.get((name, version, label), (began,))[0] >= began:
                raise
        metadata = yield from self.metadata(name, version, label, deadline)
        return checked(name, metadata.signature(signature), inputs)


def one_of(version: int | None, label: str | None) -> None:
    if version is not None and label is not None:
        raise InvalidArgument(f'version {version} and label "{label}" were given; name one of them')


def _only(arrays: dict[str, Array], names: Sequence[str]) -> dict[str, Array]:
    try:
        return {name: arrays[name] for name in names}
    except KeyError as error:
        known = ", ".join(sorted(arrays))
        raise InvalidArgument(f'output "{error.args[0]}" is not in the signature; it has {known}') from None
