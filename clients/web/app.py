"""The application: limits, error documents, headers, routes."""

from __future__ import annotations

from importlib import metadata

from flask import Flask, Response, render_template

from clients.web import problems
from clients.web.api import api
from clients.web.backend import Backend
from clients.web.config import Config
from clients.web.verbs import verbs

FORM_PARTS = 100
HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(config: Config | None = None) -> Flask:
    """The gateway as a WSGI application. Nothing is connected before the first request."""
    config = config or Config()
    app = Flask(__name__, static_url_path="/static")
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = config.max_body_bytes
    app.config["MAX_FORM_PARTS"] = FORM_PARTS
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 0  # the page and its scripts change together
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["ladle"] = Backend(config)
    problems.install(app)
    app.register_blueprint(api)
    app.register_blueprint(verbs)
    app.add_url_rule("/", view_func=page)
    app.after_request(_with_headers)
    return app


def page() -> str:
    """The page; everything on it comes from the API."""
    return render_template("index.html", version=_version())


def _with_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _version() -> str:
    try:
        return metadata.version("ladle")
    except metadata.PackageNotFoundError:
        return ""
