"""Start time and memory of our server."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.requests.models import ROOT
from benchmarks.requests.payloads import post
from benchmarks.servers.processes import Child, Memory, free_port


@dataclass(frozen=True)
class Start:
    """Seconds from process start until /v2/health/ready answers 200 with all models loaded, and the memory then."""

    ready_s: float
    memory: Memory


@dataclass(frozen=True)
class WorkerMemory:
    """PSS in MB of all processes of a server with two and with three workers, once they are quiet."""

    model: str
    two_mb: float
    three_mb: float

    @property
    def further_mb(self) -> float:
        """What a further worker adds."""
        return self.three_mb - self.two_mb


def ten(repository: Path, target: Path) -> Path:
    """Build a repository of ten ONNX models: five copies each of LeNet-5 and the LSTM, under different names."""
    for i in range(10):
        shutil.copytree(repository / ("lenet5", "sentiment_lstm")[i % 2], target / f"model{i}")
    return target


def start(repository: Path, flags: Sequence[str] = ()) -> Start:
    """Start our server on a repository, measure it and stop it."""
    with _started([f"--repository={repository}", *flags], _folders(repository)) as (child, ready_s):
        return Start(ready_s, child.memory())


def workers(repository: Path, model: str) -> WorkerMemory:
    """Start our server with two and with three workers on one model of a repository, and measure its memory."""
    found = []
    for count in (2, 3):
        flags = [f"--model_name={model}", f"--model_base_path={repository / model}", f"--workers={count}"]
        with _started(flags, 1) as (child, _):
            found.append(child.settled_memory().pss_mb)
    return WorkerMemory(model, *found)


@contextlib.contextmanager
def _started(flags: Sequence[str], models: int) -> Iterator[tuple[Child, float]]:
    """A server with so many models, and the seconds until it was ready."""
    port = free_port()
    command = [sys.executable, "-m", "ladle.serving", "--host=127.0.0.1"]
    command += [f"--port={free_port()}", f"--rest_api_port={port}", *flags]

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200) and _available(port) == models
        except urllib.error.HTTPError:
            return False

    with tempfile.TemporaryDirectory() as folder, Child(command, Path(folder) / "log", cwd=ROOT) as child:
        yield child, child.wait_until(ready)


def _available(port: int) -> int:
    """The number of loaded models. A server without models reports ready too, so readiness alone proves nothing."""
    index = json.loads(post(port, "/v2/repository/index", b""))
    return sum(entry["state"] == "READY" for entry in index)


def _folders(repository: Path) -> int:
    return sum(path.is_dir() for path in repository.iterdir())
