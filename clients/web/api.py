"""What can be read of the gateway: models, cards, samples, health."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify, send_file

from clients.web import catalog
from clients.web.backend import Backend
from clients.web.problems import document

api = Blueprint("api", __name__)

SAMPLE_AGE_S = 300
"""How long a browser may keep a sample: a new version of the model may bring others."""


@api.get("/api/v1/models")
def models() -> Response:
    """Every model with its state, and whether the model server answers."""
    return _fresh(jsonify(_backend().catalog.listing()))


@api.get("/api/v1/models/<name>")
def model(name: str) -> Response:
    """One model: versions, signatures, card."""
    return _fresh(jsonify(_backend().catalog.model(name)))


@api.get("/api/v1/models/<name>/samples")
def samples(name: str) -> Response:
    """Real test inputs with the truth."""
    return _fresh(jsonify(samples=_backend().catalog.samples(name)))


@api.get("/api/v1/models/<name>/samples/<file>")
def sample(name: str, file: str) -> Response:
    """The image or the mask of a sample."""
    return send_file(_backend().catalog.sample(name, file).resolve(), mimetype="image/png", max_age=SAMPLE_AGE_S)


@api.get("/healthz")
def healthz() -> Response:
    """The gateway itself is up."""
    return _fresh(jsonify(status="ok"))


@api.get("/readyz")
def readyz() -> Response:
    """The model server answers too; else 503."""
    if catalog.ready(_backend().client):
        return _fresh(jsonify(status="ready"))
    return document(503, "The model server does not answer.")


def _backend() -> Backend:
    backend: Backend = current_app.extensions["ladle"]
    return backend


def _fresh(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
