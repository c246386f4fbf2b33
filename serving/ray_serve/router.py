"""The ingress of the application: reads which model a request names, and asks that model's deployment.

A replica that dies under a request is replaced by another: an inference may run twice, since it changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from google.protobuf import json_format

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from ladle.serving.ray_serve.replica import Outcome
from ladle.serving.ray_serve.services import UNARY

ATTEMPTS = 4
"""Replicas that a request is sent to before its caller hears of a failure."""
_MODEL = re.compile(r"^/v[12]/models/([^/:?]+)")
_VERSION = re.compile(r"/versions/(\d+)")
_OF_ALL = {(services.INFERENCE, "RepositoryIndex"), (services.HEALTH, "List")}
"""Methods that list the models."""
_JSON = {"content-type": "application/json"}


class Message:
    """A serialized message, in the form that Ray's replicas expect of a method."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def SerializeToString(self) -> bytes:  # noqa: N802
        return self._content


class Router:
    """The ingress deployment.

    handles     of the models' deployments, by model; or of the one deployment for all, by ""
    repository  folder of the models, for the deployment that loads a model when it is asked
    timeout_s   of a call over gRPC that has no deadline of its own; Ray tells no replica a caller's deadline
    """

    def __init__(self, handles: Mapping[str, Any], repository: str = "", timeout_s: float = 30.0) -> None:
        self._handles = dict(handles)
        self._repository = Path(repository)
        self._timeout_s = timeout_s

    def models(self) -> list[str]:
        """The names of all models."""
        return sorted(self._handles) if "" not in self._handles else models_in(self._repository)

    async def __call__(self, request: Any) -> Any:
        """Answers a Starlette request."""
        from starlette.responses import Response

        path = request.scope.get("raw_path") or request.url.path.encode()
        query = request.scope.get("query_string", b"")
        outcome = await self._answer(
            request.method,
            path + (b"?" + query if query else b""),
            dict(request.headers),
            await request.body(),
        )
        return Response(outcome.body, int(outcome.status), dict(outcome.headers))

    async def _answer(self, method: str, path: bytes, headers: Mapping[str, str], body: bytes) -> Outcome:
        text = path.decode("latin-1")
        if method == "GET" and text == "/v1/models":
            return Outcome(200, json.dumps({"models": self.models()}).encode() + b"\n", _JSON)
        if method == "POST" and text == "/v2/repository/index":
            listed = await self._list(services.INFERENCE, "RepositoryIndex", b"")
            answer = json_format.MessageToDict(pb.RepositoryIndexResponse.FromString(listed.body))
            return Outcome(200, json.dumps(answer.get("models", [])).encode(), _JSON)
        found = _MODEL.match(text)
        name = unquote(found[1]) if found else ""
        if found and name not in self.models():
            version = _VERSION.search(text)
            return Outcome(
                404, json.dumps({"error": _missing(name, int(version[1]) if version else 0)}).encode(), _JSON
            )
        if not found:
            known = self.models()
            if not known:
                return Outcome(503, b'{"error": "no model is served yet; retry later"}', _JSON)
            name = known[0]  # every model's server says the same of the server itself
        try:
            return await self._ask(name, lambda handle: handle.rest.remote(method, path, headers, body))
        except Exception as lost:
            if not _is_lost(lost):
                raise
            text = json.dumps({"error": f"{name} has no replica that answers; retry later"})
            return Outcome(503, text.encode(), _JSON | {"retry-after": "1"})

    async def call(self, service: str, method: str, message: bytes, context: Any) -> Message:
        """Answers a unary gRPC call; sets the status of `context` when it is refused."""
        outcome = await self._call(service, method, message)
        if outcome.status != "OK":
            import grpc

            context.set_code(getattr(grpc.StatusCode, str(outcome.status)))
            context.set_details(outcome.body.decode(errors="replace"))
            return Message(b"")  # an error raised here would leave its trace in Ray's log
        return Message(outcome.body)

    async def _call(self, service: str, method: str, message: bytes) -> Outcome:
        known = self.models()
        if (service, method) in _OF_ALL:
            return await self._list(service, method, message)
        try:
            name, version = model_of(service, method, message)
        except Exception:
            return Outcome("INVALID_ARGUMENT", f"the message is no request of {method}".encode())
        if not name and known:
            name = known[0]  # the model's server says what is wrong, or speaks of the server itself
        elif name not in known:
            return Outcome("NOT_FOUND", _missing(name, version).encode())
        try:
            return await self._ask(name, lambda handle: handle.grpc.remote(service, method, message, self._timeout_s))
        except Exception as error:
            if not _is_lost(error):
                raise
            return Outcome("UNAVAILABLE", f"{name} has no replica that answers; retry later".encode())

    async def _list(self, service: str, method: str, message: bytes) -> Outcome:
        """Joins the models' own answers: messages that follow each other are one, with the entries of all."""
        if "" in self._handles:  # to ask each model would load it
            return Outcome("OK", _index(self.models(), method))
        answers = await asyncio.gather(
            *(
                self._ask(name, lambda handle: handle.grpc.remote(service, method, message, self._timeout_s))
                for name in self.models()
            )
        )
        wrong = [answer for answer in answers if answer.status != "OK"]
        return wrong[0] if wrong else Outcome("OK", b"".join(answer.body for answer in answers))

    async def _ask(self, name: str, send: Callable[[Any], Awaitable[Outcome]]) -> Outcome:
        """Asks the model's deployment, and once more another replica when one dies."""
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles[""].options(multiplexed_model_id=name)
        for attempt in range(ATTEMPTS):
            try:
                return Outcome(*await send(handle))
            except Exception as error:
                if not _is_lost(error) or _is_busy(error) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")


