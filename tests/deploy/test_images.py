"""The images: built in clean root file systems, started as compose.yaml does, and asked from outside."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.deploy
LARGEST_MB = 400
TOOLS = ("buildah", "debootstrap", "unshare", "nsenter", "setpriv")

WAIT = """
import sys, time
from ladle import Client
deadline = time.monotonic() + 60
with Client("grpc://localhost:8500") as client:  # a server of a folder is healthy before its models are loaded
    while time.monotonic() < deadline:
        found = client.models(sys.argv[1:])
        if all(any(version.state == "AVAILABLE" for version in found.get(name, ())) for name in sys.argv[1:]):
            sys.exit()
        time.sleep(0.05)
sys.exit(f"not loaded: {found}")
"""
ASK_SERVER = """
import sys
import numpy as np
from ladle import Client
x = np.array([[1.0], [2.0]], np.float32)
for target in ("grpc://localhost:8500", "http://localhost:8501"):
    with Client(target) as client:
        print(client.predict("half_plus_two", {"x": x})["y"].ravel().tolist())
        print(client.predict("half_plus_three", {"x": x})["y"].ravel().tolist())
        print(client.classify("classifier", np.array([[0, 255], [0, 0]], np.uint8)).label)
"""
ASK_GATEWAY = """
import io, json, urllib.request
from PIL import Image
picture = io.BytesIO()
image = Image.new("L", (2, 2))
image.putpixel((1, 0), 255)
image.save(picture, "PNG")
def ask(path, data=None):
    headers = {"Content-Type": "image/png"} if data else {}
    request = urllib.request.Request("http://localhost:8080" + path, data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()
print(json.loads(ask("/api/v1/models/classifier:classify", picture.getvalue())))
print("<title>" in ask("/"), "ladle_" in ask("/metrics") or "# TYPE" in ask("/metrics"), bool(ask("/readyz")))
"""


def _load() -> ModuleType:
    path = Path(__file__).with_name("containers.py")
    spec = importlib.util.spec_from_file_location("containers", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["containers"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module that builds and runs images; skips, with the reason, where it cannot."""
    if os.geteuid() != 0:
        pytest.skip("images are built in root file systems, for which one must be root")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: `make check-deploy` installs Debian's")
    module = _load()
    module.make_base(tmp_path_factory.mktemp("base"))
    return module


@pytest.fixture(scope="module")
def network(containers: Any) -> Iterator[Any]:
    network = containers.Network()
    yield network
    network.close()


@pytest.fixture(scope="module")
def build(containers: Any) -> Iterator[Callable[..., Any]]:
    """Builds each target once."""
    built: dict[str, Any] = {}

    def make(target: str, *context: Path) -> Any:
        if target not in built:
            built[target] = containers.Image(target, *context)
        return built[target]

    yield make
    for image in built.values():
        image.remove()


@pytest.fixture
def start(containers: Any, network: Any, build: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Starts images; the containers are removed after the test."""
    started: list[Any] = []

    def run(image: str, work: Path, **more: Any) -> Any:
        started.append(containers.Container(build(image), network, work, **more))
        return started[-1]

    yield run
    for container in started:
        container.remove()


@pytest.fixture
def models(tiny_repository: Path, tmp_path: Path) -> Path:
    """What is mounted at /models, readable by everybody."""
    home = tmp_path / "models"
    shutil.copytree(tiny_repository, home)
    for folder in [*[tmp_path, *tmp_path.parents][:3], home, *filter(Path.is_dir, home.rglob("*"))]:
        folder.chmod(0o755)
    return home


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line in the middle of the tests' dots."""

    def write(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", flush=True)

    return write


def is_isolated(container: Any) -> bool:
    """Whether it runs without root or capabilities and can write only to /tmp."""
    assert container.execute("id", "-u").stdout.strip() == "65532"
    assert container.execute("touch", "/tmp/written").returncode == 0
    refused = [container.execute("touch", f"{folder}/written").stderr for folder in ("/app", "/venv", "/models")]
    assert all("Read-only file system" in text for text in refused), refused
    capabilities = container.execute("grep", "-E", "^(CapEff|NoNewPrivs)", "/proc/1/status").stdout.split()
    return capabilities == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]


def environment(service: Any) -> dict[str, str]:
    """The environment of a service in compose.yaml when no variable is set."""
    given = service.get("environment", {})
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in given.items()}


def test_the_server_and_the_gateway_answer_from_their_images(
    start: Any, build: Any, network: Any, models: Path, services: Any, say: Any
) -> None:
    for target in ("server", "gateway"):
        size = build(target).size_mb()
        say(f"{target}: {size} MB")
        assert size < LARGEST_MB
    server = start("server", models)
    server.wait_until_healthy()
    network.ask(WAIT, "half_plus_two", "half_plus_three", "classifier")
    assert network.ask(ASK_SERVER).split("\n") == ["[2.5, 3.0]", "[3.5, 4.0]", "coat"] * 2
    assert is_isolated(server)
    compiled = "from ladle.serving.rest.json import compiled; print(compiled.read_list and compiled.write_list)"
    assert "cyfunction" in server.execute("python", "-c", compiled).stdout
    gateway = start("gateway", models, environment=environment(services["gateway"]))
    gateway.wait_until_healthy()
    answer, page = network.ask(ASK_GATEWAY).split("\n")
    assert "'label': 'coat'" in answer
    assert page == "True True True"
    assert is_isolated(gateway)
    assert gateway.terminate() == 0, gateway.log.read_text()
    assert server.terminate() == 0, server.log.read_text()
    for container in (server, gateway):
        assert "Traceback" not in container.log.read_text()


def test_the_server_image_serves_what_the_training_image_exports(
    containers: Any, start: Any, build: Any, network: Any, tmp_path: Path, say: Any
) -> None:
    context = containers.without_nvidia(tmp_path / "context")
    say(f"train, without NVIDIA's packages: {build('train', context).size_mb()} MB")
    work = tmp_path / "work"
    work.mkdir()
    os.chown(work, 65532, 65532)
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(0o755)
    command = ["train", "house_prices", "--synthetic", "--epochs", "2"]
    training = start("train", work, target="/work", command=command, writable=True)
    assert training.wait(900) == 0, training.log.read_text()
    server = start("server", work / "model_repository")
    server.wait_until_healthy()
    network.ask(WAIT, "house_prices")
