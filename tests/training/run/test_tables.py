"""A table of one's own from the file to an answer: train by the command, serve, ask by column, over both protocols."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from ladle import Client
from ladle.clients.web import Config, create_app
from ladle.training import __main__ as command

PLACES = ("Lyon", "Nice, FR", "Évry")


def house(i: int) -> dict[str, object]:
    area, rooms, city = 30 + 7 * i % 90, 1 + i % 11, PLACES[i % 3]
    price = 1000 * area + 5000 * rooms + {"Lyon": 0, "Nice, FR": 20_000, "Évry": -10_000}[city]
    return {"area (m²)": area if i % 20 else "", "rooms": rooms, "city": city, "price": price, "dear": price > 90_000}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two models of one table: of its numbers and of its classes."""
    home = tmp_path_factory.mktemp("table")
    rows = [house(i) for i in range(200)]
    with (home / "houses.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    places = ["--repository", str(home / "models"), "--runs", str(home / "runs"), "--no-report"]
    for network, target, epochs in (("linear_regression", "price", "30"), ("mlp", "dear", "4")):
        options = ["--data", str(home / "houses.csv"), "--target", target, "--epochs", epochs]
        assert command.main(["train", network, *options, *places]) == 0
    return home


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], home: Path) -> Any:
    return serve("--repository", home / "models", models=["linear_regression_houses_price", "mlp_houses_dear"])


@pytest.fixture(scope="module", params=["grpc", "http"])
def address(request: pytest.FixtureRequest, server: Any) -> str:
    port = server.grpc_port if request.param == "grpc" else server.rest_port
    return f"{request.param}://127.0.0.1:{port}"


def card(home: Path, model: str) -> Any:
    return json.loads((home / "models" / model / "1" / "assets.extra" / "card.json").read_text())


def test_the_card_tells_columns_ranges_and_what_the_mean_would_do(home: Path) -> None:
    told = card(home, "linear_regression_houses_price")
    assert [column["name"] for column in told["data"]["columns"]] == ["area_m2", "rooms", "city", "dear"]
    area, _, city, dear = told["data"]["columns"]
    assert (area["about"], area["unit"], area["low"], area["high"]) == ("area (m²)", "", 30, 119)
    assert city["categories"] == list(PLACES)
    assert dear["categories"] == ["False", "True"]
    assert told["data"]["target"]["about"] == "price"
    assert told["metrics"]["test"]["absolute_error"] < told["metrics"]["test"]["baseline_absolute_error"] / 2
    assert told["signatures"]["serving_default"]["graph"] == "model.onnx"
    assert told["onnx"]["model.onnx"]["parity"]["inputs"] == 64
    classes = card(home, "mlp_houses_dear")
    assert classes["labels"] == ["False", "True"]
    assert classes["data"]["target"] == {"name": "y", "about": "dear", "unit": ""}
    assert 0 < classes["metrics"]["test"]["baseline_accuracy"] < 1


def test_a_number_is_predicted_from_columns_or_rows(address: str) -> None:
    name, columns = "linear_regression_houses_price", {"area_m2": 60, "rooms": 4, "city": "Lyon", "dear": "False"}
    with Client(address) as client:
        one = client.regress(name, columns)
        assert one == pytest.approx(80_000, rel=0.2)
        several = client.regress(name, {key: [value, value] for key, value in columns.items()})
        assert several.tolist() == [one, one]
        assert client.regress(name, [60, 4, 0, 0]) == one
        assert client.regress(name, [[60, 4, 0, 0]]).tolist() == [one]
        unknown = client.regress(name, {**columns, "city": "Atlantis", "area_m2": float("nan")})
        assert np.isfinite(unknown)
        assert unknown == client.regress(name, [float("nan"), 4, -1, 0])


def test_a_class_is_predicted_from_columns_or_rows(address: str) -> None:
    columns = {"area_m2": [40, 115], "rooms": [1, 11], "city": ["Évry", "Nice, FR"], "price": [45_000, 190_000]}
    with Client(address) as client:
        found = client.classify_many("mlp_houses_dear", columns)
        assert [answer.label for answer in found] == ["False", "True"]
        assert found[0].labels == ("False", "True")
        row = client.classify("mlp_houses_dear", [115, 11, 1, 190_000])
        assert row.probability == pytest.approx(found[1].probability, abs=1e-6)


