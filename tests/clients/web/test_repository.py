"""The gateway reads a repository that it need not trust, and reads it once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

MODELS = "/api/v1/models"
BAD = {
    "data": ('{"data": "x"}', "data: got a string; expected an object"),
    "metrics": ('{"metrics": {"test": [1]}}', "metrics.test: got a list"),
    "headline": ('{"headline": {"name": [1], "value": {}, "split": 5}}', "headline.name: got a list"),
    "signatures": ('{"signatures": {"text": {"outputs": 5}}}', "signatures.text.outputs: got an integer"),
    "labels": ('{"labels": 5}', "labels: got an integer; expected a list"),
    "deep": ("[" * 200_000 + "]" * 200_000, "nested too deep"),
    "surrogate": ('{"description": "\\ud800"}', "got half of a surrogate pair"),
    "text": ("not JSON", "got no JSON"),
    "huge": ('"' + "x" * 2**20 + '"', "got more than 1,048,576 bytes"),
}


@pytest.fixture
def extra(repository: Path) -> Path:
    return repository / "lenet5" / "3" / "assets.extra"


def listed(web: FlaskClient) -> dict[str, Any]:
    response = web.get(MODELS)
    assert response.status_code == 200
    return {model["name"]: model for model in response.json["models"]}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD.keys())
def test_a_wrong_card_is_the_problem_of_its_model_alone(web: FlaskClient, extra: Path, content: str, said: str) -> None:
    before = listed(web)
    (extra / "card.json").write_text(content)
    after = listed(web)
    assert list(after) == list(before)
    assert [after[name] for name in after if name != "lenet5"] == [before[name] for name in before if name != "lenet5"]
    assert (after["lenet5"]["description"], after["lenet5"]["verbs"]) == (None, ["classify"])
    told = web.get(f"{MODELS}/lenet5")
    assert (told.status_code, told.json["card"], told.json["metrics"]) == (200, None, None)
    assert told.json["card_error"].startswith("card.json: ")
    assert said in told.json["card_error"]
    assert web.get(f"{MODELS}/unet").json["card_error"] is None
    image = (extra / "samples" / "boot.png").read_bytes()
    answer = web.post(f"{MODELS}/lenet5:classify", data=image, content_type="image/png")
    assert answer.status_code == 200, "a model answers without labels"


@pytest.mark.parametrize("content", ['[{"file": [1]}]', '{"file": "boot.png"}', "[" * 200_000, "[5]"])
def test_wrong_samples_are_the_problem_of_their_model_alone(web: FlaskClient, extra: Path, content: str) -> None:
    (extra / "samples" / "samples.json").write_text(content)
    assert (listed(web)["lenet5"]["samples"], listed(web)["unet"]["samples"]) == (0, 1)
    refused = web.get(f"{MODELS}/lenet5/samples")
    assert refused.status_code == 404
    assert "cannot be read: samples.json: " in refused.json["detail"]
    assert web.get(f"{MODELS}/lenet5/samples/boot.png").status_code == 404
