"""The tree of errors: each says which gRPC code and HTTP status it becomes, and every code keeps its name."""

from __future__ import annotations

import pickle

import pytest

from ladle.serving.errors import HTTP, NUMBERS, ServingError, of_code


@pytest.mark.parametrize("kind", [ServingError, *ServingError.__subclasses__()], ids=lambda kind: str(kind.__name__))
def test_the_docstring_of_an_error_names_its_code_and_its_status(kind: type[ServingError]) -> None:
    status = HTTP.get(kind.code, 500)
    assert f"gRPC {kind.code}," in (kind.__doc__ or "")
    assert f"HTTP {status}" in (kind.__doc__ or "")
    assert kind("why").http_status == status


@pytest.mark.parametrize("code", [code for code in NUMBERS if code != "OK"])
def test_an_error_of_a_graph_keeps_its_canonical_code(code: str) -> None:
    error = of_code(code, "why")
    assert (error.code, error.message, error.http_status) == (code, "why", HTTP.get(code, 500))
    copy = pickle.loads(pickle.dumps(error))  # as it crosses from a worker to its supervisor
    assert (type(copy), copy.code, copy.message) == (type(error), code, "why")


def test_an_unknown_code_becomes_unknown() -> None:
    assert of_code("NO_SUCH_CODE", "why").code == "UNKNOWN"
