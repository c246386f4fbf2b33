"""The methods of a model server as operations, the same over gRPC and REST: inputs checked, safe requests retried."""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ladle.clients.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    LadleError,
    NotFound,
    Unavailable,
    Unimplemented,
)
from ladle.clients.transport.access import Access
from ladle.clients.transport.metadata import Metadata, VersionStatus
from ladle.clients.transport.operation import (
    BrokenConnection,
    NotExecuted,
    Operation,
    Pause,
    Send,
    too_late,
)
from ladle.clients.transport.proxies import Route
from ladle.clients.transport.tracing import end_span, start_span
from ladle.clients.wire.arrays import Array

METADATA_AGE_S = 10.0
"""Cached metadata is asked again after this long."""
FIRST_PAUSE_S = 0.1
ATTEMPTS = 4
MAX_MESSAGE_BYTES = 2**31 - 1
"""What gRPC and protobuf can hold."""
LONGEST_S = 3e7
"""Seconds of the longest deadline, about a year: sockets take no more."""
TRAFFIC = "traffic"
"""Ours: the extension of a server with splits and shadows, and the parameter of a model's configuration with them."""
DOWN_S = 2.0
"""A host that did not answer is avoided this long while others answer."""


class Deadline:
    """The time by which a call that starts now must end: `end`, in seconds of `time.monotonic`."""

    def __init__(self, address: str, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise InvalidArgument(f"got timeout_s={timeout_s:g}; expected more than 0 seconds")
        self.timeout_s = timeout_s
        self.end = time.monotonic() + min(timeout_s, LONGEST_S)
        self._address = address

    def left_s(self) -> float:
        """The seconds left. DeadlineExceeded: none are."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise too_late(self._address, self.timeout_s)
        return left


class HostRotation:
    """Round robin over several hosts that skips those that just failed to answer. Threads share it."""

    def __init__(self, count: int) -> None:
        self._numbers = itertools.count()  # `next` on it is atomic, so no lock
        self._down_until = [0.0] * count

    def take(self) -> int:
        """The index of the next host; if all are down, the one whose turn it is."""
        count = len(self._down_until)
        first = next(self._numbers) % count
        if count == 1:
            return 0
        now = time.monotonic()
        order = [(first + i) % count for i in range(count)]
        return next((host for host in order if self._down_until[host] <= now), first)

    def mark_down(self, host: int) -> bool:
        """Avoid `host` for DOWN_S; whether another host is worth an attempt at once."""
        now = time.monotonic()
        self._down_until[host] = now + DOWN_S
        return any(until <= now for until in self._down_until)

    def mark_up(self, host: int) -> None:
        self._down_until[host] = 0.0


class Protocol(ABC):
    """Requests and answers of one protocol, and a cache of what the server said. Threads share it.

    A call ends within its `timeout_s`, retries included, and raises nothing but `LadleError`. A request is retried only
    if it certainly did not run (no connection, a full queue, an answer that says when to retry) or if it changes
    nothing (metadata, status). Pauses double from FIRST_PAUSE_S, unless the server names its own.
    """

    def __init__(
        self,
        address: str,
        routes: Mapping[str, Route],
        access: Access,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        if max_message_bytes < 1:
            raise InvalidArgument(f"got max_message_bytes={max_message_bytes}; expected at least 1")
        self.address, self.routes, self.max_message_bytes = address, routes, max_message_bytes
        self.hosts, self.access = tuple(routes), access
        self._rotation = HostRotation(len(self.hosts))
        self._metadata_cache: dict[tuple[str, int | None, str | None], tuple[float, Metadata]] = {}
        # Caches of ladle.clients.library.inference. They stand here because one server has one protocol object.
        self.labels: dict[str, tuple[str, ...] | None] = {}  # by "name/version"
        self.models_by_verb: dict[str, tuple[float, str]] = {}  # when it was found, and its name
        # Whether an error about an unknown model may name others; a gateway that hides models says no.
        self.suggests_models = True

    cannot_list = "TensorFlow Serving has no method for it"
    """Why a server cannot list its models."""

    # What differs between gRPC and REST

    @abstractmethod
    def predict_request(
        self,
        name: str,
        arrays: Mapping[str, Array],
        signature: str,
        version: int | None,
        label: str | None,
        outputs: Sequence[str] | None,
    ) -> Any:
        """A Predict request in the transport's own type."""

    @abstractmethod
    def predict_outputs(
        self, answer: Any, name: str, signature: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Operation[dict[str, Array]]:
        """The arrays of its answer."""

    @abstractmethod
    def _metadata(
        self, name: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Operation[Metadata]: ...

    @abstractmethod
    def _status(self, name: str, version: int | None, deadline: Deadline) -> Operation[list[VersionStatus]]: ...

    @abstractmethod
    def _models(self, deadline: Deadline) -> Operation[dict[str, list[VersionStatus]] | None]:
        """Every model of the server; None: this server cannot list its models."""

    @abstractmethod
    def _extensions(self, deadline: Deadline) -> Operation[Sequence[str]]:
        """The server's extensions of the Open Inference Protocol; none if it does not speak it."""

    @abstractmethod
    def _parameters(self, name: str, version: str, deadline: Deadline) -> Operation[dict[str, str]]:
        """The parameters of the Open Inference Protocol's ModelConfig; version "": that of the server's choice."""

    def content(self, answer: Any) -> Any:
        """The content of a transport's answer; raises a LadleError or NotExecuted if the answer is an error."""
        return answer

    @abstractmethod
    def explain(self, error: Exception, timeout_s: float, host: str) -> Exception:
        """A LadleError, NotExecuted or BrokenConnection for what a transport raised."""

    # What is the same

    def nothing_answers(self, host: str) -> Unavailable:
        """The error if no connection to a host can be made and no better reason is known."""
        route = self.routes[host]
        advice = "" if route.proxy else "; start it with `ladle serve`"
        return Unavailable(f"nothing answers at {host}{advice}{route.remark}")

    def unconnected(self, host: str, reason: str) -> Unavailable:
        """The error if no connection to a host can be made, for a reason; names the proxy, or the variable of one."""
        return Unavailable(reason + self.routes[host].remark)

    def too_late(self, host: str, timeout_s: float) -> DeadlineExceeded:
        """The error if a host did not answer in time."""
        route = self.routes[host]
        return too_late(host, timeout_s, route.remark if route.proxy else "")

    def predict(
        self,
        name: str,
        inputs: Any,
        signature: str,
        version: int | None,
        label: str | None,
        timeout_s: float,
        outputs: Sequence[str] | None = None,
    ) -> Operation[dict[str, Array]]:
        """Run a signature: the outputs by name for inputs by name, or for the value of its only input."""
        deadline = Deadline(self.address, timeout_s)
        arrays = yield from self._fitted(name, inputs, signature, version, label, deadline)
        answer = yield from self.run_signature(name, arrays, signature, version, label, deadline, outputs)
        return answer

    def run_signature(
        self,
        name: str,
        arrays: Mapping[str, Array],
        signature: str,
        version: int | None,
        label: str | None,
        deadline: Deadline,
        outputs: Sequence[str] | None = None,
    ) -> Operation[dict[str, Array]]:
        """As `predict`, for arrays that already fit the signature."""
        request = self.predict_request(name, arrays, signature, version, label, outputs)
        answer = yield from self.send_with_retries(request, deadline)
        found = yield from self.predict_outputs(answer, name, signature, version, label, deadline)
        return found if outputs is None else _only(name, found, outputs)

    def metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Operation[Metadata]:
        """The metadata that the server gives now."""
        one_of(name, version, label)
        found = yield from self._metadata(name, version, label, deadline)
        self._metadata_cache[name, version, label] = (time.monotonic(), found)
        return found

    def cached_metadata(
        self, name: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Operation[Metadata]:
        """The metadata, at most METADATA_AGE_S old."""
        cached = self._metadata_cache.get((name, version, label))
        if cached is not None and time.monotonic() - cached[0] <= METADATA_AGE_S:
            return cached[1]
        return (yield from self.metadata(name, version, label, deadline))

    def invalidate(self, name: str) -> None:
        """Drop a model's cached metadata, because something did not fit it."""
        # Other threads add entries meanwhile, so this walks over a copy of the keys.
        for key in [key for key in list(self._metadata_cache) if key[0] == name]:
            self._metadata_cache.pop(key, None)

    def status(self, name: str, version: int | None, deadline: Deadline) -> Operation[list[VersionStatus]]:
        """The state of every version ever seen, or of one; highest version first."""
        return self._status(name, version, deadline)

    def traffic(self, names: Sequence[str], deadline: Deadline) -> Operation[dict[str, Any]]:
        """The splits and shadows of those models that have any, as the server tells them."""
        if TRAFFIC not in (yield from self._extensions(deadline)):
            return {}
        found = {}
        for name in names:
            try:
                told = (yield from self._parameters(name, "", deadline)).get(TRAFFIC)
            except (NotFound, InvalidArgument, Unavailable):  # not loaded now
                continue
            if told is not None:
                try:
                    found[name] = json.loads(told)
                except ValueError as error:
                    raise Internal(f"{self.address} sent unreadable traffic of {name}: {error}") from None
        return found

    def models(self, names: Sequence[str] | None, deadline: Deadline) -> Operation[dict[str, list[VersionStatus]]]:
        """The versions of every model, or of those of `names` that are served."""
        found = yield from self._models(deadline)
        if found is not None:
            return found if names is None else {name: found[name] for name in names if name in found}
        if names is None:
            raise Unimplemented(f"{self.address} cannot list its models ({self.cannot_list}); name the models")
        found = {}
        for name in names:
            try:
                found[name] = yield from self._status(name, None, deadline)
            except NotFound:
                continue
        return found

    def send_with_retries(self, request: Any, deadline: Deadline, idempotent: bool = False) -> Operation[Any]:
        """The content of the answer, after as many attempts as are safe within the deadline."""
        pause_s, attempt = FIRST_PAUSE_S, 1
        first_reason: LadleError | None = None
        while True:
            number = self._rotation.take()
            host = self.hosts[number]
            # Here, not in `start_span`: most programs use no OpenTelemetry, and this runs for each request.
            span, traced = start_span(_name_of(request), host) if "opentelemetry.trace" in sys.modules else (None, ())
            try:
                headers = self.access.headers() + traced
                answer = self.content((yield Send(request, number, headers, deadline.left_s())))
            except Exception as error:
                if span is not None:
                    end_span(span, error)
                raised = error if isinstance(error, LadleError) else self.explain(error, deadline.timeout_s, host)
            else:
                if span is not None:
                    end_span(span)
                self._rotation.mark_up(number)
                return answer
            retry_after_s = None
            if isinstance(raised, NotExecuted):
                final: LadleError = raised.error
                if raised.unreachable:
                    # A name with several addresses: one may refuse the connection while another says why. The reason
                    # is worth more than "nothing answers".
                    if first_reason and final.args == self.nothing_answers(host).args:
                        final = first_reason
                    first_reason = final
                retry_after_s = raised.retry_after_s
                if raised.unreachable and self._rotation.mark_down(number):
                    continue  # another host is up: no pause
            elif isinstance(raised, BrokenConnection):
                final = raised.error
                if not idempotent:
                    raise final from None
            else:
                raise raised from None
            # Jitter keeps clients that failed together from retrying together.
            wait_s = pause_s * random.uniform(0.8, 1.2) if retry_after_s is None else retry_after_s  # noqa: S311
            if attempt == ATTEMPTS or time.monotonic() + wait_s >= deadline.end:
                raise final from None
            yield Pause(wait_s)
            pause_s *= 2
            attempt += 1

    def _fitted(
        self,
        name: str,
        inputs: Any,
        signature: str,
        version: int | None,
        label: str | None,
        deadline: Deadline,
    ) -> Operation[dict[str, Array]]:
        """Inputs as arrays that fit the signature. If cached metadata does not fit them, it is asked again once."""
        one_of(name, version, label)
        began = time.monotonic()
        try:
            metadata = yield from self.cached_metadata(name, version, label, deadline)
        except Unimplemented:  # this server declares no signatures and checks inputs itself
            if not isinstance(inputs, Mapping):
                raise InvalidArgument(f"{name}: got an input without a name; expected a mapping by name") from None
            return {key: np.asarray(value) for key, value in inputs.items()}
        try:
            return metadata.signature(signature).arrays(name, inputs)
        except InvalidArgument:
            if self._metadata_cache.get((name, version, label), (began,))[0] >= began:
                raise
        metadata = yield from self.metadata(name, version, label, deadline)
        return metadata.signature(signature).arrays(name, inputs)


def _name_of(request: Any) -> str:
    """The method of a request of either protocol, for its span: `Predict`, or `POST`."""
    return getattr(request, "method", "") or str(request.path).rpartition("/")[2]


def one_of(name: str, version: int | None, label: str | None) -> None:
    """InvalidArgument: both a version and a label were given."""
    if version is not None and label is not None:
        raise InvalidArgument(f'{name}: got version {version} and label "{label}"; expected one of them')


def _only(name: str, arrays: dict[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    try:
        return {output: arrays[output] for output in outputs}
    except KeyError as error:
        known = ", ".join(sorted(arrays))
        raise InvalidArgument(f'{name}: has no output "{error.args[0]}"; it has {known}') from None
