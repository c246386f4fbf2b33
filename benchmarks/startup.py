"""Start time and memory of our server."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
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


def ten(repository: Path, target: Path) -> Path:
    """Build a repository of ten ONNX models: five copies each of LeNet-5 and the LSTM, under different names."""
    for i in range(10):
        shutil.copytree(repository / ("lenet5", "sentiment_lstm")[i % 2], target / f"model{i}")
    return target


def start(repository: Path, flags: Sequence[str] = ()) -> Start:
    """Start our server on a repository, measure it and stop it."""
    port = free_port()
    command = [sys.executable, "-m", "ladle.serving", f"--repository={repository}", "--host=127.0.0.1"]
    command += [f"--port={free_port()}", f"--rest_api_port={port}", *flags]

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200) and _available(port) == _folders(repository)
        except urllib.error.HTTPError:
            return False

    with tempfile.TemporaryDirectory() as folder, Child(command, Path(folder) / "log", cwd=ROOT) as child:
        return Start(child.wait_until(ready), child.memory())


def _available(port: int) -> int:
    """The number of loaded models. A server without models reports ready too, so readiness alone proves nothing."""
    index = json.loads(post(port, "/v2/repository/index", b""))
    return sum(entry["state"] == "READY" for entry in index)


def _folders(repository: Path) -> int:
    return sum(path.is_dir() for path in repository.iterdir())
