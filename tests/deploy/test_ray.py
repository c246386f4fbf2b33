"""Ray Serve on a cluster of two nodes of this machine; it installs Ray, 556 MB, into an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1800)]

BUILD = ROOT / "build" / "ray"
WANTED = "ray[serve]==2.60.0\n"


@pytest.fixture(scope="module")
def python() -> Path:
    """Python of an environment with what the server's image has, and Ray."""
    stamp, locked = BUILD / "installed", ROOT / "requirements" / "server.lock"
    wanted = WANTED + locked.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        run(sys.executable, "-m", "venv", "--clear", BUILD)
        names = BUILD / "names.txt"
        pins = [line.partition(" ")[0] for line in locked.read_text().splitlines() if "==" in line[:60]]
        names.write_text("\n".join([WANTED, *(pin.partition("=")[0] for pin in pins)]))  # Ray has pins of its own
        run(BUILD / "bin" / "python", "-m", "pip", "install", "-q", "-r", names)
        stamp.write_text(wanted)
    return BUILD / "bin" / "python"


def run(*command: Any) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # Ray gives its own agents thirty seconds, which a busy machine exceeds.
    environment |= {"PYTHONPATH": str(ROOT), "RAY_agent_register_timeout_ms": "300000"}
    environment |= {"RAY_raylet_start_wait_time_s": "240", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=1500, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def seen(python: Path, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/deploy/ray_cluster.py saw."""
    home = tmp_path_factory.mktemp("ray")
    tiny.half_plus(2).write(home / "models" / "half_plus_two", 1)
    tiny.half_plus(3).write(home / "models" / "half_plus_three", 1)
    tiny.half_plus(4).write(home / "next", 2)
    said = run(python, ROOT / "tests" / "deploy" / "ray_cluster.py", home / "models", home / "next" / "2")
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def test_rays_proxies_speak_both_protocols(seen: dict[str, Any]) -> None:
    assert (seen["rest"], seen["ready"], seen["v2"], seen["client"]) == (200, 200, [2.5], [[2.5]])


def test_errors_are_those_of_the_server(seen: dict[str, Any]) -> None:
    missing = "Servable not found for request: Latest(nope)"
    assert (seen["refused"], seen["unknown"]) == (400, [404, missing])
    assert seen["unknown over gRPC"] == ["NOT_FOUND", missing]


def test_a_version_is_rolled_without_a_failed_request(seen: dict[str, Any]) -> None:
    rolled = seen["rolled"]
    assert (rolled["failed_first"], rolled["lost"]) == (0, 0), rolled
    assert rolled["answers"] == [[2.5, 1], [4.5, 2]]


def test_a_node_that_is_killed_under_load_loses_nothing_that_a_retry_does_not_cover(seen: dict[str, Any]) -> None:
    killed = seen["killed"]
    assert seen["replicas left"] == 1
    assert killed["asked"] > 40
    assert killed["lost"] == 0, killed
    assert [4.5, 2] in killed["answers"]
    assert all(answer in ([2.5, 1], [4.5, 2]) for answer in killed["answers"])  # a replica may still have version 1


def test_one_deployment_loads_many_models_and_lets_them_go(seen: dict[str, Any]) -> None:
    assert seen["many"] == [[[4.5]], [[3.5]], [[4.5]]]
