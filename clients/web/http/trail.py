"""The trail of a request: its id, its times, its line in the access log and in the metrics."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone

from flask import Flask, Response, g, request

from ladle.clients.transport.access import sending
from ladle.clients.web.http.measures import NO_MODEL, Measures

HEADER = "X-Request-ID"
ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""An id of the caller's is kept when it looks so; anything else is replaced."""
log = logging.getLogger("ladle.gateway.access")


def install(app: Flask, measures: Measures, knows: Callable[[str], bool], access_log: bool) -> None:
    """Ids, times and log lines for every request. The id goes on to the model server as metadata x-request-id.

    knows  whether a name is a model's
    """
    if access_log and not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False

    @app.before_request
    def begin() -> None:
        given = request.headers.get(HEADER, "")
        g.request_id = given if ACCEPTED.fullmatch(given) else uuid.uuid4().hex
        g.start = time.perf_counter()
        g.sending = sending({HEADER: g.request_id})
        g.sending.__enter__()
        measures.began()

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.start
        timing = [f"total;dur={1000 * seconds:.3f}"]
        if "server_s" in g:
            timing.insert(0, f"model;dur={1000 * g.server_s:.3f}")
        response.headers["Server-Timing"] = ", ".join(timing)
        response.headers[HEADER] = g.request_id
        rule = request.url_rule.rule if request.url_rule else ""
        model = (request.view_args or {}).get("name", NO_MODEL)
        g.model = model if knows(model) else NO_MODEL
        measures.answered(rule, _method(), response.status_code, g.model, seconds)
        if access_log:
            log.info("%s", json.dumps(_line(response, seconds)))
        return response

    @app.teardown_request
    def left(error: BaseException | None) -> None:
        if "sending" in g:
            g.sending.__exit__(None, None, None)
            measures.ended()


def _method() -> str:
    """Callers make methods up; each would be a time series."""
    return request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "other"


def _line(response: Response, seconds: float) -> dict[str, object]:
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "request_id": g.request_id,
        "client": request.remote_addr,
        "key": g.get("key") or None,
        "method": request.method,
        "path": request.path,
        "model": g.model or None,
        "verb": g.get("verb"),
        "status": response.status_code,
        "bytes_in": request.content_length or 0,
        "bytes_out": response.content_length,
        "ms": round(1000 * seconds, 3),
        "model_ms": round(1000 * g.server_s, 3) if "server_s" in g else None,
    }
