"""TensorFlow Serving's gRPC API with arrays in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from clients import transport
from clients.errors import Internal, InvalidArgument, LadleError, Unavailable, from_code
from clients.metadata import Metadata, VersionStatus, metadata_from_proto, statuses_from_proto
from clients.wire import messages as pb
from clients.wire import services, tensors
from clients.wire.tensors import Array

OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # so that each of our own tries really connects
]
_NEVER_SENT = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed")
_QUEUE_FULL = "The batch scheduling queue"


class GrpcClient(transport.Transport):
    """A client of `host:port` or `unix:/path`; with `credentials` over TLS.

    bfloat16 outputs come as float32. One channel, opened when first used.
    """

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        super().__init__()
        self.address = address
        if credentials is None:
            self._channel = grpc.insecure_channel(address, OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, OPTIONS)
        self._prediction = services.stub(self._channel, services.PREDICTION)
        self._model = services.stub(self._channel, services.MODEL)
        self._closed = False

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
        request = pb.PredictRequest(output_filter=outputs)
        request.model_spec.signature_name = signature
        _fill_spec(request.model_spec, name, version, label)
        for key, array in self._arrays(name, inputs, signature, version, label, timeout_s).items():
            try:
                tensors.fill(request.inputs[key], array, content=array.dtype.kind not in "OSU")
            except ValueError as error:
                raise InvalidArgument(f'{name}: input "{key}": {error}') from None
        response = self._call(self._prediction.Predict, request, deadline.left_s())
        try:
            return {key: tensors.widen(tensors.to_array(proto)) for key, proto in response.outputs.items()}
        except ValueError as error:
            raise Internal(f"{self.address} sent a malformed tensor: {error}") from None

    def metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float = 30.0
    ) -> Metadata:
        request = pb.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill_spec(request.model_spec, name, version, label)
        response = self._call(self._prediction.GetModelMetadata, request, timeout_s)
        signatures = pb.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return metadata_from_proto(name, response.model_spec.version.value, signatures)

    def status(self, name: str, version: int | None = None, timeout_s: float = 30.0) -> list[VersionStatus]:
        request = pb.GetModelStatusRequest()
        _fill_spec(request.model_spec, name, version, None)
        return statuses_from_proto(self._call(self._model.GetModelStatus, request, timeout_s))

    def close(self) -> None:
        self._closed = True
        self._channel.close()

    def _call(self, method: Callable[..., Any], request: Any, timeout_s: float) -> Any:
        def attempt(left_s: float) -> Any:
            if self._closed:
                raise transport.closed(self.address)
            try:
                return method(request, timeout=left_s)
            except grpc.RpcError as error:
                raise self._explain(error, timeout_s) from None
            except ValueError:  # closed by another thread since
                raise transport.closed(self.address) from None

        return self._retry(attempt, timeout_s)

    def _explain(self, error: Any, timeout_s: float) -> Exception:
        code, details = error.code().name, error.details() or ""
        if code == "UNAVAILABLE":
            if details.startswith(_NEVER_SENT):
                return transport.NothingRan(transport.nothing_answers(self.address))
            if details.startswith(_QUEUE_FULL):
                return transport.NothingRan(Unavailable(details))
            return Unavailable(f"{self.address}: {details}")
        if code == "DEADLINE_EXCEEDED" and details in ("", "Deadline Exceeded"):
            return transport.too_late(self.address, timeout_s)
        if code == "CANCELLED" and self._closed:
            return transport.closed(self.address)
        answer: LadleError = from_code(code, details)
        return answer


def _fill_spec(spec: Any, name: str, version: int | None, label: str | None) -> None:
    spec.name = name
    try:
        if version is not None:
            spec.version.value = version
        elif label is not None:
            spec.version_label = label
    except (ValueError, TypeError):
        raise InvalidArgument(f"{name}: version {version!r} is not a version number") from None
