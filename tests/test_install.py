"""What `pip install ladle` brings: one package with all its files, light, quick to import, and able to ask."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LARGEST_BYTES = 102_000_000  # 98 MB are numpy, Pillow, grpcio and protobuf
SLOWEST_IMPORT_S = 0.5
ROOMS = ("clients", "models", "serving", "training")
BUILD = "from setuptools import build_meta; print(build_meta.build_{kind}({out!r}))"


@dataclass(frozen=True)
class Built:
    """The wheel and the source distribution of this checkout, and the copy of it that they were built in."""

    wheel: Path
    sdist: Path
    checkout: Path


def build(kind: str, checkout: Path, out: Path) -> Path:
    """Build a wheel, an editable wheel or an sdist as pip does, but with the setuptools that is installed here."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD.format(kind=kind, out=str(out))]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    # A build leaves build/ and *.egg-info in the folder that it builds, so it gets a copy.
    home = tmp_path_factory.mktemp("built")
    checkout = home / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for name in ("ladle", *ROOMS, "tests"):
        shutil.copytree(
            ROOT / name, checkout / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.so")
        )
    return Built(build("wheel", checkout, home / "wheel"), build("sdist", checkout, home / "sdist"), checkout)


@pytest.fixture(scope="module")
def uv() -> Path:
    found = Path(sys.executable).parent / "uv"
    if not found.exists():
        pytest.skip("uv is not installed beside this Python: `make test` installs it")
    return found


@pytest.fixture(scope="module")
def python(uv: Path, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment with the wheel and what it requires, out of uv's cache."""
    home = tmp_path_factory.mktemp("client")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, home], check=True)
    install(uv, home / "bin" / "python", built.wheel, "--constraint", ROOT / "requirements.lock")
    return home / "bin" / "python"


def install(uv: Path, python: Path, *arguments: str | Path) -> None:
    done = subprocess.run(
        [uv, "pip", "install", "-q", "--offline", "--python", python, *arguments], capture_output=True, text=True
    )
    if done.returncode and "offline" in done.stderr.lower():
        pytest.skip("the packages are not in uv's cache, and tests download nothing")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project that has packages with the names of Ladle's rooms."""
    home = tmp_path_factory.mktemp("project")
    for name in ROOMS:
        (home / name).mkdir()
        (home / name / "__init__.py").write_text(f"raise ImportError('this is the {name} of another project')\n")
    return home


