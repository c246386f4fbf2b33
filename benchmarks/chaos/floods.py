"""Flood a model server from one client, and measure how long another client waits for its health answers meanwhile.

python -m benchmarks.chaos.floods --grpc-port 8500 --rest-port 8501              every flood, and a table
python -m benchmarks.chaos.floods --grpc-port 8500 --only ping,rest_health --seconds 5

A flood is a client that sends cheap frames or requests as fast as the server takes them, and connects again when the
server cuts it off. It runs in a process of its own with a low priority, as if on another machine. The watching client
asks for the server's health over REST and over gRPC in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.flood_kinds import CHECK, EMPTY_MESSAGE, FLOODS, OPENING, Flood
from ladle.serving.grpc.http2 import frames
from ladle.serving.grpc.http2.frames import END_HEADERS, END_STREAM, frame

ROOT = Path(__file__).resolve().parents[2]
_EVERY_S = 0.01


# The flood's process


def _pour(flood: Flood, port: int, model: str) -> None:
    """Flood until stdin closes; then print how much was sent, over how many connections, as JSON."""
    os.nice(10)
    stopped = threading.Event()
    counts = {"bytes": 0, "connections": 0}
    threads = [
        threading.Thread(target=_pour_one, args=(flood, port, model, stopped, counts)) for _ in range(flood.connections)
    ]
    for thread in threads:
        thread.start()
    print("pouring", flush=True)
    sys.stdin.read()
    stopped.set()
    for thread in threads:
        thread.join()
    print(json.dumps(counts), flush=True)


def _pour_one(flood: Flood, port: int, model: str, stopped: threading.Event, counts: dict[str, int]) -> None:
    while not stopped.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            counts["connections"] += 1
            _send_all(client, flood.chunks(model), stopped, counts)


def _send_all(client: socket.socket, chunks: Iterator[bytes], stopped: threading.Event, counts: dict[str, int]) -> None:
    """Send until the server ends the connection, and read what it answers, so that it is never held up by us."""
    client.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        rest = memoryview(b"")
        while not stopped.is_set():
            for _, events in selector.select(0.1):
                if events & selectors.EVENT_READ and not client.recv(2**20):
                    return
                if events & selectors.EVENT_WRITE:
                    rest = rest or memoryview(next(chunks))
                    sent = client.send(rest)
                    counts["bytes"] += sent
                    rest = rest[sent:]


@contextlib.contextmanager
def flooding(name: str, grpc_port: int, rest_port: int, model: str) -> Iterator[dict[str, int]]:
    """Inside the block the flood runs. The dictionary has `bytes` and `connections` afterwards."""
    flood = FLOODS[name]
    port = grpc_port if flood.protocol == "grpc" else rest_port
    command = [sys.executable, "-m", "benchmarks.chaos.floods", "--pour", name, "--port", str(port), "--model", model]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    counts: dict[str, int] = {}
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield counts
        counts.update(json.loads(process.communicate()[0]))
    finally:
        process.kill()
        process.communicate()


# The watching client


@dataclass(frozen=True)
class Waits:
    """Seconds that health answers took, over one protocol."""

    count: int
    median_s: float
    worst_s: float


def watch(ask: Callable[[], None], until: float) -> Waits:
    """Asks again and again, 10 ms after each answer, until `time.monotonic()` is `until`; at least once."""
    seconds: list[float] = []
    while not seconds or time.monotonic() < until:
        start = time.monotonic()
        ask()
        seconds.append(time.monotonic() - start)
        time.sleep(_EVERY_S)
    return Waits(len(seconds), sorted(seconds)[len(seconds) // 2], max(seconds))


@contextlib.contextmanager
def rest_health(port: int) -> Iterator[Callable[[], None]]:
    """A function that asks for the server's health over one REST connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client, client.makefile("rb") as answers:

        def ask() -> None:
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
            if b" 200 " not in answers.readline():
                raise ConnectionError("the server does not say that it lives")
            length = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            answers.read(length)

        yield ask


