"""The resolver, over a data set whose original is a file made here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import Contents, DataError, Silent, registry
from ladle.training.data.dataset import deal
from ladle.training.data.fetch.sources import Download, File
from ladle.training.data.registry import Entry, Registry
from ladle.training.data.sets import synthetic


def read(path: Path, seed: int, *, scale: int = 1) -> Contents:
    file = path / "numbers.txt" if path.is_dir() else path
    x = np.loadtxt(file).astype(np.float32)[:, None] * scale
    return Contents(*deal(x, x[:, 0], seed), None, "numbers", files=(file,))


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "site" / "numbers.txt"
    path.parent.mkdir()
    path.write_text("\n".join(str(n) for n in range(20)))
    return path


@pytest.fixture
def entry(original: Path) -> Entry:
    digest = hashlib.sha256(original.read_bytes()).hexdigest()
    dead = Download("original: elsewhere", 1, (File("numbers.txt", (original.parent / "gone").as_uri(), digest),), "a")
    alive = Download("original: test", 50, (File("numbers.txt", original.as_uri(), digest),), "b")
    fields: dict[str, Any] = {"description": "", "origin": "", "licence": "", "splits": "", "layout": "a list"}
    return Entry(
        name="numbers",
        kind="table",
        read=read,
        generate=synthetic.table,
        generated_name="synthetic_table",
        sources=(dead, alive),
        **fields,
    )


def test_the_next_source_is_tried_when_one_fails(entry: Entry, tmp_path: Path) -> None:
    found = registry.resolve(entry, tmp_path / "cache", Silent())
    assert (found.source.key, found.how) == ("b", "fetched")


def test_the_cache_is_used_when_the_original_is_gone(entry: Entry, original: Path, tmp_path: Path) -> None:
    registry.resolve(entry, tmp_path / "cache", Silent())
    original.unlink()
    assert registry.resolve(entry, tmp_path / "cache", Silent()).how == "from the cache"


def test_a_harmed_cache_is_fetched_again(entry: Entry, tmp_path: Path) -> None:
    found = registry.resolve(entry, tmp_path / "cache", Silent())
    (found.folder / "numbers.txt").write_text("1")
    assert registry.resolve(entry, tmp_path / "cache", Silent()).how == "fetched"


def test_a_file_that_is_not_the_expected_one_never_reaches_the_cache(
    entry: Entry, original: Path, tmp_path: Path
) -> None:
    original.write_text("1\n2\n3\n")
    with pytest.raises(DataError, match=r"numbers could not be fetched \(.*the file was changed.*--data PATH"):
        registry.resolve(entry, tmp_path / "cache", Silent())
    assert registry.locate(entry, tmp_path / "cache") is None


def test_what_is_loaded_says_where_it_came_from(entry: Entry, original: Path, tmp_path: Path) -> None:
    found = registry.resolve(entry, tmp_path / "cache", Silent())
    fetched = registry.from_source(entry, found, 42, {}).provenance
    assert (fetched.source, fetched.synthetic) == ("original: test", False)
    own = registry.from_path(entry, original, 42, {}).provenance
    assert (own.name, own.origin, own.licence) == ("own_numbers", "the user", "the user's")
    assert own.source == "user's path: numbers.txt"  # no more of the path
    assert own.sha256 == fetched.sha256 == hashlib.sha256(original.read_bytes()).hexdigest()
    drawn = registry.generated(entry, 42, {})
    assert drawn.name == drawn.provenance.name == "synthetic_table"
    assert drawn.provenance.synthetic
    assert "in place of numbers" in drawn.provenance.notes


def test_a_source_is_chosen_by_its_key(entry: Entry, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone cannot be reached"):
        registry.resolve(entry, tmp_path, Silent(), "a")
    with pytest.raises(DataError, match='unknown source "c"; expected one of a, b'):
        registry.resolve(entry, tmp_path, Silent(), "c")


def test_a_name_given_twice_is_refused(entry: Entry) -> None:
    with pytest.raises(ValueError, match='"numbers" is registered twice'):
        Registry([entry, entry])


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match='unknown data set "fashion_mist"; did you mean fashion_mnist'):
        data.load("fashion_mist")


def test_an_unknown_option_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match='image_folder: unknown option "hight"; expected channels, height, size, skip_broken, width'
    ):
        data.load("image_folder", path=tmp_path, hight=3)


def test_a_set_without_a_download_asks_for_a_path() -> None:
    with pytest.raises(DataError, match="give your files with --data PATH"):
        data.load("mask_folder")


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder; expected"):
        data.load("mnist", path=tmp_path / "nowhere")


def test_a_path_and_generated_data_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected one of the two"):
        data.load("mnist", path=tmp_path, synthetic=True)


def test_generated_data_stand_in_only_when_allowed() -> None:
    with pytest.raises(DataError):
        data.load("mask_folder")
    stand_in = data.load("mask_folder", allow_synthetic=True)
    assert (stand_in.name, stand_in.provenance.synthetic) == ("synthetic_blobs", True)


@pytest.mark.parametrize("name", data.names())
def test_every_set_is_described_without_fetching(name: str, tmp_path: Path) -> None:
    info = data.describe(name, cache=tmp_path)
    assert info.name == name
    assert info.description
    assert info.licence
    assert info.source
    assert all(len(source.files) for source in data._REGISTRY.get(name).sources)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", data.names())
def test_every_set_has_a_generated_twin_of_its_kind(name: str) -> None:
    drawn = data.load(name, synthetic=True)
    assert drawn.kind == data.describe(name).kind
    assert drawn.provenance.synthetic
    assert drawn.name.startswith("synthetic_")
    assert "synthetic" in drawn.provenance.source
    assert min(drawn.sizes().values()) > 0
