"""REST: TensorFlow Serving's HTTP interface as a bare ASGI application on the core."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from google.protobuf import json_format

from serving import json_examples, json_request, json_response
from serving.core import Core, ModelSpec
from serving.errors import InvalidArgument, ServingError
from serving.examples import pair_classes
from serving.json_text import error_body
from serving.rest_routes import Route, find_route

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, bytes]
log = logging.getLogger(__name__)

_JSON = (b"content-type", b"application/json")
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
]
_NOT_FOUND = b"<html><head>\n<title>404 Not Found</title>\n</head><body>\n<h1>Not Found</h1>\n</body></html>\n"


class BodyError(Exception):
    """A body beyond the limit."""


class RestApi:
    """The ASGI application.

    timeout_s  of an inference            max_bytes  of a body, also once unpacked
    cors       adds CORS headers          models     for the index: states of all models
    """

    def __init__(self, core: Core, timeout_s: float = 30.0, max_bytes: int = 2**26, cors: bool = False) -> None:
        self._core = core
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._headers = [_JSON, *(_CORS if cors else [])]
        self.is_draining = False
        self._verbs = {"predict": self._predict, "classify": self._classify, "regress": self._regress}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        deadline = time.monotonic() + self._timeout_s if self._timeout_s > 0 else None
        method, query = scope["method"], scope["query_string"]
        path = (scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")
        route = find_route(method, path)
        verb = self._verbs.get(route.operation)
        try:
            if verb is not None:
                status, content = await verb(route, await self._read(scope, receive), deadline)
            elif method == "OPTIONS" and path.startswith("/v1/"):
                origin = dict(scope["headers"]).get(b"origin", b"")
                status, content = (200 if b"http://" in origin or b"https://" in origin else 400), b""
            else:
                status, content = self._ask(route, method, path)
        except ServingError as error:
            status, content = error.http_status, error_body(error.message)
        except BodyError:
            status, content = 413, error_body(f"the request's body is larger than {self._max_bytes} bytes")
        except Exception:
            log.exception("%s %s", method, path)
            status, content = 500, error_body("internal error; the server's log has the details")
        headers = [(b"content-type", b"text/html")] if route.operation == "unknown" else self._headers
        length = (b"content-length", b"%d" % len(content))
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": content})

    async def _read(self, scope: dict[str, Any], receive: Receive) -> bytes:
        packed = any(name == b"content-encoding" and b"gzip" in value for name, value in scope["headers"])
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await receive()
                part = message.get("body", b"")
                size += len(part)
                if size > self._max_bytes:
                    raise BodyError
                parts.append(part)
            body = b"".join(parts)
        if len(body) > self._max_bytes:
            raise BodyError
        return self._unpack(body) if packed else body

    def _unpack(self, body: bytes) -> bytes:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            unpacked = unpacker.decompress(body, self._max_bytes + 1)
        except zlib.error:
            return b""
        if len(unpacked) > self._max_bytes:
            raise BodyError
        return unpacked if unpacker.eof else b""

    # Inference

    async def _predict(self, route: Route, body: bytes, deadline: float | None) -> Answer:
        request = json_request.parse(body)
        spec = _spec(route, request.signature_name)
        servable = self._core.find(spec)
        name = request.signature_name
        if spec.signature_name not in servable.signatures:
            raise InvalidArgument(f'Serving signature name: "{spec.signature_name}" not found in signature def')
        signature = self._core.find_signature(servable, spec)
        if not signature.inputs:
            raise InvalidArgument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
        inputs = request.read(signature)
        outputs = await self._core.predict(servable, signature, inputs, deadline=deadline)
        return 200, json_response.write_predict(outputs, request.is_row)

    async def _classify(self, route: Route, body: bytes, deadline: float | None) -> Answer:
        request = json_examples.parse(body, "classify")
        spec = _spec(route, request.signature_name)
        _, classes, scores = await self._core.classify(spec, lambda: request.serialized, deadline)
        results = [
            [[label.decode(errors="replace"), np.float32(score)] for label, score in zip(labels, numbers, strict=True)]
            for labels, numbers in pair_classes(classes, scores)
        ]
        return 200, json_response.write_results(results)

    async def _regress(self, route: Route, body: bytes, deadline: float | None) -> Answer:
        request = json_examples.parse(body, "regress")
        spec = _spec(route, request.signature_name)
        _, values = await self._core.regress(spec, lambda: request.serialized, deadline)
        return 200, json_response.write_results(list(values))

    # Questions

    def _ask(self, route: Route, method: str, path: str) -> Answer:
        match route.operation:
            case "status":
                return self._status(route)
            case "metadata":
                return self._metadata(route)
            case "live":
                return 200, b'{"live": true}\n'
            case "ready":
                ready = self._core.is_ready() and not self.is_draining
                return (200 if ready else 503), b'{"ready": %b}\n' % (b"true" if ready else b"false")
            case "index":
                return 200, json.dumps(self._core.index(), indent=1).encode() + b"\n"
            case "server":
                return 200, b'{"name": "ladle", "extensions": ["model_repository"]}\n'
            case "nameless":
                raise InvalidArgument("Missing model name in request.")
            case "version":
                log.info("Failed to convert version: %s", path)
                return 400, b""
            case "unknown":
                return 404, _NOT_FOUND
        raise InvalidArgument(f"Malformed request: {method} {path}")

    def _status(self, route: Route) -> Answer:
        versions = [
            {
                "version": str(known.version),
                "state": known.state.name,
                "status": {
                    "error_code": known.error.code if known.error else "OK",
                    "error_message": known.error.message if known.error else "",
                },
            }
            for known in self._core.status(route.name, route.version)
        ]
        return 200, json.dumps({"model_version_status": versions}, indent=1).encode() + b"\n"

    def _metadata(self, route: Route) -> Answer:
        servable = self._core.find(_spec(route))
        signatures = {
            name: json_format.MessageToDict(
                definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            for name, definition in servable.definitions.items()
        }
        spec = {"name": servable.name, "signature_name": "", "version": str(servable.version)}
        answer = {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}
        return 200, json.dumps(answer, indent=1).encode() + b"\n"


def _spec(route: Route, signature: str = "") -> ModelSpec:
    return ModelSpec(route.name, route.version, route.label, signature)
