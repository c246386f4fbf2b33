"""The Open Inference Protocol's REST operations: infer, and what it says of models."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import orjson

from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane.core import Core
from ladle.serving.errors import InvalidArgument
from ladle.serving.open_inference import describe
from ladle.serving.open_inference.inference import check, count_refusal, find, select, spec_of, take_id
from ladle.serving.open_inference.model_control import ModelControl
from ladle.serving.rest.compression import ENCODINGS, compress, decompress
from ladle.serving.rest.http.messages import Request
from ladle.serving.rest.json.text import parse_object
from ladle.serving.rest.open_inference import response
from ladle.serving.rest.open_inference.request import (
    MAX_CACHED_HEAD,
    Form,
    Head,
    form_of,
    object_of,
    parse,
    parse_head,
    read_inputs,
    read_length,
)
from ladle.serving.rest.routes import Route
from ladle.serving.scheduling.rows import RowView
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Snapshot
from ladle.serving.telemetry.observation import Observation

_DIRECT_BYTES = 2**18  # of strings or JSON: more is read and written in a thread, since it takes over a millisecond
_VALUES_FROM_BYTES = 2**12  # the same for JSON values
_COMPRESS_FROM_BYTES = 1024


_MAX_FORMS = 512
Inferred = tuple[str, bytes, bytes]
"""An answer to infer: the signature that ran, the body, and the lines of its content's headers."""


