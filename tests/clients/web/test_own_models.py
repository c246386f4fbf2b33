"""Models that Ladle did not train: what they do is found out, and every signature can be asked in raw JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from ladle.clients.library import cards
from ladle.clients.web import Config, create_app
from tests.clients.web import own_models


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    folder = tmp_path_factory.mktemp("own") / "models"
    folder.mkdir()
    own_models.write(folder, tiny)
    tiny.identities().write(folder / "identities", 1)
    tiny.image_classifier().write(folder / "classifier", 1)
    return folder


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], home: Path) -> Any:
    return serve("--repository", home, models=sorted(child.name for child in home.iterdir()))


@pytest.fixture(scope="module", params=["grpc", "rest"])
def web(request: pytest.FixtureRequest, server: Any, home: Path) -> FlaskClient:
    """A gateway that asks over either protocol."""
    ports = {"grpc": f"grpc://127.0.0.1:{server.grpc_port}", "rest": f"http://127.0.0.1:{server.rest_port}"}
    return create_app(Config(server=ports[request.param], repository=home, timeout_s=20)).test_client()


def ask(web: FlaskClient, model_verb: str, **body: Any) -> Any:
    return web.post(f"/api/v1/models/{model_verb}", json=body)


def test_shares_in_rows_are_a_classification(web: FlaskClient) -> None:
    models = {model["name"]: model for model in web.get("/api/v1/models").json["models"]}
    assert {name: models[name]["verbs"] for name in models if name != "identities"} == {
        "classifier": ["classify"],
        "columns": [],
        "flowers": ["classify"],
        "photos": ["classify"],
        "triple": ["regress"],
    }
    assert models["flowers"]["task"] == "classify"
    assert web.get("/api/v1/models/flowers").json["labels"] == own_models.FLOWERS


def test_numbers_are_classified_with_the_labels_of_a_file(web: FlaskClient) -> None:
    [one] = ask(web, "flowers:classify", x=[0, 5, 0, 9], top=2).json["results"]
    assert (one["label"], one["class_id"]) == ("versicolor", 1)
    assert one["probability"] == pytest.approx(0.98670, abs=1e-4)
    assert [row["label"] for row in one["top"]] == ["versicolor", "setosa"]
    two = ask(web, "flowers:classify", x=[[9, 0, 0, 0], [0, 0, 9, 0]]).json["results"]
    assert [each["label"] for each in two] == ["setosa", "virginica"]


def test_an_image_is_classified_by_a_model_whose_names_are_its_own(web: FlaskClient) -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 0], [255, 0]], np.uint8)).save(file, "PNG")
    answer = web.post("/api/v1/models/photos:classify", data=file.getvalue(), content_type="image/png").json
    assert answer["results"][0]["label"] == "c"
    assert answer["results"][0]["probability"] == pytest.approx(np.e / (np.e + 3), abs=1e-5)


def test_every_number_of_an_answer_is_given(web: FlaskClient) -> None:
    assert ask(web, "triple:regress", x=[[2], [3]]).json["y"] == [[2, 4, 6], [3, 6, 9]]


@pytest.mark.parametrize("version", [{}, {"version": 1}], ids=["latest", "version"])
def test_any_signature_is_asked_in_json(web: FlaskClient, version: dict[str, int]) -> None:
    answer = ask(web, "columns:predict", inputs={"age": [[1.5]], "rooms": [[3]]}, **version).json
    assert answer["outputs"] == {"price": [[4.5]], "double": [[6]]}
    assert answer["tensors"] == {
        "price": {"dtype": "float32", "shape": [1, 1]},
        "double": {"dtype": "int64", "shape": [1, 1]},
    }
    assert (answer["signature"], answer["version"]) == ("serving_default", 1)


VALUES = {
    "bool": [True, False],
    "float32": [0.5, -2.0],
    "float64": [0.1, 1e300],
    "int8": [-128, 127],
    "int16": [-(2**15), 5],
    "int32": [-(2**31), 5],
    "int64": [-(2**63), 2**53 + 1],
    "uint8": [0, 255],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
}


@pytest.mark.parametrize("dtype", VALUES)
def test_every_dtype_passes_unchanged(web: FlaskClient, dtype: str) -> None:
    response = ask(web, "identities:predict", signature=dtype, inputs={"x": VALUES[dtype]})
    assert response.json["outputs"] == {"y": VALUES[dtype]}, response.data
    assert response.json["tensors"]["y"]["dtype"] == dtype


def test_bytes_are_base64_and_texts_are_texts(web: FlaskClient) -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 255], [0, 0]], np.uint8)).save(file, "PNG")
    image = {"b64": base64.b64encode(file.getvalue()).decode()}
    answer = ask(web, "classifier:predict", signature="serving_bytes", inputs={"image_bytes": [image]}).json
    assert set(answer["outputs"]) == {"logits", "probabilities", "class_id", "label"}
    assert answer["outputs"]["label"] == ["coat"]
    assert answer["outputs"]["logits"] == [[0, 1, 0]]
    words = ask(web, "identities:predict", signature="words", inputs={"id": [1]}).json["outputs"]
    assert words == {"word_bytes": [{"b64": base64.b64encode(b"one").decode()}]}


@pytest.mark.parametrize(
    ("verb", "body", "status", "said"),
    [
        ("columns:predict", {}, 400, "got no inputs"),
        ("columns:predict", {"inputs": 5}, 400, "inputs: got 5; expected an object"),
        ("columns:predict", {"inputs": {}}, 422, 'no input "age"'),
        ("columns:predict", {"inputs": {"age": [[1]]}}, 422, 'no input "rooms"'),
        ("columns:predict", {"inputs": {"age": [[1]], "rooms": [[1]], "size": 1}}, 422, '"size"'),
        ("columns:predict", {"inputs": {"age": [1], "rooms": [[1]]}}, 422, "expected float32 [?, 1]"),
        ("columns:predict", {"inputs": {"age": [[1]], "rooms": [[1.5]]}}, 422, "expected int64 [?, 1]"),
        ("columns:predict", {"inputs": {"age": [[1], [1, 2]], "rooms": [[1]]}}, 422, "age"),
        ("columns:predict", {"inputs": {"age": [["a"]], "rooms": [[1]]}}, 422, "age"),
        ("columns:predict", {"inputs": {"age": [[None]], "rooms": [[1]]}}, 400, "inputs.age: got null"),
        ("columns:predict", {"inputs": {"age": {"b64": "***"}, "rooms": [[1]]}}, 400, "not base64"),
        ("columns:predict", {"inputs": {"age": {"c": 1}, "rooms": [[1]]}}, 400, "inputs.age: got an object"),
        ("columns:predict", {"inputs": {"age": [[1]]}, "signature": "other"}, 422, 'no signature "other"'),
        ("nobody:predict", {"inputs": {"x": 1}}, 404, "nobody"),
        ("columns:classify", {"x": [1]}, 404, "it answers :predict"),
        ("flowers:classify", {"x": [1, 2, 3]}, 422, "x: got rows of 3 numbers; expected 4 in a row."),
        ("flowers:classify", {"x": 1}, 422, "x: got one number; expected 4 in a row."),
        ("flowers:classify", {"x": [[1, 2, 3, 4], [1]]}, 422, "different lengths"),
        ("photos:classify", {"x": [1, 2, 3, 4]}, 422, "send an image"),
    ],
)
def test_wrong_input_gets_one_sentence(web: FlaskClient, verb: str, body: Any, status: int, said: str) -> None:
    response = ask(web, verb, **body)
    assert response.status_code == status, response.data
    assert said in response.json["detail"]
    assert "\n" not in response.json["detail"]
    assert "Traceback" not in response.json["detail"]


def test_models_that_are_not_shown_are_not_asked(server: Any) -> None:
    config = Config(server=f"grpc://127.0.0.1:{server.grpc_port}", models=("flowers",))
    web = create_app(config).test_client()
    assert ask(web, "flowers:predict", inputs={"keras_tensor": [[0, 0, 0, 0]]}).status_code == 200
    assert ask(web, "columns:predict", inputs={"age": [[1]], "rooms": [[1]]}).status_code == 404
    assert ask(web, "triple:regress", x=[[1]]).status_code == 404


def test_labels_are_the_cards_else_those_of_a_file(tmp_path: Path) -> None:
    version = tmp_path / "m" / "1"
    (version / "assets").mkdir(parents=True)
    (version / "assets.extra").mkdir()
    assert cards.labels(tmp_path, "m") == []
    (version / "assets.extra" / "labels.txt").write_bytes(b"\xff")  # not UTF-8: as if it were not there
    assert cards.labels(tmp_path, "m") == []
    (version / "assets.extra" / "labels.txt").write_bytes("\ufeffrot\r\ngrün\r\n\r\n".encode())
    assert cards.labels(tmp_path, "m") == ["rot", "grün"]
    (version / "assets" / "labels.txt").write_text("red\ngreen\n")
    assert cards.labels(tmp_path, "m") == ["red", "green"]
    (version / cards.FILE).write_text(json.dumps({"labels": ["r", "g"]}))
    assert cards.labels(tmp_path, "m") == ["r", "g"]
