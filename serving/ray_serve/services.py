"""The gRPC services that Ray's proxies take, by the import path of a function; messages pass through as bytes.

gRPCOptions(grpc_servicer_functions=["ladle.serving.ray_serve.services.add_prediction_service", ...])
"""

from __future__ import annotations

from typing import Any

import grpc

from ladle.clients.wire import services

UNARY = {
    service: tuple(
        method.name
        for method in services.METHODS
        if method.service == service and not (method.streaming or method.client_streaming)
    )
    for service in (services.PREDICTION, services.MODEL, services.INFERENCE, services.HEALTH)
}
"""The unary methods by service. Ray routes by a method's last name alone, and no two of these are alike."""


def add_prediction_service(servicer: Any, server: Any) -> None:
    """tensorflow.serving.PredictionService"""
    _add(services.PREDICTION, servicer, server)


def add_model_service(servicer: Any, server: Any) -> None:
    """tensorflow.serving.ModelService"""
    _add(services.MODEL, servicer, server)


def add_open_inference_service(servicer: Any, server: Any) -> None:
    """inference.GRPCInferenceService, without its stream"""
    _add(services.INFERENCE, servicer, server)


def add_health_service(servicer: Any, server: Any) -> None:
    """grpc.health.v1.Health, without Watch"""
    _add(services.HEALTH, servicer, server)


FUNCTIONS = [
    f"{__name__}.{function.__name__}"
    for function in (add_prediction_service, add_model_service, add_open_inference_service, add_health_service)
]
"""Import paths of the functions above."""


def _add(service: str, servicer: Any, server: Any) -> None:
    handlers = {name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name)) for name in UNARY[service]}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
