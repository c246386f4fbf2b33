"""A server whose models lie in a store: versions forward and back, faults of the store, crashes, workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("obstore")

from ladle import command
from tests.conftest import ROOT, Running
from tests.serving.stores.store_server import StoreServer, serving

Serve = Callable[..., Running]
REPOSITORY = "--repository=s3://bucket/models"
ROW = b'{"instances": [1.0]}'


@pytest.fixture
def half(tmp_path: Path, tiny: Any) -> Path:
    """The base path of half_plus_two version 1 in a bucket."""
    base_path = tmp_path / "bucket" / "models" / "half"
    tiny.half_plus(2).write(base_path, 1)
    return base_path


@pytest.fixture
def store(tmp_path: Path, half: Path) -> Iterator[StoreServer]:
    with serving(tmp_path) as store:
        yield store


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    return [f"--cache_dir={tmp_path / 'cache'}", "--store_poll_wait_seconds=0.1", "--enable_metrics"]


def answer(server: Running, model: str = "half") -> float:
    status, body = server.send("POST", f"/v1/models/{model}:predict", ROW)
    assert status == 200, body
    return float(json.loads(body)["predictions"][0])


def state(server: Running, version: int, model: str = "half") -> dict[str, Any]:
    _, body = server.get(f"/v1/models/{model}")
    found = json.loads(body)["model_version_status"]
    return dict(next(entry for entry in found if entry["version"] == str(version)))


def write_index(repository: Path) -> None:
    output = repository.parent / "conf"
    assert command.main(["config", "--repository", str(repository), "--output", str(output), "--index"]) == 0


def test_versions_roll_forward_and_back_and_outlive_the_store(
    serve: Serve, store: StoreServer, flags: list[str], half: Path, tiny: Any, tmp_path: Path
) -> None:
    server = serve(REPOSITORY, *flags, models=["half"], env=store.env)
    assert answer(server) == 2.5

    # An upload by others, file by file: until it has ended, version 1 answers.
    new = tmp_path / "new"
    tiny.half_plus(3).write(new, 2)
    (half / "2" / "assets.extra").mkdir(parents=True)
    files = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file())
    for path in files:
        looks = len(store.requests)
        shutil.copy(new / path, half / path)
        server.wait_for(lambda looks=looks: len(store.requests) > looks)
        assert answer(server) in (2.5, 3.5 if path == files[-1] else 2.5)
    server.wait_for_state("half", 2, "AVAILABLE")
    server.wait_for_state("half", 1, "END")
    assert answer(server) == 3.5

    store.status = 503
    server.wait_for(lambda: state(server, 2)["status"]["error_message"])
    shown = state(server, 2)
    assert shown["state"] == "AVAILABLE"
    assert shown["status"]["error_code"] == "OK"
    assert "the store has not answered since" in shown["status"]["error_message"]
    assert "HTTP 503" in shown["status"]["error_message"]
    assert answer(server) == 3.5
    assert server.get("/v2/health/ready")[0] == 200
    assert b':ladle:serving:store_up{store="s3://bucket/models"} 0' in server.get("/monitoring/prometheus/metrics")[1]
    store.status = 0
    server.wait_for(lambda: not state(server, 2)["status"]["error_message"])

    fetched = sum("/half/1/" in request for request in store.requests)
    shutil.rmtree(half / "2")
    server.wait_for_state("half", 1, "AVAILABLE")
    server.wait_for_state("half", 2, "END")
    assert answer(server) == 2.5
    assert sum("/half/1/" in request for request in store.requests) == fetched  # it was still in the cache
    log = server.log.read_text()
    assert log.count("HTTP 503") == 1
    assert store.env["AWS_SECRET_ACCESS_KEY"] not in log


def test_a_server_killed_in_mid_download_begins_again_and_then_needs_no_store(
    serve: Serve, store: StoreServer, flags: list[str], tmp_path: Path
) -> None:
    store.delay_s = 5.0
    first = serve(REPOSITORY, *flags, "--store_poll_wait_seconds=1", env=store.env)
    # Not "*.part": the list of what the store holds is drafted as one, before the server knows the model.
    first.wait_for(lambda: list((tmp_path / "cache").rglob(".1.part")))
    assert first.states("half") == {1: "LOADING"}
    first.stop(signal.SIGKILL)
    assert list((tmp_path / "cache").rglob(".1.part"))

    store.delay_s = 0.0
    second = serve(REPOSITORY, *flags, models=["half"], env=store.env)
    assert not list((tmp_path / "cache").rglob(".1.part"))
    assert answer(second) == 2.5
    second.stop(signal.SIGKILL)

    store.status = 503
    third = serve(REPOSITORY, *flags, models=["half"], env=store.env)
    assert answer(third) == 2.5
    assert "serving what is in the cache" in third.log.read_text()
    third.stop()


def test_a_base_path_on_a_web_server_and_a_file_that_is_cut_off(
    serve: Serve, store: StoreServer, flags: list[str], half: Path, tiny: Any
) -> None:
    write_index(half.parent)
    server = serve(
        "--model_name=half", f"--model_base_path={store.url}/bucket/models/half", *flags, models=["half"], env={}
    )
    assert answer(server) == 2.5

    store.cut = {"model.onnx"}
    tiny.half_plus(3).write(half, 2)
    write_index(half.parent)
    server.wait_for_state("half", 2, "END")
    assert state(server, 2)["status"]["error_code"] in ("DATA_LOSS", "UNAVAILABLE")
    assert answer(server) == 2.5
    asked = sum("half/2/model.onnx" in request for request in store.requests)
    server.wait_for(lambda: sum("half/2/model.onnx" in request for request in store.requests) > asked + 1)
    store.cut = set()
    server.wait_for_state("half", 2, "AVAILABLE")
    assert answer(server) == 3.5
    assert server.log.read_text().count("half version 2: not loaded") == 1
    looks = [request for request in store.requests if request.endswith("index.json")]
    assert len(looks) > 3  # each of them a conditional request, answered without a body


def test_workers_fetch_each_file_once(serve: Serve, store: StoreServer, flags: list[str]) -> None:
    server = serve(REPOSITORY, *flags, "--workers=2", models=["half"], env=store.env)
    assert answer(server) == 2.5
    assert sum("/half/1/model.onnx" in request for request in store.requests) == 1
    metrics = server.get("/monitoring/prometheus/metrics")[1]
    assert b':ladle:serving:store_up{store="s3://bucket/models"} 1' in metrics


def test_a_bucket_that_does_not_exist_ends_the_start(store: StoreServer, flags: list[str], tiny: Any) -> None:
    start = [sys.executable, "-m", "ladle.serving", f"--port={tiny.free_port()}", "--repository=s3://bucked/models"]
    done = subprocess.run(
        [*start, *flags], cwd=ROOT, env={**os.environ, **store.env}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 255
    assert "NOT_FOUND: s3://bucked/models: there is no such bucket; check its name and the region" in done.stdout
