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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.tiny_models import Model, Signature, half_plus, identities, image_classifier, looping, onnx_model, record

# Tests ask servers of this machine. Where Docker or a shell sets a proxy, some libraries would send that to the proxy.
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, ("127.0.0.1,localhost", os.environ.get(_name))))

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 60.0

# The suite says the same of the same code, on a busy machine too; `pytest --hypothesis-profile explore` draws anew.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", settings.get_profile("explore"), derandomize=True)
settings.load_profile("suite")


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
        """The process that answers: with one worker, the child of the guardian that was started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = children.read_text().split() if children.exists() else []
        return int(found[0]) if found else self.process.pid

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


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts servers with more flags; waits until `models` are available. They end with the tests."""
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
def tiny_server(serve: Callable[..., Running], tiny_repository: Path) -> Running:
    """One server of the tiny repository, for tests that change nothing."""
    models = sorted(path.name for path in tiny_repository.iterdir())
    return serve("--repository", tiny_repository, models=models)


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


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the six networks of the showcase, trained at their tiny size on generated data.

    pytest-xdist's workers share one, which the first to need it trains. Copy it before you change it.
    """
    from ladle import models as registry
    from ladle.training.run import session

    is_shared = "PYTEST_XDIST_WORKER" in os.environ  # then each worker's folder lies in one of the whole session
    home = tmp_path_factory.getbasetemp().parent / "zoo" if is_shared else tmp_path_factory.mktemp("zoo")
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            for name in SHOWN:
                overrides = dict(registry.get(name).tiny)
                session.run(name, overrides=overrides, synthetic=True, repository=home / "models", runs=home / "runs")
            (home / "complete").touch()
    return home / "models"
