"""schemathesis asks the server what docs/ask/open-inference.yaml describes, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.conftest import ROOT, Running

pytestmark = pytest.mark.interop

DOCUMENT = yaml.safe_load((ROOT / "docs" / "ask" / "open-inference.yaml").read_text())
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if method != "parameters"
]
MODEL = "half_plus_two"
SETTINGS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def server(serve: Callable[..., Running], tiny_repository: Path) -> Running:
    # Not when the module is imported: schemathesis has one table for all documents, and the gateway's says another.
    schemathesis.openapi.media_type("application/octet-stream", st.binary(max_size=200))
    return serve("--repository", tiny_repository, "--allow_model_control", models=[MODEL])


def ask(server: Running, operation: str, mode: GenerationMode, examples: int, of_model: bool = True) -> set[int]:
    """Generated requests, each answer checked against the document; the statuses that came.

    of_model  they name the model that is there, and some run it; otherwise they name anything
    """
    method, _, path = operation.partition(" ")
    config = SchemathesisConfig.from_dict({"generation": {"mode": mode.value}})
    schema = schemathesis.openapi.from_dict(DOCUMENT, config=config)
    statuses = set()
    # What fits a model, and what a version is called, the document cannot say.
    excluded = [positive_data_acceptance, negative_data_rejection]

    @seed(1)
    @settings(max_examples=examples, **SETTINGS)
    @given(
        case=schema[path][method].as_strategy(generation_mode=mode), values=st.lists(st.floats(width=32), max_size=9)
    )
    def run(case: Any, values: list[float]) -> None:
        if of_model:
            if "name" in (case.path_parameters or {}):
                case.path_parameters["name"] = MODEL
            if "version" in (case.path_parameters or {}):
                case.path_parameters["version"] = "1"
            if path.endswith("/infer") and isinstance(case.body, dict) and len(values) % 2:
                shape = [len(values), 1]
                finite = [float(i) for i in range(len(values))]
                case.body["inputs"] = [{"name": "x", "datatype": "FP32", "shape": shape, "data": finite}]
                for other in ("parameters", "outputs"):
                    case.body.pop(other, None)
                case.headers.pop("Inference-Header-Content-Length", None)
        response = case.call_and_validate(
            base_url=f"http://127.0.0.1:{server.rest_port}", excluded_checks=excluded, timeout=60
        )
        assert response.status_code < 500, response.text
        statuses.add(response.status_code)

    run()
    return statuses


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_request_of_the_document_gets_an_answer_of_the_document(server: Running, operation: str) -> None:
    assert 200 in ask(server, operation, GenerationMode.POSITIVE, 50)


@pytest.mark.parametrize("operation", [operation for operation in OPERATIONS if "{" in operation])
def test_any_other_request_gets_an_answer_of_the_document(server: Running, operation: str) -> None:
    """A path's names may be any text, so only bodies can be against the document."""
    mode = GenerationMode.NEGATIVE if operation.startswith("POST") else GenerationMode.POSITIVE
    assert ask(server, operation, mode, 200, of_model=False) - {200}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_another_method_is_refused_with_those_that_there_are(server: Running, operation: str) -> None:
    method, _, path = operation.partition(" ")
    path = path.replace("{name}", MODEL).replace("{version}", "1")
    for other in {"GET", "POST", "PUT", "DELETE", "PATCH"} - {method}:
        status, body = server.send(other, path, b"{}" if other != "GET" else None)
        assert (status, b'"error"' in body) == (405, True), other
