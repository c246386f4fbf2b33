"""Errors as application/problem+json (RFC 9457): one place for the gateway's own, the client's and everybody else's."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from clients.errors import LadleError

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

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def install(app: Flask) -> None:
    """Turn every error into a problem document. What the caller cannot mend is logged and not told."""
    app.register_error_handler(Problem, lambda error: document(error.status, error.detail))
    app.register_error_handler(LadleError, _of_client)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _of_us)


def document(status: int, detail: str) -> Response:
    """The response."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = Response(json.dumps(body, ensure_ascii=False), status, mimetype="application/problem+json")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _of_client(error: LadleError) -> Response:
    status = _STATUS.get(error.code, 502)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("model server: %s: %s", error.code, error)
        return document(status, _SAID.get(status, "The model server answered with an error; it is in the log."))
    return document(status, str(error))


def _of_http(error: HTTPException) -> Response:
    response = document(error.code or 500, error.description or "")
    for name, value in error.get_headers():
        if name in ("Allow", "Location"):
            response.headers[name] = value
    return response


def _of_us(error: Exception) -> Response:
    log.error("fault while answering", exc_info=error)
    return document(500, _OWN_FAULT)