class OpenInference:
    """The protocol's REST operations.

    run_large  runs in a thread what would block the event loop
    max_depth  of nested lists and objects in JSON
    max_bytes  of a decompressed body
    snapshots  gives the metrics of every process of the server
    control    loads and unloads models by request
    """

    def __init__(
        self,
        core: Core,
        run_large: Callable[[Callable[[], Any]], Awaitable[Any]],
        max_depth: int = 100,
        max_bytes: int = 2**26,
        snapshots: Callable[[], Awaitable[Sequence[Snapshot]]] | None = None,
        control: ModelControl | None = None,
    ) -> None:
        self._core = core
        self._control = control or ModelControl(core)
        self._run_large = run_large
        self._max_depth = max_depth
        self._max_bytes = max_bytes
        self._snapshots = snapshots
        self._forms: dict[bytes, Form] = {}  # by the JSON part

    async def infer(
        self, route: Route, request: Request, deadline: float | None, observation: Observation | None = None
    ) -> Inferred:
        """Runs a model. Errors as `inference.infer`; InvalidArgument for a malformed body."""
        try:
            form, inputs = self._read_known(request)
            head, arrays = await self._read(request) if form is None else (form.head, inputs)
        except InvalidArgument:
            count_refusal(self._core, spec_of(route.name, route.label or ""))
            raise
        if observation is not None:
            take_id(observation, head.id)
        servable, signature = find(self._core, spec_of(route.name, route.label or "", head.signature), observation)
        if head.timeout_s is not None:
            wanted = request.arrived + head.timeout_s
            deadline = wanted if deadline is None else min(deadline, wanted)
        shape_key = form or ((signature.name, "v2", head.key) if head.is_raw else None)
        if shape_key is None or shape_key not in servable.calls:
            check(servable, signature, arrays, head.outputs)
        found = await self._core.predict(servable, signature, arrays, head.names, deadline, shape_key, observation)
        if type(found) is RowView and head.wants_all and found.is_small():
            answer, content = response.write_row(servable.name, servable.version, found)
        elif head.wants_all and sum([array.nbytes for array in found.values()]) < _DIRECT_BYTES:
            answer, content = response.write_all(servable.name, servable.version, found)
        else:
            answer, content = await self._write(servable, head, select(found, head.outputs))
        coding = _accepted(request)
        if coding and len(answer) >= _COMPRESS_FROM_BYTES:
            pack = functools.partial(compress, answer, coding)
            answer = pack() if len(answer) < _DIRECT_BYTES else await self._run_large(pack)
            content += b"content-encoding: %b\r\n" % coding
        return signature.name, answer, content

    async def _write(self, servable: Servable, head: Head, outputs: Mapping[str, Array]) -> tuple[bytes, bytes]:
        """The body, and the lines of its content's headers."""
        binary: Collection[str] = outputs if head.is_binary else ()
        if head.outputs:
            asked = {output.name: output.binary for output in head.outputs}
            binary = {name for name in outputs if (head.is_binary if asked.get(name) is None else asked[name])}
        write = functools.partial(response.write, servable.name, servable.version, head.id, outputs, binary)
        size = sum([array.nbytes for array in outputs.values()])
        written: tuple[bytes, bytes] = write() if size < _DIRECT_BYTES else await self._run_large(write)
        return written

    def _read_known(self, request: Request) -> tuple[Form | None, dict[str, Array]]:
        """The form and the inputs of a request whose JSON part came before; None and nothing for any other."""
        length = None if b"content-encoding" in request.headers else read_length(request)
        if length is not None:
            form = self._forms.get(request.body[:length])
            if form is not None and (inputs := form.read(request.body, length)) is not None:
                return form, inputs
        return None, {}

    def _keep(self, text: bytes, head: Head) -> None:
        """Keeps the form of a JSON part for the next request with the same one."""
        form = form_of(head) if len(text) <= MAX_CACHED_HEAD else None
        if form is not None:
            if len(self._forms) >= _MAX_FORMS:
                self._forms.clear()
            self._forms[text] = form

    async def _read(self, request: Request) -> tuple[Head, dict[str, Array]]:
        length, body = read_length(request), request.body
        coding = request.headers.get(b"content-encoding", b"").strip().lower()
        found: tuple[Head, dict[str, Array]]
        if coding in ENCODINGS:

            def unpack() -> tuple[Head, dict[str, Array]]:
                return parse(decompress(body, self._max_bytes, coding), length, self._max_depth, self._max_bytes)

            found = await self._run_large(unpack)
            return found
        if coding not in (b"", b"identity"):
            shown = coding[:40].decode("latin-1")
            raise InvalidArgument(f"got Content-Encoding {shown!r}; expected gzip, deflate or identity")
        is_quick = len(body) < _VALUES_FROM_BYTES
        if length is not None and length <= min(MAX_CACHED_HEAD, len(body)) and not is_quick:
            # Binary tensors are used where they lie in the body, whatever their size: a thread has nothing to do.
            head = parse_head(body[:length], self._max_depth)
            read = functools.partial(read_inputs, head, body, length, self._max_bytes)
            is_quick = head.is_raw or (head.key is not None and len(body) < _DIRECT_BYTES)
            inputs = read() if is_quick else await self._run_large(read)
            self._keep(body[:length], head)
            return head, inputs
        read_all = functools.partial(parse, body, length, self._max_depth, self._max_bytes)
        found = read_all() if is_quick else await self._run_large(read_all)
        if length is not None:
            self._keep(body[:length], found[0])
        return found

    async def describe(self, route: Route, body: bytes) -> tuple[int, bytes]:
        """Status and body of every other operation."""
        status, value = 200, await self._describe(route, body)
        if route.operation == "v2_ready" and not value["ready"]:
            status = 503
        return status, orjson.dumps(value) + b"\n"

    async def _describe(self, route: Route, body: bytes) -> Any:
        core = self._core
        if route.operation == "v2_server":
            return describe.server(core)
        if route.operation == "v2_models":
            return {"models": core.models()}
        if route.operation == "v2_index":
            wanted = parse_object(body, self._max_depth) if body.strip() else {}
            return describe.index(core, only_ready=wanted.get("ready") is True)
        if route.operation in ("v2_load", "v2_unload"):
            wanted = parse_object(body, self._max_depth) if body.strip() else {}
            return await self._change(route, object_of(wanted, "parameters", "the request"))
        spec = spec_of(route.name, route.label or "") if route.name else None
        if route.operation == "v2_stats":
            snapshots = await self._snapshots() if self._snapshots is not None else ()
            return {"model_stats": describe.statistics(core, spec, snapshots)}
        assert spec is not None
        if route.operation == "v2_config":
            has_traffic = core.traffic(route.name) is not None
            snapshots = await self._snapshots() if has_traffic and self._snapshots is not None else ()
            return describe.config(core, spec, snapshots)
        if route.operation == "v2_ready":
            return {"name": route.name, "ready": describe.is_model_ready(core, spec)}
        return describe.metadata(core, spec)

    async def _change(self, route: Route, parameters: Mapping[str, Any]) -> Any:
        """Load or unload a model. Unloading takes any parameter: the one that exists is for models that others need."""
        if route.operation == "v2_load":
            await self._control.load(route.name, parameters=parameters)
        else:
            await self._control.unload(route.name)
        return {"name": route.name, route.operation.removeprefix("v2_"): True}


def _accepted(request: Request) -> bytes:
    """gzip or deflate where the client accepts it; b"" for none. The first that it names wins."""
    codings = request.headers.get(b"accept-encoding")
    if codings is None:
        return b""
    for part in codings.lower().split(b","):
        coding, _, quality = part.strip().partition(b";")
        if coding.strip() in ENCODINGS and quality.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"):
            return coding.strip()
    return b""
