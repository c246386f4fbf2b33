"""What can be read of the gateway: models, cards, samples, reports, the service, health.

GET   /api/v1/models                        every model, with what a gallery shows of it
GET   /api/v1/models/<name>                 one model: versions, signatures, card, metrics
GET   /api/v1/models/<name>/samples         real test inputs with the truth; /samples/<file>: one image
GET   /api/v1/models/<name>/reports         curves, confusion matrix, mistakes; /reports/<file>: one picture
GET   /api/v1/service                       rates, times and batch sizes, live
POST  /api/v1/models/<name>:<verb>          classify, sentiment, generate, segment, reconstruct, interpolate, regress,
                                            minimise
GET   /healthz  /readyz  /metrics           the gateway is up; the model server answers too; Prometheus
GET   /openapi.json  /docs                  all of this as an OpenAPI document, and as a page
"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from flask import Response, send_file
from prometheus_client import CONTENT_TYPE_LATEST

from ladle.clients.library.tasks import VERBS
from ladle.clients.transport.access import Access
from ladle.clients.web import service
from ladle.clients.web.backend import Backend
from ladle.clients.web.catalog import REPORTS
from ladle.clients.web.config import Config
from ladle.clients.web.http.problems import document
from ladle.clients.web.http.routes import FAULTS, JSON, NAME, PNG, Given, Route, answer
from ladle.clients.web.http.schema import Schema, array, boolean, integer, nullable, number, obj, string
from ladle.clients.web.verbs.base import PICTURE

PICTURE_AGE_S = 300
"""How long a browser may keep a sample or a report: a new version of the model may bring others."""

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
    "headline": nullable(obj({"name": string(), "value": number(), "split": string()})),
    "data": nullable(obj({**_DATA, "synthetic": boolean()})),
    "image": nullable(obj({"height": _SIZE, "width": _SIZE, "channels": _SIZE})),
    "latent": nullable(obj({"dim": integer(1)})),
    "samples": integer(0),
    "reports": array(string()),
}
_ANY: Schema = {"type": "object"}
_MODEL = {
    **_ENTRY,
    "versions": array(obj(_VERSION)),
    "signatures": _ANY,
    "card": nullable(_ANY),
    "metrics": nullable(_ANY),
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
    "note": nullable(string("why server is null")),
    "gateway": _SOURCE,
    "models": array(obj({"name": string(), **_VERSION})),
}


class Reading:
    """The handlers of the GET routes."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._gateway = service.Source(lambda: service.of_gateway(backend.measures.text().decode()))
        self._server = _of_server(backend.config)

    def routes(self) -> list[Route]:
        """All of them."""
        model, away = f"/api/v1/models/{NAME}", (502, 503, 504)
        listing = obj({"ready": boolean(), "models": array(obj(_ENTRY))})
        sample: dict[str, Schema] = {key: string() for key in ("file", "mask", "label", "text")}
        sample |= {"x": array(number()), "y": number(), "columns": array(string())}
        samples = obj({"samples": array(obj(sample, (), closed=False))})
        reports = obj({"reports": array(obj({"file": string(), "title": string()}))})
        status = obj({"status": string()})

        def get(path: str, name: str, summary: str, handler: object, kind: str, schema: Schema, *errors: int) -> Route:
            assert callable(handler)
            faults = (400, 406, *errors, *FAULTS)
            return Route("GET", path, name, summary, handler, {kind: schema}, errors=faults)

        def free(path: str, name: str, summary: str, handler: object, schema: Schema, *errors: int) -> Route:
            assert callable(handler)
            faults = (400, 406, *errors)
            return Route(
                "GET", path, name, summary, handler, {JSON: schema}, errors=faults, guarded=False, tag="service"
            )

        text = {"text/plain": string("Prometheus's text format")}
        return [
            get("/api/v1/models", "models", "Every model, with its state", self.models, JSON, listing),
            get(
                model, "model", "One model: versions, signatures, card", self.model, JSON, obj(_MODEL), 404, 405, *away
            ),
            get(f"{model}/samples", "samples", "Real test inputs with the truth", self.samples, JSON, samples, 404),
            get(f"{model}/samples/<file>", "sample", "The image or mask of a sample", self.sample, PNG, PICTURE, 404),
            get(f"{model}/reports", "reports", "The pictures of the training report", self.reports, JSON, reports, 404),
            get(f"{model}/reports/<file>", "report", "One of these pictures", self.report, PNG, PICTURE, 404),
            get("/api/v1/service", "service", "Rates, times and batch sizes", self.service, JSON, obj(_SERVICE)),
            free("/healthz", "healthz", "The gateway itself is up", self.healthz, status),
            free("/readyz", "readyz", "The model server answers too", self.readyz, status, 503),
            Route(
                "GET",
                "/metrics",
                "metrics",
                "The gateway's metrics",
                self.metrics,
                text,
                {},
                None,
                (400, 406, *FAULTS),
                tag="service",
            ),
        ]

    def models(self, given: Given) -> Response:
        return answer(self._backend.catalog.listing())

    def model(self, given: Given, name: str) -> Response:
        return answer(self._backend.catalog.model(name))

    def samples(self, given: Given, name: str) -> Response:
        return answer({"samples": self._backend.catalog.samples(name)})

    def sample(self, given: Given, name: str, file: str) -> Response:
        return _picture(self._backend.catalog.sample(name, file))

    def reports(self, given: Given, name: str) -> Response:
        self._backend.catalog.known(name)
        files = self._backend.catalog.reports(name)
        return answer({"reports": [{"file": file, "title": REPORTS[file]} for file in files]})

    def report(self, given: Given, name: str, file: str) -> Response:
        return _picture(self._backend.catalog.report(name, file))

    def service(self, given: Given) -> Response:
        config, catalog = self._backend.config, self._backend.catalog
        server, note = service.read(self._server)
        listing = catalog.listing()
        models = [{key: entry[key] for key in ("name", *_VERSION)} for entry in listing["models"]]
        address = urlsplit(config.server)
        rest = config.rest or (config.server if address.scheme in ("http", "https") else None)
        return answer(
            {
                "ready": listing["ready"],
                "at": time.time(),
                "grpc": address.netloc if address.scheme.startswith("grpc") else None,
                "rest": rest,
                "server": server,
                "note": note,
                "gateway": self._gateway.figures(),
                "models": models,
            }
        )

    def healthz(self, given: Given) -> Response:
        return answer({"status": "ok"})

    def readyz(self, given: Given) -> Response:
        if self._backend.catalog.ready():
            return answer({"status": "ready"})
        return document(503, "The model server does not answer.")

    def metrics(self, given: Given) -> Response:
        return Response(self._backend.measures.text(), content_type=CONTENT_TYPE_LATEST)


def _of_server(config: Config) -> service.Source | None:
    if config.metrics_url is None:
        return None
    metrics = service.Metrics(config.metrics_url, Access(config.ca, api_key=config.metrics_key))
    return service.Source(lambda: service.of_server(metrics.text()))


def _picture(path: Path) -> Response:
    return send_file(path.resolve(), mimetype=PNG, max_age=PICTURE_AGE_S)
