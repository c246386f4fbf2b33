"""TensorFlow Serving's REST API: requests and answers as JSON, HTTP's errors as `LadleError`s."""

from __future__ import annotations

import email.utils
import http.client
import operator
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ladle.clients.errors import (
    Internal,
    InvalidArgument,
    LadleError,
    NotFound,
    ResourceExhausted,
    from_status,
)
from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address
from ladle.clients.transport.metadata import (
    INDEX_STATES,
    Metadata,
    VersionStatus,
    metadata_from_proto,
    statuses_from_proto,
)
from ladle.clients.transport.operation import (
    BrokenConnection,
    ClosedError,
    NotExecuted,
    Operation,
    closed,
)
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES, Deadline, Protocol
from ladle.clients.transport.proxies import route
from ladle.clients.wire import messages as pb
from ladle.clients.wire import rest_json
from ladle.clients.wire.arrays import Array

_QUEUE_FULL = "The batch scheduling queue"
JSON = (("content-type", "application/json"),)
"""The header fields of a body, unless a request has others."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """headers: those of the body."""

    method: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = JSON


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, header fields in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoConnectionError(Exception):
    """No connection could be made, so nothing was sent. Its text says what a proxy answered, if one did."""


class TooLargeError(Exception):
    """The answer is larger than the client's `max_message_bytes`."""


