from __future__ import annotations

import json
from pathlib import Path

import pytest

from ladle.training import data
from ladle.training.data import commands


def test_the_list_has_each_set_in_80_columns(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert commands.list_datasets(cache=tmp_path) == 0
    out = capsys.readouterr().out
    for name in data.names():
        assert f"\n{name} " in out
    assert out.split("\n")[0].split() == ["DATA", "SET", "HERE", "SIZE", "LICENCE"]
    for word in ("From: original: keras.datasets.cifar10", "sha256", "SYNTHETIC", "MIT"):
        assert word in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_the_list_in_json_has_every_fact(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert commands.list_datasets(json=True, cache=tmp_path) == 0
    infos = {info["name"]: info for info in json.loads(capsys.readouterr().out)}
    assert list(infos) == data.names()
    cifar = infos["cifar10"]
    assert (cifar["present"], cifar["size_bytes"]) == (False, 170_498_071)
    assert cifar["source"] == "original: keras.datasets.cifar10"
    assert infos["synthetic_digits"]["synthetic"]


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("fashion_mist", 2, 'unknown data set "fashion_mist"; did you mean fashion_mnist'),
        ("image_folder", 1, "give your files with --data PATH"),
        ("synthetic_blobs", 0, "nothing to fetch"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_on_stderr(
    name: str, status: int, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert commands.get(name, cache=tmp_path) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_a_source_that_a_set_does_not_have_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert commands.get("cifar10", source="npm", cache=tmp_path) == 1
    assert 'unknown source "npm"; expected one of original' in capsys.readouterr().err
