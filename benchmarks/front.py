"""The gateway's overhead per request, and the client's import time and installed size."""

from __future__ import annotations

import http.client
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from benchmarks.requests import payloads
from benchmarks.requests.models import ROOT, Subject
from benchmarks.requests.payloads import PREDICT, WrongAnswerError
from benchmarks.servers.contenders import RunningServer, ladle
from benchmarks.servers.processes import Child, free_port

T = TypeVar("T")


@dataclass(frozen=True)
class Gateway:
    """Median milliseconds of one caller: directly to the model server, and with a PNG through the gateway.

    Both medians cover the `pairs` that the gateway answered; it failed to answer `failed` more.
    """

    direct_ms: float
    gateway_ms: float
    pairs: int
    failed: int = 0

    @property
    def overhead_ms(self) -> float:
        return self.gateway_ms - self.direct_ms


@dataclass(frozen=True)
class Client:
    """Seconds to import `ladle` and its Client, without Python's own start; packages and MB of the bare install."""

    import_s: float
    size_mb: float
    packages: list[str]


def gateway(lenet: Subject, repository: Path, pairs: int) -> Gateway:
    """Alternate, over one connection each, a tensor to Predict over gRPC and a PNG to the gateway's :classify."""
    import grpc

    with tempfile.TemporaryDirectory() as folder, RunningServer(ladle(lenet, repository, True), Path(folder)) as server:
        port = free_port()
        command = [sys.executable, "-m", "ladle.clients.web", f"--port={port}", f"--repository={repository}"]
        command.append(f"--server=grpc://127.0.0.1:{server.port}")
        with Child(command, Path(folder) / "gateway", cwd=ROOT) as child:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            picture = payloads.png(lenet.array[0, :, :, 0])

            def through_gateway() -> bool:
                path = f"/api/v1/models/{lenet.name}:classify"
                try:
                    connection.request("POST", path, picture, {"content-type": "image/png"})
                    answer = connection.getresponse()
                    content = answer.read()
                except (OSError, http.client.HTTPException):
                    connection.close()
                    return False
                # 502 and 503 say that the model server gave no answer; the caller counts them as failures.
                if answer.status not in (200, 502, 503):
                    raise WrongAnswerError(
                        f"got HTTP {answer.status} from the gateway; expected 200: {content[:200]!r}"
                    )
                return answer.status == 200

            child.wait_until(through_gateway)
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                call = channel.unary_unary(PREDICT)
                measured = compare(lambda: call(server.contender.request), through_gateway, pairs)
            connection.close()
    return measured


def compare(
    direct: Callable[[], object], through_gateway: Callable[[], bool], pairs: int, warm_up: int = 50
) -> Gateway:
    """Time both calls alternately. Failures are only counted: a fast failure is not a fast answer.

    `direct` raises when it fails. Raises WrongAnswerError if the gateway answered no request.
    """
    direct_s, gateway_s, failed = [], [], 0
    for i in range(warm_up + pairs):
        direct_took, _ = _timed(direct)
        gateway_took, answered = _timed(through_gateway)
        if i < warm_up:
            continue
        if answered:
            direct_s.append(direct_took)
            gateway_s.append(gateway_took)
        else:
            failed += 1
    if not gateway_s:
        raise WrongAnswerError(f"got no answer to {pairs} requests from the gateway; expected at least one")
    return Gateway(statistics.median(direct_s) * 1e3, statistics.median(gateway_s) * 1e3, len(gateway_s), failed)


def _timed(function: Callable[[], T]) -> tuple[float, T]:
    """Seconds of the call, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def client(runs: int = 5) -> Client:
    """Median import time over fresh processes, and the size of the files that the bare install puts on disk."""
    code = "import time; t = time.perf_counter(); import ladle; ladle.Client; print(time.perf_counter() - t)"
    times = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for _ in range(runs)
    ]
    packages = sorted(_closure("ladle"))
    size = sum(_size(name) for name in packages)
    return Client(statistics.median(map(float, times)), size / 1e6, packages)


def _closure(name: str) -> set[str]:
    """The distribution and all that it requires without extras, directly or indirectly."""
    found: set[str] = set()
    todo = [name]
    while todo:
        one = todo.pop()
        if one in found:
            continue
        try:
            requirements = metadata.requires(one) or []
        except metadata.PackageNotFoundError:  # required on another operating system only
            continue
        found.add(one)
        todo += [re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in requirements if "extra ==" not in line]
    return found


def _size(name: str) -> int:
    """Bytes of the distribution's files; for Ladle, installed in place here, of its packages in the repository."""
    if name == "ladle":
        rooms = ("clients", "models", "serving", "training")
        files = [path for room in rooms for path in (ROOT / room).rglob("*") if "__pycache__" not in path.parts]
        return sum(path.stat().st_size for path in [*files, *(ROOT / "ladle").glob("*.py")] if path.is_file())
    located = [Path(str(file.locate())) for file in metadata.files(name) or []]
    return sum(path.stat().st_size for path in located if path.is_file())
