"""REST: TensorFlow Serving's HTTP interface on the core."""

from __future__ import annotations

import functools
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ladle.serving.dataplane.core import Core, ModelSpec
from ladle.serving.errors import DeadlineExceeded, InvalidArgument, NotLoaded, ServingError, Unavailable
from ladle.serving.open_inference.model_control import ModelControl
from ladle.serving.rest.compression import MAX_EXPANSION, BodyTooLargeError, decompress
from ladle.serving.rest.http.messages import JSON, AnswerParts, Request
from ladle.serving.rest.json.examples import ExamplesBody, read_examples
from ladle.serving.rest.json.request import read_numbers, read_predict, read_values
from ladle.serving.rest.json.response import write_classes, write_predict, write_values
from ladle.serving.rest.json.text import check_strings, error_body
from ladle.serving.rest.open_inference.api import OpenInference
from ladle.serving.rest.routes import MAX_CACHED_PATH, UNCOUNTED, Route, cached_route, find_route
from ladle.serving.runtime.large_work import LargeWork
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.scheduling.batch import LATE
from ladle.serving.scheduling.rows import RowView
from ladle.serving.servables.examples import pair_classes
from ladle.serving.servables.saved_model import Signature
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.access_log import HEADER
from ladle.serving.telemetry.metrics import Metrics, Snapshot
from ladle.serving.telemetry.observation import Observation
from ladle.serving.telemetry.observer import Observer, trace_context
from ladle.serving.telemetry.prometheus import OPENMETRICS

Content = tuple[int, bytes]
"""HTTP status and body."""
T = TypeVar("T")
Inferred = tuple[str, bytes, bytes]
"""Signature, body, and the lines of its content's headers."""
log = logging.getLogger(__name__)

_CORS = (
    b"access-control-allow-origin: *\r\n"
    b"access-control-allow-methods: POST, GET\r\n"
    b"access-control-allow-headers: Content-Type\r\n"
)
_HTML = b"content-type: text/html\r\n"
_TEXT = b"content-type: text/plain\r\n"
_REQUEST_ID = HEADER.encode()
_RETRY = b"retry-after: 1\r\n"
_NOT_FOUND = b"<html><head>\n<title>404 Not Found</title>\n</head><body>\n<h1>Not Found</h1>\n</body></html>\n"
_THREAD_FROM_BYTES = 2**18  # larger bodies and answers are read and written in a thread: 256 KiB take about 1 ms
_STRINGS_FROM_BYTES = 2**16  # smaller bodies hold few strings
_VALUES_FROM_BYTES = 2**12  # the same for bodies that become Python values: 4 KiB can take a few milliseconds


