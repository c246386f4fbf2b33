"""Requests a second and latency of every contender, in turn, several rounds."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import load, processes
from benchmarks.contenders import Contender, Running
from benchmarks.load import Load, LoadError
from benchmarks.payloads import WrongAnswerError
from benchmarks.processes import Memory, StartError

WARM_UP_S = 1.0


@dataclass(frozen=True)
class Turn:
    """A contender's figures of one round.

    many, one   16 connections, one connection
    cpu_us      CPU of the server for a request of `many`, in microseconds
    elsewhere   cores that other processes of the machine used meanwhile
    """

    many: Load
    one: Load
    cpu_us: float
    elsewhere: float
    ready_s: float
    memory: Memory


@dataclass(frozen=True)
class Settings:
    """rounds, and seconds of each load; connections of the larger one."""

    rounds: int = 3
    seconds: float = 3.0
    connections: int = 16


class Rounds:
    """What was measured, by contender's title; a contender that fails is left out of further rounds."""

    def __init__(self) -> None:
        self.turns: dict[str, list[Turn]] = {}
        self.contenders: dict[str, Contender] = {}
        self.failures: dict[str, str] = {}

    def ratio(self, title: str, to: str) -> float:
        """Requests a second of one over the other with many connections: the median of the rounds' ratios."""
        pairs = zip(self.turns.get(title, []), self.turns.get(to, []), strict=False)
        return median([a.many.per_second / b.many.per_second for a, b in pairs])

    def median(self, title: str, value: Callable[[Turn], float]) -> float:
        return median([value(turn) for turn in self.turns.get(title, [])])

    def titles(self, kind: str, grpc: bool) -> list[str]:
        return [t for t, c in self.contenders.items() if c.kind == kind and c.grpc is grpc and self.turns.get(t)]

    def as_dict(self) -> dict[str, Any]:
        return {"turns": {t: [asdict(turn) for turn in turns] for t, turns in self.turns.items()}} | {
            "failures": self.failures
        }


def measure(
    contenders: Sequence[Contender],
    settings: Settings,
    say: Callable[[str], None],
    after_round: Callable[[], None] = lambda: None,
) -> Rounds:
    """Every contender in turn, `rounds` times. One that fails is said so, and the others go on."""
    rounds = Rounds()
    for number in range(settings.rounds):
        for contender in contenders:
            title = contender.title
            rounds.contenders[title] = contender
            if title in rounds.failures:
                continue
            try:
                turn = take_turn(contender, settings)
            except (StartError, LoadError, WrongAnswerError, OSError) as error:
                rounds.failures[title] = str(error)
                say(f"  {title}: left out: {str(error)[-300:]}")
                continue
            rounds.turns.setdefault(title, []).append(turn)
            say(
                f"  {number + 1}  {title:<32} {turn.many.per_second:8,.0f}/s  p50 {turn.many.p50_ms:7.2f}  "
                f"p99 {turn.many.p99_ms:7.2f} ms   one: {turn.one.p50_ms:6.3f} ms   CPU {turn.cpu_us:6.0f} us   "
                f"elsewhere {turn.elsewhere:.1f} cores"
            )
        after_round()
    return rounds


def take_turn(contender: Contender, settings: Settings) -> Turn:
    """Starts the server, loads it, looks at its answers before and after, stops it."""
    with tempfile.TemporaryDirectory() as folder, Running(contender, Path(folder)) as running:
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
        return Turn(many, one, cpu_us, others / many.seconds, running.ready_s, running.child.memory())


def check(seen: Load) -> None:
    """LoadError when requests failed, or came back empty: a gRPC error has HTTP status 200 and no message."""
    if seen.errors or not seen.requests:
        raise LoadError(f"{seen.errors} of {seen.errors + seen.requests} requests failed under load")
    if seen.size_bytes < 16:
        raise LoadError(f"answers had {seen.size_bytes:.0f} bytes under load")


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")
