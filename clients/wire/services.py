"""The gRPC methods of a model server: their paths and message classes.

server.add_generic_rpc_handlers([handler(PREDICTION, {"Predict": function})])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ladle.clients.wire import messages as pb


@dataclass(frozen=True)
class Method:
    """One remote procedure.

    streaming         it answers with a stream of messages
    client_streaming  its request is a stream of messages, too
    """

    service: str
    name: str
    request: Any
    response: Any
    streaming: bool = False
    client_streaming: bool = False

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
HEALTH = "grpc.health.v1.Health"
INFERENCE = "inference.GRPCInferenceService"
PROFILER = "tensorflow.ProfilerService"

METHODS = (
    Method(PREDICTION, "Predict", pb.PredictRequest, pb.PredictResponse),
    Method(PREDICTION, "Classify", pb.ClassificationRequest, pb.ClassificationResponse),
    Method(PREDICTION, "Regress", pb.RegressionRequest, pb.RegressionResponse),
    Method(PREDICTION, "MultiInference", pb.MultiInferenceRequest, pb.MultiInferenceResponse),
    Method(PREDICTION, "GetModelMetadata", pb.GetModelMetadataRequest, pb.GetModelMetadataResponse),
    Method(MODEL, "GetModelStatus", pb.GetModelStatusRequest, pb.GetModelStatusResponse),
    Method(MODEL, "HandleReloadConfigRequest", pb.ReloadConfigRequest, pb.ReloadConfigResponse),
    Method(HEALTH, "Check", pb.HealthCheckRequest, pb.HealthCheckResponse),
    Method(HEALTH, "List", pb.HealthListRequest, pb.HealthListResponse),
    Method(HEALTH, "Watch", pb.HealthCheckRequest, pb.HealthCheckResponse, streaming=True),
    Method(PROFILER, "Profile", pb.ProfileRequest, pb.ProfileResponse),
    Method(PROFILER, "Terminate", pb.TerminateRequest, pb.TerminateResponse),
    Method(PROFILER, "Monitor", pb.MonitorRequest, pb.MonitorResponse),
    Method(INFERENCE, "ServerLive", pb.ServerLiveRequest, pb.ServerLiveResponse),
    Method(INFERENCE, "ServerReady", pb.ServerReadyRequest, pb.ServerReadyResponse),
    Method(INFERENCE, "ModelReady", pb.ModelReadyRequest, pb.ModelReadyResponse),
    Method(INFERENCE, "ServerMetadata", pb.ServerMetadataRequest, pb.ServerMetadataResponse),
    Method(INFERENCE, "ModelMetadata", pb.ModelMetadataRequest, pb.ModelMetadataResponse),
    Method(INFERENCE, "ModelInfer", pb.ModelInferRequest, pb.ModelInferResponse),
    Method(
        INFERENCE,
        "ModelStreamInfer",
        pb.ModelInferRequest,
        pb.ModelStreamInferResponse,
        streaming=True,
        client_streaming=True,
    ),
    Method(INFERENCE, "ModelConfig", pb.ModelConfigRequest, pb.ModelConfigResponse),
    Method(INFERENCE, "ModelStatistics", pb.ModelStatisticsRequest, pb.ModelStatisticsResponse),
    Method(INFERENCE, "RepositoryIndex", pb.RepositoryIndexRequest, pb.RepositoryIndexResponse),
    Method(INFERENCE, "RepositoryModelLoad", pb.RepositoryModelLoadRequest, pb.RepositoryModelLoadResponse),
    Method(INFERENCE, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest, pb.RepositoryModelUnloadResponse),
)


def methods(service: str) -> dict[str, Method]:
    """The methods of one service by name."""
    return {method.name: method for method in METHODS if method.service == service}


def handler(service: str, functions: Mapping[str, Callable[..., Any]]) -> Any:
    """A generic handler for `grpc` and `grpc.aio` servers.

    functions  `(request, context) -> response` by method name; coroutines for a `grpc.aio` server

    The service's other methods answer UNIMPLEMENTED.
    """
    import grpc

    known = methods(service)
    table = {}
    for name, function in functions.items():
        method = known[name]
        table[name] = wrapper(method)(
            function,
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service, table)


def wrapper(method: Method) -> Any:
    """The function of `grpc` that makes an RpcMethodHandler of such a method."""
    import grpc  # late, because REST clients import this module and do without gRPC

    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler
    return grpc.unary_stream_rpc_method_handler if method.streaming else grpc.unary_unary_rpc_method_handler