class RestApi:
    """The application of the HTTP server.

    timeout_s     of an inference, from the arrival of its request; 0: none
    max_unread_s  for which an inference may have waited to be read; 0: any time
    max_bytes     of a decompressed body
    max_depth     of nested lists and objects in a JSON body; 0: any
    cors          adds CORS headers to every answer
    metrics       counts the requests below /v1/
    scrape        gives Prometheus's text, or with True that of OpenMetrics, which is served at `metrics_path`
    metrics_path  "" serves no metrics
    observer      sees each request below /v1/, and each infer below /v2/
    snapshots     gives the metrics of every process of the server
    control       loads and unloads models by request; None: refuses to

    `headers` are those of every answer below /v1 and /v2.
    """

    def __init__(
        self,
        core: Core,
        timeout_s: float = 30.0,
        max_bytes: int = 2**26,
        cors: bool = False,
        max_depth: int = 100,
        metrics: Metrics | None = None,
        scrape: Callable[[bool], Awaitable[bytes]] | None = None,
        metrics_path: str = "",
        observer: Observer | None = None,
        snapshots: Callable[[], Awaitable[Sequence[Snapshot]]] | None = None,
        max_unread_s: float = 0.0,
        control: ModelControl | None = None,
    ) -> None:
        self._core = core
        self._timeout_s = timeout_s
        self._max_unread_s = max_unread_s or math.inf
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._metrics = metrics or Metrics()
        self._scrape = scrape
        self._observer = observer
        self._metrics_path = metrics_path if scrape is not None else ""
        self._cors = _CORS if cors else b""
        self.headers = JSON + self._cors
        self._run_large = LargeWork().run
        self.is_draining = False
        self._open_inference = OpenInference(core, self._run_large, max_depth, max_bytes, snapshots, control)
        self._verbs = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
            "infer": self._open_inference.infer,
        }

    async def __call__(self, request: Request) -> AnswerParts:
        """Answers any request. This is where the core's errors become HTTP statuses."""
        method, raw_path, arrived = request.method, request.path, request.arrived
        is_short = len(raw_path) <= MAX_CACHED_PATH
        route = cached_route(method, raw_path) if is_short else find_route(method, raw_path.decode("latin-1"))
        operation = route.operation
        verb = self._verbs.get(operation)
        headers = self.headers
        status, code, signature, ended = 200, "OK", "", 0.0
        observer, observation = self._observer, None
        if observer is not None and operation not in UNCOUNTED and method != "OPTIONS":
            request_id = request.headers.get(_REQUEST_ID, b"").decode("latin-1")
            context = trace_context(request.headers) if observer.traces else None
            observation = observer.begin("REST", operation, request_id, arrived, context)
        try:
            if verb is not None:
                if request.unread_s > self._max_unread_s:
                    raise Unavailable(
                        f"the server is overloaded: it read the request {request.unread_s:.2g} s late; retry later"
                    )
                deadline = arrived + self._timeout_s if self._timeout_s > 0 else None
                try:
                    signature, content, kind = await verb(route, request, deadline, observation)
                except NotLoaded as missing:
                    await self._core.load(missing, deadline)
                    signature, content, kind = await verb(route, request, deadline, observation)
                ended = time.monotonic()
                if deadline is not None and ended >= deadline:
                    raise DeadlineExceeded(LATE)
                headers = kind + self._cors
            elif operation == "unknown" and not _is_below_v2(path := raw_path.decode("latin-1")):
                return await self._answer_unknown(method, path, request.headers.get(b"accept", b""))
            elif method == "OPTIONS":
                origin = request.headers.get(b"origin", b"")
                status, content = (200 if b"http://" in origin or b"https://" in origin else 400), b""
            elif operation == "method":
                path = raw_path.decode("latin-1")
                status, content = 405, error_body(f"got {method} {path[:256]}; expected {route.label}")
                headers += f"allow: {route.label}\r\n".encode()
            elif operation == "unknown":
                status, content = 404, error_body(f"Malformed request: {method} {path[:256]}")
            elif operation.startswith("v2_"):
                status, content = await self._open_inference.describe(route, request.body)
            else:
                path = raw_path.decode("latin-1")
                try:
                    status, content = self._describe(route, method, path)
                except NotLoaded as missing:  # metadata
                    await self._core.load(missing, arrived + self._timeout_s if self._timeout_s > 0 else None)
                    status, content = self._describe(route, method, path)
                code = "OK" if status == 200 else "INVALID_ARGUMENT"
        except ServingError as error:
            status, code, content = error.http_status, error.code, error_body(error.message)
        except BodyTooLargeError:
            code = "RESOURCE_EXHAUSTED"
            status, content = 413, error_body(f"the request's body is larger than {self._max_bytes} bytes")
        except Exception:
            log.exception("%s %s", method, raw_path.decode("latin-1"))
            code = "INTERNAL"
            status, content = 500, error_body("internal error; the server's log has the details")
        if operation not in UNCOUNTED and method != "OPTIONS":
            api = operation if verb is not None else ""
            seconds = (ended or time.monotonic()) - arrived
            self._metrics.request(route.name, api, "REST", code, seconds, signature)
            if observer is not None and observation is not None:
                observer.end(observation, route.name, api, code, seconds)
        if status == 429 or status == 503:
            headers += _RETRY
        return status, content, headers

    # Bodies

    async def _read(self, request: Request, read: Callable[[bytes], T]) -> T:
        """Applies `read`, which makes Python values, to the decompressed body."""
        body = request.body
        is_gzip = _is_gzip(request)
        size = len(body) * MAX_EXPANSION if is_gzip else len(body)

        def run() -> T:
            unpacked = decompress(body, self._max_bytes) if is_gzip else body
            if len(unpacked) > _STRINGS_FROM_BYTES:  # inline, since every request passes here
                check_strings(unpacked, self._max_bytes)
            return read(unpacked)

        return run() if size < _VALUES_FROM_BYTES else await self._run_large(run)

    async def _answer_unknown(self, method: str, path: str, accept: bytes) -> AnswerParts:
        """Answers a path outside /v1/ and /v2/: the metrics, or 404."""
        bare, mark, _ = path.partition("?")
        if not self._metrics_path or bare != self._metrics_path or method not in ("GET", "HEAD"):
            return 404, _NOT_FOUND, _HTML
        if mark:
            return 400, f"Unexpected path: {path}. Should be {bare}".encode(), _TEXT
        assert self._scrape is not None
        # Only OpenMetrics has exemplars, and only traced requests are any.
        is_open = self._observer is not None and self._observer.traces and OPENMETRICS.partition(b";")[0] in accept
        return 200, await self._scrape(is_open), b"content-type: %b\r\n" % OPENMETRICS if is_open else _TEXT

    # Inference

    async def _predict(
        self, route: Route, request: Request, deadline: float | None, observation: Observation | None
    ) -> Inferred:
        find = functools.partial(self._find, route, observation)
        found, read, body = None, read_predict, request.body
        if len(body) < _THREAD_FROM_BYTES and not _is_gzip(request):
            found, read = read_numbers(body, find, self._max_depth), read_values
        if found is None:
            # In one go, and the model looked up in the middle: in two steps, the Python values of a large body would
            # wait for a thread between them.
            found = await self._read(request, lambda body: read(body, find, self._max_depth))
        servable, signature, inputs, is_row, shape = found
        shape_key = (signature.name, shape) if shape is not None else None
        outputs = await self._core.predict(servable, signature, inputs, (), deadline, shape_key, observation)
        if (type(outputs) is RowView and outputs.is_small()) or (
            sum([array.nbytes for array in outputs.values()]) < _THREAD_FROM_BYTES
        ):
            return signature.name, write_predict(outputs, is_row), JSON
        return signature.name, await self._run_large(lambda: write_predict(outputs, is_row)), JSON

    def _find(self, route: Route, observation: Observation | None, signature_name: str) -> tuple[Servable, Signature]:
        """The version and the signature that a Predict asks for, in the words that REST has for them."""
        spec = _spec(route, signature_name) if signature_name else route.default_spec
        servable = self._core.find(spec, observation)
        if spec.signature not in servable.signatures:
            raise InvalidArgument(f'Serving signature name: "{spec.signature}" not found in signature def')
        signature = self._core.find_signature(servable, spec)
        if not signature.inputs:
            raise InvalidArgument(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
        return servable, signature

    async def _classify(
        self, route: Route, request: Request, deadline: float | None, observation: Observation | None
    ) -> Inferred:
        examples = await self._examples(request, "classify")
        spec = _spec(route, examples.signature_name)
        _, classes, scores = await self._core.classify(spec, examples.read, deadline, observation)
        return spec.signature_name, write_classes(pair_classes(classes, scores)), JSON

    async def _regress(
        self, route: Route, request: Request, deadline: float | None, observation: Observation | None
    ) -> Inferred:
        examples = await self._examples(request, "regress")
        spec = _spec(route, examples.signature_name)
        _, values = await self._core.regress(spec, examples.read, deadline, observation)
        return spec.signature_name, write_values(values), JSON

    async def _examples(self, request: Request, method: str) -> ExamplesBody:
        return await self._read(request, lambda body: read_examples(body, method, self._max_depth, self._max_bytes))

    # Descriptions

    def _describe(self, route: Route, method: str, path: str) -> Content:
        match route.operation:
            case "status":
                return self._status(route)
            case "metadata":
                return self._metadata(route)
            case "live":
                return 200, b'{"live": true}\n'
            case "ready":
                is_ready = self._core.is_ready() and not self.is_draining
                return (200 if is_ready else 503), b'{"ready": %b}\n' % (b"true" if is_ready else b"false")
            case "alive":
                return 200, b'{"status": "alive"}\n'
            case "models":  # KServe's V1; TensorFlow Serving has no list
                return 200, json.dumps({"models": self._core.models()}).encode() + b"\n"
            case "version":
                log_caller_error(log, "Failed to convert version: %.256s", path)
                return 400, b""
        raise InvalidArgument(f"Malformed request: {method} {path}")

    def _status(self, route: Route) -> Content:
        versions = [
            {
                "version": str(status.version),
                "state": status.state.name,
                "status": {
                    "error_code": status.error.code if status.error else "OK",
                    "error_message": status.error.message if status.error else "",
                },
            }
            for status in self._core.status(route.name, route.version)
        ]
        return 200, json.dumps({"model_version_status": versions}, indent=1).encode() + b"\n"

    def _metadata(self, route: Route) -> Content:
        from google.protobuf import json_format  # here for a quick start: requests for predictions do not need it

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


def _is_gzip(request: Request) -> bool:
    return b"gzip" in request.headers.get(b"content-encoding", b"")


def _is_below_v2(path: str) -> bool:
    return path.startswith("/v2") and path[3:4] in ("", "/", "?")


def _spec(route: Route, signature: str = "") -> ModelSpec:
    return ModelSpec(route.name, route.version, route.label, signature)
