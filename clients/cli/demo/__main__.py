"""The showcase: a server, six networks that train while it runs, and their answers to real inputs.

Everything here is what a user could type: the server, the training and the gateway are commands of their own, and the
questions go through the client library over gRPC and REST. The inputs are the samples that each exported version
carries, taken from the test split of its data set.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ladle.clients.cli.demo import questions
from ladle.clients.errors import LadleError
from ladle.clients.library.client import Client
from ladle.clients.wire.versions import find_versions

# Two lanes for two cores: while one exports or loads, the other trains. LeNet-5 comes first: it answers the soonest.
LANES = (("lenet5", "resnet18"), ("sentiment_lstm", "unet", "vae", "wgan_gp"))
READY_SECONDS = 60.0
POLL_SECONDS = 0.2
INTERRUPTED = 130
"""Exit code of a command that a signal ended, as shells count it."""

EPILOG = """examples:
  ladle demo                       train, ask, and stay up for the page until Ctrl-C
  ladle demo --once                the same, and end after the answers (exit 1 if one was wrong in form)
  ladle demo --retrain             train new versions even where some are there
"""


class ChildError(Exception):
    """A server, gateway or model that the showcase cannot do without does not come up; the message says what."""


@dataclass
class Demo:
    """What runs, and where its files are. Ports are those that were free."""

    repository: Path
    output: Path
    runs: Path
    retrain: bool
    started: float = field(default_factory=time.monotonic)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[IO[bytes]] = field(default_factory=list)

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        print(f"[{minutes}:{seconds:02d}] {text}", flush=True)

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """A child of ours whose words go to `<output>/<name>.log`.

        In a session of its own: Ctrl-C reaches us alone, and `stop` tells the child once.
        """
        log = (self.output / f"{name}.log").open("wb")
        child = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.logs.append(log)
        self.children.append(child)
        return child

    def log_tail(self, name: str, lines: int = 5) -> str:
        """The last words of a child."""
        text = (self.output / f"{name}.log").read_text(errors="replace").strip()
        return "\n".join("    " + line for line in text.splitlines()[-lines:])

    def stop(self) -> None:
        """End the children the way they like it, training with a checkpoint; then the hard way."""
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for log in self.logs:
            log.close()


def free_port(wanted: int) -> int:
    """`wanted` if nothing listens there, else a port that the system picks."""
    for port in (wanted, 0):
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on this machine")


def versions(repository: Path, name: str) -> set[int]:
    """The versions of a model on disk."""
    return set(find_versions(repository / name))


def wait_until_listening(demo: Demo, name: str, child: subprocess.Popen[bytes], port: int) -> None:
    """Return when something accepts connections at `port`; ChildError when the child ends or time runs out."""
    deadline = time.monotonic() + READY_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(POLL_SECONDS)
    what = "ended" if child.poll() is not None else f"does not answer after {READY_SECONDS:.0f} s"
    raise ChildError(f"the {name} {what}; its last words:\n{demo.log_tail(name)}")


def lanes(demo: Demo) -> list[tuple[str, ...]]:
    """The networks still to be trained, lane by lane."""
    wanted = (tuple(name for name in lane if demo.retrain or not versions(demo.repository, name)) for lane in LANES)
    return [lane for lane in wanted if lane]


def trained(demo: Demo) -> Iterator[str]:
    """Each model's name as soon as its newest version is on disk; ends with the last.

    A lane that fails is reported with the end of its log, and its networks do not come.
    """
    before = {name: versions(demo.repository, name) for lane in LANES for name in lane}
    running: dict[str, tuple[subprocess.Popen[bytes], list[str]]] = {}
    for number, lane in enumerate(lanes(demo), start=1):
        demo.say(f"training {', '.join(lane)}  (log: {demo.output / f'training-{number}.log'})")
        command = [
            "ladle.training",
            "train",
            *lane,
            "--jobs",
            "1",
            "--preset",
            "quick",
            "--repository",
            str(demo.repository),
        ]
        command += ["--runs", str(demo.runs), "--synthetic-if-missing"]
        running[f"training-{number}"] = (demo.start(f"training-{number}", command), list(lane))
    coming = {name for _, lane in running.values() for name in lane}
    for name in (name for name in before if name not in coming):
        demo.say(f"{name}: version {max(before[name])} is here already; --retrain trains a new one")
        yield name
    while running:
        for log, (child, waiting) in list(running.items()):
            ended = child.poll() is not None
            for name in [name for name in waiting if versions(demo.repository, name) > before[name]]:
                waiting.remove(name)
                yield name
            if ended:
                del running[log]
                if waiting:
                    demo.say(f"training ended without {', '.join(waiting)}:\n{demo.log_tail(log)}")
        time.sleep(POLL_SECONDS)


def wait_until_served(client: Client, name: str, version: int) -> None:
    """Return when the server has that version AVAILABLE; ChildError when it failed to load or a minute has passed."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(LadleError):
            for state in client.status(name):
                if state.version == version and state.state == "AVAILABLE":
                    return
                if state.version == version and state.error_message:
                    raise ChildError(f"version {version} did not load: {state.error_message}")
        time.sleep(POLL_SECONDS)
    raise ChildError(f"version {version} is not served after {READY_SECONDS:.0f} s")


