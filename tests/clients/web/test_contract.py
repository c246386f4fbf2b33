"""Every route against the gateway's own OpenAPI document, with generated requests, good and bad."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ladle.clients.web import Config, create_app


def encoded(pixels: np.ndarray[Any, Any], format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


@st.composite
def pictures(draw: st.DrawFn, formats: tuple[str, ...] = ("PNG", "JPEG", "WEBP")) -> bytes:
    """Small pictures that the model server here can take."""
    level = draw(st.integers(0, 255))
    shape = (4, 4) if draw(st.booleans()) else (4, 4, 3)
    return encoded(np.full(shape, level, np.uint8), draw(st.sampled_from(formats)))


FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "application/octet-stream": "PNG"}
for kind, name in FORMATS.items():
    schemathesis.openapi.media_type(kind, pictures((name,)))
schemathesis.openapi.format("base64-image", pictures().map(lambda data: base64.b64encode(data).decode()))
schemathesis.openapi.format("binary", pictures())
schemathesis.openapi.format(
    "name", st.sampled_from(["lenet5", "unet", "vae", "sentiment_lstm", "linear_regression", "bowl"])
)
schemathesis.openapi.format("file", st.sampled_from(["boot.png", "curves.png"]))
schemathesis.openapi.format("sample", st.sampled_from(["boot.png", "coat.png", "0.png"]))
TEXTS = st.text("abc ü.", min_size=1, max_size=20).filter(str.strip)
schemathesis.openapi.media_type("text/plain", TEXTS.map(str.encode))


@pytest.fixture(scope="module")
def app(steady_server: Any, module_repository: Path) -> Flask:
    return create_app(
        Config(
            server=f"grpc://{steady_server.grpc}",
            repository=module_repository,
            timeout_s=10,
            max_body_bytes=200_000,
            max_pixels=10_000,
            max_images=4,
            max_characters=100,
        )
    )


OPERATIONS = sorted(
    f"{method.upper()} {path}"
    for path, methods in json.loads(create_app(Config()).test_client().get("/openapi.json").data)["paths"].items()
    for method in methods
)


SETTINGS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}
ASKING = [operation for operation in OPERATIONS if "{" in operation]
MODELS = {
    ":classify": "lenet5",
    ":segment": "unet",
    ":sentiment": "sentiment_lstm",
    ":neighbours": "sentiment_lstm",
    ":generate": "vae",
    ":interpolate": "vae",
    ":reconstruct": "vae",
    ":filter": "filters",
    ":regress": "linear_regression",
    ":minimise": "bowl",
    ":predict": "linear_regression",
    "/{name}": "lenet5",
    "/samples": "lenet5",
    "/reports": "lenet5",
    "/{file}": "lenet5",
}


def ask(app: Flask, operation: str, mode: GenerationMode, examples: int, number: int) -> set[int]:
    """Generated requests to one operation, each answer checked against the document; the statuses that came."""
    method, _, path = operation.partition(" ")
    refused = {"negative_data_rejection": {"expected-statuses": [400, 401, 404, 405, 406, 413, 415, 422]}}
    config = SchemathesisConfig.from_dict({"generation": {"mode": mode.value}, "checks": refused})
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)
    model = next((model for verb, model in MODELS.items() if path.endswith(verb)), None)
    statuses = set()

    @seed(number)
    @settings(max_examples=examples, **SETTINGS)
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        if model and mode is GenerationMode.POSITIVE:
            case.path_parameters["name"] = model
            if path.endswith(":predict"):  # the document cannot say what the signatures of a model take
                case.body = {"inputs": {"x": [[float(len(str(case.body)))]]}}
        # What :regress and :predict take, and how long a code or a row is, depends on the model, and that a truth
        # belongs to one image cannot be said of a form.
        by_model = re.search("regress|predict", path) or re.search(r"'(code|z|truth|x)'", str(case.body))
        response = case.call_and_validate(excluded_checks=[positive_data_acceptance] if by_model else [])
        assert response.status_code < 500, response.text
        statuses.add(response.status_code)

    run()
    return statuses


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_request_of_the_document_gets_an_answer_of_the_document(app: Flask, operation: str) -> None:
    assert 200 in ask(app, operation, GenerationMode.POSITIVE, 10, number=1)


@pytest.mark.parametrize("operation", ASKING)
def test_a_request_against_the_document_is_refused(app: Flask, operation: str) -> None:
    assert ask(app, operation, GenerationMode.NEGATIVE, 10, number=2) & {400, 404, 405, 406, 413, 415, 422}


@pytest.mark.slow
@pytest.mark.parametrize("operation", ASKING)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])
def test_many_requests_get_an_answer_of_the_document(app: Flask, operation: str, mode: GenerationMode) -> None:
    assert ask(app, operation, mode, 200, number=3)
