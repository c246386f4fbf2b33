"""SECURITY.md names every limit with its default, and its commands turn TLS and keys on."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ladle.clients.web.config import Config
from ladle.serving.flag_table import FLAGS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "SECURITY.md").read_text()
LIMIT = re.compile("max_.*|(?!.*_poll_wait_).*_seconds|rest_api_timeout_in_ms")


def rows(pattern: str) -> dict[str, str]:
    return dict(re.findall(rf"^\| `{pattern}` \| ([^|]+) \|", PAGE, re.MULTILINE))


def test_every_limit_of_the_server_is_named_with_its_default() -> None:
    limits = {flag.name: flag.default for flag in FLAGS if LIMIT.fullmatch(flag.name)}
    assert {name: float(default) for name, default in rows(r"--(\w+)").items()} == limits


def test_every_limit_of_the_gateway_is_named_with_its_default() -> None:
    found = rows(r"([a-z]\w+)")
    assert found.pop("rate") == f"{Config(keys=('a b',)).limit} with keys, {Config().limit or 'none'} without"
    fields = {field.name: field.default for field in dataclasses.fields(Config)}
    limits = {name: default for name, default in fields.items() if re.fullmatch(r"max_.*|timeout_s", name)}
    assert {name: float(default) for name, default in found.items()} == limits


def test_the_options_of_the_gateway_on_the_page_are_there() -> None:
    from ladle.clients.web.__main__ import build_parser

    named = set(re.findall(r"`(--[a-z_-]+)", PAGE)) - {f"--{flag.name}" for flag in FLAGS}
    known = {option for action in build_parser()._actions for option in action.option_strings}
    assert named - {"--certificate"} <= known


@pytest.mark.slow
def test_the_commands_turn_tls_and_keys_on(tiny_repository: Path, tiny: Any, tmp_path: Path) -> None:
    ports = {port: str(tiny.free_port()) for port in ("8500", "8080", "8443")}
    text = re.sub(r"\b(8500|8080|8443)\b", lambda found: ports[found[1]], PAGE)
    text = text.replace("0.0.0.0", "127.0.0.1")
    (tmp_path / "model_repository").symlink_to(tiny_repository)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    servers = []
    answers = []
    try:
        for block, server in re.findall(r"^```sh\n((?s:.*?))^```|^((?: {4}.*\n)+)", text, re.MULTILINE):
            command = ["bash", "-euo", "pipefail", "-c", block or f"exec env {server.strip()}"]
            if server:
                servers.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL))
                wait_for(re.findall("|".join(ports.values()), server)[-1], servers[-1])
                continue
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{block}{done.stderr}"
            answers.append(done.stdout)
        url = f"http://localhost:{ports['8080']}/api/v1/models"
        bare = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url], capture_output=True)
    finally:
        for process in servers:
            process.kill()
            process.wait()
    assert len(servers) == 3
    assert [bool(re.search("classifier", answer)) for answer in answers] == [False, True, False, True, True]
    assert bare.stdout == b"401"


def wait_for(port: str, process: subprocess.Popen[bytes]) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")
