"""KServe's Python clients against our server, our client against KServe's server, and KServe's models against our
manifests. It installs KServe, 305 MB.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle import Client
from ladle.clients.errors import NotFound, Unimplemented
from tests.conftest import DEADLINE_S, ROOT, free_port
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


@pytest.fixture(scope="module")
def kserve_server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of a model server of KServe's own, by scheme."""
    ports = {"oip+http": free_port(), "oip+grpc": free_port()}
    log = tmp_path_factory.mktemp("kserve") / "log"
    with log.open("wb") as file:
        command = [str(python), str(HERE / "kserve_server.py"), *map(str, ports.values())]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + DEADLINE_S
        for port in ports.values():
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield {scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()}
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("scheme", ["oip+http", "oip+grpc"])
def test_our_client_asks_kserves_server(kserve_server: dict[str, str], scheme: str) -> None:
    with Client(kserve_server[scheme]) as client:
        assert client.predict("half", [[1.0], [2.0]])["y"].tolist() == [[2.5], [3.0]]
        assert client.status("half")[0].state == "AVAILABLE"
        assert str(client.metadata("half").signature("serving_default").inputs["x"]) == "float32 [?, 1]"
        with pytest.raises(NotFound, match="Model with name nope does not exist"):
            client.predict("nope", [[1.0]])
        if scheme == "oip+http":
            assert client.models().keys() == {"half"}
        else:
            with pytest.raises(Unimplemented, match="cannot list its models"):
                client.models()


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
