"""The processes of a measurement: ONNX Runtime alone, our server with its gateway, and the rivals."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.real.workloads import Ports, Rivals, zipf
from benchmarks.requests import payloads, v2
from benchmarks.requests.load import BINARY, LoadError, Target
from benchmarks.requests.models import ROOT, Array
from benchmarks.servers import rival_servers
from benchmarks.servers.processes import Child, StartError, free_port

_MAX_BYTES = 2**28
_CERTIFICATE = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"


class Limit:
    """A child process that runs a workload's graph on request: calls per second with one caller, and with many.

    It computes these outputs of the graph; none: all.
    """

    def __init__(self, graph: Path, inputs: Mapping[str, Array], scratch: Path, outputs: Sequence[str] = ()) -> None:
        file = scratch / "inputs.npz"
        np.savez(file, **inputs)  # type: ignore[arg-type]
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "benchmarks.servers.limit", str(graph), str(file), *outputs]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)

    def measure(self, seconds: float) -> tuple[float, float]:
        """Calls per second with a thread for each core, and with one caller."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise LoadError("got no answer from ONNX Runtime in process; expected it to run the graph")
        found = json.loads(answer)
        return found["many"], found["one"]

    def __enter__(self) -> Limit:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def start_ours(
    stack: ExitStack, served: Path, folder: Path, tls: bool, gateway: bool, shared: bool
) -> tuple[list[Child], Ports]:
    """Our server, one more with TLS, one with a worker for each core, and a gateway, as the workloads need them."""
    socket = str(folder / "grpc.sock")
    ports = Ports(free_port(), free_port(), (free_port(), free_port()), free_port(), free_port(), socket)
    base = [sys.executable, "-m", "ladle.serving", f"--repository={served}", "--host=127.0.0.1"]
    base.append(f"--max_request_bytes={_MAX_BYTES}")
    commands = {
        "server": [*base, f"--port={ports.grpc}", f"--rest_api_port={ports.rest}", f"--grpc_socket_path={ports.socket}"]
    }
    if tls:
        (folder / "ssl.config").write_text(_certificate(folder))
        commands["tls"] = [*base, f"--port={ports.tls}", f"--ssl_config_file={folder / 'ssl.config'}"]
    if shared:
        grpc, rest = ports.shared
        workers = int(machine.describe()["cores"])
        commands["shared"] = [*base, f"--port={grpc}", f"--rest_api_port={rest}", f"--workers={workers}"]
    if gateway:
        commands["gateway"] = [sys.executable, "-m", "ladle.clients.web", f"--port={ports.gateway}"]
        commands["gateway"] += [f"--repository={served}", f"--server=grpc://127.0.0.1:{ports.grpc}"]
    children = [
        stack.enter_context(Child(command, folder / f"{name}.log", cwd=ROOT)) for name, command in commands.items()
    ]
    children[0].wait_until(lambda: len(_ready(ports.rest)) == sum(path.is_dir() for path in served.iterdir()))
    return children, ports


def _ready(port: int) -> list[str]:
    index = json.loads(payloads.post(port, "/v2/repository/index", b"{}"))
    return [entry["name"] for entry in index if entry["state"] == "READY"]


def _certificate(folder: Path) -> str:
    """An SSLConfig with a new key and certificate. LoadError: there is no openssl."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", *_CERTIFICATE.split(), "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LoadError(f"openssl: {error}; leave out tls-grpc, or install it") from error
    return "".join(f"server_{name}: {json.dumps(file.read_text())}\n" for name, file in (("key", key), ("cert", cert)))


def start_rivals(
    stack: ExitStack, wanted: Rivals, graph: Path, programs: Mapping[str, Path], folder: Path
) -> tuple[dict[str, Target], dict[str, str]]:
    """The rivals that answer such a request, started; and why others did not start."""
    found: dict[str, Target] = {}
    failures: dict[str, str] = {}
    workers = int(machine.describe()["cores"])  # as many processes as our server has cores to run the graph on
    names = (
        [] if not wanted.form and not wanted.body else ["mosec", "Ray Serve"] if wanted.raw else rival_servers.SCRIPTED
    )
    (folder / "rival").write_bytes(wanted.body)
    env = {"DECODE": wanted.form, "BATCH": "1", "VOCABULARY": str(graph.parent / "assets" / "vocabulary.txt")}
    for name in names:
        if name in programs:
            launch = functools.partial(rival_servers.scripted, name, programs[name], graph, workers=workers, env=env)
            kind = "application/octet-stream" if wanted.raw else "application/json"
            target = Target(free_port(), rival_servers.path(name), folder / "rival", False, kind)
            title = rival_servers.title(name, programs[name])
            _start(stack, title, launch(port=target.port), target, wanted.body, folder, found, failures)
    (folder / "v2").write_bytes(payloads.frame(wanted.v2) if wanted.grpc else wanted.v2)
    # MLServer in its own process: with workers beside it, it ends at the start.
    for name, start, count in (("MLServer", rival_servers.mlserver, 1), ("Triton", rival_servers.triton, workers)):
        if wanted.v2 and name in programs:
            paths = [v2.INFER] if wanted.grpc else [_infer(model) for model in wanted.models]
            mixed = zipf(paths) if len(paths) > 1 else ()
            target = Target(free_port(), paths[0], folder / "v2", wanted.grpc, mixed=mixed)
            own = folder / name.lower()
            launch_v2 = start(programs[name], graph, target.port, count, wanted.models, wanted.grpc, own)
            _start(stack, name, launch_v2, target, wanted.v2, folder, found, failures)
    body, head = wanted.binary
    if body and "Triton" in programs:
        (folder / "binary").write_bytes(body)
        (model,) = wanted.models
        header = payloads.binary_header(head)
        target = Target(free_port(), _infer(model), folder / "binary", False, BINARY, header)
        own = folder / "triton-binary"
        launch_v2 = rival_servers.triton(programs["Triton"], graph, target.port, workers, wanted.models, False, own)
        _start(stack, "Triton (V2 binary)", launch_v2, target, body, folder, found, failures)
    return found, failures


def _infer(model: str) -> str:
    return f"/v2/models/{model}/infer"


def _start(
    stack: ExitStack,
    name: str,
    launch: rival_servers.Launch,
    target: Target,
    body: bytes,
    folder: Path,
    found: dict[str, Target],
    failures: dict[str, str],
) -> None:
    """Start a rival and wait for its first answer: into `found`, or into `failures`."""

    def send(path: str) -> bytes:
        if target.grpc:
            return payloads.call(target.port, path, body)
        return payloads.post(target.port, path, body, target.content_type, target.header)

    def answers() -> bool:
        try:
            return all(send(path) for path, _ in target.mixed or ((target.path, 1.0),))
        except payloads.WrongAnswerError:
            return False

    try:
        child = stack.enter_context(Child(launch.command, folder / f"{name}.log", launch.env, launch.cwd))
        child.wait_until(answers, 120.0)
    except StartError as error:
        failures[name] = str(error)[-200:]
    else:
        found[name] = target