@contextlib.contextmanager
def grpc_health(port: int) -> Iterator[Callable[[], None]]:
    """A function that asks for the server's health over one gRPC connection."""
    numbers = itertools.count(1, 2)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client, client.makefile("rb") as answers:
        client.sendall(OPENING)

        def ask() -> None:
            number = next(numbers)
            message = frame(frames.DATA, END_STREAM, number, EMPTY_MESSAGE)
            client.sendall(frame(frames.HEADERS, END_HEADERS, number, CHECK) + message)
            while True:
                found = answers.read(frames.HEAD_BYTES)
                if len(found) < frames.HEAD_BYTES:
                    raise ConnectionError("the server has closed the connection of the watching client")
                head, flags, stream = frames.FRAME_HEAD.unpack(found)
                content = answers.read(head >> 8)
                # A draining server names the last stream that it answers, the largest number for now.
                if head & 255 == frames.GOAWAY and int.from_bytes(content[:4], "big") < number:
                    raise ConnectionError("the server ends the connection of the watching client")
                if stream == number and head & 255 == frames.HEADERS and flags & END_STREAM:
                    return

        yield ask


@dataclass(frozen=True)
class Held:
    """How long a watching client waited for its health answers, by protocol: in quiet, then during a flood.

    sent_mb      megabytes that the flood sent
    connections  that it used; more than the flood has means that the server cut it off
    """

    flood: str
    quiet: dict[str, Waits]
    flooded: dict[str, Waits]
    sent_mb: float
    connections: int

    @property
    def worst_s(self) -> float:
        return max(waits.worst_s for waits in self.flooded.values())


def measure(name: str, grpc_port: int, rest_port: int, model: str, seconds: float) -> Held:
    """Watch for `seconds` without the flood, then with it."""
    quiet = _watch_both(grpc_port, rest_port, seconds)
    with flooding(name, grpc_port, rest_port, model) as counts:
        flooded = _watch_both(grpc_port, rest_port, seconds)
    return Held(name, quiet, flooded, counts["bytes"] / 1e6, counts["connections"])


def _watch_both(grpc_port: int, rest_port: int, seconds: float) -> dict[str, Waits]:
    until = time.monotonic() + seconds
    found: dict[str, Waits] = {}

    def run(protocol: str, ask: Callable[[], None]) -> None:
        found[protocol] = watch(ask, until)

    with rest_health(rest_port) as rest, grpc_health(grpc_port) as grpc:
        threads = [threading.Thread(target=run, args=pair) for pair in (("rest", rest), ("grpc", grpc))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if len(found) < 2:
        raise ConnectionError("a watching client was cut off")
    return found


HEAD = f"{'flood':<20} {'quiet':>14} {'REST':>14} {'gRPC':>14} {'sent MB':>9} {'connections':>12}"


def row(held: Held) -> str:
    """A line below HEAD. Median and worst wait in milliseconds: in quiet, then during the flood over each protocol."""
    quiet = [max(getattr(waits, name) for waits in held.quiet.values()) for name in ("median_s", "worst_s")]
    flooded = [(held.flooded[name].median_s, held.flooded[name].worst_s) for name in ("rest", "grpc")]
    cells = [f"{median * 1e3:.1f} / {worst * 1e3:.0f}" for median, worst in [(quiet[0], quiet[1]), *flooded]]
    waits = " ".join(f"{cell:>14}" for cell in cells)
    return f"{held.flood:<20} {waits} {held.sent_mb:>9.1f} {held.connections:>12}"


def main(argv: Sequence[str] | None = None) -> int:
    """Flood a running server; 0 done, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos.floods",
        description="Flood a model server from one client; measure how long another waits for its health answers.",
        epilog="example: python -m benchmarks.chaos.floods --grpc-port 8500 --rest-port 8501 --model lenet5",
    )
    add = parser.add_argument
    add("--grpc-port", type=int, default=8500, help="gRPC port on 127.0.0.1 (default: %(default)s)")
    add("--rest-port", type=int, default=8501, help="REST port on 127.0.0.1 (default: %(default)s)")
    add("--model", default="lenet5", help="a model of the server (default: %(default)s)")
    add("--only", default=",".join(FLOODS), metavar="FLOOD,...", help=f"of {', '.join(FLOODS)} (default: all)")
    add("--seconds", type=float, default=3.0, help="of each flood (default: %(default)s)")
    add("--pour", choices=list(FLOODS), help=argparse.SUPPRESS)
    add("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.pour:
        _pour(FLOODS[given.pour], given.port, given.model)
        return 0
    names = given.only.split(",")
    if unknown := sorted(set(names) - set(FLOODS)):
        parser.error(f"got --only {','.join(unknown)}; expected some of {', '.join(FLOODS)}")
    print(HEAD)
    for name in names:
        print(row(measure(name, given.grpc_port, given.rest_port, given.model, given.seconds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