def test_every_column_is_asked_for(address: str) -> None:
    from ladle.clients.errors import InvalidArgument

    with Client(address) as client, pytest.raises(InvalidArgument, match='got no input "area_m2"; expected'):
        client.regress("linear_regression_houses_price", {"rooms": 4, "city": "Lyon", "dear": "False"})


def test_examples_and_rows_by_name_are_tensorflow_servings(server: Any) -> None:
    row = {"area_m2": 60.0, "rooms": 4.0, "city": "Lyon", "dear": "False"}
    url = "/v1/models/linear_regression_houses_price"
    regressed = {"signature_name": "regress", "examples": [row]}
    of_example = json.loads(server.send("POST", f"{url}:regress", json.dumps(regressed).encode())[1])["results"]
    of_row = json.loads(server.send("POST", f"{url}:predict", json.dumps({"instances": [row]}).encode())[1])
    assert of_example == of_row["predictions"]
    classified = {
        "signature_name": "classify",
        "examples": [{"area_m2": 60.0, "rooms": 4.0, "city": "Lyon", "price": 8e4}],
    }
    answer = json.loads(server.send("POST", "/v1/models/mlp_houses_dear:classify", json.dumps(classified).encode())[1])
    assert [label for label, _ in answer["results"][0]] == ["False", "True"]


def test_the_page_has_a_form_of_the_columns(server: Any, home: Path) -> None:
    config = Config(server=f"grpc://127.0.0.1:{server.grpc_port}", repository=home / "models", timeout_s=20)
    web: FlaskClient = create_app(config).test_client()
    verbs = {model["name"]: model["verbs"] for model in web.get("/api/v1/models").json["models"]}
    assert verbs == {"linear_regression_houses_price": ["regress"], "mlp_houses_dear": ["classify"]}
    for name, verb in (("linear_regression_houses_price", "regress"), ("mlp_houses_dear", "classify")):
        samples = web.get(f"/api/v1/models/{name}/samples").json["samples"]
        assert len(samples[0]["x"]) == 4
        answer = web.post(f"/api/v1/models/{name}:{verb}", json={"x": [sample["x"] for sample in samples]})
        assert answer.status_code == 200
        assert len(answer.json["y" if verb == "regress" else "results"]) == len(samples)
        told = web.get(f"/api/v1/models/{name}").json
        assert told["card_error"] is None
        assert told["card"]["data"]["columns"][2]["categories"] == list(PLACES)


def test_another_table_is_measured_with_the_columns_and_classes_of_the_model(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (home / "houses.csv").read_text(encoding="utf-8").replace("Lyon", "Paris")
    (tmp_path / "later.csv").write_text(text, encoding="utf-8")
    options = ["--repository", str(home / "models"), "--json"]
    name = "mlp_houses_dear"
    assert command.main(["evaluate", name, "--data-path", str(home / "houses.csv"), *options]) == 0
    same = json.loads(capsys.readouterr().out)["metrics"]
    assert same["accuracy"] == pytest.approx(card(home, name)["metrics"]["test"]["accuracy"])
    assert command.main(["evaluate", name, "--data-path", str(tmp_path / "later.csv"), *options]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["metrics"]["accuracy"] <= 1
    (tmp_path / "other.csv").write_text(text.replace("rooms", "doors", 1), encoding="utf-8")
    assert command.main(["evaluate", name, "--data-path", str(tmp_path / "other.csv"), *options]) == 1
    assert (
        "has no column rooms; expected the columns of the model: area_m2, rooms, city, price" in capsys.readouterr().err
    )


def test_the_checkpoint_of_a_table_is_a_keras_file(home: Path, tmp_path: Path) -> None:
    for name in ("linear_regression_houses_price", "mlp_houses_dear"):
        file = tmp_path / f"{name}.keras"
        assert command.main(["export", name, "--runs", str(home / "runs"), "--keras", str(file)]) == 0
        import keras

        model = keras.saving.load_model(file)
        assert np.asarray(model(np.array([[60, 4, 0, 0]], np.float32))).size in (1, 2)


@pytest.mark.parametrize(
    ("network", "target", "said"),
    [("mlp", "prise", "has no column 'prise'; did you mean price?"), ("mlp", "city;", "did you mean city?")],
    ids=["misspelt", "sign"],
)
def test_a_refusal_is_one_line_before_training(
    network: str, target: str, said: str, home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--data", str(home / "houses.csv"), "--target", target, "--runs", str(tmp_path / "runs")]
    assert command.main(["train", network, *options, "--repository", str(tmp_path / "models")]) == 1
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
