"""The servers under comparison: ours over REST and gRPC, empty handlers on the same transports, and rivals."""

from __future__ import annotations

import functools
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.requests import payloads, v2
from benchmarks.requests.load import ANY, BINARY, JSON, Target
from benchmarks.requests.models import ROOT, Array, Subject
from benchmarks.servers import rival_servers
from benchmarks.servers.empty import SERVERS
from benchmarks.servers.processes import Child, free_port
from benchmarks.servers.rival_servers import Launch


@dataclass(frozen=True)
class Contender:
    """A server and a request to it.

    kind          "ladle", "empty" or "rival"
    launch        (port, scratch folder) -> the Launch of a server that listens on that port
    check         raises WrongAnswerError if the answer is wrong
    content_type  of the request; not of gRPC's
    header        one more header and its value; not of gRPC's
    """

    name: str
    kind: str
    grpc: bool
    path: str
    request: bytes
    launch: Callable[[int, Path], Launch]
    check: Callable[[bytes], None]
    workers: int = 1
    content_type: str = JSON
    header: tuple[str, str] = ANY

    @property
    def protocol(self) -> str:
        return "gRPC" if self.grpc else "REST"

    @property
    def title(self) -> str:
        return f"{self.name} {self.protocol}" + (f", {self.workers} workers" if self.workers > 1 else "")


class RunningServer:
    """A contender's process. `ready_s` is the time from its start to the first correct answer."""

    def __init__(self, contender: Contender, folder: Path) -> None:
        self.contender = contender
        self._folder = folder
        self.port = free_port()
        launch = contender.launch(self.port, folder)
        body = folder / "body"
        body.write_bytes(payloads.frame(contender.request) if contender.grpc else contender.request)
        kind, header = contender.content_type, contender.header
        self.target = Target(self.port, contender.path, body, contender.grpc, kind, header)
        self.child = Child(launch.command, folder / "log", launch.env, launch.cwd)
        try:
            self.ready_s = self.child.wait_until(self._answers)
        except BaseException:
            self.child.stop()
            raise

    def ask(self) -> None:
        """Send one request; raise WrongAnswerError if the answer is wrong."""
        asked = self.contender
        if asked.grpc:
            answer = payloads.call(self.port, asked.path, asked.request)
        else:
            answer = payloads.post(self.port, asked.path, asked.request, asked.content_type, asked.header)
        asked.check(answer)

    def target_of(self, subject: Subject) -> Target:
        """The load target for another model on this server, over the same protocol. Only for Ladle."""
        grpc = self.contender.grpc
        path, request, _ = _tensorflow_serving(subject, grpc)
        body = self._folder / f"body-{subject.name}"
        body.write_bytes(payloads.frame(request) if grpc else request)
        return Target(self.port, path, body, grpc)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            self.ask()
        except (OSError, payloads.WrongAnswerError):
            return False
        return True

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()


