"""The WSGI application: routes, access control, access log, errors, limits, the page."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from flask import Blueprint, Flask, Response, render_template, request
from werkzeug.middleware.proxy_fix import ProxyFix

from ladle.clients.errors import InvalidArgument
from ladle.clients.library.tasks import VERBS
from ladle.clients.web.api import ReadRoutes
from ladle.clients.web.backend import PREDICT, Backend
from ladle.clients.web.config import Config, from_environment
from ladle.clients.web.http import access_log, docs_page, openapi, problems, routes, tracing
from ladle.clients.web.http.access_control import AccessControl
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import JSON, NAME, ParsedRequest, Route
from ladle.clients.web.http.schema import Schema, string
from ladle.clients.web.verbs.codes import CodeVerbs
from ladle.clients.web.verbs.images import ImageVerbs
from ladle.clients.web.verbs.numbers import NumberVerbs
from ladle.clients.web.verbs.tensors import TensorVerbs
from ladle.clients.web.verbs.texts import TextVerbs

FORM_PARTS = 100
FORM_MEMORY_BYTES = 2**20
"""Of all parts of a form that are not files."""


def create_app(config: Config | None = None) -> Flask:
    """The gateway as a WSGI application; by default with the settings of the environment (`config.from_environment`).

    It connects at the first request. ValueError: a wrong address, proxy, key, rate, origin or variable.
    """
    config = config or from_environment()
    app = Flask(__name__, static_url_path="/static")
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = min(FORM_MEMORY_BYTES, config.max_body_bytes)
    app.config["MAX_FORM_PARTS"] = FORM_PARTS
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 0  # browsers must not mix scripts of two versions
    app.url_map.converters["model"] = routes.ModelConverter
    backend = app.extensions["ladle"] = Backend(config)
    try:
        backend.check()
    except InvalidArgument as error:
        raise ValueError(f"the model server: {error}") from None
    known = [
        *ReadRoutes(backend).routes(),
        *ImageVerbs(backend).routes(),
        *CodeVerbs(backend).routes(),
        *TextVerbs(backend).routes(),
        *NumberVerbs(backend).routes(),
        *TensorVerbs(backend).routes(),
    ]
    known += _documents([*known], bool(config.keys))
    blueprint = Blueprint("api", __name__)
    routes.register(known, blueprint)
    blueprint.add_url_rule(f"/api/v1/models/{NAME}:<verb>", "unknown", _unknown, methods=["POST"])
    app.register_blueprint(blueprint)
    app.add_url_rule("/", view_func=page)
    problems.install(app)
    # Before access control: refused requests have ids, log lines and metrics too.
    tracing.install(app, config.otlp_endpoint)
    access_log.install(app, backend.metrics, backend.served, config.access_log)
    protected = frozenset(f"api.{route.name}" for route in known if route.protected) | {"api.unknown"}
    AccessControl(config).install(app, protected)
    if config.proxies:
        count = config.proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=count, x_prefix=count
        )
    return app


def page() -> Response:
    """The page, with a validator. Its scripts get everything from the API."""
    response = Response(render_template("index.html", version=_version()))
    # As for the scripts: a browser must not show the page of one version with the scripts of another.
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def _documents(known: list[Route], has_keys: bool) -> list[Route]:
    """The routes of the OpenAPI document, which describes them too."""
    document: dict[str, Any] = {}
    html: Schema = string()

    def as_json(request: ParsedRequest) -> dict[str, Any]:
        return document

    def as_page(parsed: ParsedRequest) -> Response:
        return Response(docs_page.page(document, request.url_root), mimetype="text/html")

    def get(path: str, name: str, summary: str, handler: Any, kind: str, schema: Schema) -> Route:
        return Route("GET", path, name, summary, handler, {kind: schema}, {}, None, (400, 406), False, "service")

    own = [
        get("/openapi.json", "openapi", "This document", as_json, JSON, {"type": "object"}),
        get("/docs", "docs", "This document as a page", as_page, "text/html", html),
    ]
    document.update(openapi.document([*known, *own], _version(), has_keys))
    return own


def _unknown(name: str, verb: str) -> Response:
    raise Problem(404, f"Got the unknown verb :{verb}; expected {', '.join(f':{each}' for each in (PREDICT, *VERBS))}.")


def _version() -> str:
    try:
        return metadata.version("ladle")
    except metadata.PackageNotFoundError:
        return ""
