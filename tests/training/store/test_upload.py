"""`ladle export NAME --to`: the upload, what a server finds of it, and what a wrong target says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("obstore")

from ladle import command
from ladle.serving.stores.location import parse
from ladle.serving.stores.mirror import Mirror
from tests.serving.stores.store_server import StoreServer, serving

URL = "s3://bucket/models"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreServer]:
    (tmp_path / "bucket").mkdir()
    with serving(tmp_path) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        yield store


def export(repository: Path, *options: str) -> int:
    return command.main(["export", "half", "--repository", str(repository), *options])


def test_a_version_is_uploaded_whole_and_a_server_finds_it(
    store: StoreServer, repository: Path, tiny: Any, tmp_path: Path, capsys: Any
) -> None:
    tiny.half_plus(2).write(repository / "half", 1)
    assert export(repository, "--to", URL, "--json") == 0
    assert json.loads(capsys.readouterr().out)["url"] == f"{URL}/half/1"
    assert export(repository, "--to", URL) == 0
    assert f"{URL}/half/2" in capsys.readouterr().out
    puts = [
        request.split("/models/half/2/")[1] for request in store.requests if "PUT /bucket/models/half/2/" in request
    ]
    assert puts[0].startswith(".uploading")
    assert [puts[-2].partition("?")[0], puts[-1].partition("?")[0]] == ["saved_model.pb", "assets.extra/manifest.json"]

    assert not list(tmp_path.rglob(".uploading"))

    mirror = Mirror(tmp_path / "cache", poll_s=0)
    mirror.open(parse(URL), is_repository=True)
    found = mirror.find(parse(URL), is_repository=True)
    assert found is not None
    assert list(found["half"]) == [1, 2]
    mirror.prepare(found["half"][2])
    assert (found["half"][2] / "saved_model.pb").read_bytes() == (repository / "half/1/saved_model.pb").read_bytes()
    mirror.stop()


def test_ladle_config_writes_base_paths_in_the_store(
    store: StoreServer, repository: Path, tiny: Any, tmp_path: Path
) -> None:
    tiny.half_plus(2).write(repository / "half", 1)
    assert export(repository, "--to", URL) == 0
    assert command.main(["config", "--repository", URL, "--output", str(tmp_path / "conf")]) == 0
    assert f'base_path: "{URL}/half"' in (tmp_path / "conf" / "models.config").read_text()


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("hdfs://node/models", 2, "expected one of s3://BUCKET/FOLDER"),
        ("s3://user:secret@bucket/models", 2, "credentials come from the environment"),
        ("s3://bucked/models", 1, "there is no such bucket"),
        ("az://container/models", 1, "holds no credentials"),
    ],
)
def test_a_wrong_target_is_refused_in_one_sentence(
    url: str, code: int, words: str, store: StoreServer, repository: Path, tiny: Any, capsys: Any
) -> None:
    tiny.half_plus(2).write(repository / "half", 1)
    assert export(repository, "--to", url) == code
    said = capsys.readouterr().err
    assert words in said
    assert "secret" not in said
    assert said.count("\n") == 1