@functools.cache
def server_flags() -> str:
    """The text of our server's --help."""
    return subprocess.run(
        [sys.executable, "-m", "ladle.serving", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout


def has_flag(name: str) -> bool:
    """Whether our server has this flag and does not ignore it."""
    # TensorFlow Serving's flags are all accepted; the help says "no effect here" of those that do nothing.
    _, found, rest = server_flags().partition(f"--{name}=")
    return bool(found) and "no effect here" not in rest.split("\n  --")[0]


def ladle(
    subject: Subject, repository: Path, grpc: bool, flags: Sequence[str] = (), name: str = "Ladle", workers: int = 1
) -> Contender:
    """Our server with these flags."""

    def launch(port: int, folder: Path) -> Launch:
        ports = [f"--port={port if grpc else free_port()}", f"--rest_api_port={free_port() if grpc else port}"]
        command = [
            sys.executable,
            "-m",
            "ladle.serving",
            f"--repository={repository}",
            "--host=127.0.0.1",
            *ports,
            *flags,
        ]
        return Launch([*command, f"--workers={workers}"] if workers > 1 else command)

    path, request, check = _tensorflow_serving(subject, grpc)
    return Contender(name, "ladle", grpc, path, request, launch, check, workers)


def ladle_v2(subject: Subject, repository: Path) -> Contender:
    """Our server, asked over V2 with binary tensors."""
    request, head = payloads.v2_binary(subject.alias, subject.array)
    return replace(
        ladle(subject, repository, grpc=False, name="Ladle (V2 binary)"),
        path=f"/v2/models/{subject.name}/infer",
        request=request,
        check=functools.partial(payloads.check_binary, expected=subject.expected),
        content_type=BINARY,
        header=payloads.binary_header(head),
    )


def _tensorflow_serving(subject: Subject, grpc: bool) -> tuple[str, bytes, Callable[[bytes], None]]:
    if grpc:
        request = payloads.grpc_predict(subject.name, subject.alias, subject.array)
        return payloads.PREDICT, request, functools.partial(payloads.check_predict, expected=subject.expected)
    request = payloads.rest_predict(subject.array)
    return f"/v1/models/{subject.name}:predict", request, _check_json(subject.expected)


def _check_json(expected: Array) -> Callable[[bytes], None]:
    return functools.partial(payloads.check_json, expected=expected)


def empty(kind: str, subject: Subject, answer: bytes) -> Contender:
    """A bare transport of `empty.SERVERS` that always sends `answer`."""
    grpc, title, _ = SERVERS[kind]
    path, request, check = _tensorflow_serving(subject, grpc)

    def launch(port: int, folder: Path) -> Launch:
        file = folder / "answer"
        file.write_bytes(answer)
        return Launch([sys.executable, "-m", "benchmarks.servers.empty", kind, str(port), str(file)])

    return Contender(f"empty handler ({title})", "empty", grpc, path, request, launch, check)


def rivals(subject: Subject, programs: Mapping[str, Path], workers: int) -> list[Contender]:
    """The rivals at hand, each with this many workers. `programs` has an interpreter for each, or Triton's binary."""
    row = payloads.rest_predict(subject.array)
    check = _check_json(subject.expected)

    def script(name: str, batch: int = 1) -> Contender:
        def launch(port: int, folder: Path) -> Launch:
            env = {"BATCH": str(batch)}
            return rival_servers.scripted(name, programs[name], subject.graph, port, workers, env)

        title = rival_servers.title(name, programs[name])
        title = f"{title} (batching)" if batch > 1 else title
        return Contender(title, "rival", False, rival_servers.path(name), row, launch, check, workers)

    found = [script(name) for name in rival_servers.SCRIPTED if name in programs]
    if "mosec" in programs:
        found.append(script("mosec", _BATCH))
    for name, start in (("MLServer", rival_servers.mlserver), ("Triton", rival_servers.triton)):
        if name in programs:
            found += _open_inference(name, functools.partial(start, programs[name]), subject, workers)
    return found


def _open_inference(name: str, start: Callable[..., Launch], subject: Subject, workers: int) -> list[Contender]:
    """A rival that speaks V2: asked in JSON, in binary where it can, and over gRPC."""

    def contender(name: str, grpc: bool, path: str, request: bytes, check: Callable[..., None]) -> Contender:
        def launch(port: int, folder: Path) -> Launch:
            return start(subject.graph, port, workers, [subject.name], grpc, folder)

        checked = functools.partial(check, expected=subject.expected)
        return Contender(name, "rival", grpc, path, request, launch, checked, workers)

    path = f"/v2/models/{subject.name}/infer"
    body = payloads.v2_json(subject.alias, subject.array)
    message = v2.request(subject.name, subject.alias, subject.array)
    found = [contender(name, False, path, body, payloads.check_json)]
    if name == "Triton":
        binary, head = payloads.v2_binary(subject.alias, subject.array)
        in_binary = contender(f"{name} (V2 binary)", False, path, binary, payloads.check_binary)
        found.append(replace(in_binary, content_type=BINARY, header=payloads.binary_header(head)))
    return [*found, contender(name, True, v2.INFER, message, payloads.check_v2)]


_BATCH = 16  # equals the number of connections, so one batch can hold all requests in flight
