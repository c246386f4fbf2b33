"""Faults of processes and disk, while clients ask: what was lost, and how long nobody got an answer.

python -m benchmarks.chaos.faults                       every fault, and a table
python -m benchmarks.chaos.faults --only crash,swaps --times 10
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import helper

from benchmarks.chaos.server import Callers, Server, loaded
from tests.tiny_models import Model, Signature, onnx_model


@dataclass(frozen=True)
class Outcome:
    """What a fault did to clients that asked all the time.

    counts  of their requests: ok, refused, lost, wrong
    gap_s   longest time without an answer
    note    what else was seen
    """

    fault: str
    counts: dict[str, int]
    gap_s: float
    note: str


def _outcome(fault: str, callers: Callers, note: str) -> Outcome:
    return Outcome(fault, dict(callers.counts), callers.gap_s, note)


def kill_worker(folder: Path, times: int) -> Outcome:
    """kill -9 of the process that answers."""
    with loaded(folder) as (server, callers):
        for _ in range(times):
            killed = server.worker()
            os.kill(killed, signal.SIGKILL)
            server.wait_for(lambda killed=killed: server.worker() != killed)  # type: ignore[misc]
            callers.wait_for_answers()
        return _outcome("kill -9 of the server process", callers, f"{times} times; the ports stay open")


def crash(folder: Path, times: int) -> Outcome:
    """Requests that end ONNX Runtime's process: the least int32 divided by -1."""
    given, answer = {"x": ("int32", [-1]), "y": ("int32", [-1])}, {"z": ("int32", [-1])}
    graph = onnx_model([helper.make_node("Div", ["x", "y"], ["z"])], given, answer)
    quotient = Model({"serving_default": Signature(given, answer)}, {"model.onnx": graph})
    quotient.write(folder / "repository" / "quotient", 1)
    with loaded(folder) as (server, callers):
        killer = json.dumps({"inputs": {"x": [-(2**31)], "y": [-1]}}).encode()
        outcomes = []
        for _ in range(times + 2):
            outcomes.append(server.ask("quotient", killer))
            callers.wait_for_answers()
        note = (
            f"the same request {times + 2} times: it ended the server {outcomes.count('lost')} times, then was refused"
        )
        return _outcome("a request that crashes native code", callers, note)


def stop_worker(folder: Path, times: int) -> Outcome:
    """SIGSTOP of the process that answers."""
    with loaded(folder) as (server, callers):
        stopped = server.worker()
        os.kill(stopped, signal.SIGSTOP)
        server.wait_for(lambda: server.worker() != stopped)
        callers.wait_for_answers()
        return _outcome("SIGSTOP of the server process", callers, "replaced when it has not answered for 10 s")


def kill_supervisor(folder: Path, times: int) -> Outcome:
    """kill -9 of the process that was started, and a start as a service manager does it."""
    with loaded(folder) as (server, callers):
        free_s = 0.0
        for _ in range(times):
            orphan = server.worker()
            server.process.kill()
            server.process.wait()
            began = time.monotonic()
            server.wait_for(lambda orphan=orphan: not Path(f"/proc/{orphan}").exists())  # type: ignore[misc]
            free_s = max(free_s, time.monotonic() - began)
            server.start()
            callers.wait_for_answers()
        return _outcome("kill -9 of the guardian, then a start", callers, f"ports free after {free_s:.2f} s at most")


def terminate(folder: Path, times: int) -> Outcome:
    """SIGTERM, and a start."""
    with loaded(folder) as (server, callers):
        statuses = []
        for _ in range(times):
            statuses.append(server.stop())
            server.start()
            callers.wait_for_answers()
        return _outcome("SIGTERM, then a start", callers, f"exit statuses {sorted(set(statuses))}")


def swaps(folder: Path, times: int) -> Outcome:
    """A new version replaces the last one."""
    with loaded(folder) as (server, callers):
        for _ in range(5 * times):
            version = server.publish()
            server.wait_for(lambda version=version: server.state(version) == "AVAILABLE")  # type: ignore[misc]
        callers.wait_for_answers()
        return _outcome("version swaps", callers, f"{5 * times} swaps")


def bit_flips(folder: Path, times: int) -> Outcome:
    """A new version with one flipped bit in its graph, which has a checksum."""
    with loaded(folder) as (server, callers):
        refused = 0
        for number in range(3 * times):

            def flip(version: Path, number: int = number) -> None:
                file = version / "model.onnx"
                data = bytearray(file.read_bytes())
                data[(number * 7919) % len(data)] ^= 1 << number % 8
                file.write_bytes(data)

            version = server.publish(flip)
            server.wait_for(lambda version=version: server.state(version) in ("AVAILABLE", "END"))  # type: ignore[misc]
            refused += server.state(version) == "END"
            callers.wait_for_answers(10)
            server.withdraw(version)
        callers.wait_for_answers()
        return _outcome("a flipped bit in a new graph", callers, f"{refused} of {3 * times} versions did not load")


def full_disk(folder: Path, times: int) -> Outcome:
    """No file can grow beyond 64 KiB, so the log is full after some hundred requests."""
    with loaded(folder, "--access_log", limit_file_kib=64) as (server, callers):
        server.wait_for(lambda: server.log.stat().st_size >= 60 * 1024)
        callers.wait_for_answers(200 * times)
        size = server.log.stat().st_size // 1024
        return _outcome("a full disk under the log", callers, f"the log ended at {size} KiB")


def many_connections(folder: Path, times: int) -> Outcome:
    """Requests of 48 clients at SIGTERM."""
    with Server(folder) as server, Callers(server, 48) as callers:
        callers.wait_for_answers(500)
        status = server.stop()
        done = threading.Event()
        done.wait(0.2)  # the callers see that the port is closed
        return _outcome("SIGTERM with 48 clients", callers, f"exit status {status}")


FAULTS: dict[str, Callable[[Path, int], Outcome]] = {
    "kill_worker": kill_worker,
    "crash": crash,
    "stop_worker": stop_worker,
    "kill_supervisor": kill_supervisor,
    "terminate": terminate,
    "many_connections": many_connections,
    "swaps": swaps,
    "bit_flips": bit_flips,
    "full_disk": full_disk,
}


def measure(name: str, times: int) -> Outcome:
    """Runs one fault, `times` times where that makes sense, on a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return FAULTS[name](Path(folder), times)


HEAD = f"{'fault':<38} {'answered':>9} {'refused':>8} {'lost':>5} {'wrong':>6} {'gap s':>6}  note"


def row(found: Outcome) -> str:
    """A line below HEAD."""
    counts = found.counts
    return (
        f"{found.fault:<38} {counts['ok']:>9} {counts['refused']:>8} {counts['lost']:>5} {counts['wrong']:>6} "
        f"{found.gap_s:>6.2f}  {found.note}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Break servers; 0 done, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos.faults",
        description="Break a model server's processes and files while clients ask it.",
        epilog="example: python -m benchmarks.chaos.faults --only crash,swaps --times 10",
    )
    parser.add_argument("--only", default=",".join(FAULTS), metavar="FAULT,...", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--times", type=int, default=2, help="that each fault happens (default: %(default)s)")
    given = parser.parse_args(argv)
    names = given.only.split(",")
    if unknown := sorted(set(names) - set(FAULTS)):
        parser.error(f"got --only {','.join(unknown)}; expected some of {', '.join(FAULTS)}")
    print(HEAD)
    for name in names:
        print(row(measure(name, given.times)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
