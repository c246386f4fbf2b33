"""The OpenAPI 3.1 document, made from the routes, and a page that shows it."""

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
        "detail": string("what came, what was wanted, what to do"),
        "request_id": string(),
    },
    ("type", "title", "status", "detail"),
)
_SAID = {
    400: "The request is malformed.",
    401: "The key is missing or unknown.",
    404: "There is no such model, file or verb of the model.",
    405: "Another method: questions are asked with POST.",
    406: "No form of the answer suits the Accept header.",
    413: "Too large, or too many at once.",
    415: "Another type of body, or format of image.",
    422: "Well formed, but a value cannot be used.",
    429: "Too many requests.",
    502: "The model server answered with an error.",
    503: "The model server does not answer now.",
    504: "The model server took too long.",
}
_HEADER = {"X-Request-ID": {"description": "the request's id, also in the logs", "schema": {"type": "string"}}}
_RETRY = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
_BINARY: Schema = {"type": "string", "format": "binary"}


def document(routes: Sequence[Route], version: str, has_keys: bool) -> dict[str, Any]:
    """The document."""
    spec = APISpec(
        title="Ladle gateway",
        version=version or "0",
        openapi_version="3.1.0",
        info={"description": "Pictures, text and numbers in; labels, masks and images out."},
        servers=[{"url": "/"}],
        tags=[{"name": "models"}, {"name": "questions"}, {"name": "service"}],
    )
    spec.components.schema("Problem", _PROBLEM)
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    spec.components.security_scheme("key", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
    for status, said in _SAID.items():
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
    good = {
        "description": "The answer.",
        "headers": _HEADER,
        "content": {kind: {"schema": schema} for kind, schema in route.answers.items()},
    }
    faults = [status for status in route.errors if status != 401 or has_keys]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": parameters,
        "responses": {"200": good, **{str(status): str(status) for status in sorted(set(faults))}},
    }
    if route.about:
        operation["description"] = route.about
    if route.guarded and has_keys:
        operation["security"] = [{"bearer": []}, {"key": []}]
    if route.body is not None:
        operation["requestBody"] = {"required": route.body.required, "content": _bodies(route)}
    return operation


def _bodies(route: Route) -> dict[str, Any]:
    body = route.body
    assert body is not None
    content: dict[str, Any] = {JSON: {"schema": body.json}}
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
