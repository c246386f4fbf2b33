"""Errors as application/problem+json (RFC 9457): one place for the gateway's own, the client's and everybody else's."""

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
_SAID = {503: "The model server does not answer now; try again in a moment.", 504: "The model server took too long."}
_OWN_FAULT = "Something went wrong here; it is in the log."


class Problem(Exception):  # noqa: N818  (the name that RFC 9457 gives it)
    """A request that is refused: an HTTP status, and a sentence that says what came and what was wanted."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def install(app: Flask) -> None:
    """Turn every error into a problem document. What the caller cannot mend is logged and not told."""
    app.register_error_handler(Problem, lambda error: document(error.status, error.detail, error.headers))
    app.register_error_handler(LadleError, _of_client)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _of_us)


def document(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if has_app_context() and "request_id" in g:
        body["request_id"] = g.request_id
    response = Response(json.dumps(body), status, mimetype="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    response.headers.update(headers or {})
    return response


def _of_client(error: LadleError) -> Response:
    status = _STATUS.get(error.code, 502)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s: model server: %s: %s", g.get("request_id", "-"), error.code, error)
        return document(status, _SAID.get(status, "The model server answered with an error; it is in the log."))
    return document(status, str(error))


def _of_http(error: HTTPException) -> Response:
    if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        most = current_app.config["MAX_CONTENT_LENGTH"]
        return document(error.code, f"The body, or a part of its form, is too large; at most {most} bytes are taken.")
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Location")}
    return document(error.code or 500, error.description or "", kept)


def _of_us(error: Exception) -> Response:
    log.error("%s: fault while answering", g.get("request_id", "-"), exc_info=error)
    return document(500, _OWN_FAULT)
