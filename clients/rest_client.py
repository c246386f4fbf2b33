"""TensorFlow Serving's REST API with arrays in and out, on the standard library's HTTP."""

from __future__ import annotations

import http.client
import json
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from clients import transport
from clients.errors import Internal, InvalidArgument, NotFound, Unavailable, from_status
from clients.metadata import Metadata, Signature, VersionStatus, metadata_from_proto, statuses_from_proto
from clients.wire import messages as pb
from clients.wire import rest_json
from clients.wire.tensors import Array

_QUEUE_FULL = "The batch scheduling queue"


class RestClient(transport.Transport):
    """A client of `http://host:port` (or https). Connections are kept and reused.

    JSON carries no dtypes: outputs get those of the model's metadata, as over gRPC. REST has no form for half,
    bfloat16, uint16 and complex; and every status 400 is `InvalidArgument`.
    """

    def __init__(self, url: str, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__()
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise InvalidArgument(f'"{url}" is not an address of REST; wanted http://host:port')
        self.address = parts.netloc
        self._prefix = parts.path.rstrip("/")
        self._pool = _Pool(parts.scheme, host, port, ssl_context)

    def predict(
        self,
        name: str,
        inputs: Mapping[str, Any],
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 30.0,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        deadline = transport.Deadline(self.address, timeout_s)
        arrays = self._arrays(name, inputs, signature, version, label, timeout_s)
        try:
            body = rest_json.encode_request(arrays, signature)
        except ValueError as error:
            raise InvalidArgument(f"{name}: {error}") from None
        answer = self._ask("POST", _path(name, version, label) + ":predict", body, deadline.left_s())
        for last in (False, True):
            declared = self.known_metadata(name, version, label, deadline.left_s()).signature(signature)
            try:
                arrays = rest_json.decode_outputs(answer, _dtypes(declared))
                break
            except ValueError as error:
                if last:
                    raise Internal(f"{self.address} does not fit its own metadata of {name}: {error}") from None
                self.forget(name)  # a new version may have come since
        return arrays if outputs is None else _only(arrays, outputs)

    def metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float = 30.0
    ) -> Metadata:
        from google.protobuf import json_format

        answer = self._ask("GET", _path(name, version, label) + "/metadata", None, timeout_s)
        try:
            signatures = json_format.ParseDict(
                answer["metadata"]["signature_def"], pb.SignatureDefMap(), ignore_unknown_fields=True
            )
            return metadata_from_proto(name, int(answer["model_spec"]["version"]), signatures)
        except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
            raise Internal(f"{self.address} sent unreadable metadata of {name}: {error}") from None

    def status(self, name: str, version: int | None = None, timeout_s: float = 30.0) -> list[VersionStatus]:
        from google.protobuf import json_format

        answer = self._ask("GET", _path(name, version, None), None, timeout_s)
        try:
            return statuses_from_proto(
                json_format.ParseDict(answer, pb.GetModelStatusResponse(), ignore_unknown_fields=True)
            )
        except json_format.ParseError as error:
            raise Internal(f"{self.address} sent an unreadable status of {name}: {error}") from None

    def close(self) -> None:
        self._pool.close()

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Any:
        return self._retry(lambda left_s: self._attempt(method, path, body, left_s, timeout_s), timeout_s)

    def _attempt(self, method: str, path: str, body: bytes | None, left_s: float, timeout_s: float) -> Any:
        try:
            status, data = self._pool.exchange(method, self._prefix + path, body, left_s)
        except _ClosedPoolError:
            raise transport.closed(self.address) from None
        except _NoConnectionError:
            raise transport.NothingRan(transport.nothing_answers(self.address)) from None
        except TimeoutError:
            raise transport.too_late(self.address, timeout_s) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self.address} broke the connection: {error}") from None
        try:
            answer = rest_json.decode(data)
        except ValueError:
            answer = None
        if status == 200 and answer is not None:
            return answer
        if not isinstance(answer, dict) or "error" not in answer:
            kind = NotFound if status == 404 else Internal
            raise kind(f"{self.address} answered {status} and no JSON; is it the REST port of a model server?")
        message = str(answer["error"])
        if status == 503 and message.startswith(_QUEUE_FULL):
            raise transport.NothingRan(Unavailable(message))
        raise from_status(status, message)


def _path(name: str, version: int | None, label: str | None) -> str:
    path = f"/v1/models/{quote(name, safe='')}"
    if version is not None:
        return f"{path}/versions/{version}"
    return path if label is None else f"{path}/labels/{quote(label, safe='')}"


def _dtypes(signature: Signature) -> dict[str, Any]:
    return {name: info.numpy for name, info in signature.outputs.items()}


def _only(arrays: dict[str, Array], names: Sequence[str]) -> dict[str, Array]:
    try:
        return {name: arrays[name] for name in names}
    except KeyError as error:
        known = ", ".join(sorted(arrays))
        raise InvalidArgument(f"output {json.dumps(error.args[0])} is not in the signature; it has {known}") from None


class _ClosedPoolError(Exception):
    pass


class _NoConnectionError(Exception):
    pass


class _Pool:
    """Keep-alive connections to one server; a thread takes one for the time of an exchange."""

    def __init__(self, scheme: str, host: str, port: int | None, context: ssl.SSLContext | None) -> None:
        self._scheme, self._host, self._port, self._context = scheme, host, port, context
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def exchange(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        """Status and body. _NoConnectionError: nothing was sent."""
        end = time.monotonic() + timeout_s
        connection = self._take(end)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = _read(response, connection, end)
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._put(connection)
        return response.status, data

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self, end: float) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                if self._closed:
                    raise _ClosedPoolError
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(end)
            if _alive(connection):
                _set_timeout(connection, end)
                return connection
            connection.close()

    def _put(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, end: float) -> http.client.HTTPConnection:
        timeout_s = max(end - time.monotonic(), 0.001)
        if self._scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout_s, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            connection.connect()
        except ssl.SSLError:
            raise
        except OSError as error:
            raise _NoConnectionError from error
        return connection


def _alive(connection: http.client.HTTPConnection) -> bool:
    # An idle connection has nothing to read, unless the server has closed it.
    if connection.sock is None:
        return False
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return not selector.select(0)


def _set_timeout(connection: http.client.HTTPConnection, end: float) -> None:
    left_s = end - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    sock: socket.socket | None = connection.sock
    if sock is not None:
        sock.settimeout(left_s)


def _read(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, end: float) -> bytes:
    chunks = []
    while chunk := response.read1(1 << 20):
        chunks.append(chunk)
        _set_timeout(connection, end)
    if response.length:  # `read1` does not mind an early end
        raise http.client.IncompleteRead(b"", response.length)
    response.close()
    return b"".join(chunks)
