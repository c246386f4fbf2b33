"""The goals, and whether the results reach them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.profiling.steps import Steps
from benchmarks.real import workloads
from benchmarks.real.measuring import Row
from benchmarks.results import Results
from benchmarks.startup import WorkerMemory
from benchmarks.throughput import Rounds, median

OURS = ("Ladle REST", "Ladle gRPC")
EMPTY = (
    ("REST over its empty handler", "Ladle REST", "empty handler (ours) REST"),
    ("REST over uvicorn's empty handler", "Ladle REST", "empty handler (uvicorn) REST"),
    ("gRPC over its empty handler", "Ladle gRPC", "empty handler (ours) gRPC"),
    ("gRPC on grpcio over its empty handler", "Ladle (grpcio) gRPC", "empty handler (grpcio) gRPC"),
    ("gRPC over pygrpc-native's empty handler", "Ladle gRPC", "empty handler (pygrpc-native) gRPC"),
)
OVER_ENGINE = {
    "gRPC": 2.5,
    "gRPC, batching": 2.0,
    "REST": 4.0,
    "REST, batching": 3.0,
    "V2 binary": 2.0,
    "V2 binary, batching": 2.0,
}
"""The most that a small request may take of the server's CPU time, as multiples of the engine's, by form."""
TRITON = {
    "JSON": ("Ladle REST", "Triton REST"),
    "V2 binary": ("Ladle (V2 binary) REST", "Triton (V2 binary) REST"),
    "gRPC": ("Ladle gRPC", "Triton gRPC"),
}
"""Ours and Triton's contender of each form, both without batching. Triton is no Python rival."""
ONE_CALLER = {
    "REST": ("Ladle REST", "empty handler (ours) REST"),
    "gRPC": ("Ladle gRPC", "empty handler (ours) gRPC"),
}
"""Ours and the empty handler of the same transport."""
_SLOW_MS = 1.0
_NEVER_BELOW = 0.95


@dataclass(frozen=True)
class Goal:
    """`value` should be at least (or at most) `limit`. `detail` names the measurement behind `value`."""

    text: str
    value: float
    limit: float
    at_least: bool
    unit: str = ""
    detail: str = ""

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def limit_text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    @property
    def value_text(self) -> str:
        return f"{self.value:.3g}{self.unit}"


def check(results: Results) -> list[Goal]:
    """The goals of the sections that were measured while nobody else used the machine."""
    return [goal for goal in _all(results) if not math.isnan(goal.value)]


def _all(results: Results) -> Iterator[Goal]:
    if results.rounds is not None and not results.is_busy("throughput"):
        yield from _throughput(results.rounds, results)
    if isinstance(results.engines, list) and not results.is_busy("engines"):
        worst = min(results.engines, key=lambda found: found.ratio("ONNX Runtime"))
        detail = f"worst of all: {worst.model}, {worst.connections} connections"
        yield Goal("ONNX Runtime over TensorFlow engine", worst.ratio("ONNX Runtime"), 1, True, "×", detail)
    if not results.is_busy("steps"):
        yield from _steps(results.steps or [])
    if not results.is_busy("real"):
        yield from _real(results.real or [])
    if results.ten is not None and not results.is_busy("start"):
        yield Goal("ready with 10 ONNX models", results.ten.ready_s, 0.35, False, " s")
        memory = results.ten.memory
        detail = f"RSS {memory.rss_mb:.0f} MB: it counts again what the guardian shares with the server"
        yield Goal("memory with 10 ONNX models (PSS)", memory.pss_mb, 90, False, " MB", detail)
    if results.worker_memory and not results.is_busy("start"):
        yield _further_worker(results.worker_memory)
    if results.tails is not None and not results.is_busy("tails"):
        tails = results.tails
        yield Goal("p99 of LeNet-5 beside U-Net over alone", tails.ratio(tails.beside_unet), 1.2, False, "×")
        yield Goal("p99 of LeNet-5 while a version is swapped", tails.ratio(tails.during_swap), 1.1, False, "×")
        yield Goal("p99 of LeNet-5 while 50 models load", tails.ratio(tails.while_loading), 1.5, False, "×")
    if results.gateway is not None and not results.is_busy("gateway"):
        yield Goal("gateway over direct gRPC, p50", results.gateway.overhead_ms, 2, False, " ms")
    if results.client is not None and not results.is_busy("client"):
        yield Goal("import of the client", results.client.import_s, 0.5, False, " s")
        yield Goal("size of the client's install", results.client.size_mb, 100, False, " MB")


