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
    """One remote procedure. `streaming`: it answers with a stream of messages."""

    service: str
    name: str
    request: Any
    response: Any
    streaming: bool = False

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
HEALTH = "grpc.health.v1.Health"

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
)


def methods(service: str) -> dict[str, Method]:
    """The methods of one service by name."""
    return {method.name: method for method in METHODS if method.service == service}


def handler(service: str, functions: Mapping[str, Callable[..., Any]]) -> Any:
    """A generic handler for `grpc` and `grpc.aio` servers.

    functions  `(request, context) -> response` by method name; coroutines for a `grpc.aio` server

    The service's other methods answer UNIMPLEMENTED.
    """
    import grpc  # late, because REST clients import this module and do without gRPC

    known = methods(service)
    table = {}
    for name, function in functions.items():
        method = known[name]
        streaming = method.streaming
        wrap = grpc.unary_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
        table[name] = wrap(
            function,
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service, table)
