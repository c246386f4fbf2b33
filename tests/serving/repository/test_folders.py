"""Which folders are versions, and which versions are aspired."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ladle.serving.repository.folders import ConfiguredRepository, FolderRepository, ModelConfig, Policy, find_versions


def folders(base: Path, *names: str) -> None:
    for name in names:
        (base / name).mkdir(parents=True)


def test_only_whole_numbers_are_versions(tmp_path: Path) -> None:
    folders(tmp_path, "1", "00000123", "-3", "v1", "1.5", "9tmp", ".tmp-4", "1_0", "+7", "٣", " 8", "9" * 30)
    found = find_versions(tmp_path)
    assert found is not None
    assert {number: path.name for number, path in found.items()} == {1: "1", 123: "00000123", -3: "-3"}


def test_the_last_of_two_names_for_a_number_counts(tmp_path: Path) -> None:
    folders(tmp_path, "1", "001")
    assert find_versions(tmp_path) == {1: tmp_path / "1"}


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (Policy(), {9}),
        (Policy("latest", 2), {7, 9}),
        (Policy("latest", 0), {9}),
        (Policy("all"), {1, 7, 9}),
        (Policy("specific", versions=(1, 5)), {1}),
        (Policy("specific"), set()),
    ],
    ids=["latest", "latest two", "latest none", "all", "specific", "specific none"],
)
def test_a_policy_chooses_versions(policy: Policy, chosen: set[int]) -> None:
    assert policy.choose([9, 1, 7]) == chosen


def test_a_base_path_that_goes_missing_changes_nothing(tmp_path: Path) -> None:
    folders(tmp_path, "a/1", "b/1")
    repository = ConfiguredRepository([ModelConfig("a", tmp_path / "a"), ModelConfig("b", tmp_path / "b")])
    before = repository.poll()
    assert {name: list(versions) for name, versions in before.items()} == {"a": [1], "b": [1]}
    (tmp_path / "a").rename(tmp_path / "away")
    folders(tmp_path, "b/2")
    assert repository.poll() == {"a": before["a"], "b": {2: tmp_path / "b" / "2"}}
    folders(tmp_path, "a")
    assert repository.poll()["a"] == {}


def test_a_missing_base_path_can_hold_up_all_models_as_in_tensorflow_serving(tmp_path: Path) -> None:
    folders(tmp_path, "a/1", "b/1")
    models = [ModelConfig("a", tmp_path / "a"), ModelConfig("b", tmp_path / "b")]
    repository = ConfiguredRepository(models, missing_stops=True)
    before = repository.poll()
    (tmp_path / "a").rename(tmp_path / "away")
    folders(tmp_path, "b/2")
    assert repository.poll() == before
    (tmp_path / "away").rename(tmp_path / "a")
    assert repository.poll()["b"] == {2: tmp_path / "b" / "2"}


def test_a_repository_ignores_files_and_hidden_folders(tmp_path: Path) -> None:
    folders(tmp_path, "lenet5/1", "lenet5/2", ".hidden/1", "not a name/1", "empty")
    (tmp_path / "file").write_text("")
    assert FolderRepository(tmp_path).poll() == {"lenet5": {2: tmp_path / "lenet5" / "2"}, "empty": {}}
    assert FolderRepository(tmp_path / "missing").poll() == {}


def test_an_unreadable_repository_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "m" / "1").mkdir(parents=True)
    watched = FolderRepository(folder)
    before = watched.poll()
    assert before == {"m": {1: folder / "m" / "1"}}
    folder.rename(tmp_path / "away")
    assert watched.poll() == before
    (tmp_path / "away").rename(folder)
    (folder / "m" / "1").rmdir()
    assert watched.poll() == {"m": {}}


def test_a_warning_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders(tmp_path, "a/1", "a/001", "b", "c/1")
    models = [
        ModelConfig("a", tmp_path / "a"),
        ModelConfig("b", tmp_path / "b"),
        ModelConfig("c", tmp_path / "c", Policy("specific", versions=(1, 7))),
        ModelConfig("d", tmp_path / "d"),
    ]
    repository = ConfiguredRepository(models)
    for _ in range(3):
        repository.poll()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    for text in ("several names mean version 1; '1' counts", "holds no version", "versions 7 are", "waiting for it"):
        assert any(text in line for line in said)


def test_a_repository_that_is_away_is_said_once_and_again_after_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = FolderRepository(tmp_path / "away")
    start = time.monotonic()
    for _ in range(5):
        watched.poll()
        watched.configured()
    assert not watched.is_readable
    assert len(caplog.records) == 1
    assert "cannot be read (No such file or directory)" in caplog.text
    monkeypatch.setattr(time, "monotonic", lambda: start + 90)
    watched.poll()
    assert len(caplog.records) == 2
    folders(tmp_path, "away/m/1")
    assert watched.poll() == {"m": {1: tmp_path / "away" / "m" / "1"}}
    assert watched.is_readable


def test_a_base_path_replaced_by_a_link_out_of_its_root_is_not_followed(tmp_path: Path) -> None:
    folders(tmp_path, "root/m/1", "elsewhere/2")
    root = tmp_path / "root"
    repository = ConfiguredRepository([ModelConfig("m", root / "m", root=root)])
    assert list(repository.poll()["m"]) == [1]
    (root / "m").rename(root / "away")
    (root / "m").symlink_to(tmp_path / "elsewhere")
    assert list(repository.poll()["m"]) == [1]


def test_only_folders_whose_name_fits_the_pattern_are_models(tmp_path: Path) -> None:
    folders(tmp_path, "lenet5/1", "unet-small/1", "-option/1", "a b/1", "$(x)/1")
    assert set(FolderRepository(tmp_path).poll()) == {"lenet5", "unet-small"}
    assert set(FolderRepository(tmp_path, names="lenet.*").poll()) == {"lenet5"}