def _throughput(rounds: Rounds, results: Results) -> Iterator[Goal]:
    rivals = [
        title
        for title in (*rounds.titles("rival", False), *rounds.titles("rival", True))
        if not title.startswith("Triton")
    ]
    best = max(rivals, key=lambda title: rounds.median(title, lambda measured: measured.many.per_second), default="")
    for protocol, limit in ((False, 4), (True, 5)):
        ours = [title for title in rounds.titles("ladle", protocol) if "V2" not in title]
        if ours and best:
            fastest = max(ours, key=lambda title: rounds.ratio(title, best))
            name = "gRPC" if protocol else "REST"
            detail = f"{fastest} over {best}"
            yield Goal(f"{name} over the best Python rival", rounds.ratio(fastest, best), limit, True, "×", detail)
    yield from _triton(rounds)
    if results.steps and not results.is_busy("steps"):
        yield from _one_caller(rounds, median([each.engine_us for each in results.steps]) / 1e3)
    for text, server, empty in EMPTY:
        yield Goal(text, rounds.ratio(server, empty) * 100, 75, True, " %")
    if results.in_process:
        tensorflow = results.in_process_p50_ms
        for title in OURS:
            one = rounds.median(title, lambda measured: measured.one.p50_ms) / tensorflow
            detail = f"TensorFlow in process: {tensorflow:.3f} ms"
            yield Goal(f"p50 of one caller, {title}, over TensorFlow in process", one, 1, False, "×", detail)


def _triton(rounds: Rounds) -> Iterator[Goal]:
    """How many times less CPU time a request takes than Triton's, where one was at hand."""
    for form, (ours, theirs) in TRITON.items():
        pairs = zip(rounds.by_title.get(ours, []), rounds.by_title.get(theirs, []), strict=False)
        times = median([b.cpu_us / a.cpu_us for a, b in pairs])
        mine, other = (rounds.median(title, lambda measured: measured.cpu_us) for title in (ours, theirs))
        yield Goal(f"CPU over Triton's, {form}: times below", times, 1.3, True, "×", f"{mine:.0f} µs; {other:.0f} µs")


def _further_worker(found: Sequence[WorkerMemory]) -> Goal:
    """What a third worker adds to the memory: of the model with which it adds most."""
    worst = max(found, key=lambda each: each.further_mb)
    detail = "; ".join(f"{each.model}: {each.three_mb:.0f} MB with three, {each.two_mb:.0f} with two" for each in found)
    return Goal("memory of a further worker (PSS)", worst.further_mb, 40, False, " MB", detail)


def _one_caller(rounds: Rounds, engine_ms: float) -> Iterator[Goal]:
    """The p50 of one caller, over that of an empty handler and one call of the engine together."""
    for form, (ours, empty) in ONE_CALLER.items():
        whole, handler = (rounds.median(title, lambda measured: measured.one.p50_ms) for title in (ours, empty))
        detail = f"{whole:.3f} ms over {handler:.3f} + {engine_ms:.3f} ms"
        text = f"p50 of one caller over the empty handler and the engine, {form}"
        yield Goal(text, whole / (handler + engine_ms), 1.5, False, "×", detail)


def _steps(found: Sequence[Steps]) -> Iterator[Goal]:
    """The server's CPU time of a small request, as a multiple of the engine's own."""
    for each in found:
        if each.title in OVER_ENGINE:
            detail = f"{each.cpu_us:.0f} µs over {each.engine_us:.0f} µs"
            yield Goal(
                f"CPU of a request over ONNX Runtime's: {each.title}",
                each.over_engine,
                OVER_ENGINE[each.title],
                False,
                "×",
                detail,
            )


def _real(rows: Sequence[Row]) -> Iterator[Goal]:
    """The worst row of each goal for real requests, and how many rows reach it."""
    measured = [row for row in rows if row.many]
    slow = [row for row in measured if row.engine_ms > _SLOW_MS and row.title != workloads.LARGE]
    beside = [row for row in measured if row.best_python_rival]
    for text, found, value, limit, at_least, unit in (
        ("real requests, engines above 1 ms: throughput over the limit", slow, _percent, 90, True, " %"),
        ("real requests, engines above 1 ms: p50 of one caller beyond the engine", slow, _over_ms, 0.5, False, " ms"),
        ("real requests over the best Python rival", beside, _over_python, 3, True, "×"),
    ):
        if found:
            worst = min(found, key=value) if at_least else max(found, key=value)
            goals = [Goal(text, value(row), limit, at_least, unit) for row in found]
            reached = sum(goal.reached for goal in goals)
            detail = f"worst of all: {worst.title}; {reached} of {len(found)} rows reach it"
            if found is slow and any(row.title == workloads.LARGE for row in measured):
                detail += "; without the graph of means, whose engine does almost nothing"
            yield Goal(text, value(worst), limit, at_least, unit, detail)
    yield from _beside_any_rival(measured)


def _beside_any_rival(measured: Sequence[Row]) -> Iterator[Goal]:
    """The row that does worst beside its best rival, Triton included; and the large image beside its own."""
    found = [(best[1], best[0], row.title) for row in measured if (best := row.best_rival)]
    if found:
        times, rival, title = min(found)
        missing = sum(each < _NEVER_BELOW for each, *_ in found)
        detail = f"{missing} of {len(found)} rows miss it; worst of all: {title}, beside {rival}"
        yield Goal("real requests over any rival, every row", times, _NEVER_BELOW, True, "×", detail)
    for times, rival, title in found:
        if title == workloads.LARGE:
            yield Goal("float 1024×1024×3 as JSON over the best rival", times, 5, True, "×", f"over {rival}")


def _percent(row: Row) -> float:
    return row.share * 100


def _over_ms(row: Row) -> float:
    return row.over_ms


def _over_python(row: Row) -> float:
    return row.best_python_rival[1] if row.best_python_rival else math.nan
