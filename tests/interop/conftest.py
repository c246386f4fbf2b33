"""The tools that `make interop` runs, and the proxies between them and the server.

npm and pip install into build/interop, in the versions that package.json and requirements.txt name. nginx and HAProxy
come from the system; the Makefile installs Debian's.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DEADLINE_S, ROOT, free_port

HERE = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "interop"

NGINX = """
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{grpc} http2;
    location / {{ grpc_pass grpc://{server_grpc}; }}
  }}
  server {{
    listen 127.0.0.1:{rest};
    location / {{ proxy_pass http://{server_rest}; }}
  }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 60s
  timeout client 60s
  timeout server 60s
listen grpc
  bind 127.0.0.1:{grpc} proto h2
  server ladle {server_grpc} proto h2
listen rest
  bind 127.0.0.1:{rest}
  server ladle {server_rest}
"""


@dataclass(frozen=True)
class Tools:
    """Where the tools are, and their versions by name."""

    modules: Path
    python: Path
    versions: dict[str, str]

    @property
    def buf(self) -> Path:
        return self.modules / ".bin" / "buf"


@dataclass(frozen=True)
class Way:
    """Addresses, HOST:PORT, by which a client reaches the server."""

    grpc: str
    rest: str


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Installed, or an error that says what is missing."""
    for name in ("node", "npm", "nginx", "haproxy", "curl"):
        assert shutil.which(name), f"{name} is not installed; as root on Debian, `make interop` installs it"
    BUILD.mkdir(parents=True, exist_ok=True)
    modules, python = BUILD / "node_modules", BUILD / "venv" / "bin" / "python"
    wanted = (HERE / "package.json").read_text() + (HERE / "requirements.txt").read_text()
    stamp = BUILD / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.copy(HERE / "package.json", BUILD)
        _run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", BUILD)
        _run(sys.executable, "-m", "venv", BUILD / "venv")
        _run(python, "-m", "pip", "install", "-q", "-r", HERE / "requirements.txt")
        stamp.write_text(wanted)
    versions = {
        "Node": _run("node", "--version"),
        "nginx": _run("nginx", "-v"),
        "HAProxy": _run("haproxy", "-v"),
        "curl": _run("curl", "--version"),
        "tritonclient": _run(python, "-c", "from importlib.metadata import version; print(version('tritonclient'))"),
        "grpcio": _run(python, "-c", "from importlib.metadata import version; print(version('grpcio'))"),
    }
    versions = {name: re.search(r"\d+(\.\d+)+", said)[0] for name, said in versions.items()}  # type: ignore[index]
    versions |= json.loads((HERE / "package.json").read_text())["dependencies"]
    return Tools(modules, python, versions)


def _run(*command: Any) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError(f"not reached:\n{log.read_text()}")


@pytest.fixture(scope="session")
def ways(
    tools: Tools, tiny_server: Any, serve_throughout: Any, tiny_repository: Path, tmp_path_factory: Any
) -> Iterator[Any]:
    """By name: straight to each gRPC backend, and through nginx and HAProxy."""
    direct = Way(f"127.0.0.1:{tiny_server.grpc_port}", f"127.0.0.1:{tiny_server.rest_port}")
    other = serve_throughout("--repository", tiny_repository, "--grpc_backend=grpcio", models=["half_plus_two"])
    found = {"native": direct, "grpcio": Way(f"127.0.0.1:{other.grpc_port}", f"127.0.0.1:{other.rest_port}")}
    started: list[subprocess.Popen[bytes]] = []
    for name, text, command in (
        ("nginx", NGINX, ["nginx", "-e", "stderr", "-p", "{folder}", "-c", "{file}"]),
        ("HAProxy", HAPROXY, ["haproxy", "-db", "-f", "{file}"]),
    ):
        folder = tmp_path_factory.mktemp(name)
        ports = {"grpc": free_port(), "rest": free_port()}
        file = folder / "config"
        file.write_text(text.format(folder=folder, server_grpc=direct.grpc, server_rest=direct.rest, **ports))
        with (folder / "log").open("wb") as log:
            words = [word.format(folder=folder, file=file) for word in command]
            started.append(subprocess.Popen(words, stdout=log, stderr=log))
        for port in ports.values():
            _wait_until_open(port, started[-1], folder / "log")
        found[name] = Way(f"127.0.0.1:{ports['grpc']}", f"127.0.0.1:{ports['rest']}")
    yield found
    for process in started:
        process.terminate()
    for process in started:
        process.wait(DEADLINE_S)
