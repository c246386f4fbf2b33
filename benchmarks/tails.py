"""Tail latency of a steady LeNet-5 caller: alone, beside U-Net, during a version swap, and while 50 models load."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.requests import load, payloads
from benchmarks.requests.load import Load
from benchmarks.requests.models import Subject
from benchmarks.servers.contenders import RunningServer, ladle
from benchmarks.throughput import check, median
from ladle.training.store import publish

PER_SECOND = 200
"""Requests per second of the steady caller, over 4 connections."""
POLL_S = 0.25
LOADED = 50
"""Copies of LeNet-5 that appear at once."""


@dataclass(frozen=True)
class Pair:
    """Two loads of the steady caller in direct succession: alone, then with the disturbance."""

    alone: Load
    disturbed: Load


@dataclass(frozen=True)
class Tails:
    """The pairs of each disturbance."""

    beside_unet: list[Pair]
    during_swap: list[Pair]
    while_loading: list[Pair]

    def ratio(self, pairs: list[Pair]) -> float:
        """p99 disturbed over p99 alone: the median of the pairs' ratios."""
        return median([pair.disturbed.p99_ms / pair.alone.p99_ms for pair in pairs])


def measure(
    lenet: Subject, unet: Subject, repository: Path, pairs: int, seconds: float, log: Callable[[str], None]
) -> Tails:
    """Measure the disturbances in turns on one server over gRPC, `pairs` times each."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        own = scratch / "models"
        for name in (lenet.name, unet.name):
            shutil.copytree(repository / name, own / name)
        contender = ladle(lenet, own, True, [f"--file_system_poll_wait_seconds={POLL_S}"])
        with RunningServer(contender, scratch) as running:
            beside = running.target_of(unet)
            load.closed_loop(beside, 1, 1.0)
            load.steady(running.target, PER_SECOND, 1.0)

            def steady() -> Load:
                seen = load.steady(running.target, PER_SECOND, seconds)
                check(seen)
                return seen

            found = Tails([], [], [])
            for number in range(pairs):
                alone = steady()
                with _loaded(beside, seconds + 0.5):
                    found.beside_unet.append(Pair(alone, steady()))
                alone = steady()
                with _swapping(own / lenet.name, seconds / 3):
                    found.during_swap.append(Pair(alone, steady()))
                alone = steady()
                with _appearing(own, lenet, running.port, seconds / 3):
                    found.while_loading.append(Pair(alone, steady()))
                a, b, c = found.beside_unet[-1], found.during_swap[-1], found.while_loading[-1]
                log(
                    f"  {number + 1}  p99 alone {a.alone.p99_ms:.2f} ms, beside U-Net {a.disturbed.p99_ms:.2f} ms; "
                    f"alone {b.alone.p99_ms:.2f} ms, while swapped {b.disturbed.p99_ms:.2f} ms; "
                    f"alone {c.alone.p99_ms:.2f} ms, while {LOADED} models load {c.disturbed.p99_ms:.2f} ms"
                )
            running.ask()
            return found


@contextlib.contextmanager
def _loaded(target: load.Target, seconds: float) -> Iterator[None]:
    """Inside the block, one connection sends requests in a closed loop for `seconds`."""
    failed: list[Exception] = []

    def ask() -> None:
        try:
            check(load.closed_loop(target, 1, seconds))
        except load.LoadError as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.2)  # h2load needs a moment to connect and to send its first requests
    try:
        yield
    finally:
        thread.join()
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _later(after_s: float, act: Callable[[], None]) -> Iterator[None]:
    """Inside the block, call `act` after `after_s`; the block ends when it has returned."""
    timer = threading.Timer(after_s, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextlib.contextmanager
def _swapping(base_path: Path, after_s: float) -> Iterator[None]:
    """Inside the block, publish the next version after `after_s`: the server loads it and unloads the last one."""

    def publish_next() -> None:
        last = max(publish.versions(base_path))
        # A rename publishes the whole folder at once, so the server never sees half a version.
        draft = base_path / f".next-{last + 1}"
        shutil.copytree(base_path / str(last), draft)
        draft.rename(base_path / str(last + 1))

    with _later(after_s, publish_next):
        yield


@contextlib.contextmanager
def _appearing(repository: Path, lenet: Subject, port: int, after_s: float) -> Iterator[None]:
    """Inside the block, `LOADED` models appear after `after_s`. After it they are removed again."""
    names = [f"{lenet.name}_{number}" for number in range(LOADED)]
    drafts = repository.parent / "drafts"
    for name in names:
        shutil.copytree(lenet.folder, drafts / name / "1")

    def publish_all() -> None:
        for name in names:
            (drafts / name).rename(repository / name)

    try:
        with _later(after_s, publish_all):
            yield
    finally:
        last = payloads.grpc_predict(names[-1], lenet.alias, lenet.array)
        _wait(lambda: _answers(port, last))
        for name in names:
            shutil.rmtree(repository / name)
        _wait(lambda: not _answers(port, last))


def _answers(port: int, message: bytes) -> bool:
    try:
        return bool(payloads.call(port, payloads.PREDICT, message))
    except payloads.WrongAnswerError:
        return False


def _wait(reached: Callable[[], bool]) -> None:
    """LoadError: not in a minute."""
    end = time.monotonic() + 60
    while not reached():
        if time.monotonic() > end:
            raise load.LoadError(f"{LOADED} models did not appear, or did not go, in 60 s")
        time.sleep(0.05)
