"""grpc.health.v1: whether the server is ready, once (Check) or whenever it changes (Watch), and its models (List)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from ladle.serving.errors import NotFound

SERVICES = ("", "ModelService", "PredictionService", services.MODEL, services.PREDICTION)
_LOOK_S = 0.1
_MAX_WATCHERS = 1024


class Health:
    """The service. `is_ready` says whether every configured model is available, `index` which versions there are."""

    def __init__(self, is_ready: Callable[[], bool], index: Callable[[], Iterable[Mapping[str, str]]] = tuple) -> None:
        self._is_ready = is_ready
        self._index = index
        self._is_draining = False
        self._watchers = 0
        self._told = 0
        self._changed = asyncio.Event()  # set, and replaced, when the status has become another
        self._poller: asyncio.Task[None] | None = None

    def drain(self) -> None:
        """Not ready any more, for good; streams that watch end."""
        self._is_draining = True
        self._look()

    async def check(self, request: Any, context: Any) -> Any:
        if request.service not in SERVICES:
            raise NotFound("unknown service")
        return pb.HealthCheckResponse(status=self._status())

    async def list(self, request: Any, context: Any) -> Any:
        """The services, and every model by its name: serving when a version is available."""
        statuses = dict.fromkeys(SERVICES, self._status())
        available = {row["name"] for row in self._index() if row["state"] == "AVAILABLE"}
        for row in self._index():
            statuses[row["name"]] = pb.ServingStatus.Value("SERVING" if row["name"] in available else "NOT_SERVING")
        response = pb.HealthListResponse()
        for name, status in statuses.items():
            response.statuses.add(key=name).value.status = status
        return response

    async def watch(self, payload: bytes, context: Any) -> AsyncIterator[bytes]:
        """Serialized HealthCheckResponse: the status now, then each change."""
        try:
            service = pb.HealthCheckRequest.FromString(payload).service
        except DecodeError:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "the request is not a grpc.health.v1.HealthCheckRequest"
            )
            return
        if self._watchers >= _MAX_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_WATCHERS} clients watch already")
            return
        self._watchers += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            told = None
            self._look()
            while True:
                drained, changed = self._is_draining, self._changed
                status = self._told if service in SERVICES else pb.ServingStatus.Value("SERVICE_UNKNOWN")
                if status != told:
                    told = status
                    yield pb.HealthCheckResponse(status=status).SerializeToString()
                if drained:
                    return
                await changed.wait()
        finally:
            self._watchers -= 1
            if not self._watchers and self._poller is not None:
                self._poller.cancel()
                self._poller = None

    async def _poll(self) -> None:
        """For all that watch."""
        while True:
            self._look()
            await asyncio.sleep(_LOOK_S)

    def _look(self) -> None:
        status = self._status()
        if status != self._told or self._is_draining:
            self._told = status
            self._changed.set()
            self._changed = asyncio.Event()

    def _status(self) -> int:
        ready = self._is_ready() and not self._is_draining
        number: int = pb.ServingStatus.Value("SERVING" if ready else "NOT_SERVING")
        return number