def models_in(repository: Path) -> list[str]:
    """The folders that hold a version."""
    return sorted(
        folder.name
        for folder in repository.iterdir()
        if folder.is_dir() and any(version.name.isdigit() for version in folder.iterdir())
    )


def model_of(service: str, method: str, message: bytes) -> tuple[str, int]:
    """The model and the version, 0 if none, that a request names; "" for a request that names none.

    Only the first field is read: a message that has nothing but that field skips the tensors behind it.
    """
    if service == services.INFERENCE:
        if method.startswith("Server") or method == "RepositoryIndex":
            return "", 0
        ready = pb.ModelReadyRequest.FromString(message)
        return str(ready.name), int(ready.version or 0)
    if service == services.HEALTH or method == "HandleReloadConfigRequest":
        return "", 0
    if method == "MultiInference":
        tasks = pb.MultiInferenceRequest.FromString(message).tasks
        spec = tasks[0].model_spec if tasks else pb.ModelSpec()
    else:
        spec = pb.GetModelStatusRequest.FromString(message).model_spec
    return str(spec.name), int(spec.version.value)


def _index(names: Sequence[str], method: str) -> bytes:
    """The answer of a method of `_OF_ALL` for models that are loaded when they are asked."""
    serving = pb.HealthCheckResponse(status="SERVING")
    if method == "List":
        return bytes(pb.HealthListResponse(statuses=dict.fromkeys(names, serving)).SerializeToString())
    entries = [{"name": name, "state": "READY"} for name in names]
    return bytes(pb.RepositoryIndexResponse(models=entries).SerializeToString())


def _missing(name: str, version: int) -> str:
    which = f"Specific({name}, {version})" if version else f"Latest({name})"
    return f"Servable not found for request: {which}"


def _is_lost(error: Exception) -> bool:
    """Whether an error says that a replica died or that none answers, rather than what it answered."""
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    return isinstance(error, RayActorError | BackPressureError | DeploymentUnavailableError)


def _is_busy(error: Exception) -> bool:
    """Whether an error says that too many requests wait already."""
    from ray.serve.exceptions import BackPressureError

    return isinstance(error, BackPressureError)


def _method(service: str, name: str) -> Callable[..., Awaitable[Message]]:
    async def method(self: Router, message: bytes, grpc_context: Any) -> Message:
        return await self.call(service, name, message, grpc_context)

    method.__name__ = method.__qualname__ = name
    return method


for _service, _names in UNARY.items():
    for _name in _names:
        setattr(Router, _name, _method(_service, _name))
