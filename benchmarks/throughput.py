"""Requests per second and latency of every contender, one after another in several rounds."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.requests import load
from benchmarks.requests.load import Load, LoadError
from benchmarks.requests.payloads import WrongAnswerError
from benchmarks.servers import processes
from benchmarks.servers.contenders import Contender, RunningServer
from benchmarks.servers.processes import Memory, StartError

WARM_UP_S = 1.0


@dataclass(frozen=True)
class Measurement:
    """A contender's figures in one round.

    many, one   the loads with 16 connections and with one
    cpu_us      the server's CPU time per request of `many`, in microseconds
    elsewhere   cores that other processes on the machine used meanwhile, on average
    ready_s     seconds from process start to the first correct answer
    """

    many: Load
    one: Load
    cpu_us: float
    elsewhere: float
    ready_s: float
    memory: Memory


@dataclass(frozen=True)
class Settings:
    """Number of rounds, seconds of the larger load (the other takes half), and connections of the larger load."""

    rounds: int = 3
    seconds: float = 3.0
    connections: int = 16


@dataclass
class Rounds:
    """The measurements of all rounds by contender's title.

    kinds     of each contender, and whether it speaks gRPC
    failures  why a contender dropped out
    """

    by_title: dict[str, list[Measurement]] = field(default_factory=dict)
    kinds: dict[str, tuple[str, bool]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def ratio(self, title: str, to: str) -> float:
        """Requests per second of `title` over `to` with many connections: the median of the rounds' ratios."""
        pairs = zip(self.by_title.get(title, []), self.by_title.get(to, []), strict=False)
        return median([a.many.per_second / b.many.per_second for a, b in pairs])

    def median(self, title: str, value: Callable[[Measurement], float]) -> float:
        return median([value(measured) for measured in self.by_title.get(title, [])])

    def titles(self, kind: str, grpc: bool) -> list[str]:
        return [title for title, found in self.kinds.items() if found == (kind, grpc) and self.by_title.get(title)]


def measure(
    contenders: Sequence[Contender],
    settings: Settings,
    log: Callable[[str], None],
    after_round: Callable[[], None] = lambda: None,
) -> Rounds:
    """Measure every contender once per round. One that fails is logged and skipped from then on."""
    rounds = Rounds()
    for number in range(settings.rounds):
        for contender in contenders:
            title = contender.title
            rounds.kinds[title] = contender.kind, contender.grpc
            if title in rounds.failures:
                continue
            try:
                measured = measure_once(contender, settings)
            except (StartError, LoadError, WrongAnswerError, OSError) as error:
                rounds.failures[title] = str(error)
                log(f"  {title}: left out: {str(error)[-300:]}")
                continue
            rounds.by_title.setdefault(title, []).append(measured)
            log(
                f"  {number + 1}  {title:<32} {measured.many.per_second:8,.0f}/s  p50 {measured.many.p50_ms:7.2f}  "
                f"p99 {measured.many.p99_ms:7.2f} ms   one: {measured.one.p50_ms:6.3f} ms   "
                f"CPU {measured.cpu_us:6.0f} us   elsewhere {measured.elsewhere:.1f} cores"
            )
        after_round()
    return rounds


def measure_once(contender: Contender, settings: Settings) -> Measurement:
    """Start the server, check its answer, load it, check its answer again, stop it."""
    with tempfile.TemporaryDirectory() as folder, RunningServer(contender, Path(folder)) as running:
        load.closed_loop(running.target, settings.connections, WARM_UP_S)
        cpu, busy = running.child.cpu_s(), processes.machine_busy_s()
        many = load.closed_loop(running.target, settings.connections, settings.seconds)
        used = running.child.cpu_s() - cpu
        others = max(0.0, processes.machine_busy_s() - busy - used - many.cpu_s)
        one = load.closed_loop(running.target, 1, settings.seconds / 2)
        running.ask()
        for seen in (many, one):
            check(seen)
        cpu_us = used / max(1, many.requests) * 1e6
        return Measurement(many, one, cpu_us, others / many.seconds, running.ready_s, running.child.memory())


def check(seen: Load) -> None:
    """Raise LoadError if requests failed or had empty answers: a gRPC error has HTTP status 200 and no message."""
    if seen.errors or not seen.requests:
        raise LoadError(
            f"got {seen.errors} failures in {seen.errors + seen.requests} requests under load; expected none"
        )
    if seen.size_bytes < 16:
        raise LoadError(
            f"got answers of {seen.size_bytes:.0f} bytes under load; expected at least 16; a gRPC error has no message"
        )


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")
