"""TensorFlow Serving's gRPC API: requests and answers as messages, gRPC's errors as `LadleError`s."""

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
from ladle.clients.transport.metadata import Metadata, VersionStatus, metadata_from_proto, statuses_from_proto
from ladle.clients.transport.operation import (
    BrokenConnection,
    ClosedError,
    NotExecuted,
    Operation,
    closed,
)
from ladle.clients.transport.protocol import Deadline, Protocol
from ladle.clients.transport.proxies import refusal
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.clients.wire.arrays import Array

# gRPC has one code, UNAVAILABLE, for a request that was never sent and for one whose answer was lost. Only the words
# that its core library adds tell which it was, and only the first may be retried.
_NEVER_SENT = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "empty address list",
    "errors resolving",
    "DNS resolution failed",
    "Domain name not found",
)
_TLS = ("handshake failed", "CERTIFICATE_VERIFY_FAILED", "Peer name", "Hostname Verification", "tls handshake", "ssl")
_QUEUE_FULL = "The batch scheduling queue"
_BROKEN = re.compile(
    r"Socket closed|Connection reset|Broken pipe|Stream removed|GOAWAY|recvmsg|sendmsg|Transport closed"
)
_NOT_MODELS = {"", "PredictionService", "ModelService", services.PREDICTION, services.MODEL, services.HEALTH}
"""Names in the health service's list that are no models."""


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """A method's path, the serialized message, and the message class of its answer."""

    path: str
    data: bytes
    response: Any


