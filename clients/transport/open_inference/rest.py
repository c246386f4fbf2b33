"""The Open Inference Protocol over REST: JSON, and binary tensors where the server has that extension."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from ladle.clients.errors import Internal, InvalidArgument, Unavailable
from ladle.clients.transport.open_inference.described import wire_tensor
from ladle.clients.transport.open_inference.protocol import ABSENT, OpenInferenceProtocol, version_text
from ladle.clients.transport.operation import Operation
from ladle.clients.transport.protocol import Deadline
from ladle.clients.transport.rest_protocol import HttpAnswer, HttpRequest, RestProtocol
from ladle.clients.wire import open_inference, tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.open_inference import LENGTH_HEADER, SIGNATURE
from ladle.clients.wire.rest_json import decode_string

BINARY = "binary_tensor_data"
"""The extension's name among those of ServerMetadata."""


@dataclass(frozen=True, slots=True)
class _Binary:
    """An answer with binary tensors: its JSON part, and the bytes after it."""

    document: Any
    raw: memoryview


class OpenInferenceRest(OpenInferenceProtocol, RestProtocol):
    """REST below /v2. Tensors are binary if the server names that extension; else JSON, which carries only text.

    has_binary  whether it does; None: it has not been asked yet
    """

    has_binary: bool | None = None

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
        if self.has_binary is None:
            yield from self._ask_extensions(deadline)
        return (yield from super().run_signature(name, arrays, signature, version, label, deadline, outputs))

    def _ask_extensions(self, deadline: Deadline) -> Operation[None]:
        try:
            server = yield from self.send_with_retries(self._request("GET", "/v2"), deadline, idempotent=True)
            self.has_binary = BINARY in (server.get("extensions") or ())
        except (*ABSENT, AttributeError, TypeError):  # it does not describe itself
            self.has_binary = False

    def predict_request(
        self,
        name: str,
        arrays: Mapping[str, Array],
        signature: str,
        version: int | None,
        label: str | None,
        outputs: Sequence[str] | None,
    ) -> HttpRequest:
        path = _path(name, version_text(name, version, label)) + "/infer"
        parameters: dict[str, Any] = {}
        if chosen := self.chosen(name, signature, version, label):
            parameters[SIGNATURE] = chosen
        document: dict[str, Any] = {"inputs": []}
        raw = []
        for key, array in arrays.items():
            datatype, values = wire_tensor(name, key, array)
            entry: dict[str, Any] = {"name": key, "shape": list(array.shape), "datatype": datatype}
            if self.has_binary:
                raw.append(open_inference.pack(values))
                entry["parameters"] = {"binary_data_size": len(raw[-1])}
            else:
                entry["data"] = _to_json(name, key, values)
            document["inputs"].append(entry)
        if outputs is not None:
            binary = {"parameters": {"binary_data": True}} if self.has_binary else {}
            document["outputs"] = [{"name": output, **binary} for output in outputs]
        if self.has_binary:
            parameters["binary_data_output"] = True
        if parameters:
            document["parameters"] = parameters
        text = json.dumps(document, separators=(",", ":")).encode()
        if not self.has_binary:
            return self._request("POST", path, text)
        headers = (("content-type", "application/octet-stream"), (LENGTH_HEADER, str(len(text))))
        return self._request("POST", path, b"".join([text, *raw]), headers)

    def predict_outputs(
        self, answer: Any, name: str, signature: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Operation[dict[str, Array]]:
        document, raw = (answer.document, answer.raw) if isinstance(answer, _Binary) else (answer, memoryview(b""))
        try:
            return _outputs(document, raw)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise Internal(f"{self.address} sent a malformed answer of {name}: {error}") from None
        yield  # makes this a generator, as for the other protocol

    def content(self, answer: HttpAnswer) -> Any:
        if answer.status == 200:
            if not answer.body:
                return {}
            length = answer.headers.get(LENGTH_HEADER.lower())
            if length is not None:
                return self._split(answer.body, length)
        return super().content(answer)

    def _split(self, body: bytes, length: str) -> _Binary:
        try:
            return _Binary(json.loads(body[: int(length)]), memoryview(body)[int(length) :])
        except ValueError:
            raise Internal(f"{self.address} sent {LENGTH_HEADER} {length:.20}, which is not that of its JSON") from None

    def _describe(self, name: str, version: str, deadline: Deadline) -> Operation[Mapping[str, Any]]:
        return self._get(_path(name, version), deadline)

    def _index(self, deadline: Deadline) -> Operation[Sequence[Mapping[str, Any]]]:
        request = self._request("POST", "/v2/repository/index", b"{}")
        rows = yield from self.send_with_retries(request, deadline, idempotent=True)
        if not isinstance(rows, list):
            raise Internal("the index of the repository is no list")
        return rows

    def _is_ready(self, name: str, version: str, deadline: Deadline) -> Operation[bool]:
        try:
            answer = yield from self._get(_path(name, version) + "/ready", deadline)
        except (*ABSENT, Unavailable):
            return False
        return bool(answer.get("ready", True)) if isinstance(answer, dict) else True

    def _names(self, deadline: Deadline) -> Operation[Sequence[str] | None]:
        try:
            answer = yield from self._get("/v2/models", deadline)
            return [str(name) for name in answer["models"]]
        except (*ABSENT, KeyError, TypeError):
            return None

    def _get(self, path: str, deadline: Deadline) -> Operation[Any]:
        return self.send_with_retries(self._request("GET", path), deadline, idempotent=True)


def _path(name: str, version: str) -> str:
    path = f"/v2/models/{quote(name, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _to_json(model: str, name: str, array: Array) -> list[Any]:
    if array.dtype.kind != "O":
        return list(tensors.widen(array).ravel().tolist())
    try:
        return [text.decode() for text in open_inference.strings_of(array)]
    except UnicodeDecodeError:
        raise InvalidArgument(
            f'{model}: input "{name}" holds bytes that are no text, and this server takes no binary tensors over REST; '
            "ask over oip+grpc://"
        ) from None


def _outputs(document: Any, raw: memoryview) -> dict[str, Array]:
    found: dict[str, Array] = {}
    at = 0
    for entry in document["outputs"]:
        name, datatype, shape = str(entry["name"]), entry["datatype"], [int(size) for size in entry["shape"]]
        if datatype not in open_inference.DTYPES or min(shape, default=0) < 0:
            raise ValueError(f'"{name}" is {datatype} {shape}')
        size = (entry.get("parameters") or {}).get("binary_data_size")
        if size is not None:
            if at + size > len(raw):
                raise ValueError(f'"{name}" ends beyond the answer')
            found[name] = tensors.widen(open_inference.unpack(datatype, shape, raw[at : at + size]))
            at += size
        elif datatype == "BYTES":
            found[name] = np.array(_leaves(entry["data"]), object).reshape(shape)
        else:
            dtype = np.dtype(np.float32) if datatype == "BF16" else open_inference.DTYPES[datatype]
            found[name] = np.array(entry["data"], dtype).reshape(shape)
    return found


def _leaves(value: Any) -> list[bytes]:
    """Strings, nested or flat, as one list of bytes."""
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [decode_string(value)]
