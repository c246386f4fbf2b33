"""The id of each request, its times, its line in the access log, and its metrics."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Container
from datetime import UTC, datetime

from flask import Flask, Response, g, request

from ladle.clients.transport.access import sending
from ladle.clients.web.http.metrics import NO_MODEL, GatewayMetrics

HEADER = "X-Request-ID"
ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""A caller's id is kept if it matches, since logs and headers repeat it; any other is replaced."""
log = logging.getLogger("ladle.gateway.access")


def install(app: Flask, metrics: GatewayMetrics, known_models: Container[str], access_log: bool) -> None:
    """Add ids, times, metrics and log lines to every request of `app`.

    The model server gets the id too, as metadata x-request-id.

    known_models  names of models that exist; a request for any other counts as NO_MODEL
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
        # Left in `leave`: a `with` cannot span two of Flask's hooks.
        g.sending = sending({HEADER: g.request_id})
        g.sending.__enter__()
        metrics.in_progress.inc()

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.start
        timing = f"total;dur={1000 * seconds:.3f}"
        if "server_s" in g:
            timing = f"model;dur={1000 * g.server_s:.3f}, {timing}"
        response.headers["Server-Timing"] = timing
        response.headers[HEADER] = g.request_id
        rule = request.url_rule.rule if request.url_rule else ""
        model = (request.view_args or {}).get("name", NO_MODEL)
        g.model = model if model in known_models else NO_MODEL
        # Callers can send any method. Each would be a time series of its own.
        method = request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
        metrics.requests.labels(rule, method, str(response.status_code), g.model).inc()
        metrics.seconds.labels(rule, g.model).observe(seconds)
        if access_log:
            log.info("%s", json.dumps(_line(response, seconds)))
        return response

    @app.teardown_request
    def leave(error: BaseException | None) -> None:
        if "sending" in g:
            g.sending.__exit__(None, None, None)
            metrics.in_progress.dec()


def _line(response: Response, seconds: float) -> dict[str, object]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
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
