"""Which names are versions: server, clients and training give the same answer on the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ladle.clients.cli import doctor, status
from ladle.clients.library import cards
from ladle.clients.wire import versions
from ladle.serving.repository import folders
from ladle.training.store import publish


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder with three versions (1, 4 and 12), a file named 2, and names that only look like numbers."""
    folder = tmp_path / "model"
    for name in (
        "²",
        "1",
        "01",
        "004",
        "12",
        "-1",
        "+3",
        " 1",
        "1 ",
        "1.tmp",
        "1_0",
        "٣",
        "0",
        "9" * 30,
        ".tmp-5",
        "v6",
    ):
        (folder / name).mkdir(parents=True)
    (folder / "2").write_text("")
    return folder


def test_clients_and_training_find_the_same_versions(model: Path) -> None:
    found = versions.find_versions(model)
    assert {number: path.name for number, path in found.items()} == {1: "1", 4: "004", 12: "12"}
    assert list(found) == [1, 4, 12]
    assert publish.versions(model) == found
    assert list(publish.versions(model)) == list(found)


def test_the_server_takes_whatever_upstream_takes(model: Path) -> None:
    found = folders.find_versions(model)
    assert found is not None
    assert {number: path.name for number, path in found.items()} == {
        **{number: path.name for number, path in versions.find_versions(model).items()},
        -1: "-1",
        0: "0",
        2: "2",
    }


@pytest.mark.parametrize(
    "name", ["²", "1", "01", "-1", "--1", "-", "+3", " 1", "1\n", "1.tmp", "٣", "9" * 18, "9" * 19, "9" * 30, ""]
)
def test_training_reads_a_name_as_clients_do_unless_it_is_negative(name: str) -> None:
    number = versions.number_of(name)
    assert publish.number_of(name) == (number if number is not None and number > 0 else None)


def test_a_name_that_only_looks_like_a_number_stops_nobody(model: Path) -> None:
    assert cards.versions(model.parent, "model") == [1, 4, 12]
    assert cards.folder(model.parent, "model", 4) == model / "004"
    assert status.models_in(model.parent) == ["model"]
    assert {finding.what for finding in doctor.repository(model.parent)} == {
        "model model/1",
        "model model/004",
        "model model/12",
    }


def test_a_new_version_passes_by_a_file_that_has_its_number(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").write_text("")
    with publish.draft(tmp_path) as draft:
        assert publish.publish(draft, lambda version: None) == tmp_path / "3"


def test_a_missing_folder_has_no_versions(tmp_path: Path) -> None:
    assert versions.find_versions(tmp_path / "missing") == {}
    assert publish.versions(tmp_path / "missing") == {}
