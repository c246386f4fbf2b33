"""Loads each workload in turns with its limit and with the rivals."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from benchmarks import ladder
from benchmarks.real.servers import Limit, start_ours, start_rivals
from benchmarks.real.workloads import MEANS, MODELS, Ports, Workload, copy_name
from benchmarks.requests import load, models, payloads
from benchmarks.requests.load import Load, LoadError, Target
from benchmarks.servers.processes import Child, StartError
from benchmarks.throughput import check, median

_RUNNING_S = 1.0
_ANSWERED = 0.98


@dataclass
class Row:
    """The loads of a workload, one a round.

    limit_many, limit_one  requests per second of the engine alone, with a thread for each core and with one caller
    rivals                 requests per second of each
    """

    title: str
    many: list[Load] = field(default_factory=list)
    one: list[Load] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    limit_many: list[float] = field(default_factory=list)
    limit_one: list[float] = field(default_factory=list)
    rivals: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Throughput as a share of the limit: the median of the rounds' ratios."""
        return median([a.per_second / b for a, b in zip(self.many, self.limit_many, strict=True)])

    @property
    def engine_ms(self) -> float:
        """What one call of the engine takes."""
        return 1e3 / median(self.limit_one)

    @property
    def over_ms(self) -> float:
        """What one caller waits beyond the engine, in milliseconds."""
        return median([a.p50_ms - 1e3 / b for a, b in zip(self.one, self.limit_one, strict=True)])

    @property
    def best_rival(self) -> tuple[str, float] | None:
        """The fastest rival, and our throughput over its: the median of the rounds' ratios."""
        return self._best(self.rivals)

    @property
    def best_python_rival(self) -> tuple[str, float] | None:
        """The same without Triton, which is no Python server."""
        return self._best([name for name in self.rivals if not name.startswith("Triton")])

    def _best(self, names: Iterable[str]) -> tuple[str, float] | None:
        ours = [seen.per_second for seen in self.many]
        ratios = {name: median([a / b for a, b in zip(ours, self.rivals[name], strict=False)]) for name in names}
        return min(ratios.items(), key=lambda item: item[1]) if ratios else None


@dataclass(frozen=True)
class Settings:
    """Number of rounds, and seconds of the larger load; the other takes half."""

    rounds: int
    seconds: float


def measure(
    chosen: Sequence[Workload],
    repository: Path,
    programs: Mapping[str, Path],
    settings: Settings,
    log: Callable[[str], None],
) -> list[Row]:
    """Load one server with every workload, and the rivals with those that they can answer."""
    found = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        served = folder / "models"
        _fill(served, repository, chosen)
        keys = {workload.key for workload in chosen}
        shared = any(key.endswith("-workers") for key in keys)
        servers, ports = start_ours(stack, served, folder, "tls-grpc" in keys, "jpeg-gateway" in keys, shared)
        for number, (_, group) in enumerate(groupby(chosen, key=lambda workload: workload.rivals)):
            own = folder / str(number)
            own.mkdir()
            found += _Group(list(group), ports, servers, served, own).measure(programs, settings, log)
    return found


def _fill(served: Path, repository: Path, chosen: Sequence[Workload]) -> None:
    for name in sorted({workload.model for workload in chosen} - {MEANS}):
        shutil.copytree(repository / name, served / name)
    if any(workload.model == MEANS for workload in chosen):
        ladder.model(1024).write(served / MEANS)
    if any(workload.key == "mixed-rest" for workload in chosen):
        for n in range(1, MODELS + 1):
            shutil.copytree(repository / "lenet5", served / copy_name(n))


