"""`ladle demo`: a server, its page, seven networks that are trained while it runs, and their answers to real inputs.

It does what a user would: server, training and gateway are commands in processes of their own, and the client library
sends the requests over gRPC and REST. The inputs are samples of the test split, which each exported version carries.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ladle.clients.argument_types import Parser
from ladle.clients.cli import doctor
from ladle.clients.cli.demo import checks
from ladle.clients.drawing.terminal import print_error
from ladle.clients.errors import LadleError
from ladle.clients.library.client import Client
from ladle.clients.wire.versions import find_versions

# The demo's choice: a network for each task, in two lanes for two cores. While one lane exports, the other trains. The
# photograph classifier is first: it is ready in half a minute, since its weights are fetched and not trained. It has a
# process of its own, so that the rest of its lane trains where the weights cannot be fetched.
LANES = ((("efficientnet_lite0",), ("lenet5", "resnet18")), (("sentiment_lstm", "unet", "vae", "wgan_gp"),))
NETWORKS = tuple(name for lane in LANES for step in lane for name in step)
FETCHED = {"efficientnet_lite0"}
"""Networks that the demo goes on without: nothing can stand in for their published weights."""
OPTIONAL = {"gunicorn"}
"""Modules of an extra that have a substitute."""
READY_SECONDS = 60.0
POLL_SECONDS = 0.2
STOP_SECONDS = 40.0
"""All children together have this long to end."""
INTERRUPTED = 130
"""Exit code of a command that SIGINT ended, as shells count it."""

EPILOG = """examples:
  ladle demo                       train, ask, and keep the page up until Ctrl-C
  ladle demo --once                the same, and end after the answers (exit 1 if a check fails)
  ladle demo --retrain             train new versions even if some exist
  ladle demo --networks lenet5     train and ask this one only
"""


class ChildError(Exception):
    """A server, the gateway or a model does not start; the message says which. `main` prints it."""


@dataclass
class Demo:
    """The running processes and their folders."""

    repository: Path
    output: Path
    runs: Path
    retrain: bool
    networks: tuple[str, ...] = NETWORKS
    started: float = field(default_factory=time.monotonic)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[IO[bytes]] = field(default_factory=list)

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        print(f"[{minutes}:{seconds:02d}] {text}", flush=True)

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a child process whose output goes to `<output>/<name>.log`.

        It gets a session of its own, so that Ctrl-C reaches only this process and `stop` signals each child once.
        """
        path = self.output / f"{name}.log"
        log = path.open("ab" if any(log.name == str(path) for log in self.logs) else "wb")
        child = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.logs.append(log)
        self.children.append(child)
        return child

    def log_tail(self, name: str, lines: int = 5) -> str:
        """The last lines of a child's output."""
        text = (self.output / f"{name}.log").read_text(errors="replace").strip()
        return "\n".join("    " + line for line in text.splitlines()[-lines:])

    def stop(self) -> None:
        """Terminate the children; training writes a checkpoint first. Kill those that take too long."""
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            try:
                child.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for log in self.logs:
            log.close()


def free_port(wanted: int) -> int:
    """`wanted` if it is free, else a port that the system picks."""
    for port in (wanted, 0):
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on this machine")


def versions(repository: Path, name: str) -> set[int]:
    """The versions of a model on disk."""
    return set(find_versions(repository / name))


def missing_extras(demo: Demo) -> list[str]:
    """The extras without which the demo cannot run; training's only if something is to be trained."""
    extras = ["serve", "web", *(["train"] if lanes(demo) else [])]
    return [extra for extra in extras if set(doctor.missing_modules(extra)) - OPTIONAL]


def wait_until_listening(demo: Demo, name: str, child: subprocess.Popen[bytes], port: int) -> None:
    """Wait until something accepts connections on `port`. ChildError: the child ends, or time runs out."""
    deadline = time.monotonic() + READY_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(POLL_SECONDS)
    what = "ended" if child.poll() is not None else f"does not answer after {READY_SECONDS:.0f} s"
    raise ChildError(f"the {name} {what}; the end of its log:\n{demo.log_tail(name)}")


def lanes(demo: Demo) -> list[list[tuple[str, ...]]]:
    """The networks that have to be trained: for each lane its steps, a process each."""

    def is_due(name: str) -> bool:
        return name in demo.networks and (demo.retrain or not versions(demo.repository, name))

    left = [[tuple(filter(is_due, step)) for step in lane] for lane in LANES]
    return [steps for lane in left if (steps := [step for step in lane if step])]


@dataclass
class Lane:
    """A lane that trains: its number, the process of its current step, and the networks that are still to come."""

    number: int
    child: subprocess.Popen[bytes]
    waiting: list[str]
    steps: list[tuple[str, ...]]


def trained(demo: Demo) -> Iterator[str]:
    """Train, and yield each model's name as soon as its new version is on disk.

    If a step fails, the end of its log is printed, and the rest of its networks are left out.
    """
    before = {name: versions(demo.repository, name) for name in demo.networks}
    running = [begin(demo, number, steps) for number, steps in enumerate(lanes(demo), start=1)]
    coming = {name for lane in running for name in (*lane.waiting, *(name for step in lane.steps for name in step))}
    for name in (name for name in before if name not in coming):
        demo.say(f"{name}: version {max(before[name])} exists; --retrain trains a new one")
        yield name
    while running:
        for lane in list(running):
            # Before the look at the folder: versions that a child wrote just before it ended are found.
            ended = lane.child.poll() is not None
            for name in [name for name in lane.waiting if versions(demo.repository, name) > before[name]]:
                lane.waiting.remove(name)
                yield name
            if ended:
                running.remove(lane)
                if lane.waiting:
                    log = demo.log_tail(f"training-{lane.number}")
                    demo.say(f"training ended without {', '.join(lane.waiting)}:\n{log}")
                if lane.steps:
                    running.append(begin(demo, lane.number, lane.steps))
        time.sleep(POLL_SECONDS)


