"""grpc.health.v1: the server's readiness, now (Check) and as it changes (Watch), and that of its models (List)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from ladle.serving.errors import NotFound
from ladle.serving.grpc.calls import Answer, CallContext, StatusError

SERVICES = ("", "ModelService", "PredictionService", services.MODEL, services.PREDICTION)
_POLL_S = 0.1
_MAX_WATCHERS = 1024


class Health:
    """The health service.

    is_ready  whether every configured model is available
    index     every version: name, version, state
    """

    def __init__(self, is_ready: Callable[[], bool], index: Callable[[], Iterable[Mapping[str, str]]] = tuple) -> None:
        self._is_ready = is_ready
        self._index = index
        self._is_draining = False
        self._watchers = 0
        self._last_status = 0
        self._changed = asyncio.Event()  # replaced by a new one with each change: every watcher wakes exactly once
        self._poller: asyncio.Task[None] | None = None

    def drain(self) -> None:
        """NOT_SERVING from now on; streams that watch end."""
        self._is_draining = True
        self._poll_once()

    async def check(self, request: Any, context: CallContext) -> Answer:
        """The server's status, which is that of each of SERVICES. NotFound for other services."""
        if request.service not in SERVICES:
            raise NotFound("unknown service")
        return Answer(pb.HealthCheckResponse(status=self._status()).SerializeToString())

    async def list(self, request: Any, context: CallContext) -> Answer:
        """The services, and every model by name: SERVING when one of its versions is available."""
        statuses = dict.fromkeys(SERVICES, self._status())
        available = {row["name"] for row in self._index() if row["state"] == "AVAILABLE"}
        for row in self._index():
            statuses[row["name"]] = pb.ServingStatus.Value("SERVING" if row["name"] in available else "NOT_SERVING")
        response = pb.HealthListResponse()
        for name, status in statuses.items():
            response.statuses.add(key=name).value.status = status
        return Answer(response.SerializeToString())

    async def watch(self, payload: bytes, context: CallContext) -> AsyncIterator[bytes]:
        """Serialized HealthCheckResponses: the present status, then each change."""
        try:
            service = pb.HealthCheckRequest.FromString(payload).service
        except DecodeError:
            text = "the request is not a grpc.health.v1.HealthCheckRequest"
            raise StatusError("INVALID_ARGUMENT", text) from None
        del payload  # a call that watches may last for days, and a request may have megabytes of unknown fields
        if self._watchers >= _MAX_WATCHERS:
            raise StatusError("RESOURCE_EXHAUSTED", f"{_MAX_WATCHERS} clients watch already")
        self._watchers += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            sent = None
            self._poll_once()
            while True:
                is_draining, changed = self._is_draining, self._changed
                status = self._last_status if service in SERVICES else pb.ServingStatus.Value("SERVICE_UNKNOWN")
                if status != sent:
                    sent = status
                    yield pb.HealthCheckResponse(status=status).SerializeToString()
                if is_draining:
                    return
                await changed.wait()
        finally:
            self._watchers -= 1
            if not self._watchers and self._poller is not None:
                self._poller.cancel()
                self._poller = None

    async def _poll(self) -> None:
        """Polls once for all watchers: a thousand of them cost no more than one."""
        while True:
            self._poll_once()
            await asyncio.sleep(_POLL_S)

    def _poll_once(self) -> None:
        status = self._status()
        if status != self._last_status or self._is_draining:
            self._last_status = status
            self._changed.set()
            self._changed = asyncio.Event()

    def is_serving(self) -> bool:
        """Whether the server is ready and does not stop."""
        return self._is_ready() and not self._is_draining

    def _status(self) -> int:
        number: int = pb.ServingStatus.Value("SERVING" if self.is_serving() else "NOT_SERVING")
        return number