def run(demo: Demo, once: bool) -> int:
    """The whole show; 0 when all six answered in the right form."""
    for folder in (demo.repository, demo.output):
        folder.mkdir(parents=True, exist_ok=True)
    grpc_port, rest_port, page_port = free_port(8500), free_port(8501), free_port(8080)
    server = demo.start(
        "server",
        [
            "ladle.serving",
            "--host=127.0.0.1",
            f"--port={grpc_port}",
            f"--rest_api_port={rest_port}",
            f"--repository={demo.repository.resolve()}",
            "--enable_metrics",
        ],
    )
    for port in (grpc_port, rest_port):
        wait_until_listening(demo, "server", server, port)
    demo.say(f"the model server answers at grpc://localhost:{grpc_port} and http://localhost:{rest_port}")
    gateway = ["ladle.clients.web", "--port", str(page_port), "--server", f"grpc://localhost:{grpc_port}"]
    gateway += ["--rest", f"http://localhost:{rest_port}"]
    page = demo.start("gateway", [*gateway, "--repository", str(demo.repository)])
    answered: set[str] = set()
    faults: list[str] = []
    with Client(f"grpc://localhost:{grpc_port}") as grpc, Client(f"http://localhost:{rest_port}") as rest:
        for name in trained(demo):
            version = max(versions(demo.repository, name))
            try:
                wait_until_served(grpc, name, version)
                answers = questions.ask(name, demo.repository / name / str(version), grpc, rest, demo.output)
            except (LadleError, OSError, ChildError) as error:
                faults.append(f"{name}: {error}")
                continue
            demo.say(answers.headline)
            print("\n".join(f"       {line}" for line in answers.lines), flush=True)
            faults += [f"{name}: {fault}" for fault in answers.faults]
            answered.add(name)
    missing = [name for lane in LANES for name in lane if name not in answered]
    faults += [f"{name}: no answer" for name in missing if not any(f.startswith(f"{name}:") for f in faults)]
    for fault in faults:
        demo.say(f"FAULT  {fault}")
    demo.say(f"{len(answered)} of {sum(map(len, LANES))} networks answered over gRPC and REST")
    wait_until_listening(demo, "gateway", page, page_port)
    demo.say(f"the page: http://localhost:{page_port}/")
    if not once:
        with contextlib.suppress(KeyboardInterrupt):
            print("       Ctrl-C ends it all.", flush=True)
            server.wait()
            raise ChildError(f"the server ended; its last words:\n{demo.log_tail('server')}")
        demo.say("stopping")
    return 1 if faults else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the demo; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    demo = Demo(arguments.repository, arguments.output, arguments.runs, arguments.retrain)
    # `kill` and a closed terminal end the children as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return run(demo, arguments.once)
    except KeyboardInterrupt:
        demo.say("stopping before all have answered; what was training goes on from its checkpoint next time")
        return INTERRUPTED
    except (ChildError, OSError) as error:
        print(f"ladle demo: {error}", file=sys.stderr)
        return 1
    finally:
        demo.stop()


def build_parser() -> argparse.ArgumentParser:
    """Options of `ladle demo`."""
    parser = argparse.ArgumentParser(
        prog="ladle demo",
        description="Train six networks while the model server runs, and ask each as soon as it is exported.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="end after the answers")
    parser.add_argument("--retrain", action="store_true", help="train new versions even where some are there")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="pictures and logs (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="checkpoints (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
