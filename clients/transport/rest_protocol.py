"""TensorFlow Serving's REST API: requests and answers as JSON, errors in the client's tree."""

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
    Unavailable,
    from_status,
)
from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address
from ladle.clients.transport.exchange import (
    BrokenConnection,
    ClosedError,
    Deadline,
    NothingRan,
    Steps,
    closed,
    nothing_answers,
    too_late,
)
from ladle.clients.transport.metadata import (
    Metadata,
    Signature,
    VersionStatus,
    metadata_from_proto,
    statuses_from_proto,
)
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES, Protocol
from ladle.clients.wire import messages as pb
from ladle.clients.wire import rest_json
from ladle.clients.wire.arrays import Array

_QUEUE_FULL = "The batch scheduling queue"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, header fields in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoConnectionError(Exception):
    """Nothing was sent: there is nobody at the address."""


class TooLargeError(Exception):
    """The answer is larger than the client takes."""


class RestProtocol(Protocol):
    """JSON carries no dtypes: outputs get those of the model's metadata, as over gRPC.

    REST has no form for bfloat16 and complex; and every status 400 is `InvalidArgument`.
    """

    def __init__(self, address: Address, access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        super().__init__(address.hosts[0], address.hosts, access, max_message_bytes)
        self._prefix = address.path

    def request_predict(
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

    def read_predict(
        self, answer: Any, name: str, signature: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Steps[dict[str, Array]]:
        for last in (False, True):
            metadata = yield from self.known_metadata(name, version, label, deadline)
            try:
                return rest_json.decode_outputs(answer, _dtypes(metadata.signature(signature)))
            except ValueError as error:
                if last:
                    raise Internal(f"{self.address} does not fit its own metadata of {name}: {error}") from None
                self.forget(name)  # a new version may have come since
        raise AssertionError("unreachable")

    def _metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Steps[Metadata]:
        from google.protobuf import json_format

        request = self._request("GET", _path(name, version, label) + "/metadata")
        answer = yield from self.ask(request, deadline, changes_nothing=True)
        try:
            signatures = json_format.ParseDict(
                answer["metadata"]["signature_def"], pb.SignatureDefMap(), ignore_unknown_fields=True
            )
            return metadata_from_proto(name, int(answer["model_spec"]["version"]), signatures)
        except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
            raise Internal(f"{self.address} sent unreadable metadata of {name}: {error}") from None

    def _status(self, name: str, version: int | None, deadline: Deadline) -> Steps[list[VersionStatus]]:
        from google.protobuf import json_format

        answer = yield from self.ask(self._request("GET", _path(name, version, None)), deadline, changes_nothing=True)
        try:
            return statuses_from_proto(
                json_format.ParseDict(answer, pb.GetModelStatusResponse(), ignore_unknown_fields=True)
            )
        except json_format.ParseError as error:
            raise Internal(f"{self.address} sent an unreadable status of {name}: {error}") from None

    def _models(self, deadline: Deadline) -> Steps[dict[str, list[VersionStatus]] | None]:
        """KServe's repository index; TensorFlow Serving does not know it."""
        request = self._request("POST", "/v2/repository/index", b"{}")
        try:
            rows = yield from self.ask(request, deadline, changes_nothing=True)
        except (NotFound, InvalidArgument, Internal):
            return None
        found: dict[str, list[VersionStatus]] = {}
        try:
            for row in rows:
                status = VersionStatus(int(row["version"]), row["state"], "", row.get("reason") or "")
                found.setdefault(row["name"], []).append(status)
        except (KeyError, TypeError, ValueError):
            return None
        return {name: sorted(found[name], key=lambda status: -status.version) for name in sorted(found)}

    def _request(self, method: str, path: str, body: bytes | None = None) -> HttpRequest:
        if body is not None and len(body) > self.max_message_bytes:
            raise ResourceExhausted(
                f"the request has {len(body):,} bytes; this client sends at most {self.max_message_bytes:,}"
            )
        return HttpRequest(method, self._prefix + path, body)

    def read(self, answer: HttpAnswer) -> Any:
        """The JSON of an answer with status 200; the error of any other."""
        try:
            content = rest_json.decode(answer.body)
        except ValueError:
            content = None
        if answer.status == 200 and content is not None:
            return content
        retry_after_s = _retry_after_s(answer.headers.get("retry-after"))
        if isinstance(content, dict) and "error" in content:
            error: LadleError = from_status(answer.status, str(content["error"]))
        elif answer.status in (401, 403, 408, 413, 429, 502, 503, 504):  # of a proxy before the server
            reason = http.client.responses.get(answer.status, "")
            error = from_status(answer.status, f"{self.address} answered {answer.status} {reason}".rstrip())
        else:
            kind = NotFound if answer.status == 404 else Internal
            raise kind(f"{self.address} answered {answer.status} and no JSON; is it the REST port of a model server?")
        full = answer.status == 503 and str(error).startswith(_QUEUE_FULL)
        if full or (answer.status in (429, 503) and retry_after_s is not None):
            raise NothingRan(error, retry_after_s=retry_after_s)
        raise error

    def explain(self, error: Exception, timeout_s: float, host: str) -> Exception:
        if isinstance(error, NothingRan):
            return error
        if isinstance(error, ClosedError):
            return closed(self.address)
        if isinstance(error, NoConnectionError):
            return NothingRan(nothing_answers(host), unheard=True)
        if isinstance(error, TooLargeError):
            return ResourceExhausted(
                f"the answer of {host} has more than {self.max_message_bytes:,} bytes, which this client takes"
            )
        if isinstance(error, TimeoutError):
            return too_late(host, timeout_s)
        if isinstance(error, ssl.SSLError):
            return Unavailable(f"{host} answers, but not over this TLS: {_tls_reason(error)}")
        if isinstance(error, OSError | http.client.HTTPException | EOFError):
            reason = str(error) or "it ended before the answer"
            return BrokenConnection(Unavailable(f"{host} broke the connection: {reason}"))
        return error


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if "mismatch" in error.verify_message or "doesn't match" in error.verify_message:
            return "its certificate is for another host name"
        return "its certificate is not signed by a CA that is trusted here; name the CA's file"
    return "the handshake failed; does it speak TLS, and does it want a client certificate?"


def _retry_after_s(value: str | None) -> float | None:
    """Seconds until the time that the header names, in either of its forms."""
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
            raise InvalidArgument(f"{name}: version {version!r} is not a version number") from None
    return path if label is None else f"{path}/labels/{quote(label, safe='')}"


def _dtypes(signature: Signature) -> dict[str, Any]:
    return {name: info.numpy for name, info in signature.outputs.items()}