class GrpcProtocol(Protocol):
    """gRPC. bfloat16 outputs come as float32, since NumPy has no bfloat16."""

    methods: Mapping[str, tuple[str, Any]] = {
        method.name: (method.path, method.response)
        for service in (services.PREDICTION, services.MODEL, services.HEALTH, services.INFERENCE)
        for method in services.methods(service).values()
    }
    """Path and class of the answer by the method's name."""

    def predict_request(
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

    def predict_outputs(
        self, answer: Any, name: str, signature: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Operation[dict[str, Array]]:
        try:
            return tensors.to_arrays(answer.outputs)
        except ValueError as error:
            raise Internal(f"{self.address} sent a malformed tensor: {error}") from None
        yield  # makes this a generator, as over REST, where reading may need to ask the server again

    def _metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Operation[Metadata]:
        message = pb.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill_spec(message.model_spec, name, version, label)
        answer = yield from self.send_with_retries(
            self._request("GetModelMetadata", message), deadline, idempotent=True
        )
        signatures = pb.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        return metadata_from_proto(name, answer.model_spec.version.value, signatures)

    def _status(self, name: str, version: int | None, deadline: Deadline) -> Operation[list[VersionStatus]]:
        message = pb.GetModelStatusRequest()
        _fill_spec(message.model_spec, name, version, None)
        answer = yield from self.send_with_retries(self._request("GetModelStatus", message), deadline, idempotent=True)
        return statuses_from_proto(answer)

    def _models(self, deadline: Deadline) -> Operation[dict[str, list[VersionStatus]] | None]:
        """From the health service's list, which holds the models' names. TensorFlow Serving does not implement it."""
        try:
            answer = yield from self.send_with_retries(
                self._request("List", pb.HealthListRequest()), deadline, idempotent=True
            )
        except Unimplemented:
            return None
        names = sorted(name for name in (entry.key for entry in answer.statuses) if name not in _NOT_MODELS)
        found = {}
        for name in names:
            found[name] = yield from self._status(name, None, deadline)
        return found

    def _extensions(self, deadline: Deadline) -> Operation[Sequence[str]]:
        try:
            request = self._request("ServerMetadata", pb.ServerMetadataRequest())
            answer = yield from self.send_with_retries(request, deadline, idempotent=True)
        except Unimplemented:
            return ()
        return list(answer.extensions)

    def _parameters(self, name: str, version: str, deadline: Deadline) -> Operation[dict[str, str]]:
        request = self._request("ModelConfig", pb.ModelConfigRequest(name=name, version=version))
        answer = yield from self.send_with_retries(request, deadline, idempotent=True)
        return {key: parameter.string_value for key, parameter in answer.config.parameters.items()}

    def _request(self, method: str, message: Any) -> GrpcRequest:
        data = message.SerializeToString()
        if len(data) > self.max_message_bytes:
            raise ResourceExhausted(
                f"got a request of {len(data):,} bytes; this client sends at most {self.max_message_bytes:,}"
            )
        path, response = self.methods[method]
        return GrpcRequest(path, data, response)

    def explain(self, error: Exception, timeout_s: float, host: str) -> Exception:
        if isinstance(error, ClosedError):
            return closed(self.address)
        if not isinstance(error, grpc.RpcError):
            return error
        call: Any = error
        code, details = call.code().name, call.details() or ""
        if code == "UNAVAILABLE":
            return self._unavailable(host, details, _pushback_s(call))
        if code == "DEADLINE_EXCEEDED" and (not details or "Deadline Exceeded" in details):  # our own, not the server's
            return self.too_late(host, timeout_s)
        if code == "RESOURCE_EXHAUSTED" and (pushback_s := _pushback_s(call)) is not None:
            return NotExecuted(ResourceExhausted(details), retry_after_s=pushback_s)
        if code == "UNKNOWN" and details.startswith("Stream removed"):
            return BrokenConnection(self.unconnected(host, f"{host} broke the connection: {details}"))
        answer: LadleError = from_code(code, details)
        return answer

    def _unavailable(self, host: str, details: str, pushback_s: float | None) -> Exception:
        if any(words in details for words in _TLS) and details.startswith(_NEVER_SENT):
            return self.unconnected(host, f"{host} refuses this TLS connection: {_tls_reason(details)}")
        if details.startswith(_NEVER_SENT):
            return NotExecuted(self._unreached(host, details), unreachable=True)
        if details.startswith(_QUEUE_FULL) or pushback_s is not None:
            return NotExecuted(Unavailable(details), retry_after_s=pushback_s)
        if _BROKEN.search(details):
            return BrokenConnection(self.unconnected(host, f"{host} broke the connection: {details}"))
        return Unavailable(f"{host}: {details}")

    def _unreached(self, host: str, details: str) -> Unavailable:
        """Why no connection could be made."""
        if refused := re.search(r"HTTP proxy returned response code (\d+)", details):
            return self.unconnected(host, f"nothing answers at {host}: {refusal(refused[1])}")
        if "Failed parsing HTTP/2" in details:
            reason = f"{host} speaks HTTP/1, not gRPC; if it is the REST port, use http://{host}"
        elif "esolving" in details or "resolution" in details or "Domain name" in details:
            proxy = self.routes[host].proxy
            reason = f"the host name in {proxy.address if proxy else host} is not known; check its spelling"
        elif "Socket closed" in details or "Connection reset" in details:
            reason = f"{host} closes the connection at once; it may require TLS (grpcs) or a client certificate"
        else:
            return self.nothing_answers(host)
        return self.unconnected(host, reason)


def _pushback_s(call: Any) -> float | None:
    """Seconds after which the server asks to be tried again, from gRPC's own trailer or HTTP's."""
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
        return "its certificate is not signed by a CA that is trusted here; give the CA's file"
    if "Peer name" in details or "Hostname Verification" in details:
        return "its certificate is for another host name"
    return "the handshake failed; check that it speaks TLS and whether it requires a client certificate"


def _fill_spec(spec: Any, name: str, version: int | None, label: str | None) -> None:
    spec.name = name
    try:
        if version is not None:
            spec.version.value = version
        elif label is not None:
            spec.version_label = label
    except (ValueError, TypeError):
        raise InvalidArgument(f"{name}: got version {version!r}; expected a whole number") from None
