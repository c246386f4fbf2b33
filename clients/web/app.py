"""The application: routes, guard, trail, error documents, limits, the page."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from flask import Blueprint, Flask, Response, render_template
from werkzeug.middleware.proxy_fix import ProxyFix

from ladle.clients.library.tasks import VERBS
from ladle.clients.web.api import Reading
from ladle.clients.web.backend import Backend
from ladle.clients.web.config import Config, from_environment
from ladle.clients.web.http import openapi, problems, reference, routes, trail
from ladle.clients.web.http.guard import Guard
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import JSON, NAME, Given, Route
from ladle.clients.web.http.schema import Schema, string
from ladle.clients.web.verbs.codes import CodeVerbs
from ladle.clients.web.verbs.images import ImageVerbs
from ladle.clients.web.verbs.values import ValueVerbs

FORM_PARTS = 100
FORM_MEMORY_BYTES = 2**20
"""Of the parts of a form that are no files."""


def create_app(config: Config | None = None) -> Flask:
    """The gateway as a WSGI application; without `config` as the environment says (`config.from_environment`).

    Nothing is connected before the first request. ValueError: a key, a rate or a variable cannot be read.
    """
    config = config or from_environment()
    app = Flask(__name__, static_url_path="/static")
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = min(FORM_MEMORY_BYTES, config.max_body_bytes)
    app.config["MAX_FORM_PARTS"] = FORM_PARTS
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 0  # the page and its scripts change together
    app.url_map.converters["model"] = routes.ModelConverter
    backend = app.extensions["ladle"] = Backend(config)
    known = [
        *Reading(backend).routes(),
        *ImageVerbs(backend).routes(),
        *CodeVerbs(backend).routes(),
        *ValueVerbs(backend).routes(),
    ]
    known += _documents([*known], bool(config.keys))
    blueprint = Blueprint("api", __name__)
    routes.register(known, blueprint)
    blueprint.add_url_rule(f"/api/v1/models/{NAME}:<verb>", "unknown", _unknown, methods=["POST"])
    app.register_blueprint(blueprint)
    app.add_url_rule("/", view_func=page)
    problems.install(app)
    trail.install(app, backend.measures, backend.knows, config.access_log)
    Guard(config).install(app, frozenset(f"api.{route.name}" for route in known if route.guarded) | {"api.unknown"})
    if config.proxies:
        count = config.proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=count, x_prefix=count
        )
    return app


def page() -> str:
    """The page; everything on it comes from the API."""
    return render_template("index.html", version=_version())


def _documents(known: list[Route], has_keys: bool) -> list[Route]:
    """The routes that tell of the routes, themselves included."""
    made: dict[str, Any] = {}
    html: Schema = string()
    style: Schema = string()

    def tell(given: Given) -> Response:
        return routes.answer(made)

    def show(given: Given) -> Response:
        return Response(reference.page(made), mimetype="text/html")

    def dress(given: Given) -> Response:
        return Response(reference.STYLE, mimetype="text/css")

    def free(path: str, name: str, summary: str, handler: Any, kind: str, schema: Schema) -> Route:
        return Route("GET", path, name, summary, handler, {kind: schema}, {}, None, (400, 406), False, "service")

    own = [
        free("/openapi.json", "openapi", "This document", tell, JSON, {"type": "object"}),
        free("/docs", "docs", "This document as a page", show, "text/html", html),
        free("/docs/style.css", "style", "How that page looks", dress, "text/css", style),
    ]
    made.update(openapi.document([*known, *own], _version(), has_keys))
    return own


def _unknown(name: str, verb: str) -> Response:
    raise Problem(404, f"There is no verb :{verb}; there is {', '.join(f':{each}' for each in VERBS)}.")


def _version() -> str:
    try:
        return metadata.version("ladle")
    except metadata.PackageNotFoundError:
        return ""
