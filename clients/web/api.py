"""The GET routes: models, cards, samples, reports, service, health.

GET   /api/v1/models                        all models, with what the gallery shows
GET   /api/v1/models/<name>                 one model: versions, signatures, card, metrics
GET   /api/v1/models/<name>/samples         inputs from the test set with the truth; /samples/<file>: an image
GET   /api/v1/models/<name>/reports         pictures of the training report; /reports/<file>: a picture
GET   /api/v1/service                       rates, latencies and batch sizes now
POST  /api/v1/models/<name>:<verb>          predict, classify, sentiment, neighbours, generate, segment, reconstruct,
                                            filter, interpolate, regress, minimise
GET   /healthz  /readyz  /metrics           the gateway is up; the model server answers; Prometheus
GET   /openapi.json  /docs                  the OpenAPI document, and the same as a page
"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from flask import Response, send_file
from prometheus_client import CONTENT_TYPE_LATEST

from ladle.clients.library.tasks import VERBS
from ladle.clients.transport.access import Access
from ladle.clients.web import runs, service
from ladle.clients.web.backend import Backend
from ladle.clients.web.catalog import Json
from ladle.clients.web.config import Config
from ladle.clients.web.http.problems import problem_response
from ladle.clients.web.http.routes import ACCESS_ERRORS, JSON, NAME, PNG, ParsedRequest, Route
from ladle.clients.web.http.schema import Schema, array, boolean, integer, nullable, number, obj, string
from ladle.clients.web.verbs.base import PICTURE

PICTURE_AGE_S = 300
"""How long a browser may cache a sample or a report. Not longer, as a new version of the model may have others."""

_STATE = string("START, LOADING, AVAILABLE, UNLOADING, END, MISSING or UNREACHABLE")
_VERSION: dict[str, Schema] = {"state": _STATE, "version": nullable(integer(1)), "error": nullable(string())}
_SIZE = nullable(integer(1))
_DATA: dict[str, Schema] = {"name": nullable(string()), "source": nullable(string()), "origin": nullable(string())}
_ENTRY: dict[str, Schema] = {
    "name": string(),
    **_VERSION,
    "task": nullable(string()),
    "verbs": array({"type": "string", "enum": list(VERBS)}),
    "description": nullable(string()),
    "headline": nullable(
        obj(
            {
                "name": string(),
                "value": number(),
                "split": string("test, validation, or folds: then the mean of a cross-validation"),
                "count": nullable(integer(0)),
                "deviation": nullable(number(0, about="of the folds")),
            },
            ("name", "value", "split", "count"),
        ),
    ),
    "data": nullable(obj({**_DATA, "synthetic": boolean()})),
    "image": nullable(obj({"height": _SIZE, "width": _SIZE, "channels": _SIZE})),
    "latent": nullable(obj({"dim": integer(1)})),
    "samples": integer(0),
    "reports": array(string()),
}
_ANY: Schema = {"type": "object"}
_TRAFFIC: Schema = {
    "type": "object",
    "description": "how the server splits the requests among versions, and copies them to a shadow (`Client.traffic`)",
}
_MODEL = {
    **_ENTRY,
    "versions": array(obj(_VERSION)),
    "signatures": _ANY,
    "card": nullable(_ANY),
    "card_error": nullable(string("what is wrong with the card, if it cannot be used")),
    "metrics": nullable(_ANY),
    "labels": array(string(), about="of the classes, by class id; from the card or from labels.txt"),
    "traffic": nullable(_TRAFFIC),
}
_RATE = nullable(number(0))
_FIGURES: dict[str, Schema] = {
    "requests": integer(0),
    "errors": integer(0),
    "requests_per_second": _RATE,
    "p50_ms": _RATE,
    "p99_ms": _RATE,
}
_SOURCE = obj(
    {"window_s": number(0), **_FIGURES, "models": array(obj({"name": string(), **_FIGURES, "batch_size": _RATE}))}
)
_SERVICE = {
    "ready": boolean(),
    "at": number(0),
    "grpc": nullable(string()),
    "rest": nullable(string()),
    "server": nullable(_SOURCE),
    "note": nullable(string("why `server` is null")),
    "gateway": _SOURCE,
    "models": array(obj({"name": string(), **_VERSION})),
}


class ReadRoutes:
    """The GET routes and their handlers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._gateway = service.Source(lambda: service.parse_gateway(backend.metrics.text().decode()))
        self._server = _server_source(backend.config)

    def routes(self) -> list[Route]:
        model, away = f"/api/v1/models/{NAME}", (502, 503, 504)
        listing = obj({"ready": boolean(), "models": array(obj(_ENTRY)), "training": runs.RUNS})
        sample: dict[str, Schema] = {key: string() for key in ("file", "mask", "label", "text")}
        sample |= {"x": array(number()), "y": number(), "columns": array(string())}
        samples = obj({"samples": array(obj(sample, (), closed=False))})
        reports = obj({"reports": array(obj({"file": string(), "title": string()}))})
        status = obj({"status": string()})

        def get(path: str, name: str, summary: str, handler: object, kind: str, schema: Schema, *errors: int) -> Route:
            assert callable(handler)
            known = (400, 406, *errors, *ACCESS_ERRORS)
            return Route("GET", path, name, summary, handler, {kind: schema}, errors=known)

        def get_open(path: str, name: str, summary: str, handler: object, schema: Schema, *errors: int) -> Route:
            assert callable(handler)
            known = (400, 406, *errors)
            return Route(
                "GET", path, name, summary, handler, {JSON: schema}, errors=known, protected=False, tag="service"
            )

        text = {"text/plain": string("Prometheus text format")}
        return [
            get("/api/v1/models", "models", "All models with their states", self.models, JSON, listing),
            get(
                model,
                "model",
                "One model: versions, signatures, card",
                self.model,
                JSON,
                obj(_MODEL),
                404,
                405,
                *away,
            ),
            get(
                f"{model}/samples",
                "samples",
                "Inputs from the test set with the truth",
                self.samples,
                JSON,
                samples,
                404,
            ),
            get(f"{model}/samples/<file>", "sample", "The image or mask of a sample", self.sample, PNG, PICTURE, 404),
            get(f"{model}/reports", "reports", "The pictures of the training report", self.reports, JSON, reports, 404),
            get(
                f"{model}/reports/<file>", "report", "A picture of the training report", self.report, PNG, PICTURE, 404
            ),
            get("/api/v1/service", "service", "Rates, latencies and batch sizes", self.service, JSON, obj(_SERVICE)),
            get_open("/healthz", "healthz", "Whether the gateway is up", self.healthz, status),
            get_open("/readyz", "readyz", "Whether the model server answers", self.readyz, status, 503),
            Route(
                "GET",
                "/metrics",
                "metrics",
                "The gateway's metrics",
                self.metrics,
                text,
                {},
                None,
                (400, 406, *ACCESS_ERRORS),
                tag="service",
            ),
        ]

    def models(self, request: ParsedRequest) -> Json:
        return {**self._backend.catalog.listing(), "training": runs.active(self._backend.config.runs)}

    def model(self, request: ParsedRequest, name: str) -> Json:
        return self._backend.catalog.model(name)

    def samples(self, request: ParsedRequest, name: str) -> Json:
        return {"samples": self._backend.catalog.samples(name)}

    def sample(self, request: ParsedRequest, name: str, file: str) -> Response:
        return _picture(self._backend.catalog.sample(name, file))

    def reports(self, request: ParsedRequest, name: str) -> Json:
        return {"reports": self._backend.catalog.reports_of(name)}

    def report(self, request: ParsedRequest, name: str, file: str) -> Response:
        return _picture(self._backend.catalog.report(name, file))

    def service(self, request: ParsedRequest) -> Json:
        config, catalog = self._backend.config, self._backend.catalog
        server, note = service.read(self._server)
        listing = catalog.listing()
        models = [{key: entry[key] for key in ("name", *_VERSION)} for entry in listing["models"]]
        address = urlsplit(config.server)
        return {
            "ready": listing["ready"],
            "at": time.time(),
            # What the page writes into its code; null: the reader has to fill it in.
            "grpc": address.netloc if address.scheme.startswith("grpc") else None,
            "rest": config.rest_url,
            "server": server,
            "note": note,
            "gateway": self._gateway.figures(),
            "models": models,
        }

    def healthz(self, request: ParsedRequest) -> Json:
        return {"status": "ok"}

    def readyz(self, request: ParsedRequest) -> Response | Json:
        if self._backend.catalog.ready():
            return {"status": "ready"}
        return problem_response(503, "The model server does not answer.")

    def metrics(self, request: ParsedRequest) -> Response:
        return Response(self._backend.metrics.text(), content_type=CONTENT_TYPE_LATEST)


def _server_source(config: Config) -> service.Source | None:
    if config.metrics_url is None:
        return None
    access = Access(config.ca, api_key=config.metrics_key)
    endpoint = service.PrometheusEndpoint(config.metrics_url, access, config.server_proxy)
    return service.Source(lambda: service.parse_server(endpoint.text()))


def _picture(path: Path) -> Response:
    # send_file takes a relative path from the folder of this package, not from the working directory.
    return send_file(path.resolve(), mimetype=PNG, max_age=PICTURE_AGE_S)
