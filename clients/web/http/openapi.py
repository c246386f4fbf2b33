"""The OpenAPI 3.1 document of the routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from apispec import APISpec

from ladle.clients.web.http.routes import JSON, Route
from ladle.clients.web.http.schema import Schema, array, integer, obj, string

_PROBLEM = obj(
    {
        "type": string(),
        "title": string(),
        "status": integer(400, 599),
        "detail": string("what the gateway got, what it expected, what to do"),
        "request_id": string(),
    },
    ("type", "title", "status", "detail"),
)
_ERRORS = {
    400: "The request is malformed.",
    401: "The API key is missing or unknown.",
    404: "No such model or file, or the model does not have this verb.",
    405: "Wrong method: inference takes POST.",
    406: "The Accept header allows none of the types of the response.",
    413: "The body is too large, or it holds too many items.",
    415: "The type of the body or the format of the image is not supported.",
    422: "The request is well formed, but a value cannot be used.",
    429: "Too many requests.",
    502: "The model server answered with an error.",
    503: "The model server does not answer, or it is overloaded.",
    504: "The model server did not answer in time.",
}
_HEADER = {"X-Request-ID": {"description": "id of the request, also in the logs", "schema": {"type": "string"}}}
_RETRY = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
_BINARY: Schema = {"type": "string", "format": "binary"}


def document(routes: Sequence[Route], version: str, has_keys: bool) -> dict[str, Any]:
    """The document of `routes`. `has_keys`: whether protected routes need an API key."""
    spec = APISpec(
        title="Ladle gateway",
        version=version or "0",
        openapi_version="3.1.0",
        info={"description": "Send images, text and numbers; get labels, masks and images."},
        servers=[{"url": "/"}],
        tags=[{"name": "models"}, {"name": "inference"}, {"name": "service"}],
    )
    spec.components.schema("Problem", _PROBLEM)
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    spec.components.security_scheme("key", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
    for status, said in _ERRORS.items():
        retry = _RETRY if status in (429, 503) else {}
        problem = {"application/problem+json": {"schema": "Problem"}}
        spec.components.response(
            str(status), {"description": said, "headers": {**_HEADER, **retry}, "content": problem}
        )
    for route in routes:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.path)
        spec.path(path, operations={route.method.lower(): _operation(route, has_keys)})
    return spec.to_dict()


def _operation(route: Route, has_keys: bool) -> dict[str, Any]:
    names = re.findall(r"<(?:\w+:)?(\w+)>", route.path)
    parameters = [_parameter(name, "path", string(format=name)) for name in names]
    parameters += [_parameter(name, "query", schema) for name, schema in route.options.items()]
    success = {
        "description": "Success.",
        "headers": _HEADER,
        "content": {kind: {"schema": schema} for kind, schema in route.responses.items()},
    }
    errors = [status for status in route.errors if status != 401 or has_keys]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": parameters,
        "responses": {"200": success, **{str(status): str(status) for status in sorted(set(errors))}},
    }
    if route.about:
        operation["description"] = route.about
    if route.protected and has_keys:
        operation["security"] = [{"bearer": []}, {"key": []}]
    if route.body is not None:
        operation["requestBody"] = {"required": route.body.required, "content": _bodies(route)}
    return operation


def _bodies(route: Route) -> dict[str, Any]:
    body = route.body
    assert body is not None
    content: dict[str, Any] = {JSON: {"schema": body.json}}
    if body.example is not None:
        content[JSON]["example"] = body.example
    if body.files:
        files = {name: array(_BINARY, 1, most) if most > 1 else _BINARY for name, most in body.files.items()}
        needed = [name for name in body.files if name != "truth"]
        content["multipart/form-data"] = {"schema": obj({**files, **route.options}, tuple(needed))}
    for kind in body.raw:
        content[kind] = {"schema": string(minLength=1) if kind == "text/plain" else _BINARY}
    return content


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    about = schema.get("description", "")
    parameter = {"name": name, "in": place, "required": place == "path", "schema": schema}
    return {**parameter, "description": about} if about else parameter
