"""The local copy of a store: whole versions alone, within a bound, for as long as the store is away."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("obstore")
from obstore.store import LocalStore, MemoryStore

from ladle.serving.errors import DataLoss, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, ServingError
from ladle.serving.stores.catalog import MANIFEST
from ladle.serving.stores.location import Location, parse
from ladle.serving.stores.mirror import Mirror
from ladle.serving.stores.objects import Objects
from tests.serving.stores.store_server import StoreServer, serving

LOCATION = parse("s3://bucket/models")


def put(store: Any, files: dict[str, bytes]) -> None:
    import obstore

    for path, content in files.items():
        obstore.put(store, path, content)


def mirror_of(store: Any, cache: Path, limit: int = -1) -> Mirror:
    """A mirror that looks only once, so that a test decides when."""
    mirror = Mirror(cache, limit, poll_s=0, connect=lambda location: Objects(location, store))
    mirror.open(LOCATION, is_repository=True)
    return mirror


def folder(mirror: Mirror, model: str = "half", version: int = 1) -> Path:
    found = mirror.find(LOCATION, is_repository=True)
    assert found is not None
    return found[model][version]


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "store", mkdir=True)


def test_a_version_is_fetched_whole_and_once(store: Any, tmp_path: Path) -> None:
    put(store, {"half/1/saved_model.pb": b"graph", "half/1/variables/variables.index": b"index"})
    mirror = mirror_of(store, tmp_path / "cache")
    target = folder(mirror)
    assert not target.exists()
    mirror.prepare(target)
    mirror.prepare(target)
    assert {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} == {
        "saved_model.pb",
        "variables/variables.index",
    }
    assert mirror.snapshot()["own_store_fetched"] == [[[], 10]]
    mirror.stop()


def manifest(**files: bytes) -> bytes:
    listed = {
        name.replace("__", "."): {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()
    }
    return json.dumps({"files": listed}).encode()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({MANIFEST: manifest(saved_model__pb=b"other")}, r"saved_model\.pb: its sha256"),
        ({MANIFEST: manifest(saved_model__pb=b"graph", lost__onnx=b"")}, r"lost\.onnx is in .* and not in the store"),
        ({MANIFEST: b"[]"}, "not a JSON object"),
        ({"assets.extra/card.json": b"{"}, "not a JSON object"),
        ({"assets.extra/card.json": b'{"onnx": {"model.onnx": {"sha256": "1"}}}'}, r"model\.onnx is not in the store"),
        ({"assets.extra/card.json": b'{"saved_model": {"sha256": "1"}}'}, "the SavedModel is not the one"),
    ],
    ids=["other file", "lost file", "no manifest", "no card", "lost graph", "other SavedModel"],
)
def test_a_version_that_is_not_what_its_own_lists_say_never_appears(
    files: dict[str, bytes], words: str, tmp_path: Path
) -> None:
    store = MemoryStore()
    put(store, {f"half/1/{name}": content for name, content in {"saved_model.pb": b"graph", **files}.items()})
    mirror = mirror_of(store, tmp_path / "cache")
    with pytest.raises(DataLoss, match=words):
        mirror.prepare(folder(mirror))
    assert mirror.has_failed(folder(mirror))
    assert not mirror.is_due(folder(mirror))
    assert list(folder(mirror).parent.iterdir()) == []
    mirror.stop()


def test_the_cache_removes_what_nobody_has_loaded_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, {f"{model}/1/saved_model.pb": b"x" * 400 for model in ("a", "b", "c")})
    put(store, {"large/1/saved_model.pb": b"x" * 1001})
    mirror = mirror_of(store, tmp_path / "cache", limit=1000)
    a, b, c = (folder(mirror, model) for model in "abc")
    mirror.in_use = lambda: {a}
    mirror.prepare(a)
    mirror.prepare(b)
    mirror.prepare(c)
    assert [path.exists() for path in (a, b, c)] == [True, False, True]
    assert mirror.snapshot()["own_cache_bytes"] == [[[], 800]]
    with pytest.raises(ResourceExhausted, match="raise --max_cache_bytes"):
        mirror.prepare(folder(mirror, "large"))
    mirror.stop()


def test_one_server_at_a_time_uses_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladle.serving.stores.cache._LOCK_S", 0.0)
    store = MemoryStore()
    put(store, {"half/1/saved_model.pb": b"graph"})
    first = mirror_of(store, tmp_path / "cache")
    with pytest.raises(InvalidArgument, match="in use by another server"):
        mirror_of(store, tmp_path / "cache")
    first.stop()
    mirror_of(store, tmp_path / "cache").stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    version = tmp_path / "bucket" / "models" / "half" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"graph" * 1000)
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def s3(server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> StoreServer:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return server


def test_a_start_without_the_store_finds_what_it_held(s3: StoreServer, tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        first = Mirror(tmp_path / "cache", poll_s=0)
        first.open(LOCATION, is_repository=True)
        first.prepare(folder(first))
        first.stop()
        s3.status = 503
        second = Mirror(tmp_path / "cache", poll_s=0)
        second.open(LOCATION, is_repository=True)
    target = folder(second)
    second.prepare(target)
    assert (target / "saved_model.pb").read_bytes() == b"graph" * 1000
    notice = second.notice(target)
    assert notice is not None
    assert notice.code == "OK"
    assert "the store answers HTTP 503" in notice.message
    assert "not-to-be-logged" not in caplog.text
    second.stop()


@pytest.mark.parametrize(
    ("url", "status", "kind", "words"),
    [
        ("s3://bucked/models", 0, NotFound, "there is no such bucket"),
        ("s3://bucket/models", 403, PermissionDenied, r"access denied \(HTTP 403\)"),
    ],
    ids=["wrong bucket", "wrong credentials"],
)
def test_what_can_never_work_is_an_error_at_start(
    url: str, status: int, kind: type[ServingError], words: str, s3: StoreServer, tmp_path: Path
) -> None:
    s3.status = status
    mirror = Mirror(tmp_path / "cache", poll_s=0)
    with pytest.raises(kind, match=words):
        mirror.open(Location(url), is_repository=True)
    mirror.stop()


def test_missing_credentials_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PermissionDenied, match="holds no credentials for this store"):
        Mirror(tmp_path / "cache", poll_s=0).open(parse("az://container/models"), is_repository=True)


def test_a_web_server_without_an_index_is_told_what_it_lacks(server: StoreServer, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "cache", poll_s=0)
    with pytest.raises(NotFound, match=r"`ladle config --index` writes it"):
        mirror.open(parse(f"{server.url}/bucket/models"), is_repository=True)
    mirror.stop()


def test_a_large_object_is_read_in_parts(s3: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladle.serving.stores.objects._PART_BYTES", 2000)
    mirror = Mirror(tmp_path / "cache", poll_s=0)
    mirror.open(LOCATION, is_repository=True)
    mirror.prepare(folder(mirror))
    assert (folder(mirror) / "saved_model.pb").read_bytes() == b"graph" * 1000
    assert sum("saved_model.pb" in request for request in s3.requests) == 3
    mirror.stop()