class _Group:
    """Workloads with the same graph and the same rivals, which run beside them."""

    def __init__(
        self, workloads: list[Workload], ports: Ports, servers: Sequence[Child], served: Path, folder: Path
    ) -> None:
        self._servers, self._folder = servers, folder
        version = models.newest(served, workloads[0].model)
        assert version is not None
        self._graph = version / "model.onnx"
        self._first = workloads[0]
        self._rows = {workload.key: Row(workload.title) for workload in workloads}
        self._workloads = workloads
        self._targets: dict[str, Target] = {}
        for workload in workloads:
            body = folder / f"body-{workload.key}"
            body.write_bytes(payloads.frame(workload.body) if workload.grpc else workload.body)
            self._targets[workload.key] = workload.target(ports, body)

    def measure(self, programs: Mapping[str, Path], settings: Settings, log: Callable[[str], None]) -> list[Row]:
        with ExitStack() as stack:
            limit = stack.enter_context(Limit(self._graph, self._first.inputs, self._folder, self._first.outputs))
            rivals, failures = start_rivals(stack, self._first.rivals, self._graph, programs, self._folder)
            for row in self._rows.values():
                row.failures |= failures
            for name, target in list(rivals.items()):
                if why := _warm(target):
                    self._fail(name, why)
                    del rivals[name]
            for workload in self._workloads:
                if why := _warm(self._targets[workload.key]):
                    self._rows[workload.key].failures["Ladle"] = why
            for _ in range(settings.rounds):
                rates = {name: self._rival(name, target, settings.seconds) for name, target in rivals.items()}
                for workload in self._workloads:
                    self._load(workload, limit, rates, settings.seconds)
        for row in self._rows.values():
            log(f"  {row.title:<42} {_in_words(row)}")
        return list(self._rows.values())

    def _load(self, workload: Workload, limit: Limit, rates: Mapping[str, float], seconds: float) -> None:
        row, target = self._rows[workload.key], self._targets[workload.key]
        if "Ladle" in row.failures:
            return
        try:
            many, one = limit.measure(seconds / 2)
            before = sum(child.cpu_s() for child in self._servers)
            seen = load.closed_loop(target, workload.connections, seconds)
            used = sum(child.cpu_s() for child in self._servers) - before
            alone = load.closed_loop(target, 1, seconds / 2)
            for each in (seen, alone):
                check(each)
            check_answered(seen, alone)
        except (LoadError, StartError, OSError) as error:
            row.failures["Ladle"] = str(error)[-300:]
            return
        row.limit_many.append(many)
        row.limit_one.append(one)
        row.many.append(seen)
        row.one.append(alone)
        row.cpu_us.append(used / max(1, seen.requests) * 1e6)
        for name, rate in rates.items():
            if rate:
                row.rivals.setdefault(name, []).append(rate)

    def _rival(self, name: str, target: Target, seconds: float) -> float:
        """Requests per second; 0 if it failed."""
        try:
            seen = load.closed_loop(target, self._first.connections, seconds)
        except LoadError as error:
            self._fail(name, str(error))
            return 0.0
        return seen.per_second

    def _fail(self, name: str, why: str) -> None:
        for row in self._rows.values():
            row.failures[name] = why[-200:]


def _in_words(row: Row) -> str:
    if not row.many:
        return f"left out: {row.failures.get('Ladle', '')}"
    best = row.best_rival
    beside = f"  {best[1]:.1f}× {best[0]}" if best else ""
    rate = f"{median([seen.per_second for seen in row.many]):8,.1f}/s  {row.share:5.0%} of the limit"
    return f"{rate}, p50 of one caller +{row.over_ms:.2f} ms{beside}"


def check_answered(seen: Load, alone: Load) -> None:
    """LoadError if requests were refused under load: a gRPC error has HTTP status 200, and no message."""
    if seen.size_bytes < _ANSWERED * alone.size_bytes:
        share = seen.size_bytes / alone.size_bytes
        raise LoadError(f"got {share:.0%} of the answers' bytes with many connections; expected all: it refuses")


def _warm(target: Target) -> str:
    """Load it until it answers, for a model is measured at its first requests; why it does not."""
    for n in range(10):
        try:
            # Longer each time: the first ones may end before one answer of many megabytes has come.
            seen = load.closed_loop(target, 2, _RUNNING_S + n)
        except LoadError as error:
            return str(error)
        if seen.requests and not seen.errors:
            return ""
    return f"got no answer from {target.path} in 10 loads, the last one of 10 s; expected one"
