"""KServe's Python clients against our server, and its models against our manifests. It installs KServe, 305 MB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.interop.conftest import BUILD, HERE

pytestmark = [pytest.mark.interop, pytest.mark.timeout(1800)]  # the first run installs

MANIFESTS = sorted((ROOT / "deploy" / "kserve").glob("*.yaml"))


@pytest.fixture(scope="module")
def python() -> Path:
    """Python of an environment that has KServe, in build/interop."""
    home, wanted = BUILD / "kserve", (HERE / "kserve_requirements.txt").read_text()
    stamp = home / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        run(sys.executable, "-m", "venv", "--clear", home)
        run(home / "bin" / "python", "-m", "pip", "install", "-q", "-r", HERE / "kserve_requirements.txt")
        stamp.write_text(wanted)
    return home / "bin" / "python"


def run(*command: Any) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kserves_clients_get_their_answers(python: Path, tiny_server: Any) -> None:
    rest, grpc = f"http://127.0.0.1:{tiny_server.rest_port}", f"127.0.0.1:{tiny_server.grpc_port}"
    answers = json.loads(run(python, HERE / "kserve_client.py", "ask", rest, grpc, "half_plus_two").splitlines()[-1])
    refused = answers.pop("v2 unknown")
    assert "404" in refused
    # KServe's V1 servers say `ready` where TensorFlow Serving, and so this server, lists its versions.
    assert answers.pop("v1 model") is None
    expected = [[2.5], [3.0]]
    assert answers == {
        **dict.fromkeys(("v1", "v2 json", "v2 binary", "grpc json", "grpc binary"), expected),
        **dict.fromkeys(("v1 live", "v2 live", "v2 ready", "v2 model"), True),
        **dict.fromkeys(("grpc live", "grpc ready", "grpc model"), True),
    }


def test_kserves_models_know_every_field_of_the_manifests(python: Path) -> None:
    assert len(MANIFESTS) == 3
    assert json.loads(run(python, HERE / "kserve_client.py", "check", *MANIFESTS)) == []


def test_kserves_models_refuse_a_field_that_they_lack(python: Path, tmp_path: Path) -> None:
    wrong = yaml.safe_load((ROOT / "deploy" / "kserve" / "servingruntime.yaml").read_text())
    wrong["spec"]["containers"][0]["arg"] = wrong["spec"]["containers"][0].pop("args")
    wrong["spec"]["protocolVersions"] = "v2"
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    found = json.loads(run(python, HERE / "kserve_client.py", "check", tmp_path / "wrong.yaml"))
    assert sorted(line.partition(": ")[2] for line in found) == ["'v2' is no list", "V1Container has no such field"]
