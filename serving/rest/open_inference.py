"""The Open Inference Protocol over REST: infer, with JSON tensors or with binary ones, and what it says of models."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.open_inference import SIGNATURE
from ladle.serving.dataplane.core import Core
from ladle.serving.errors import InvalidArgument
from ladle.serving.open_inference import datatypes, describe
from ladle.serving.open_inference.inference import (
    Output,
    check_parameters,
    count_refusal,
    find,
    infer,
    spec_of,
    take_id,
)
from ladle.serving.open_inference.model_control import ModelControl
from ladle.serving.rest.compression import ENCODINGS, compress, decompress
from ladle.serving.rest.http.messages import Request
from ladle.serving.rest.json.response import write_string, write_tensor
from ladle.serving.rest.json.text import check_strings, parse_object
from ladle.serving.rest.json.values import decode_base64, is_base64
from ladle.serving.rest.routes import Route
from ladle.serving.telemetry.metrics import Snapshot
from ladle.serving.telemetry.observation import Observation

_LENGTH = b"inference-header-content-length"
_OCTETS = b"content-type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n"
_JSON = b"content-type: application/json\r\n"
_MAX_CACHED_HEADER = 4096
_DIRECT_BYTES = 2**18  # of strings or JSON: more is read and written in a thread, since it takes over a millisecond
_VALUES_FROM_BYTES = 2**12  # the same for JSON values
_COMPRESS_FROM_BYTES = 1024


class Inferred(NamedTuple):
    """An answer to infer: the signature that ran, the body, and the lines of its content's headers."""

    signature: str
    body: bytes
    headers: bytes


@dataclass(frozen=True)
class Input:
    """An input as the JSON part of a request declares it.

    data        its JSON values; None where its bytes follow the JSON part
    start, end  of those bytes, from the end of the JSON part
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any = None
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Head:
    """The JSON part of a request. size_bytes: what must follow it; key: equal for equal forms, None if not reusable."""

    id: str
    signature: str
    timeout_s: float | None
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    is_binary: bool
    size_bytes: int
    key: Any = None

    @property
    def is_raw(self) -> bool:
        """Whether every input's bytes follow, and none holds strings: reading it then takes no time."""
        return self.key is not None and all(entry.datatype != "BYTES" for entry in self.inputs)


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

    async def infer(
        self, route: Route, request: Request, deadline: float | None, observation: Observation | None = None
    ) -> Inferred:
        """Runs a model. Errors as `inference.infer`; InvalidArgument for a malformed body."""
        try:
            head, arrays = await self._read(request)
        except InvalidArgument:
            count_refusal(self._core, spec_of(route.name, route.label or ""))
            raise
        take_id(observation, head.id)
        servable, signature = find(self._core, spec_of(route.name, route.label or "", head.signature), observation)
        if head.timeout_s is not None:
            wanted = request.arrived + head.timeout_s
            deadline = wanted if deadline is None else min(deadline, wanted)
        shape_key = (signature.name, "v2", head.key) if head.is_raw else None
        outputs = await infer(self._core, servable, signature, arrays, head.outputs, deadline, shape_key, observation)
        asked = {output.name: output.binary for output in head.outputs}
        binary = {name for name in outputs if (head.is_binary if asked.get(name) is None else asked[name])}
        write = functools.partial(_write, servable.name, servable.version, head.id, outputs, binary)
        size = sum([array.nbytes for array in outputs.values()])
        answer, content = write() if size < _DIRECT_BYTES else await self._run_large(write)
        coding = _accepted(request)
        if coding and len(answer) >= _COMPRESS_FROM_BYTES:
            pack = functools.partial(compress, answer, coding)
            answer = pack() if len(answer) < _DIRECT_BYTES else await self._run_large(pack)
            content += b"content-encoding: %b\r\n" % coding
        return Inferred(signature.name, answer, content)

    async def _read(self, request: Request) -> tuple[Head, dict[str, Array]]:
        length, body = _read_length(request), request.body
        coding = request.headers.get(b"content-encoding", b"").strip().lower()
        found: tuple[Head, dict[str, Array]]
        if coding in ENCODINGS:

            def unpack() -> tuple[Head, dict[str, Array]]:
                return _parse(decompress(body, self._max_bytes, coding), length, self._max_depth, self._max_bytes)

            found = await self._run_large(unpack)
            return found
        if coding not in (b"", b"identity"):
            shown = coding[:40].decode("latin-1")
            raise InvalidArgument(f"got Content-Encoding {shown!r}; expected gzip, deflate or identity")
        is_quick = len(body) < _VALUES_FROM_BYTES
        if length is not None and length <= min(_MAX_CACHED_HEADER, len(body)) and not is_quick:
            # Binary tensors are used where they lie in the body, whatever their size: a thread has nothing to do.
            head = _parse_head(body[:length], self._max_depth)
            read = functools.partial(_read_inputs, head, body, length, self._max_bytes)
            is_quick = head.is_raw or (head.key is not None and len(body) < _DIRECT_BYTES)
            return head, read() if is_quick else await self._run_large(read)
        parse = functools.partial(_parse, body, length, self._max_depth, self._max_bytes)
        found = parse() if is_quick else await self._run_large(parse)
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
            return await self._change(route, _object(wanted, "parameters", "the request"))
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