def begin(demo: Demo, number: int, steps: list[tuple[str, ...]]) -> Lane:
    """Start the first step of a lane."""
    step, *rest = steps
    demo.say(f"training {', '.join(step)}  (log: {demo.output / f'training-{number}.log'})")
    command = ["ladle.training", "train", *step, "--jobs", "1", "--preset", "quick"]
    command += ["--repository", str(demo.repository), "--runs", str(demo.runs), "--synthetic-if-missing"]
    return Lane(number, demo.start(f"training-{number}", command), list(step), rest)


def wait_until_served(client: Client, name: str, version: int) -> None:
    """Wait until the server serves that version. ChildError: it does not load, or time runs out."""
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


def take_interrupts() -> Callable[[float], bool]:
    """Takes Ctrl-C from now on: a function that waits some seconds and returns whether it has come."""
    # A list. KeyboardInterrupt is lost where the signal arrives inside a finalizer. A threading.Event waits for ever
    # where the signal interrupts its `wait`: that holds the lock that `set` needs.
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))

    def is_interrupted(seconds: float) -> bool:
        if not heard:
            time.sleep(seconds)
        return bool(heard)

    return is_interrupted


def run(demo: Demo, once: bool) -> int:
    """The whole demo. Returns the exit code: 0 if every network passed its checks."""
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
    gateway += ["--rest", f"http://localhost:{rest_port}", "--runs", str(demo.runs)]
    page = demo.start("gateway", [*gateway, "--repository", str(demo.repository)])
    wait_until_listening(demo, "gateway", page, page_port)
    demo.say(f"the page: http://localhost:{page_port}/  It shows the models as they come.")
    answered: set[str] = set()
    faults: list[str] = []
    with Client(f"grpc://localhost:{grpc_port}") as grpc, Client(f"http://localhost:{rest_port}") as rest:
        for name in trained(demo):
            version = max(versions(demo.repository, name))
            try:
                wait_until_served(grpc, name, version)
                answers = checks.run(name, demo.repository / name / str(version), grpc, rest, demo.output)
            except (LadleError, OSError, ChildError) as error:
                faults.append(f"{name}: {error}")
                continue
            demo.say(answers.headline)
            print("\n".join(f"       {line}" for line in answers.lines), flush=True)
            faults += [f"{name}: {fault}" for fault in answers.faults]
            answered.add(name)
    missing = [name for name in demo.networks if name not in answered]
    for name in FETCHED.intersection(missing):
        demo.say(f"{name} is left out: its published weights could not be fetched")
        missing.remove(name)
    faults += [f"{name}: no answer" for name in missing if not any(f.startswith(f"{name}:") for f in faults)]
    for fault in faults:
        demo.say(f"FAULT  {fault}")
    demo.say(f"{len(answered)} of {len(answered) + len(missing)} networks answered over gRPC and REST")
    demo.say(f"the page: http://localhost:{page_port}/")
    if not once:
        is_interrupted = take_interrupts()
        print("       Press Ctrl-C to stop everything.", flush=True)
        while not is_interrupted(POLL_SECONDS):
            if server.poll() is not None:
                raise ChildError(f"the server ended; the end of its log:\n{demo.log_tail('server')}")
        demo.say("stopping")
    return 1 if faults else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo. Returns the exit code: 0 done, 1 failed, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    demo = Demo(arguments.repository, arguments.output, arguments.runs, arguments.retrain, arguments.networks)
    # Before anything starts: a child that lacks a package would only say so in its log.
    if extras := missing_extras(demo):
        print_error("ladle demo", f"packages are missing; run: pip install 'ladle[{','.join(extras)}]'")
        return 1
    # `kill` and a closed terminal end the children as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return run(demo, arguments.once)
    except KeyboardInterrupt:
        demo.say("stopping early; the next demo continues training from the checkpoint")
        return INTERRUPTED
    except (ChildError, OSError) as error:
        print_error("ladle demo", error if isinstance(error, OSError) else str(error))
        return 1
    finally:
        demo.stop()


def build_parser() -> argparse.ArgumentParser:
    """The options of `ladle demo`."""
    parser = Parser(
        prog="ladle demo",
        description="Start a model server and its page, train seven networks, and ask each one once it is exported.",
        epilog=EPILOG,
    )
    parser.add_argument("--once", action="store_true", help="end after the answers")
    parser.add_argument("--retrain", action="store_true", help="train new versions even if some exist")
    parser.add_argument(
        "--networks", type=_networks, default=NETWORKS, metavar="NAME,...", help=f"some of {', '.join(NETWORKS)}"
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="folder of the models (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), help="folder for pictures and logs (default: %(default)s)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for checkpoints (default: %(default)s)")
    return parser


def _networks(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in NETWORKS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"got {', '.join(unknown) or 'no name'}; expected some of {', '.join(NETWORKS)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
