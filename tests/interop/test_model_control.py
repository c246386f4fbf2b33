"""tritonclient loads and unloads models."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Running
from tests.interop.conftest import HERE, Tools

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_tritonclient_unloads_and_loads_a_model(
    tools: Tools, serve: Callable[..., Running], tiny_repository: Path, protocol: str
) -> None:
    server = serve("--repository", tiny_repository, "--allow_model_control", models=["half_plus_two"])
    port = server.rest_port if protocol == "http" else server.grpc_port
    command = [tools.python, HERE / "triton_control.py", protocol, f"127.0.0.1:{port}"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "takes no files or configuration from a request" in seen.pop("config")
    assert seen == {"before": True, "unloaded": False, "loaded": True, "state": ["READY"]}
