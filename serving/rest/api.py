"""REST: TensorFlow Serving's HTTP interface on the core."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from google.protobuf import json_format

from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane.core import Core, ModelSpec
from ladle.serving.errors import InvalidArgument, ServingError
from ladle.serving.rest.http.messages import JSON, Answer, Request
from ladle.serving.rest.json import examples as json_examples
from ladle.serving.rest.json import request as json_request
from ladle.serving.rest.json import response
from ladle.serving.rest.json.text import error_body
from ladle.serving.rest.routes import UNCOUNTED, Route, find_route
from ladle.serving.scheduling.batch import RowView
from ladle.serving.servables.examples import pair_classes
from ladle.serving.servables.saved_model import Signature
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics

Content = tuple[int, bytes]
T = TypeVar("T")
Inferred = tuple[str, bytes]
log = logging.getLogger(__name__)

_CORS = (
    b"access-control-allow-origin: *\r\n"
    b"access-control-allow-methods: POST, GET\r\n"
    b"access-control-allow-headers: Content-Type\r\n"
)
_HTML = b"content-type: text/html\r\n"
_TEXT = b"content-type: text/plain\r\n"
_RETRY = b"retry-after: 1\r\n"
_NOT_FOUND = b"<html><head>\n<title>404 Not Found</title>\n</head><body>\n<h1>Not Found</h1>\n</body></html>\n"
_MOST_PACKED = 1032  # bytes of which deflate makes one, at most
_LARGE = 2**18  # bytes: unpacked, read and written in a thread, so that nobody waits for them


class Asked(NamedTuple):
    """A signature, on inputs, whether in row format; `form` as `Core.predict` has it."""

    servable: Servable
    signature: Signature
    inputs: dict[str, Array]
    is_row: bool
    form: Hashable


class BodyError(Exception):
    """A body beyond the limit once unpacked."""


class RestApi:
    """The application behind `http_server`.

    timeout_s      of an inference, from the request's arrival on; 0: none
    max_bytes      of a body once unpacked
    max_depth      of lists and objects in each other in a JSON body; 0: any
    cors           adds CORS headers
    metrics        where what is below /v1/ is counted
    scrape         gives the text of the metrics, which is served at `metrics_path`; "" for nowhere
    """

    def __init__(
        self,
        core: Core,
        timeout_s: float = 30.0,
        max_bytes: int = 2**26,
        cors: bool = False,
        max_depth: int = 100,
        metrics: Metrics | None = None,
        scrape: Callable[[], Awaitable[bytes]] | None = None,
        metrics_path: str = "",
    ) -> None:
        self._core = core
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._metrics = metrics or Metrics()
        self._scrape = scrape
        self._metrics_path = metrics_path if scrape is not None else ""
        self._headers = JSON + (_CORS if cors else b"")
        self._large = asyncio.Semaphore(2)
        self.is_draining = False
        self._verbs = {"predict": self._predict, "classify": self._classify, "regress": self._regress}

    async def __call__(self, request: Request) -> Answer:
        method, path = request.method, request.path.decode("latin-1")
        route = find_route(method, path)
        verb = self._verbs.get(route.operation)
        headers = self._headers
        status, code, signature = 200, "OK", ""
        try:
            if verb is not None:
                deadline = request.arrived + self._timeout_s if self._timeout_s > 0 else None
                signature, content = await verb(route, request, deadline)
            elif route.operation == "unknown":
                return await self._answer_elsewhere(method, path)
            elif method == "OPTIONS":
                origin = request.headers.get(b"origin", b"")
                status, content = (200 if b"http://" in origin or b"https://" in origin else 400), b""
            else:
                status, content = self._ask(route, method, path)
                code = "OK" if status == 200 else "INVALID_ARGUMENT"
        except ServingError as error:
            status, code, content = error.http_status, error.code, error_body(error.message)
        except BodyError:
            code = "RESOURCE_EXHAUSTED"
            status, content = 413, error_body(f"the request's body is larger than {self._max_bytes} bytes")
        except Exception:
            log.exception("%s %s", method, path)
            code = "INTERNAL"
            status, content = 500, error_body("internal error; the server's log has the details")
        if route.operation not in UNCOUNTED and method != "OPTIONS":
            api = route.operation if verb is not None else ""
            self._metrics.request(route.name, api, "REST", code, time.monotonic() - request.arrived, signature)
        if status in (429, 503):
            headers += _RETRY
        return Answer(status, content, headers)

    async def _read(self, request: Request, work: Callable[[bytes], T]) -> T:
        """What `work` makes of the body, unpacked before."""
        body = request.body
        if b"gzip" in request.headers.get(b"content-encoding", b""):
            return await self._apart(len(body) * _MOST_PACKED, lambda: work(self._inflate(body)))
        if len(body) < _LARGE:
            return work(body)
        return await self._apart(len(body), lambda: work(body))

    def _inflate(self, body: bytes) -> bytes:
        """The gzipped body; empty, as upstream has it, when it is damaged. BodyError beyond the limit."""
        unpacker = zlib.decompressobj(wbits=31)
        try:
            unpacked = unpacker.decompress(body, self._max_bytes + 1)
        except zlib.error:
            return b""
        if len(unpacked) > self._max_bytes:
            raise BodyError
        return unpacked if unpacker.eof else b""

    async def _answer_elsewhere(self, method: str, path: str) -> Answer:
        """Paths outside /v1/ and /v2/: the metrics, or a page that says that there is nothing."""
        where, mark, _ = path.partition("?")
        if not self._metrics_path or where != self._metrics_path or method != "GET":
            return Answer(404, _NOT_FOUND, _HTML)
        if mark:
            return Answer(400, f"Unexpected path: {path}. Should be {where}".encode(), _TEXT)
        assert self._scrape is not None
        return Answer(200, await self._scrape(), _TEXT)

    # Inference: the signature that answered, and the answer

    async def _predict(self, route: Route, request: Request, deadline: float | None) -> Inferred:
        asked = await self._read(request, lambda body: self._read_predict(route, body))
        servable, signature, inputs, is_row, form = asked
        outputs = await self._core.predict(servable, signature, inputs, (), deadline, form)
        if isinstance(outputs, RowView) and outputs.is_small():
            return signature.name, response.write_predict(outputs, is_row)
        size = sum(array.nbytes for array in outputs.values())
        return signature.name, await self._apart(size, lambda: response.write_predict(outputs, is_row))

    def _read_predict(self, route: Route, body: bytes) -> Asked:
        """What a body asks for. In one piece: the Python values of a large body must not wait for a thread."""
        request = json_request.parse(body, self._max_depth)
        spec = _spec(route, request.signature_name)
        servable = self._core.find(spec)
        if spec.signature_name not in servable.signatures:
            raise InvalidArgument(f'Serving signature name: "{spec.signature_name}" not found in signature def')
        signature = self._core.find_signature(servable, spec)
        if not signature.inputs:
            raise InvalidArgument(f"Failed to get input map for signature: {request.signature_name or 'DEFAULT'}")
        inputs = request.read(signature)
        form = (signature.name, request.shape) if request.document is None else None
        return Asked(servable, signature, inputs, request.is_row, form)

    async def _classify(self, route: Route, request: Request, deadline: float | None) -> Inferred:
        examples = await self._examples(request, "classify")
        spec = _spec(route, examples.signature_name)
        _, classes, scores = await self._core.classify(spec, lambda: examples.serialized, deadline)
        return spec.signature_name, response.write_classes(pair_classes(classes, scores))

    async def _regress(self, route: Route, request: Request, deadline: float | None) -> Inferred:
        examples = await self._examples(request, "regress")
        spec = _spec(route, examples.signature_name)
        _, values = await self._core.regress(spec, lambda: examples.serialized, deadline)
        return spec.signature_name, response.write_values(values)

    async def _examples(self, request: Request, method: str) -> json_examples.ExamplesBody:
        return await self._read(
            request, lambda body: json_examples.parse(body, method, self._max_depth, self._max_bytes)
        )

    async def _apart(self, size: int, work: Callable[[], T]) -> T:
        """What `work` gives; in a thread if it is about as many bytes as would hold up others, and few at once:
        a body as Python values takes many times its size."""
        if size < _LARGE:
            return work()
        await self._large.acquire()
        running = asyncio.get_running_loop().run_in_executor(None, work)
        running.add_done_callback(self._end_apart)  # not before, even if the caller has left
        return await asyncio.shield(running)

    def _end_apart(self, ended: asyncio.Future[Any]) -> None:
        self._large.release()
        if not ended.cancelled():
            ended.exception()  # seen: a caller that has left does not ask for it

    # Questions

    def _ask(self, route: Route, method: str, path: str) -> Content:
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
        raise InvalidArgument(f"Malformed request: {method} {path}")

    def _status(self, route: Route) -> Content:
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

    def _metadata(self, route: Route) -> Content:
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
