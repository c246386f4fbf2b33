"""A repository of `tiny_models`, and live servers for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import ladle.training  # noqa: F401  sets the environment before a test imports TensorFlow
from tests.tiny_models import Model, Signature, half_plus, identities, image_classifier, looping, onnx_model, record

# Tests ask servers of this machine. Where Docker or a shell sets a proxy, some libraries would send that to the proxy.
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, ("127.0.0.1,localhost", os.environ.get(_name))))

# Some machines keep Python from caching bytecode. Each process that a test starts would compile what it imports anew:
# 14 s of CPU in place of 4 for TensorFlow.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 60.0

# The suite says the same of the same code, on a busy machine too; `pytest --hypothesis-profile explore` draws anew.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", settings.get_profile("explore"), derandomize=True)
settings.load_profile("suite")


LONGEST = (
    "models/test_networks.py",
    "test_networks.py",
    "training/loop/test_fit.py",
    "docs/test_blocks.py",
    "training/run/test_session.py",
    "clients/web/page/test_panels.py",
    "clients/web/page/test_snippets.py",
    "clients/web/page/test_access.py",
    "serving/servables/engines/test_savedmodel.py",
    "serving/servables/engines/test_large_runs.py",
    "training/test_convert.py",
    "training/export/test_export.py",
    "training/run/test_folds.py",
    "test_end_to_end.py",
)
"""What takes longest begins first, else one of pytest-xdist's workers has nothing left to do in the last minutes."""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist would begin with the files of most tests
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {ROOT / "tests" / file: place for place, file in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path, len(places)))


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has asked for its exit status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return False


@dataclass
class Running:
    """A server process and where it answers."""

    process: subprocess.Popen[bytes]
    grpc_port: int
    rest_port: int
    log: Path

    def get(self, path: str) -> tuple[int, bytes]:
        """HTTP status and body of a GET."""
        return self.send("GET", path)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """HTTP status and body of a request."""
        url = f"http://127.0.0.1:{self.rest_port}{path}"
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def states(self, model: str) -> dict[int, str]:
        """The state of each known version."""
        status, body = self.get(f"/v1/models/{model}")
        if status == 404:
            return {}
        return {int(v["version"]): v["state"] for v in json.loads(body)["model_version_status"]}

    def wait_for(self, reached: Callable[[], Any]) -> Any:
        """Returns `reached()` once it is true; fails after a minute or when the server ends."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                found = reached()
            except OSError:
                found = None
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"not reached:\n{self.log.read_text()}")

    def wait_for_state(self, model: str, version: int, state: str) -> None:
        self.wait_for(lambda: self.states(model).get(version) == state)

    @property
    def pid(self) -> int:
        """The process that answers: with one worker, the child of the guardian that was started.

        The guardian forks it, so both have one command line. A server without a guardian has other children, too.
        """
        started = Path(f"/proc/{self.process.pid}")
        children = started / "task" / str(self.process.pid) / "children"
        for child in children.read_text().split() if children.exists() else []:
            with contextlib.suppress(OSError):  # it has just ended
                if Path(f"/proc/{child}/cmdline").read_bytes() == (started / "cmdline").read_bytes():
                    return int(child)
        return self.process.pid

    def cpu_seconds(self) -> float:
        """What the server has computed so far; a running request shows in it."""
        return cpu_seconds(self.pid)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the server; its exit status. SIGKILL ends it like a power failure: all of its processes at once."""
        answering = self.pid
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        if number == signal.SIGKILL and answering != self.process.pid:
            with contextlib.suppress(ProcessLookupError):  # it would end by itself, once its requests are answered
                os.kill(answering, number)
            while cpu_seconds(answering) and not is_zombie(answering):
                time.sleep(0.01)
        return status


