"""Errors as application/problem+json (RFC 9457): the one place that turns exceptions into responses."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from flask import Flask, Response, current_app, g, has_app_context
from werkzeug.exceptions import HTTPException

from ladle.clients.errors import LadleError

log = logging.getLogger("ladle.gateway")

RETRY_AFTER_S = 2
_STATUS = {
    "INVALID_ARGUMENT": 422,
    "OUT_OF_RANGE": 422,
    "FAILED_PRECONDITION": 422,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 503,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_UPSTREAM = {
    502: "The model server failed. The reason is in the gateway's log.",
    503: "The model server does not answer; if it is not running, start it with `ladle serve`.",
    504: "The model server did not answer in time.",
}
_INTERNAL = "The gateway failed. The reason is in its log."


class Problem(Exception):  # noqa: N818  (the name that RFC 9457 gives it)
    """A request that is refused. Routes and verbs raise it; it becomes a response with its own HTTP status, 4xx.

    detail   a sentence: what the gateway got, what it expected, what to do
    headers  further headers of the response
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def install(app: Flask) -> None:
    """Turn every exception into a problem document.

    A failure of the model server or of ours is logged. The response does not tell its reason, which may name a host.
    """
    app.register_error_handler(Problem, lambda error: problem_response(error.status, error.detail, error.headers))
    app.register_error_handler(LadleError, _from_client)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(Exception, _from_exception)


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a problem document; `detail` is its sentence."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if has_app_context() and "request_id" in g:
        body["request_id"] = g.request_id
    response = Response(json.dumps(body), status, mimetype="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    response.headers.update(headers or {})
    return response


def _from_client(error: LadleError) -> Response:
    status = _STATUS.get(error.code, 502)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s: model server: %s: %s", g.get("request_id", "-"), error.code, error)
        return problem_response(status, _UPSTREAM[status])
    return problem_response(status, str(error))


def _from_http(error: HTTPException) -> Response:
    if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        most = current_app.config["MAX_CONTENT_LENGTH"]
        return problem_response(error.code, f"Got a body or a form that is too large; expected at most {most} bytes.")
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Location")}
    return problem_response(error.code or 500, error.description or "", kept)


def _from_exception(error: Exception) -> Response:
    log.error("%s: request failed", g.get("request_id", "-"), exc_info=error)
    return problem_response(500, _INTERNAL)