class RestProtocol(Protocol):
    """REST. JSON carries no dtypes, so outputs get those of the model's metadata.

    REST cannot carry bfloat16 and complex numbers, and every status 400 is `InvalidArgument`.
    """

    def __init__(
        self,
        address: Address,
        access: Access,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        proxy: str | None = None,
    ) -> None:
        host = address.hosts[0]
        super().__init__(host, {host: route(address.transport, host, proxy)}, access, max_message_bytes)
        self.proxy = self.routes[host].proxy
        # A proxy that is asked for a plain http:// address gets the whole of it; over TLS it only passes bytes on.
        forwards = self.proxy is not None and not address.is_secure
        self._prefix = f"http://{host}{address.path}" if forwards else address.path

    def predict_request(
        self,
        name: str,
        arrays: Mapping[str, Array],
        signature: str,
        version: int | None,
        label: str | None,
        outputs: Sequence[str] | None,
    ) -> HttpRequest:
        try:
            body = rest_json.encode_request(arrays, signature)
        except ValueError as error:
            raise InvalidArgument(f"{name}: {error}") from None
        return self._request("POST", _path(name, version, label) + ":predict", body)

    def predict_outputs(
        self, answer: Any, name: str, signature: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Operation[dict[str, Array]]:
        for last in (False, True):
            metadata = yield from self.cached_metadata(name, version, label, deadline)
            try:
                return rest_json.decode_outputs(answer, metadata.signature(signature).output_dtypes)
            except ValueError as error:
                if last:
                    raise Internal(
                        f"{self.address} sent an answer that its metadata of {name} forbids: {error}"
                    ) from None
                self.invalidate(name)  # a new version may have replaced it
        raise AssertionError("unreachable")

    def _metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Operation[Metadata]:
        from google.protobuf import json_format

        request = self._request("GET", _path(name, version, label) + "/metadata")
        answer = yield from self.send_with_retries(request, deadline, idempotent=True)
        try:
            signatures = json_format.ParseDict(
                answer["metadata"]["signature_def"], pb.SignatureDefMap(), ignore_unknown_fields=True
            )
            return metadata_from_proto(name, int(answer["model_spec"]["version"]), signatures)
        except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
            raise Internal(f"{self.address} sent unreadable metadata of {name}: {error}") from None

    def _status(self, name: str, version: int | None, deadline: Deadline) -> Operation[list[VersionStatus]]:
        from google.protobuf import json_format

        answer = yield from self.send_with_retries(
            self._request("GET", _path(name, version, None)), deadline, idempotent=True
        )
        try:
            return statuses_from_proto(
                json_format.ParseDict(answer, pb.GetModelStatusResponse(), ignore_unknown_fields=True)
            )
        except json_format.ParseError as error:
            raise Internal(f"{self.address} sent an unreadable status of {name}: {error}") from None

    def _extensions(self, deadline: Deadline) -> Operation[Sequence[str]]:
        try:
            answer = yield from self.send_with_retries(self._request("GET", "/v2"), deadline, idempotent=True)
        except (NotFound, InvalidArgument, Internal):
            return ()
        found = answer.get("extensions") if isinstance(answer, dict) else None
        return found if isinstance(found, list) else ()

    def _parameters(self, name: str, version: str, deadline: Deadline) -> Operation[dict[str, str]]:
        which = f"/versions/{quote(version, safe='')}" if version else ""
        path = f"/v2/models/{quote(name, safe='')}{which}/config"
        answer = yield from self.send_with_retries(self._request("GET", path), deadline, idempotent=True)
        try:
            return {key: parameter["string_value"] for key, parameter in answer["parameters"].items()}
        except (AttributeError, KeyError, TypeError):
            raise Internal(f"{self.address} sent an unreadable configuration of {name}") from None

    def _models(self, deadline: Deadline) -> Operation[dict[str, list[VersionStatus]] | None]:
        """From the index of the Open Inference Protocol. TensorFlow Serving does not implement it."""
        request = self._request("POST", "/v2/repository/index", b"{}")
        try:
            rows = yield from self.send_with_retries(request, deadline, idempotent=True)
        except (NotFound, InvalidArgument, Internal):
            return None
        found: dict[str, list[VersionStatus]] = {}
        try:
            for row in rows:
                state = INDEX_STATES.get(row["state"], row["state"])
                status = VersionStatus(int(row["version"]), state, "", row.get("reason") or "")
                found.setdefault(row["name"], []).append(status)
        except (KeyError, TypeError, ValueError):
            return None
        return {name: sorted(found[name], key=lambda status: -status.version) for name in sorted(found)}

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: tuple[tuple[str, str], ...] = JSON
    ) -> HttpRequest:
        if body is not None and len(body) > self.max_message_bytes:
            raise ResourceExhausted(
                f"got a request of {len(body):,} bytes; this client sends at most {self.max_message_bytes:,}"
            )
        return HttpRequest(method, self._prefix + path, body, headers)

    def content(self, answer: HttpAnswer) -> Any:
        """The JSON of an answer with status 200; raises the error that any other answer stands for."""
        try:
            content = rest_json.decode(answer.body)
        except ValueError:
            content = None
        if answer.status == 200 and content is not None:
            return content
        retry_after_s = _retry_after_s(answer.headers.get("retry-after"))
        if isinstance(content, dict) and "error" in content:
            error: LadleError = from_status(answer.status, str(content["error"]))
        elif answer.status in (401, 403, 407, 408, 413, 429, 502, 503, 504):  # from a proxy in front of the server
            reason = http.client.responses.get(answer.status, "")
            said = f"{self.address} answered {answer.status} {reason}".rstrip()
            error = from_status(answer.status, said + self.routes[self.address].remark)
        else:
            kind = NotFound if answer.status == 404 else Internal
            raise kind(
                f"{self.address} answered {answer.status} without JSON; check that it is a model server's REST port"
            )
        full = answer.status == 503 and str(error).startswith(_QUEUE_FULL)
        if full or (answer.status in (429, 503) and retry_after_s is not None):
            raise NotExecuted(error, retry_after_s=retry_after_s)
        raise error

    def explain(self, error: Exception, timeout_s: float, host: str) -> Exception:
        if isinstance(error, NotExecuted):
            return error
        if isinstance(error, ClosedError):
            return closed(self.address)
        if isinstance(error, NoConnectionError):
            said = self.unconnected(host, f"nothing answers at {host}: {error}") if str(error) else None
            return NotExecuted(said or self.nothing_answers(host), unreachable=True)
        if isinstance(error, TooLargeError):
            return ResourceExhausted(
                f"the answer of {host} is too large; this client takes at most {self.max_message_bytes:,} bytes"
            )
        if isinstance(error, TimeoutError):
            return self.too_late(host, timeout_s)
        if isinstance(error, ssl.SSLError):
            return self.unconnected(host, f"{host} refuses this TLS connection: {_tls_reason(error)}")
        if isinstance(error, OSError | http.client.HTTPException | EOFError):
            reason = str(error) or "it ended before the answer"
            return BrokenConnection(self.unconnected(host, f"{host} broke the connection: {reason}"))
        return error


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if "mismatch" in error.verify_message or "doesn't match" in error.verify_message:
            return "its certificate is for another host name"
        return "its certificate is not signed by a CA that is trusted here; give the CA's file"
    return "the handshake failed; check that it speaks TLS and whether it requires a client certificate"


def _retry_after_s(value: str | None) -> float | None:
    """Seconds from now that a Retry-After header asks to wait; it holds seconds or a date."""
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _path(name: str, version: int | None, label: str | None) -> str:
    path = f"/v1/models/{quote(name, safe='')}"
    if version is not None:
        try:
            return f"{path}/versions/{operator.index(version)}"
        except TypeError:
            raise InvalidArgument(f"{name}: got version {version!r}; expected a whole number") from None
    return path if label is None else f"{path}/labels/{quote(label, safe='')}"