def free_port() -> int:
    """A port that nobody has now, below those that the system gives to port 0 and to clients' connections.

    A port of the system's own range could be given away again before the server listens on it.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)  # no test can seed it
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts servers with more flags; waits until `models` are available. They end with the context."""
    started: list[Running] = []

    def start(*flags: str | Path, models: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Running:
        grpc_port, rest_port = free_port(), free_port()
        log = tmp_path_factory.mktemp("server") / "log"
        command = [sys.executable, "-m", "ladle.serving", f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
        command += ["--host=127.0.0.1", "--file_system_poll_wait_seconds=0.05", *map(str, flags)]
        with log.open("wb") as file:
            environment = {**os.environ, **(env or {})}
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment)
        server = Running(process, grpc_port, rest_port, log)
        started.append(server)
        server.wait_for(lambda: server.get("/v2/health/live")[0] == 200)
        for model in models:
            server.wait_for(lambda model=model: "AVAILABLE" in server.states(model).values())
        return server

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts servers, as `servers` does. They end with the tests of the file: even an idle one polls its repository."""
    with servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def serve_throughout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """The same for servers that the tests of several files ask. They end with the last test."""
    with servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """half_plus_two, half_plus_three, classifier and identities."""
    folder = tmp_path_factory.mktemp("repository")
    half_plus(2).write(folder / "half_plus_two", 1)
    half_plus(3).write(folder / "half_plus_three", 1)
    image_classifier().write(folder / "classifier", 1)
    identities().write(folder / "identities", 1)
    return folder


@pytest.fixture(scope="session")
def tiny_server(serve_throughout: Callable[..., Running], tiny_repository: Path) -> Running:
    """One server of the tiny repository, for tests that change nothing."""
    models = sorted(path.name for path in tiny_repository.iterdir())
    return serve_throughout("--repository", tiny_repository, models=models)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """Makers of tiny models, each with `write(base_path, version)`: half_plus(offset), image_classifier(), ..."""
    makers = (
        half_plus,
        image_classifier,
        identities,
        looping,
        onnx_model,
        record,
        free_port,
        cpu_seconds,
        Model,
        Signature,
    )
    return SimpleNamespace(**{maker.__name__: maker for maker in makers})


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """An empty repository that a test may change."""
    folder = tmp_path / "repository"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


SHOWN = ("lenet5", "resnet18", "sentiment_lstm", "unet", "vae", "wgan_gp")


@contextlib.contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Holds a lock among processes; False, without it, if another holds it and we do not wait."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@pytest.fixture(scope="session")
def trained_networks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[str]], Path]:
    """`trained_networks(names)`: a new model repository with those networks, at their tiny size, on generated data.

    Each network is trained once. pytest-xdist's workers share the versions, and the work: each trains what the others
    have not begun. lenet5 has a report.
    """
    is_shared = "PYTEST_XDIST_WORKER" in os.environ  # then each worker's folder lies in one of the whole session
    home = tmp_path_factory.getbasetemp().parent / "trained" if is_shared else tmp_path_factory.mktemp("trained")
    home.mkdir(exist_ok=True)

    def train(name: str) -> None:
        from ladle import models as registry
        from ladle.training.run import session

        where = {"repository": home / "models", "runs": home / "runs"}
        session.run(name, overrides=dict(registry.get(name).tiny), synthetic=True, report=name == "lenet5", **where)

    def repository(names: Iterable[str]) -> Path:
        names = list(names)
        for wait in (False, True):
            for name in names:
                with locked(home / f"{name}.lock", wait=wait) as has_lock:
                    if has_lock and not (home / f"{name}.done").exists():
                        train(name)
                        (home / f"{name}.done").touch()
        folder = tmp_path_factory.mktemp("models")
        for name in names:
            shutil.copytree(home / "models" / name, folder / name)
        return folder

    return repository


@pytest.fixture(scope="session")
def zoo(trained_networks: Callable[[Iterable[str]], Path]) -> Path:
    """A model repository with the six networks of the showcase. Copy it before you change it."""
    return trained_networks(SHOWN)
