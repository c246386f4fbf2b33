"""One model in a replica of Ray Serve: everything of a server but its ports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from ladle.serving import flags
from ladle.serving.dataplane.core import Core
from ladle.serving.errors import ServingError
from ladle.serving.grpc.api import GrpcApi
from ladle.serving.grpc.calls import StatusError
from ladle.serving.repository import assembly
from ladle.serving.rest.api import RestApi
from ladle.serving.rest.http.messages import Request
from ladle.serving.runtime.cores import cpu_count
from ladle.serving.scheduling.limits import queue_limits
from ladle.serving.scheduling.scheduler import Scheduler
from ladle.serving.servables.loader import make_loader
from ladle.serving.telemetry.metrics import Metrics


class Outcome(NamedTuple):
    """An answer as it travels between Ray's actors.

    status   HTTP status, or the name of a gRPC status code
    body     of the answer; a serialized message; or the details of an error over gRPC
    headers  of an HTTP answer, by name
    """

    status: int | str
    body: bytes
    headers: Mapping[str, str] = {}


class Call:
    """What a gRPC method knows of its call."""

    def __init__(self, deadline: float | None = None, request_id: str = "") -> None:
        self.deadline = deadline
        self.is_large = False
        self.request_id = request_id
        self.observation: Any = None


class Replica:
    """Serves one model, all versions of it that its policy asks for; new versions are found as in the server.

    arguments  flags of the server; they name one model by --model_name and --model_base_path

    StartError when the flags contradict each other; ServingError when the configuration is refused.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        options = self._options = flags.parse([*arguments, "--wait_for_models=true"])
        metrics = Metrics()
        assembly.check(options)
        loader = make_loader(options, metrics)
        self._manager = assembly.make_manager(options, loader, cpu_count())
        self._watcher = assembly.make_watcher(options, assembly.make_repository(options), self._manager)
        threads = loader.batching.threads if loader.batching else None
        scheduler = Scheduler(threads, queue_limits(options), metrics)
        core = Core(self._manager, self._watcher, options.enable_signature_method_name_check, scheduler)
        self._rest = _rest(core, options, metrics)
        self._methods = GrpcApi(
            core, options.enable_serialization_as_tensor_content, options.max_request_bytes, metrics
        ).methods()

    async def start(self) -> None:
        """Returns when the model is available. StartError when it does not load."""
        self._watcher.start()
        while not assembly.is_loaded(self._options, self._manager, self._watcher):
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """Looks for new versions no more."""
        self._watcher.stop()

    async def rest(self, method: str, path: bytes, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Answers an HTTP request.

        path     percent-encoded, with its query
        headers  by name in lower case
        """
        encoded = {name.encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}
        status, content, found = await self._rest(Request(method, path, encoded, body, time.monotonic()))
        lines = (line.partition(b": ") for line in found.split(b"\r\n") if line)
        return Outcome(status, content, {name.decode(): value.decode() for name, _, value in lines})

    async def grpc(self, service: str, name: str, message: bytes, timeout_s: float | None = None) -> Outcome:
        """Answers a unary call; `message` is the serialized request."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            return Outcome("OK", await self._methods[service][name](message, Call(deadline)))
        except StatusError as error:
            return Outcome(error.code, error.details.encode())
        except ServingError as error:
            return Outcome(error.code, error.message.encode())


def _rest(core: Core, options: SimpleNamespace, metrics: Metrics) -> RestApi:
    return RestApi(
        core,
        options.rest_api_timeout_in_ms / 1000,
        options.max_request_bytes,
        options.rest_api_enable_cors_support,
        options.max_json_depth,
        metrics,
    )
