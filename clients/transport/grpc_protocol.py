"""TensorFlow Serving's gRPC API: requests and answers as messages, errors in the client's tree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from ladle.clients.errors import (
    Internal,
    InvalidArgument,
    LadleError,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    from_code,
)
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
from ladle.clients.transport.metadata import Metadata, VersionStatus, metadata_from_proto, statuses_from_proto
from ladle.clients.transport.protocol import Protocol
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.clients.wire.arrays import Array

_NEVER_SENT = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "empty address list",
    "errors resolving",
    "DNS resolution failed",
    "Domain name not found",
)
_TLS = ("handshake failed", "CERTIFICATE_VERIFY_FAILED", "Peer name", "tls handshake", "ssl")
_QUEUE_FULL = "The batch scheduling queue"
_BROKEN = re.compile(
    r"Socket closed|Connection reset|Broken pipe|Stream removed|GOAWAY|recvmsg|sendmsg|Transport closed"
)
_METHODS = {
    method.name: method
    for service in (services.PREDICTION, services.MODEL, services.HEALTH)
    for method in services.methods(service).values()
}
_NO_MODELS = {"", "PredictionService", "ModelService", services.PREDICTION, services.MODEL, services.HEALTH}


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """A method's path, the message as bytes, and the class of its answer."""

    path: str
    data: bytes
    response: Any


class GrpcProtocol(Protocol):
    """bfloat16 outputs come as float32."""

    def request_predict(
        self,
        name: str,
        arrays: Mapping[str, Array],
        signature: str,
        version: int | None,
        label: str | None,
        outputs: Sequence[str] | None,
    ) -> GrpcRequest:
        message = pb.PredictRequest(output_filter=outputs)
        message.model_spec.signature_name = signature
        _fill_spec(message.model_spec, name, version, label)
        for key, array in arrays.items():
            try:
                tensors.fill(message.inputs[key], array, content=array.dtype.kind not in "OSU")
            except ValueError as error:
                raise InvalidArgument(f'{name}: input "{key}": {error}') from None
        return self._request("Predict", message)

    def read_predict(
        self, answer: Any, name: str, signature: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Steps[dict[str, Array]]:
        try:
            return {key: tensors.widen(tensors.to_array(proto)) for key, proto in answer.outputs.items()}
        except ValueError as error:
            raise Internal(f"{self.address} sent a malformed tensor: {error}") from None
        yield  # a generator, as over REST, which may ask once more here

    def _metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Steps[Metadata]:
        message = pb.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill_spec(message.model_spec, name, version, label)
        answer = yield from self.ask(self._request("GetModelMetadata", message), deadline, changes_nothing=True)
        signatures = pb.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        return metadata_from_proto(name, answer.model_spec.version.value, signatures)

    def _status(self, name: str, version: int | None, deadline: Deadline) -> Steps[list[VersionStatus]]:
        message = pb.GetModelStatusRequest()
        _fill_spec(message.model_spec, name, version, None)
        answer = yield from self.ask(self._request("GetModelStatus", message), deadline, changes_nothing=True)
        return statuses_from_proto(answer)

    def _models(self, deadline: Deadline) -> Steps[dict[str, list[VersionStatus]] | None]:
        """The health service's list bears the models' names; TensorFlow Serving does not know it."""
        try:
            answer = yield from self.ask(self._request("List", pb.HealthListRequest()), deadline, changes_nothing=True)
        except Unimplemented:
            return None
        names = sorted(name for name in (entry.key for entry in answer.statuses) if name not in _NO_MODELS)
        found = {}
        for name in names:
            found[name] = yield from self._status(name, None, deadline)
        return found

    def _request(self, method: str, message: Any) -> GrpcRequest:
        data = message.SerializeToString()
        if len(data) > self.max_message_bytes:
            raise ResourceExhausted(
                f"the request has {len(data):,} bytes; this client sends at most {self.max_message_bytes:,}"
            )
        return GrpcRequest(_METHODS[method].path, data, _METHODS[method].response)

    def read(self, answer: Any) -> Any:
        return answer

    def explain(self, error: Exception, timeout_s: float, host: str) -> Exception:
        if isinstance(error, ClosedError):
            return closed(self.address)
        if not isinstance(error, grpc.RpcError):
            return error
        call: Any = error
        code, details = call.code().name, call.details() or ""
        if code == "UNAVAILABLE":
            return self._unavailable(host, details, _pushback_s(call))
        if code == "DEADLINE_EXCEEDED" and (not details or "Deadline Exceeded" in details):  # of our own side
            return too_late(host, timeout_s)
        if code == "RESOURCE_EXHAUSTED" and (pushback_s := _pushback_s(call)) is not None:
            return NothingRan(ResourceExhausted(details), retry_after_s=pushback_s)
        if code == "UNKNOWN" and details.startswith("Stream removed"):
            return BrokenConnection(Unavailable(f"{host} broke the connection: {details}"))
        answer: LadleError = from_code(code, details)
        return answer

    def _unavailable(self, host: str, details: str, pushback_s: float | None) -> Exception:
        if any(words in details for words in _TLS) and details.startswith(_NEVER_SENT):
            return Unavailable(f"{host} answers, but not over this TLS: {_tls_reason(details)}")
        if details.startswith(_NEVER_SENT):
            return NothingRan(_unreached(host, details), unheard=True)
        if details.startswith(_QUEUE_FULL) or pushback_s is not None:
            return NothingRan(Unavailable(details), retry_after_s=pushback_s)
        if _BROKEN.search(details):
            return BrokenConnection(Unavailable(f"{host} broke the connection: {details}"))
        return Unavailable(f"{host}: {details}")


def _unreached(host: str, details: str) -> Unavailable:
    """Why no connection came about."""
    if "Failed parsing HTTP/2" in details:
        return Unavailable(f"{host} speaks HTTP/1, not gRPC; is it the REST port? Then wanted is http://{host}")
    if "esolving" in details or "resolution" in details or "Domain name" in details:
        return Unavailable(f"the host name in {host} is not known")
    if "Socket closed" in details or "Connection reset" in details:
        return Unavailable(f"{host} hangs up at once; does it want TLS (grpcs), or a client certificate?")
    return nothing_answers(host)


def _pushback_s(call: Any) -> float | None:
    """When the server wants to be asked again: gRPC's own trailer, or HTTP's."""
    trailers = dict(call.trailing_metadata() or ())
    for key, unit_s in (("grpc-retry-pushback-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(trailers[key]) * unit_s
        except (KeyError, ValueError):
            continue
        return seconds if seconds >= 0 else None
    return None


def _tls_reason(details: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "its certificate is not signed by a CA that is trusted here; name the CA's file"
    if "Peer name" in details:
        return "its certificate is for another host name"
    return "the handshake failed; does it speak TLS, and does it want a client certificate?"


def _fill_spec(spec: Any, name: str, version: int | None, label: str | None) -> None:
    spec.name = name
    try:
        if version is not None:
            spec.version.value = version
        elif label is not None:
            spec.version_label = label
    except (ValueError, TypeError):
        raise InvalidArgument(f"{name}: version {version!r} is not a version number") from None