def run(python: Path, arguments: list[str], folder: Path, **more: str) -> str:
    env = {"PATH": os.environ["PATH"], **more}
    done = subprocess.run([python, *arguments], env=env, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(wheel: Path) -> dict[str, bytes]:
    """The contents of a wheel, without its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        return {name: archive.read(name) for name in names}


def test_the_wheel_holds_one_package_with_every_file_of_the_rooms(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        links = [entry.filename for entry in archive.infolist() if stat.S_ISLNK(entry.external_attr >> 16)]
    assert tops == {"ladle", next(top for top in tops if top.endswith(".dist-info"))}
    assert links == []
    expected = {"ladle/py.typed"} | {name for name in files(built.wheel) if name.endswith(".so")}
    for folder in ("ladle", *ROOMS):
        for path in (built.checkout / folder).rglob("*"):
            if path.suffix in (".py", ".pyx", ".pyi", ".binpb", ".config", ".json") or path.parent.name in (
                "static",
                "templates",
            ):
                name = path.relative_to(built.checkout).as_posix()
                expected.add(name if folder == "ladle" else f"ladle/{name}")
    assert set(files(built.wheel)) == expected
    assert {"ladle/clients/wire/descriptors.binpb", "ladle/clients/web/templates/index.html"} <= expected
    compiled = [name.split(".")[0] for name in expected if name.endswith(".so")]
    folder = "ladle/serving/rest/json/compiled"
    assert sorted(compiled) in ([], [f"{folder}/reader", f"{folder}/writer"])  # nothing, without a C compiler


def test_the_source_distribution_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        assert not [member.name for member in archive.getmembers() if member.issym() or member.islnk()]
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert files(build("wheel", unpacked, tmp_path / "out")) == files(built.wheel)


def test_an_editable_install_follows_the_checkout(uv: Path, built: Built, project: Path, tmp_path: Path) -> None:
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    install(uv, python, "--no-deps", build("editable", built.checkout, tmp_path / "wheel"))
    code = "import ladle.clients.errors, ladle.serving.flags; print(ladle.clients.errors.__file__)"
    found = Path(run(python, ["-c", code], project).strip())
    assert found.resolve() == built.checkout / "clients" / "errors.py"


def test_the_client_and_all_that_it_needs_are_small(python: Path) -> None:
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    kept = (path for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc")  # as the wheels hold them
    size = sum(path.stat().st_size for path in kept)
    assert 20_000_000 < size < LARGEST_BYTES, f"{size:,} bytes"


def test_the_client_is_imported_at_once(python: Path, project: Path) -> None:
    code = (
        "import time; start = time.process_time()\n"
        "from ladle import AsyncClient, Client\n"
        "for target in ('grpc://localhost:1', 'http://localhost:1'): Client(target).close()\n"
        "print(time.process_time() - start)"
    )
    taken = [float(run(python, ["-c", code], project)) for _ in range(4)]  # the first run writes byte code
    assert min(taken) < SLOWEST_IMPORT_S, taken


def test_both_clients_ask_from_a_project_with_packages_of_the_same_names(
    python: Path, project: Path, tiny_server: Any
) -> None:
    code = """
import asyncio, importlib.util, sys
import numpy as np
from ladle import AsyncClient, Client
for package in ("tensorflow", "onnxruntime", "orjson", "flask"):
    assert importlib.util.find_spec(package) is None, package
x = np.array([[1.0], [2.0]], np.float32)
for target in TARGETS:
    with Client(target) as client:
        assert sorted(client.models()) == ["classifier", "half_plus_three", "half_plus_two", "identities"]
        print(client.predict("half_plus_two", {"x": x})["y"].ravel().tolist())
        print(client.classify("classifier", np.array([[0, 255], [0, 0]], np.uint8)).label)
    async def ask():
        async with AsyncClient(target) as client:
            print((await client.predict("half_plus_two", {"x": x}))["y"].ravel().tolist())
    asyncio.run(ask())
try:
    import clients
except ImportError as error:
    print(error)
"""
    targets = [f"grpc://127.0.0.1:{tiny_server.grpc_port}", f"http://127.0.0.1:{tiny_server.rest_port}"]
    said = run(python, ["-c", f"TARGETS = {targets!r}\n{code}"], project).splitlines()
    assert said == ["[2.5, 3.0]", "coat", "[2.5, 3.0]"] * 2 + ["this is the clients of another project"]


def test_the_command_line_answers_without_tensorflow(python: Path, project: Path, tiny_server: Any) -> None:
    address = f"grpc://127.0.0.1:{tiny_server.grpc_port}"
    said = run(python.parent / "ladle", ["status", "half_plus_two"], project, LADLE_ADDRESS=address)
    assert said.splitlines()[1].split() == ["half_plus_two", "1", "AVAILABLE"]


def test_the_package_tells_the_version_of_its_wheel(python: Path, project: Path, built: Built) -> None:
    version = built.wheel.name.split("-")[1]
    assert run(python, ["-c", "import ladle; print(ladle.__version__)"], project) == f"{version}\n"
    assert run(python.parent / "ladle", ["--version"], project) == f"ladle {version}\n"


@pytest.mark.parametrize("module", ["ladle", "ladle.serving", "ladle.clients"])
def test_help_answers_from_any_folder(module: str, python: Path, project: Path) -> None:
    assert "usage" in run(python, ["-m", module, "--help"], project).lower()


@pytest.mark.parametrize("room", ["serving", "clients"])
def test_a_room_runs_by_its_own_name_from_a_checkout(room: str) -> None:
    assert "usage" in run(Path(sys.executable), ["-m", room, "--help"], ROOT).lower()
