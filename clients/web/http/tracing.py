"""The gateway's spans: one for each request, in its caller's trace, around those of the model server."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, g, request

from ladle.clients.wire.otlp import is_wanted, make_provider


def install(app: Flask, endpoint: str) -> None:
    """Trace every request of `app`; nothing is imported if nobody asks for spans.

    endpoint  http://HOST:PORT of an OTLP collector; empty: $OTEL_EXPORTER_OTLP_ENDPOINT, and no spans without it

    ValueError: OpenTelemetry is not installed.
    """
    if not is_wanted(endpoint):
        return
    try:
        provider = make_provider("ladle-gateway", endpoint)
    except ModuleNotFoundError as error:
        raise ValueError(f"traces need {error.name}; install it with: pip install 'ladle[otel]'") from None
    from opentelemetry import context, propagate, trace

    # The client library makes its spans with the program's provider.
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("ladle.gateway")

    @app.before_request
    def begin() -> None:
        parent = propagate.extract({name.lower(): value for name, value in request.headers})
        rule = request.url_rule.rule if request.url_rule else ""
        # Callers can send any method and any path; neither names a span.
        method = request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "HTTP"
        g.span = tracer.start_span(f"{method} {rule}".strip(), parent, kind=trace.SpanKind.SERVER)
        g.trace_token = context.attach(trace.set_span_in_context(g.span))

    @app.after_request
    def end(response: Response) -> Response:
        if "span" in g:
            found: dict[str, Any] = {
                "http.request.method": request.method,
                "http.response.status_code": response.status_code,
                "ladle.request_id": g.get("request_id", ""),
            }
            g.span.set_attributes(found)
            if response.status_code >= 500:
                g.span.set_status(trace.StatusCode.ERROR)
        return response

    @app.teardown_request
    def leave(error: BaseException | None) -> None:
        if "span" in g:
            context.detach(g.trace_token)
            g.span.end()
