"""gRPC: TensorFlow Serving's PredictionService and ModelService, and grpc.health.v1, on the core."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane.core import Core, ModelSpec
from ladle.serving.dataplane.multi_inference import Inference
from ladle.serving.errors import NUMBERS, InvalidArgument, ServingError
from ladle.serving.grpc.health import Health
from ladle.serving.grpc.predict_request import Known, PredictRequests, spec_of
from ladle.serving.grpc.predict_response import PredictResponse
from ladle.serving.grpc.reload import ReloadApi
from ladle.serving.servables import matching
from ladle.serving.servables.examples import pair_classes, serialize_input
from ladle.serving.servables.saved_model import Signature
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics
from ladle.serving.telemetry.request_id import log_answer

Handler = Callable[[Any, Any], Awaitable[Any]]
log = logging.getLogger(__name__)

_MAX_DETAILS = 1024
_NO_SPEC = pb.ModelSpec()
_APIS = {"Predict": "Predict", "Classification": "Classify", "Regression": "Regress"}
_STATUS = {code: getattr(grpc.StatusCode, code) for code in NUMBERS if code != "OK"}


class GrpcApi:
    """The RPC methods.

    content    answers carry tensor_content in place of typed values
    max_bytes  of a tensor that a request spells with fewer values than elements
    metrics    where requests are counted
    """

    def __init__(
        self,
        core: Core,
        content: bool = False,
        max_bytes: int = 2**26,
        metrics: Metrics | None = None,
        reload: ReloadApi | None = None,
    ) -> None:
        self._core = core
        self._content = content
        self._max_bytes = max_bytes
        self._metrics = metrics or Metrics()
        self._health = Health(core.is_ready, core.index)
        self._reload = reload or ReloadApi(core, allowed=False)

    def methods(self) -> dict[str, dict[str, Any]]:
        """The methods by service and name: coroutines `(bytes, context) -> bytes`, and Watch, which gives a stream."""
        prediction = {
            "Predict": self._counted(self.predict, pb.PredictRequest, PredictRequests().parse),
            "Classify": self._counted(self.classify, pb.ClassificationRequest),
            "Regress": self._counted(self.regress, pb.RegressionRequest),
            "MultiInference": self._counted(self.multi_inference, pb.MultiInferenceRequest),
            "GetModelMetadata": self._counted(self.metadata, pb.GetModelMetadataRequest),
        }
        return {
            services.PREDICTION: prediction,
            services.MODEL: {
                "GetModelStatus": self._counted(self.status, pb.GetModelStatusRequest),
                "HandleReloadConfigRequest": _answer(self._reload.reload, pb.ReloadConfigRequest),
            },
            services.HEALTH: {
                "Check": _answer(self._health.check, pb.HealthCheckRequest),
                "List": _answer(self._health.list, pb.HealthListRequest),
                "Watch": self._health.watch,
            },
        }

    def drain(self) -> None:
        """From now on the health service says NOT_SERVING, and ends the streams that watch it."""
        self._health.drain()

    def _counted(self, method: Handler, kind: Any, parse: Callable[[bytes], Any] | None = None) -> Handler:
        name = kind.DESCRIPTOR.name.removesuffix("Request")
        return _answer(method, kind, self._metrics, _APIS.get(name, name), parse)

    async def predict(self, request: Any, context: Any) -> Any:
        form = request.form if isinstance(request, Known) else None
        spec = form.spec if form is not None else spec_of(request)
        servable = self._core.find(spec)
        assert spec is not None
        signature = self._core.find_signature(servable, spec)
        if form is not None:
            inputs, wanted = request.inputs, form.output_filter
        else:
            matching.check_names(signature, request.inputs)
            inputs, wanted = _read_tensors(request.inputs, signature, self._max_bytes), request.output_filter
        answer = await self._core.predict(servable, signature, inputs, wanted, _deadline(context), form)
        return PredictResponse(servable.name, servable.version, spec.signature_name, answer, self._content)

    async def classify(self, request: Any, context: Any) -> Any:
        spec = spec_of(request)
        servable, classes, scores = await self._core.classify(
            spec, lambda: serialize_input(request.input, self._max_bytes), _deadline(context)
        )
        assert spec is not None
        response = pb.ClassificationResponse()
        _echo(response, servable, spec)
        _fill_classes(response.result, classes, scores)
        return response

    async def regress(self, request: Any, context: Any) -> Any:
        spec = spec_of(request)
        servable, values = await self._core.regress(
            spec, lambda: serialize_input(request.input, self._max_bytes), _deadline(context)
        )
        assert spec is not None
        response = pb.RegressionResponse()
        _echo(response, servable, spec)
        _fill_values(response.result, values)
        return response

    async def multi_inference(self, request: Any, context: Any) -> Any:
        specs = [spec_of(task) or ModelSpec("") for task in request.tasks]
        tasks = [
            Inference(spec.name, spec.signature_name, task.method_name)
            for spec, task in zip(specs, request.tasks, strict=True)
        ]
        count = 0

        def read() -> Array:
            nonlocal count
            serialized = serialize_input(request.input, self._max_bytes)
            count = len(serialized)
            return serialized

        servable, results = await self._core.multi_inference(
            specs[0] if specs else None, tasks, read, _deadline(context)
        )
        self._metrics.examples(servable.name, count)
        response = pb.MultiInferenceResponse()
        for spec, result in zip(specs, results, strict=True):
            answer = response.results.add()
            _echo(answer, servable, spec)
            if result.values is None:
                answer.classification_result.SetInParent()
                _fill_classes(answer.classification_result, result.classes, result.scores)
            else:
                answer.regression_result.SetInParent()
                _fill_values(answer.regression_result, result.values)
        return response

    async def metadata(self, request: Any, context: Any) -> Any:
        if not request.metadata_field:
            raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise InvalidArgument(f"Metadata field {field} is not supported")
        servable = self._core.find(spec_of(request))
        signatures = pb.SignatureDefMap()
        for name, definition in servable.definitions.items():
            signatures.signature_def[name].CopyFrom(definition)
        response = pb.GetModelMetadataResponse()
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        response.metadata["signature_def"].Pack(signatures)
        return response

    async def status(self, request: Any, context: Any) -> Any:
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        response = pb.GetModelStatusResponse()
        for known in self._core.status(spec.name, version):
            entry = response.model_version_status.add(version=known.version, state=int(known.state))
            entry.status.error_code = NUMBERS[known.error.code] if known.error else 0
            entry.status.error_message = known.error.message if known.error else ""
        return response


def _answer(
    method: Handler,
    kind: Any,
    metrics: Metrics | None = None,
    api: str = "",
    parse: Callable[[bytes], Any] | None = None,
) -> Handler:
    """The method from bytes to bytes, with the core's errors turned into gRPC's.

    kind  class of its requests        api  the name under which `metrics` counts them
    """
    parse = parse or kind.FromString
    echoes = api in _APIS.values()  # the answer names the model and signature

    async def answer(payload: bytes, context: Any) -> bytes:
        start = time.perf_counter()
        request = None
        try:
            try:
                request = parse(payload)
            except DecodeError:
                raise InvalidArgument(f"the request is not a {kind.DESCRIPTOR.full_name}") from None
            response = await method(request, context)
            serialized: bytes = response.SerializeToString()
            spec, seconds = response.model_spec if echoes else _asked(request), time.perf_counter() - start
            if metrics is not None:
                metrics.request(spec.name, api, "GRPC", "OK", seconds, spec.signature_name)
            log_answer(context, method.__name__, spec.name, "OK", seconds)
            return serialized
        except ServingError as error:
            code, message = _STATUS[error.code], error.message
        except asyncio.CancelledError:
            if metrics is not None:
                metrics.request(_asked(request).name, api, "GRPC", "CANCELLED", time.perf_counter() - start)
            raise
        except Exception:
            log.exception("%s", method.__name__)
            code, message = grpc.StatusCode.INTERNAL, "internal error; the server's log has the details"
        name, seconds = _asked(request).name, time.perf_counter() - start
        if metrics is not None:
            metrics.request(name, api, "GRPC", code.name, seconds)
        log_answer(context, method.__name__, name, code.name, seconds)
        if len(message) > _MAX_DETAILS:
            message = message[:_MAX_DETAILS] + "...TRUNCATED"
        await context.abort(code, message)
        raise AssertionError("abort does not return")

    return answer


def _asked(request: Any) -> Any:
    """The ModelSpec of a request of any kind; of None, an empty one."""
    if hasattr(request, "tasks"):
        return request.tasks[0].model_spec if request.tasks else _NO_SPEC
    return request.model_spec if hasattr(request, "model_spec") else _NO_SPEC


def _deadline(context: Any) -> float | None:
    """When the caller gives up, in `time.monotonic()` seconds."""
    remaining: float | None = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _read_tensors(protos: Any, signature: Signature, max_bytes: int) -> dict[str, Array]:
    aliases: Iterable[str] = protos
    inputs = {}
    for alias in aliases:
        try:
            inputs[alias] = tensors.to_array(protos[alias], max_bytes)
        except ValueError as error:
            log.info("%s: %s", signature.name, error)
            raise InvalidArgument(f"tensor parsing error: {alias}") from None
    return inputs


def _fill_classes(result: Any, classes: Array | None, scores: Array | None) -> None:
    for labels, numbers in pair_classes(classes, scores):
        classification = result.classifications.add()
        for label, number in zip(labels, numbers, strict=True):
            classification.classes.add(label=label.decode(errors="replace"), score=number)


def _fill_values(result: Any, values: Array) -> None:
    for value in values.tolist():
        result.regressions.add(value=value)


def _echo(response: Any, servable: Servable, spec: ModelSpec) -> None:
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = spec.signature_name
