"""Our server with different flags: TensorFlow or ONNX Runtime, one process or two, with batching or without."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.requests import load
from benchmarks.requests.load import Load, LoadError
from benchmarks.requests.models import Subject
from benchmarks.requests.payloads import WrongAnswerError
from benchmarks.servers.contenders import RunningServer, has_flag, ladle
from benchmarks.servers.processes import StartError
from benchmarks.throughput import check, median

Log = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """A set of server flags under a name."""

    name: str
    flags: tuple[str, ...] = ()
    workers: int = 1


@dataclass(frozen=True)
class Comparison:
    """Load results by variant name, one per round. The first variant is the baseline."""

    model: str
    connections: int
    loads: dict[str, list[Load]]

    def ratio(self, name: str) -> float:
        """Requests per second relative to the baseline: the median of the rounds' ratios."""
        first = next(iter(self.loads.values()))
        return median([a.per_second / b.per_second for a, b in zip(self.loads[name], first, strict=True)])


def engines(
    subjects: Sequence[Subject], repository: Path, rounds: int, seconds: float, log: Log
) -> list[Comparison] | str:
    """TensorFlow against ONNX Runtime on each model, with 1 and 4 connections; or the reason for not measuring."""
    if not has_flag("engine"):
        return "this server has no --engine flag"
    variants = [Variant("TensorFlow", ("--engine=tensorflow",)), Variant("ONNX Runtime", ("--engine=onnx",))]
    return compare(variants, subjects, repository, (1, 4), rounds, seconds, log)


def workers(lenet: Subject, repository: Path, rounds: int, seconds: float, log: Log) -> list[Comparison] | str:
    """One process against two, with 16 connections; or the reason for not measuring."""
    if not has_flag("workers"):
        return "this server has no --workers flag"
    variants = [Variant("1 process"), Variant("2 processes", workers=2)]
    return compare(variants, [lenet], repository, (16,), rounds, seconds, log)


def batching(
    subjects: Sequence[Subject], repository: Path, rounds: int, seconds: float, log: Log
) -> list[Comparison] | str:
    """Without --enable_batching against with it, with 1 and 16 connections; or the reason for not measuring."""
    if not has_flag("enable_batching"):
        return "this server does not batch"
    variants = [Variant("each by itself"), Variant("batching", ("--enable_batching=true",))]
    return compare(variants, subjects, repository, (1, 16), rounds, seconds, log)


def compare(
    variants: Sequence[Variant],
    subjects: Sequence[Subject],
    repository: Path,
    connections: Sequence[int],
    rounds: int,
    seconds: float,
    log: Log,
) -> list[Comparison] | str:
    """Start all variants at once and load them one after another over gRPC; or the reason why one did not run."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running: dict[str, RunningServer] = {}
        try:
            for i, variant in enumerate(variants):
                scratch = Path(folder) / str(i)
                scratch.mkdir()
                contender = ladle(subjects[0], repository, True, variant.flags, workers=variant.workers)
                running[variant.name] = stack.enter_context(RunningServer(contender, scratch))
            return [
                _measure_rounds(running, subject, many, rounds, seconds, log)
                for subject in subjects
                for many in connections
            ]
        except (StartError, LoadError, WrongAnswerError) as error:
            return str(error)[-300:]


def _measure_rounds(
    running: dict[str, RunningServer], subject: Subject, connections: int, rounds: int, seconds: float, log: Log
) -> Comparison:
    targets = {name: server.target_of(subject) for name, server in running.items()}
    found = Comparison(subject.name, connections, {name: [] for name in running})
    # A warm-up, so that no variant pays for its first runs.
    for target in targets.values():
        _until_answered(target)
        load.closed_loop(target, connections, 0.5)
    for _ in range(rounds):
        for name, target in targets.items():
            seen = load.closed_loop(target, connections, seconds)
            check(seen)
            found.loads[name].append(seen)
    rates = ", ".join(f"{name} {median([seen.per_second for seen in s]):,.0f}/s" for name, s in found.loads.items())
    log(f"  {subject.name}, {connections} connections: {rates}")
    return found


def _until_answered(target: load.Target) -> None:
    """Wait until this model answers: the server is known to answer for its first model only."""
    for _ in range(30):
        if load.closed_loop(target, 1, 1.0).size_bytes > 16:
            return
    raise LoadError(f"got no message from {target.path} in 30 loads of 1 s; expected the model to be loaded by then")
