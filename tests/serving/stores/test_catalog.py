"""Which versions a store holds, and when an upload has ended."""

from __future__ import annotations

import json
import time

import pytest

from ladle.serving.errors import DataLoss
from ladle.serving.stores.catalog import Catalog, from_index, from_json, from_listing, to_json
from ladle.serving.stores.objects import Stored

DIGEST = "0" * 64


def listing(*paths: str, age_s: float = 0.0, tag: str = '"a"') -> dict[str, Stored]:
    return {path: Stored(10, tag, time.time() - age_s) for path in paths}


def numbers(catalog: Catalog) -> dict[str, list[int]]:
    return {model: sorted(versions) for model, versions in catalog.models.items()}


def test_a_repository_holds_models_and_a_base_path_versions() -> None:
    objects = listing("half/1/saved_model.pb", "half/12/variables/a", "half/draft/saved_model.pb", "notes.txt")
    assert numbers(from_listing(objects, is_repository=True)) == {"half": [1, 12]}
    assert numbers(from_listing(listing("3/saved_model.pb", "readme"), is_repository=False)) == {"": [3]}


def test_paths_that_would_leave_their_folder_are_not_taken() -> None:
    objects = listing("half/1/../../etc/passwd", "half/2/a//b", "../half/3/saved_model.pb", "half/4/a\\b")
    assert numbers(from_listing(objects, is_repository=True)) == {}
    index = {"models": {"half": {"1": {"../../saved_model.pb": {"size": 1, "sha256": DIGEST}}}}}
    with pytest.raises(DataLoss, match="expected a path inside its version"):
        from_index(json.dumps(index).encode())


@pytest.mark.parametrize(
    "content", ["", "[]", '{"models": 1}', '{"models": {"a": {"1": {"f": {"size": 1}}}}}', "[" * 9999]
)
def test_an_index_that_is_none_is_refused(content: str) -> None:
    with pytest.raises(DataLoss, match=r"index\.json"):
        from_index(content.encode())


def test_a_version_that_is_being_uploaded_is_not_whole() -> None:
    """Two looks must show the same files; one look is enough for files written a minute ago."""
    nothing = Catalog()
    first = from_listing(listing("half/1/saved_model.pb"), is_repository=True)
    more = from_listing(listing("half/1/saved_model.pb", "half/1/variables/variables.index"), is_repository=True)
    other = from_listing(listing("half/1/saved_model.pb", tag='"b"'), is_repository=True)
    old = from_listing(listing("half/1/saved_model.pb", age_s=300), is_repository=True)
    without = from_listing(listing("half/1/variables/variables.index", age_s=300), is_repository=True)
    assert numbers(first.settled(nothing, nothing)) == {"half": []}
    assert numbers(more.settled(first, nothing)) == {"half": []}
    assert numbers(other.settled(first, nothing)) == {"half": []}
    assert numbers(more.settled(more, nothing)) == {"half": [1]}
    assert numbers(old.settled(nothing, nothing)) == {"half": [1]}
    assert numbers(without.settled(without, nothing)) == {"half": []}


def test_an_upload_by_ladle_ends_with_its_manifest() -> None:
    begun = from_listing(listing("half/1/.uploading", "half/1/saved_model.pb", age_s=300), is_repository=True)
    assert numbers(begun.settled(begun, Catalog())) == {"half": []}
    ended = listing("half/1/saved_model.pb", "half/1/assets.extra/manifest.json")
    assert numbers(from_listing(ended, is_repository=True).settled(Catalog(), Catalog())) == {"half": [1]}


def test_a_version_whose_files_are_written_again_stays_as_it_was_meanwhile() -> None:
    known = from_listing(listing("half/1/saved_model.pb"), is_repository=True)
    again = from_listing(listing("half/1/saved_model.pb", tag='"b"'), is_repository=True)
    assert again.settled(known, known) == known
    assert again.settled(again, known) == again


def test_a_catalog_outlives_the_server() -> None:
    catalog = from_listing(listing("half/1/saved_model.pb", "half/2/a"), is_repository=True)
    assert from_json(to_json(catalog)) == catalog
    with pytest.raises(ValueError, match="attribute"):
        from_json('{"half": 3}')
