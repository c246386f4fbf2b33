"""The gRPC methods: TensorFlow Serving's PredictionService and ModelService, and grpc.health.v1, on the core."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane.core import Core, ModelSpec
from ladle.serving.dataplane.multi_inference import Inference
from ladle.serving.errors import NUMBERS, DeadlineExceeded, InvalidArgument, NotLoaded, ServingError
from ladle.serving.grpc.calls import Answer, AnswerParts, CallContext, Method, StatusError
from ladle.serving.grpc.health import Health
from ladle.serving.grpc.open_inference import OpenInferenceApi
from ladle.serving.grpc.predict_request import MatchedRequest, PredictRequestParser, spec_of
from ladle.serving.grpc.predict_response import encode_response
from ladle.serving.grpc.profiler import ProfilerApi
from ladle.serving.grpc.reload import ReloadApi
from ladle.serving.open_inference.model_control import ModelControl
from ladle.serving.runtime.large_work import LargeWork
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.runtime.memory import STRING_BYTES, most_strings
from ladle.serving.scheduling.batch import LATE
from ladle.serving.servables import matching
from ladle.serving.servables.examples import pair_classes, serialize_input
from ladle.serving.servables.host.limits import check_number
from ladle.serving.servables.saved_model import Signature
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics, Snapshot
from ladle.serving.telemetry.observer import Observer

log = logging.getLogger(__name__)

_THREAD_FROM_BYTES = 2**18  # larger messages are parsed in a thread: many small fields of 256 KiB take about 10 ms
_THREAD_FROM_STRINGS = 2**13  # of a tensor, the same
_MAX_DETAILS = 1024  # characters, as TensorFlow Serving cuts them
_METRIC_NAMES = {"Classification": "Classify", "Regression": "Regress"}


class GrpcApi:
    """The RPC methods.

    content     answers carry `tensor_content` instead of typed values
    max_bytes   of a tensor that a request spells with fewer values than elements
    metrics     counts the requests
    observer    sees each request to a model
    snapshots   gives the metrics of every process of the server
    profiler    tensorflow.ProfilerService; None: the server has none
    control     loads and unloads models by request; None: refuses to
    """

    def __init__(
        self,
        core: Core,
        content: bool = False,
        max_bytes: int = 2**26,
        metrics: Metrics | None = None,
        reload: ReloadApi | None = None,
        observer: Observer | None = None,
        snapshots: Callable[[], Awaitable[Sequence[Snapshot]]] | None = None,
        profiler: ProfilerApi | None = None,
        control: ModelControl | None = None,
    ) -> None:
        self._core = core
        self._content = content
        self._max_bytes = max_bytes
        self._metrics = metrics or Metrics()
        self._observer = observer
        self._large = LargeWork()
        self._profiler = profiler
        self._health = Health(core.is_ready, core.index)
        self._reload = reload or ReloadApi(core, allowed=False)
        self._open_inference = OpenInferenceApi(core, self._health.is_serving, snapshots, control, max_bytes)

    def methods(self) -> dict[str, dict[str, Any]]:
        """By service and name: coroutines (bytes, CallContext) -> bytes; `Watch` is an async generator of bytes."""
        parser = PredictRequestParser()
        prediction = {
            "Predict": self._counted(self.predict, pb.PredictRequest, parser.parse, parser.match),
            "Classify": self._counted(self.classify, *self._reading(pb.ClassificationRequest)),
            "Regress": self._counted(self.regress, *self._reading(pb.RegressionRequest)),
            "MultiInference": self._counted(self.multi_inference, *self._reading(pb.MultiInferenceRequest)),
            "GetModelMetadata": self._counted(self.metadata, pb.GetModelMetadataRequest),
        }
        return {
            services.PREDICTION: prediction,
            services.MODEL: {
                "GetModelStatus": self._counted(self.status, pb.GetModelStatusRequest),
                "HandleReloadConfigRequest": _handler(
                    self._reload.reload, pb.ReloadConfigRequest, observer=self._observer
                ),
            },
            services.HEALTH: {
                "Check": _handler(self._health.check, pb.HealthCheckRequest),
                "List": _handler(self._health.list, pb.HealthListRequest),
                "Watch": self._health.watch,
            },
            services.INFERENCE: self._open_inference_methods(),
            **self._profiler_methods(),
        }

    def _profiler_methods(self) -> dict[str, dict[str, Any]]:
        api = self._profiler
        if api is None:
            return {}
        return {
            services.PROFILER: {
                "Profile": _handler(api.profile, pb.ProfileRequest),
                "Terminate": _handler(api.terminate, pb.TerminateRequest),
                "Monitor": _handler(api.monitor, pb.MonitorRequest),
            }
        }

    def _open_inference_methods(self) -> dict[str, Any]:
        api = self._open_inference
        infer = self._counted(api.infer, pb.ModelInferRequest)

        def stream(requests: AsyncIterator[bytes], context: CallContext) -> AsyncIterator[bytes]:
            return api.stream(requests, context, infer)

        return {
            "ServerLive": _handler(api.server_live, pb.ServerLiveRequest),
            "ServerReady": _handler(api.server_ready, pb.ServerReadyRequest),
            "ModelReady": _handler(api.model_ready, pb.ModelReadyRequest),
            "ServerMetadata": _handler(api.server_metadata, pb.ServerMetadataRequest),
            "ModelMetadata": self._counted(api.model_metadata, pb.ModelMetadataRequest),
            "ModelInfer": infer,
            "ModelStreamInfer": stream,
            "ModelConfig": self._counted(api.model_config, pb.ModelConfigRequest),
            "ModelStatistics": _handler(api.model_statistics, pb.ModelStatisticsRequest),
            "RepositoryIndex": _handler(api.index, pb.RepositoryIndexRequest),
            "RepositoryModelLoad": _handler(api.load, pb.RepositoryModelLoadRequest, observer=self._observer),
            "RepositoryModelUnload": _handler(api.unload, pb.RepositoryModelUnloadRequest, observer=self._observer),
        }

    def drain(self) -> None:
        """From now on the health service answers NOT_SERVING, and ends the streams that watch it."""
        self._health.drain()

    def _counted(
        self,
        method: Method,
        kind: Any,
        parse: Callable[[bytes], Any] | None = None,
        match: Callable[[bytes], Any] | None = None,
    ) -> Any:
        name = kind.DESCRIPTOR.name.removesuffix("Request")
        api = _METRIC_NAMES.get(name, name)
        return _handler(method, kind, parse, self._metrics, api, self._observer, self._large, self._core.load, match)

    async def predict(self, request: Any, context: CallContext) -> AnswerParts:
        template, spec = None, None
        if isinstance(request, MatchedRequest):
            template = request.template
            spec, output_filter = template.spec, template.output_filter
        else:
            spec, output_filter = spec_of(request), request.output_filter
        servable = self._core.find(spec, context.observation)
        assert spec is not None
        signature = self._core.find_signature(servable, spec)
        inputs = request.inputs
        if template is None:
            matching.check_names(signature, inputs)
            if max([len(proto.string_val) for proto in inputs.values()], default=0) < _THREAD_FROM_STRINGS:
                inputs = _read_tensors(inputs, signature, self._max_bytes)
            else:
                protos = inputs
                inputs = await self._large.run(lambda: _read_tensors(protos, signature, self._max_bytes))
        # A template is the key of its shape: the core checks the names and dtypes of its first request only.
        outputs = await self._core.predict(
            servable, signature, inputs, output_filter, context.deadline, template, context.observation
        )
        message = encode_response(servable.name, servable.version, signature.name, outputs, self._content)
        return message, servable.name, signature.name

    def _reading(self, kind: Any) -> tuple[Any, Callable[[bytes], Any]]:
        """A class of messages with tf.Examples, and what reads one of them."""

        def read(payload: bytes) -> Any:
            check_number(payload, self._max_bytes)
            return kind.FromString(payload)

        return kind, read

    async def _serialize(self, given: Any, context: CallContext) -> Array:
        """The serialized tf.Examples of an Input; in a thread, if that takes long."""
        if not context.is_large:
            return serialize_input(given, self._max_bytes)
        return await self._large.run(lambda: serialize_input(given, self._max_bytes))

    async def classify(self, request: Any, context: CallContext) -> Answer:
        spec = spec_of(request)
        servable, classes, scores = await self._core.classify(
            spec, lambda: self._serialize(request.input, context), context.deadline, context.observation
        )
        assert spec is not None
        response = pb.ClassificationResponse()
        _fill_model_spec(response, servable, spec)
        _fill_classes(response.result, classes, scores)
        return Answer(response.SerializeToString(), servable.name, spec.signature_name)

    async def regress(self, request: Any, context: CallContext) -> Answer:
        spec = spec_of(request)
        servable, values = await self._core.regress(
            spec, lambda: self._serialize(request.input, context), context.deadline, context.observation
        )
        assert spec is not None
        response = pb.RegressionResponse()
        _fill_model_spec(response, servable, spec)
        _fill_values(response.result, values)
        return Answer(response.SerializeToString(), servable.name, spec.signature_name)

    async def multi_inference(self, request: Any, context: CallContext) -> Answer:
        specs = [spec_of(task) or ModelSpec("") for task in request.tasks]
        tasks = [
            Inference(spec.name, spec.signature_name, task.method_name)
            for spec, task in zip(specs, request.tasks, strict=True)
        ]
        count = 0

        async def read() -> Array:
            nonlocal count
            serialized = await self._serialize(request.input, context)
            count = len(serialized)
            return serialized

        servable, results = await self._core.multi_inference(
            specs[0] if specs else None, tasks, read, context.deadline, context.observation
        )
        self._metrics.examples(servable.name, count)
        response = pb.MultiInferenceResponse()
        for spec, result in zip(specs, results, strict=True):
            answer = response.results.add()
            _fill_model_spec(answer, servable, spec)
            if result.values is None:
                answer.classification_result.SetInParent()
                _fill_classes(answer.classification_result, result.classes, result.scores)
            else:
                answer.regression_result.SetInParent()
                _fill_values(answer.regression_result, result.values)
        return Answer(response.SerializeToString(), servable.name, specs[0].signature)

    async def metadata(self, request: Any, context: CallContext) -> Answer:
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
        return Answer(response.SerializeToString(), servable.name, request.model_spec.signature_name)

    async def status(self, request: Any, context: CallContext) -> Answer:
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        response = pb.GetModelStatusResponse()
        for status in self._core.status(spec.name, version):
            entry = response.model_version_status.add(version=status.version, state=int(status.state))
            entry.status.error_code = NUMBERS[status.error.code] if status.error else 0
            entry.status.error_message = status.error.message if status.error else ""
        return Answer(response.SerializeToString(), spec.name, spec.signature_name)


def _handler(
    method: Method,
    kind: Any,
    parse: Callable[[bytes], Any] | None = None,
    metrics: Metrics | None = None,
    api: str = "",
    observer: Observer | None = None,
    large: LargeWork | None = None,
    load: Callable[[NotLoaded, float | None], Awaitable[None]] | None = None,
    match: Callable[[bytes], Any] | None = None,
) -> Callable[[bytes, CallContext], Awaitable[bytes]]:
    """The method from bytes to bytes. This is where the core's errors become gRPC's.

    kind      class of its request messages
    parse     reads a request; `kind` does when it is not given
    metrics   counts the requests under the name `api`; None: they are not counted
    observer  sees each request
    large     parses large messages
    load      loads a model on demand, within a deadline
    match     reads a large request at once, if it can, so that no thread has to parse it; else None
    """
    read = parse or kind.FromString

    async def answer(payload: bytes, context: CallContext) -> bytes:
        start = time.perf_counter()
        request = None
        observation = None
        if observer is not None:
            observation = context.observation = observer.begin(
                "gRPC", method.__name__, context.request_id, context=context.trace_context
            )
        try:
            if len(payload) < _THREAD_FROM_BYTES or large is None:
                request = read(payload)
            elif match is None or (request := match(payload)) is None:
                context.is_large = True
                request = await large.run(lambda: read(payload))
            try:
                message, model, signature = await method(request, context)
            except NotLoaded as missing:
                if load is None:
                    raise
                await load(missing, context.deadline)
                message, model, signature = await method(request, context)
            if context.deadline is not None and time.monotonic() >= context.deadline:
                raise DeadlineExceeded(LATE)
            seconds = time.perf_counter() - start
            if metrics is not None:
                metrics.request(model, api, "GRPC", "OK", seconds, signature)
            if observer is not None and observation is not None:
                observer.end(observation, model, api, "OK", seconds)
            return message
        except ServingError as error:
            code, details = error.code, error.message
        except DecodeError:
            code, details = "INVALID_ARGUMENT", f"the request is not a {kind.DESCRIPTOR.full_name}"
        except asyncio.CancelledError:
            if metrics is not None:
                metrics.request(_model_name(request), api, "GRPC", "CANCELLED", time.perf_counter() - start)
            if observer is not None and observation is not None:
                observer.end(observation, _model_name(request), api, "CANCELLED", time.perf_counter() - start)
            raise
        except Exception:
            log.exception("%s", method.__name__)
            code, details = "INTERNAL", "internal error; the server's log has the details"
        model, seconds = _model_name(request), time.perf_counter() - start
        if metrics is not None:
            metrics.request(model, api, "GRPC", code, seconds)
        if observer is not None and observation is not None:
            observer.end(observation, model, api, code, seconds)
        raise StatusError(code, details if len(details) <= _MAX_DETAILS else details[:_MAX_DETAILS] + "...TRUNCATED")

    return answer


def _model_name(request: Any) -> str:
    """The model that a request of any kind names; "" where it names none."""
    if isinstance(request, MatchedRequest):
        return request.template.spec.name
    if hasattr(request, "tasks"):
        request = request.tasks[0] if request.tasks else None
    if hasattr(request, "model_spec"):
        request = request.model_spec
    name: str = getattr(request, "model_name", "") or getattr(
        request, "name", ""
    )  # Open Inference Protocol: model_name
    return name


def _read_tensors(protos: Any, signature: Signature, max_bytes: int) -> dict[str, Array]:
    strings = [proto for proto in protos.values() if proto.dtype == tensors.STRING.number]
    count = sum([math.prod([max(0, dim.size) for dim in proto.tensor_shape.dim]) for proto in strings])
    if count > most_strings(max_bytes):
        raise InvalidArgument(
            f"got {count} strings; expected at most {most_strings(max_bytes)} in a request, since each counts "
            f"{STRING_BYTES} bytes of --max_request_bytes; send several requests"
        )
    inputs = {}
    for alias in protos:
        try:
            inputs[alias] = tensors.to_array(protos[alias], max_bytes)
        except ValueError as error:
            log_caller_error(log, "a tensor cannot be read: %s: %s", signature.name, error)
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


def _fill_model_spec(response: Any, servable: Servable, spec: ModelSpec) -> None:
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = spec.signature_name
