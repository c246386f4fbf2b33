"""Our server against itself: ONNX Runtime and TensorFlow on each model, more workers, batching."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.contenders import Running, has_flag, ladle
from benchmarks.load import Load, LoadError
from benchmarks.models import Subject
from benchmarks.payloads import WrongAnswerError
from benchmarks.processes import StartError
from benchmarks.throughput import check, median

Say = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """The server with some flags."""

    name: str
    flags: tuple[str, ...] = ()
    workers: int = 1


@dataclass(frozen=True)
class Comparison:
    """Loads of variants in turn, by variant's name; the first one is what the others are compared with."""

    model: str
    connections: int
    loads: dict[str, list[Load]]

    def ratio(self, name: str) -> float:
        """Requests a second over the first variant's: the median of the rounds' ratios."""
        first = next(iter(self.loads.values()))
        return median([a.per_second / b.per_second for a, b in zip(self.loads[name], first, strict=True)])


def engines(
    subjects: Sequence[Subject], repository: Path, rounds: int, seconds: float, say: Say
) -> list[Comparison] | str:
    """TensorFlow and ONNX Runtime on each model, with one and with four connections; or why that was not measured."""
    if not has_flag("engine"):
        return "this server has no --engine flag"
    variants = [Variant("TensorFlow", ("--engine=tensorflow",)), Variant("ONNX Runtime", ("--engine=onnx",))]
    return compare(variants, subjects, repository, (1, 4), rounds, seconds, say)


def workers(lenet: Subject, repository: Path, rounds: int, seconds: float, say: Say) -> list[Comparison] | str:
    """One process and two."""
    if not has_flag("workers"):
        return "this server has no --workers flag"
    variants = [Variant("1 process"), Variant("2 processes", workers=2)]
    return compare(variants, [lenet], repository, (16,), rounds, seconds, say)


def batching(
    subjects: Sequence[Subject], repository: Path, rounds: int, seconds: float, say: Say
) -> list[Comparison] | str:
    """Without and with --enable_batching."""
    if not has_flag("enable_batching"):
        return "this server does not batch"
    variants = [Variant("each by itself"), Variant("batching", ("--enable_batching=true",))]
    return compare(variants, subjects, repository, (1, 16), rounds, seconds, say)


def compare(
    variants: Sequence[Variant],
    subjects: Sequence[Subject],
    repository: Path,
    connections: Sequence[int],
    rounds: int,
    seconds: float,
    say: Say,
) -> list[Comparison] | str:
    """All variants run at once and are asked over gRPC in turn; or why one did not run."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running: dict[str, Running] = {}
        try:
            for i, variant in enumerate(variants):
                scratch = Path(folder) / str(i)
                scratch.mkdir()
                contender = ladle(subjects[0], repository, True, variant.flags, workers=variant.workers)
                running[variant.name] = stack.enter_context(Running(contender, scratch))
            return [
                _take_turns(running, subject, many, rounds, seconds, say)
                for subject in subjects
                for many in connections
            ]
        except (StartError, LoadError, WrongAnswerError) as error:
            return str(error)[-300:]


def _take_turns(
    running: dict[str, Running], subject: Subject, connections: int, rounds: int, seconds: float, say: Say
) -> Comparison:
    targets = {name: server.target_of(subject) for name, server in running.items()}
    found = Comparison(subject.name, connections, {name: [] for name in running})
    for target in targets.values():
        _until_answered(target)
        load.closed_loop(target, connections, 0.5)
    for _ in range(rounds):
        for name, target in targets.items():
            seen = load.closed_loop(target, connections, seconds)
            check(seen)
            found.loads[name].append(seen)
    told = ", ".join(f"{name} {median([seen.per_second for seen in s]):,.0f}/s" for name, s in found.loads.items())
    say(f"  {subject.name}, {connections} connections: {told}")
    return found


def _until_answered(target: load.Target) -> None:
    """The servers answer for their first model; another may still be loading."""
    for _ in range(30):
        if load.closed_loop(target, 1, 1.0).size_bytes > 16:
            return
    raise LoadError(f"{target.path} does not answer with a message")
