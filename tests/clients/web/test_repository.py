"""The gateway reads a repository that it need not trust, and reads it once."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from ladle.clients.web import Config, create_app

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


def link(at: Path, target: Path | str) -> None:
    at.unlink(missing_ok=True)
    at.symlink_to(target)


def test_a_picture_that_is_a_link_out_of_the_repository_is_not_served(
    web: FlaskClient, extra: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.png").write_bytes(b"a secret")
    for at in (extra / "report" / "curves.png", extra / "samples" / "boot.png"):
        kind = at.parent.name.rstrip("s") + "s"
        for target in ("/etc/passwd", tmp_path / "outside.png", "../../../../../outside.png"):
            link(at, target)
            assert web.get(f"{MODELS}/lenet5/{kind}/{at.name}").status_code == 404
    assert listed(web)["lenet5"]["reports"] == []
    assert web.get(f"{MODELS}/lenet5/reports").json == {"reports": []}
    assert web.post(f"{MODELS}/lenet5:classify", json={"sample": "boot.png"}).status_code == 404


def test_a_link_inside_the_repository_is_followed(web: FlaskClient, extra: Path) -> None:
    (extra / "other.png").write_bytes((extra / "samples" / "coat.png").read_bytes())
    for at in (extra / "report" / "curves.png", extra / "samples" / "boot.png"):
        link(at, extra / "other.png")
    assert web.get(f"{MODELS}/lenet5/reports/curves.png").data == (extra / "other.png").read_bytes()
    assert web.get(f"{MODELS}/lenet5/samples/boot.png").status_code == 200
    assert listed(web)["lenet5"]["reports"] == ["curves.png"]


@pytest.mark.parametrize("place", ["card.json", "samples", "report", ".", "..", "../.."])
def test_nothing_behind_a_linked_file_or_folder_is_read(
    web: FlaskClient, extra: Path, tmp_path: Path, place: str
) -> None:
    linked = Path(os.path.normpath(extra / place))
    linked.rename(tmp_path / "outside")
    linked.symlink_to(tmp_path / "outside")
    model = web.get(f"{MODELS}/lenet5").json
    if place not in ("samples", "report"):
        assert model["card"] is None
        assert "card.json: got a symbolic link out of the repository" in model["card_error"]
    if place != "card.json":
        assert (model["samples"] == 0) or place == "report"
        assert (model["reports"] == []) or place == "samples"
        statuses = {
            web.get(f"{MODELS}/lenet5/{path}").status_code for path in ("samples/boot.png", "reports/curves.png")
        }
        assert 404 in statuses
        assert statuses == {404} or place in ("samples", "report")


def test_the_repository_itself_may_be_a_link(config: Config, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(repository)
    web = create_app(replace(config, repository=tmp_path / "linked")).test_client()
    assert listed(web)["lenet5"]["reports"] == ["curves.png"]
    assert web.get(f"{MODELS}/lenet5/reports/curves.png").status_code == 200
    assert web.get(f"{MODELS}/lenet5").json["card_error"] is None


_watching: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching is not None and event in ("os.listdir", "os.scandir"):
        _watching.append(os.fspath(arguments[0]))


@pytest.fixture(scope="module")
def listings() -> Callable[[], Any]:
    """A context in which every folder that Python lists is noted."""
    sys.addaudithook(_note)  # Python cannot remove one: outside the context it does nothing

    @contextmanager
    def watch() -> Iterator[list[str]]:
        global _watching
        _watching = found = []
        try:
            yield found
        finally:
            _watching = None

    return watch


def test_the_list_of_models_lists_each_folder_once_and_none_that_has_not_changed(
    config: Config, repository: Path, listings: Callable[[], Any]
) -> None:
    for number in range(100):
        samples = repository / f"model{number:03}" / "1" / "assets.extra" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "card.json").write_text(json.dumps({"description": "old"}))
        (samples.parent / "report").mkdir()
        (samples / "samples.json").write_text("[]")
    web = create_app(config).test_client()
    with listings() as noted:
        assert len(listed(web)) == 104
    counts = Counter(path for path in noted if path.startswith(str(repository)))
    assert counts[str(repository)] == 1
    assert {path for path, times in counts.items() if times > 1} == set()
    assert len(counts) <= 1 + 104 + 104  # the repository, its models, their reports

    before = time.time() - 60
    for path in [repository, *repository.rglob("*")]:
        os.utime(path, (before, before))
    listed(web)
    with listings() as noted:
        listed(web)
        web.get("/api/v1/service")
    assert [path for path in noted if path.startswith(str(repository))] == []

    # What changes is seen by the next request.
    (repository / "model007" / "2" / "assets.extra").mkdir(parents=True)
    (repository / "model007" / "2" / "assets.extra" / "card.json").write_text('{"description": "new"}')
    (repository / "model008" / "1" / "assets.extra" / "card.json").write_text('{"description": "also new"}')
    (repository / "lenet5" / "3" / "assets.extra" / "report" / "curves.png").unlink()
    (repository / "model101" / "1").mkdir(parents=True)
    with listings() as noted:
        found = listed(web)
    assert [found[name]["description"] for name in ("model006", "model007", "model008")] == ["old", "new", "also new"]
    assert (found["lenet5"]["reports"], "model101" in found) == ([], True)
    changed = [path for path in noted if path.startswith(str(repository))]
    assert len(changed) == len(set(changed)) < 10
