"""`ladle export --to` and `ladle serve s3://` against moto's S3 server, which nobody here wrote."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Running, free_port
from tests.interop.conftest import Tools

pytestmark = pytest.mark.interop


@contextlib.contextmanager
def moto(program: Path) -> Iterator[dict[str, str]]:
    """A server with an empty bucket; the environment in which its clients find it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=60)
                break
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        yield {**keys, "AWS_ENDPOINT_URL": url}
    finally:
        process.kill()
        process.wait()


def test_versions_are_uploaded_and_served(
    tools: Tools, serve: Callable[..., Running], tiny: Any, repository: Path, tmp_path: Path
) -> None:
    with moto(tools.python.parent / "moto_server") as env:

        def export() -> str:
            command = [sys.executable, "-m", "ladle", "export", "half", "--repository", str(repository)]
            command += ["--to", "s3://bucket/models", "--json"]
            done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, cwd=ROOT)
            assert done.returncode == 0, done.stderr
            return str(json.loads(done.stdout)["url"])

        tiny.half_plus(2).write(repository / "half", 1)
        assert export() == "s3://bucket/models/half/1"
        flags = [
            "--repository=s3://bucket/models",
            "--store_poll_wait_seconds=0.2",
            f"--cache_dir={tmp_path / 'cache'}",
        ]
        server = serve(*flags, models=["half"], env=env)
        tiny.half_plus(3).write(repository / "half", 2)
        assert export() == "s3://bucket/models/half/2"
        server.wait_for_state("half", 2, "AVAILABLE")
        status, body = server.send("POST", "/v1/models/half:predict", b'{"instances": [1.0]}')
        assert (status, json.loads(body)) == (200, {"predictions": [3.5]})