# Reading


def _read_length(request: Request) -> int | None:
    """The length of the JSON part; None when the whole body is JSON."""
    text = request.headers.get(_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        shown = text[:40].decode("latin-1")
        raise InvalidArgument(f"got Inference-Header-Content-Length {shown!r}; expected the bytes of the JSON part")
    return int(text)


def _parse(body: bytes, length: int | None, max_depth: int, max_bytes: int) -> tuple[Head, dict[str, Array]]:
    text = body if length is None else body[:length]
    check_strings(text, max_bytes)
    head = _parse_head(text, max_depth)
    return head, _read_inputs(head, body, len(body) if length is None else length, max_bytes)


def _parse_head(text: bytes, max_depth: int) -> Head:
    """The JSON part. Clients send the same one again and again when tensors are binary, so those are remembered."""
    if len(text) <= _MAX_CACHED_HEADER and b'"data"' not in text and b'"id"' not in text:
        return _cached_head(text, max_depth)
    return _new_head(text, max_depth)


def _new_head(text: bytes, max_depth: int) -> Head:
    document = parse_object(text, max_depth)
    parameters = _object(document, "parameters", "the request")
    check_parameters(parameters)
    timeout_us = parameters.get("timeout", 0)
    if not isinstance(timeout_us, int) or isinstance(timeout_us, bool) or timeout_us < 0:
        raise InvalidArgument(f"got the parameter timeout {timeout_us!r}; expected microseconds, as an integer")
    inputs, at = [], 0
    for entry in _list(document, "inputs"):
        read = _read_input(entry, at)
        inputs.append(read)
        at = read.end
    names = [entry.name for entry in inputs]
    if len(set(names)) != len(names):
        raise InvalidArgument(f"an input is given twice: {', '.join(sorted(names))}")
    outputs = tuple(_read_output(entry) for entry in _list(document, "outputs", optional=True))
    is_reusable = all(entry.data is None for entry in inputs)
    return Head(
        id=_text(document, "id", "the request", optional=True),
        signature=_text(parameters, SIGNATURE, "the request's parameters", optional=True),
        timeout_s=timeout_us / 1e6 if timeout_us else None,
        inputs=tuple(inputs),
        outputs=outputs,
        is_binary=parameters.get("binary_data_output") is True,
        size_bytes=at,
        key=tuple((i.name, i.datatype, i.shape) for i in inputs) + outputs if is_reusable else None,
    )


_cached_head = functools.lru_cache(maxsize=512)(_new_head)


def _read_input(entry: Any, start: int) -> Input:
    if not isinstance(entry, dict):
        raise InvalidArgument(f"got {type(entry).__name__} among the inputs; expected objects")
    name = _text(entry, "name", "an input")
    where = f'input "{name}"'
    datatype = _text(entry, "datatype", where)
    datatypes.dtype_of(name, datatype)
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise InvalidArgument(f"{where}: got shape {shape!r:.200}; expected a list of integers")
    datatypes.count_elements(name, shape)
    parameters = _object(entry, "parameters", where)
    check_parameters(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        if not isinstance(entry.get("data"), list):
            raise InvalidArgument(f"{where} has no data; expected a list, or the parameter binary_data_size")
        return Input(name, datatype, tuple(shape), entry["data"], start, start)
    if type(size) is not int or size < 0:
        raise InvalidArgument(f"{where}: got binary_data_size {size!r:.40}; expected the number of its bytes")
    if "data" in entry:
        raise InvalidArgument(f"{where} has both data and binary_data_size; send one of them")
    return Input(name, datatype, tuple(shape), None, start, start + size)


def _read_output(entry: Any) -> Output:
    if not isinstance(entry, dict):
        raise InvalidArgument(f"got {type(entry).__name__} among the outputs; expected objects")
    name = _text(entry, "name", "an output")
    parameters = _object(entry, "parameters", f'output "{name}"')
    check_parameters(parameters)
    classes, binary = parameters.get("classification", 0), parameters.get("binary_data")
    if type(classes) is not int or classes < 0:
        raise InvalidArgument(f'output "{name}": got classification {classes!r:.40}; expected how many classes')
    if binary is not None and type(binary) is not bool:
        raise InvalidArgument(f'output "{name}": got binary_data {binary!r:.40}; expected true or false')
    return Output(name, classes, binary)


def _read_inputs(head: Head, body: bytes, length: int, max_bytes: int) -> dict[str, Array]:
    """The inputs as arrays. length: of the JSON part, after which the binary tensors follow in order."""
    datatypes.check_strings([(entry.datatype, entry.shape) for entry in head.inputs], max_bytes)
    if len(body) - length != head.size_bytes:
        if length > len(body):
            raise InvalidArgument(f"got Inference-Header-Content-Length {length}; the body has {len(body)} bytes")
        raise InvalidArgument(
            f"got {len(body) - length} bytes after the JSON part; the inputs' binary_data_size are {head.size_bytes}"
        )
    raw = memoryview(body)
    return {
        entry.name: (
            datatypes.unpack(entry.name, entry.datatype, entry.shape, raw[length + entry.start : length + entry.end])
            if entry.data is None
            else _from_json(entry)
        )
        for entry in head.inputs
    }


def _from_json(entry: Input) -> Array:
    """The array of JSON values, nested or flat. InvalidArgument: their number or type does not fit."""
    where = f'input "{entry.name}"'
    dtype = datatypes.DTYPES[entry.datatype]
    flat: list[Any] = entry.data
    while flat and type(flat[0]) is list:
        if set(map(type, flat)) != {list}:
            raise InvalidArgument(f"{where}: its data mixes lists and values at one level")
        flat = list(itertools.chain.from_iterable(flat))
    count = datatypes.count_elements(entry.name, entry.shape)
    if len(flat) != count:
        raise InvalidArgument(f"{where}: got {len(flat)} values; shape {list(entry.shape)} has {count}")
    kinds = set(map(type, flat))
    if dtype.kind == "O":
        array = np.empty(count, object)
        array[:] = [_to_bytes(value, where) for value in flat]
        return array.reshape(entry.shape)
    allowed: set[type] = {bool} if dtype.kind == "b" else {int} if dtype.kind in "iu" else {int, float}
    if not kinds <= allowed:
        wrong = next(value for value in flat if type(value) not in allowed)
        raise InvalidArgument(f"{where}: got {wrong!r:.60}; expected a value of {entry.datatype}")
    if dtype.kind in "iu" and flat:
        datatypes.check_range(entry.name, entry.datatype, min(flat), max(flat))
    if dtype == tensors.BFLOAT16:
        return tensors.narrow(np.array(flat, np.float32)).reshape(entry.shape)
    try:
        return np.array(flat, dtype).reshape(entry.shape)
    except OverflowError:
        raise InvalidArgument(f"{where}: an integer is too large for {entry.datatype}") from None


def _to_bytes(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if is_base64(value):
        return decode_base64(value)
    raise InvalidArgument(f'{where}: got {value!r:.60}; expected a string, or {{"b64": ...}} for bytes')


def _text(holder: Mapping[str, Any], key: str, where: str, optional: bool = False) -> str:
    value = holder.get(key, "" if optional else None)
    if not isinstance(value, str):
        raise InvalidArgument(f"{where}: got {key} {value!r:.60}; expected a string")
    return value


def _object(holder: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = holder.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where}: got {key} {value!r:.60}; expected an object")
    return value


def _list(holder: Mapping[str, Any], key: str, optional: bool = False) -> list[Any]:
    value = holder.get(key, [] if optional else None)
    if not isinstance(value, list):
        raise InvalidArgument(f"got {key} {value!r:.60}; expected a list of objects")
    return value


# Writing


def _write(
    model: str, version: int, request_id: str, outputs: Mapping[str, Array], binary: set[str]
) -> tuple[bytes, bytes]:
    """The body, and the lines of its content's headers."""
    raw = {name: datatypes.pack(outputs[name]) for name in outputs if name in binary}
    if len(raw) == len(outputs) and not request_id:
        form = tuple((name, _datatype(name, a), a.shape, len(raw[name])) for name, a in outputs.items())
        text = _binary_head(model, version, form)
    else:
        parts = [_member(name, array, raw.get(name)) for name, array in outputs.items()]
        text = _join_head(model, version, request_id, parts)
    if not raw:
        return text, _JSON
    return b"".join([text, *raw.values()]), _OCTETS % len(text)


@functools.lru_cache(maxsize=512)
def _binary_head(model: str, version: int, form: Sequence[tuple[str, str, tuple[int, ...], int]]) -> bytes:
    members = [_head(*row[:3], b'"parameters":{"binary_data_size":%d}' % row[3]) for row in form]
    return _join_head(model, version, "", members)


def _join_head(model: str, version: int, request_id: str, members: Sequence[bytes]) -> bytes:
    named = b'"id":%b,' % orjson.dumps(request_id) if request_id else b""
    start = b'{"model_name":%b,"model_version":"%d",%b' % (orjson.dumps(model), version, named)
    return start + b'"outputs":[%b]}' % b",".join(members)


def _member(name: str, array: Array, raw: bytes | None) -> bytes:
    if raw is not None:
        return _head(name, _datatype(name, array), array.shape, b'"parameters":{"binary_data_size":%d}' % len(raw))
    return _head(name, _datatype(name, array), array.shape, b'"data":' + _to_json(name, array))


def _head(name: str, datatype: str, shape: tuple[int, ...], rest: bytes) -> bytes:
    start = b'{"name":%b,"datatype":"%b","shape":%b,' % (orjson.dumps(name), datatype.encode(), orjson.dumps(shape))
    return start + rest + b"}"


def _datatype(name: str, array: Array) -> str:
    found = datatypes.name_of(array.dtype)
    if not found:
        raise InvalidArgument(f'the output "{name}" is {array.dtype}, which the protocol cannot carry; ask for another')
    return found


def _to_json(name: str, array: Array) -> bytes:
    """The elements as one flat list."""
    if array.dtype.kind == "O":
        texts = datatypes.strings_of(array)
        try:
            for text in texts:
                text.decode()
        except UnicodeDecodeError:
            raise InvalidArgument(
                f'the output "{name}" holds bytes that are no text; ask for it with the parameter binary_data'
            ) from None
        return b"[%b]" % b",".join([write_string(text) for text in texts])
    if array.dtype == np.float16 or array.dtype == tensors.BFLOAT16:
        array = tensors.widen(array).astype(np.float32)
    return write_tensor(name, array.reshape(-1))


def _accepted(request: Request) -> bytes:
    """gzip or deflate where the client accepts it; b"" for none. The first that it names wins."""
    for part in request.headers.get(b"accept-encoding", b"").lower().split(b","):
        coding, _, quality = part.strip().partition(b";")
        if coding.strip() in ENCODINGS and quality.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"):
            return coding.strip()
    return b""
