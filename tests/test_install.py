"""What `pip install ladle` brings, measured: the client alone, light, quick to import, and able to ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LARGEST_BYTES = 100_000_000
SLOWEST_IMPORT_S = 0.5
PACKAGES = ("clients", "models", "serving", "training")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with the packages of the bare install alone, out of uv's cache."""
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        pytest.skip("uv is not installed beside this Python: `make test` installs it")
    home = tmp_path_factory.mktemp("client")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, home], check=True)
    wanted = home / "requirements.txt"
    resolve = [uv, "pip", "compile", "-q", "--offline", ROOT / "pyproject.toml", "-o", wanted]
    resolve += ["--constraint", ROOT / "requirements.lock"]
    install = [uv, "pip", "install", "-q", "--offline", "--python", home / "bin" / "python", "-r", wanted]
    for command in (resolve, install):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and "offline" in done.stderr.lower():
            pytest.skip("the packages are not in uv's cache, and tests download nothing")
        assert done.returncode == 0, done.stderr
    return home / "bin" / "python"


def run(python: Path, code: str, **more: str) -> str:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, cwd=python.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_and_all_that_it_needs_are_small(python: Path) -> None:
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    files = (path for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc")  # as the wheels hold them
    brought = sum(path.stat().st_size for path in files)
    ours = sum(path.stat().st_size for room in PACKAGES for path in (ROOT / room).rglob("*.py"))
    assert brought > 20_000_000  # it was installed
    assert brought + ours < LARGEST_BYTES, f"{brought + ours:,} bytes"


def test_the_client_is_imported_at_once(python: Path) -> None:
    code = (
        "import time; start = time.process_time()\n"
        "from ladle import AsyncClient, Client\n"
        "for target in ('grpc://localhost:1', 'http://localhost:1'): Client(target).close()\n"
        "print(time.process_time() - start)"
    )
    taken = [float(run(python, code)) for _ in range(4)]  # processor time; the first run writes byte code
    assert min(taken) < SLOWEST_IMPORT_S, taken


def test_both_clients_ask_over_both_protocols_without_tensorflow(python: Path, tiny_server: Any) -> None:
    code = """
import asyncio, importlib.util, sys
import numpy as np
from ladle import AsyncClient, Client
for package in ("tensorflow", "onnxruntime", "orjson", "flask"):
    assert importlib.util.find_spec(package) is None, package
x = np.array([[1.0], [2.0]], np.float32)
for target in sys.argv[1:] or TARGETS:
    with Client(target) as client:
        assert sorted(client.models()) == ["classifier", "half_plus_three", "half_plus_two", "identities"]
        print(client.predict("half_plus_two", {"x": x})["y"].ravel().tolist())
        print(client.classify("classifier", np.array([[0, 255], [0, 0]], np.uint8)).label)
    async def ask():
        async with AsyncClient(target) as client:
            print((await client.predict("half_plus_two", {"x": x}))["y"].ravel().tolist())
    asyncio.run(ask())
"""
    targets = [f"grpc://localhost:{tiny_server.grpc_port}", f"http://localhost:{tiny_server.rest_port}"]
    said = run(python, f"TARGETS = {targets!r}\n{code}").split("\n")
    assert said == ["[2.5, 3.0]", "coat", "[2.5, 3.0]"] * 2 + [""]


def test_the_command_line_answers_without_tensorflow(python: Path, tiny_server: Any) -> None:
    code = "import sys; from ladle import command; sys.exit(command.main(['status', 'half_plus_two']))"
    said = run(python, code, LADLE_ADDRESS=f"grpc://localhost:{tiny_server.grpc_port}")
    assert said.splitlines()[1].split() == ["half_plus_two", "1", "AVAILABLE"]
