"""The goals, and whether the results reach them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import Results
from benchmarks.throughput import Rounds

OURS = ("Ladle REST", "Ladle gRPC")
EMPTY = (
    ("REST over its empty handler", "Ladle REST", "empty handler (ours) REST"),
    ("REST over uvicorn's empty handler", "Ladle REST", "empty handler (uvicorn) REST"),
    ("gRPC over its empty handler", "Ladle gRPC", "empty handler (ours) gRPC"),
    ("gRPC on grpcio over its empty handler", "Ladle (grpcio) gRPC", "empty handler (grpcio) gRPC"),
    ("gRPC over pygrpc-native's empty handler", "Ladle gRPC", "empty handler (pygrpc-native) gRPC"),
)


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
    """The goals that this run measured."""
    return [goal for goal in _all(results) if not math.isnan(goal.value)]


def _all(results: Results) -> Iterator[Goal]:
    if results.rounds is not None:
        yield from _throughput(results.rounds, results)
    if isinstance(results.engines, list):
        worst = min(results.engines, key=lambda found: found.ratio("ONNX Runtime"))
        detail = f"worst of all: {worst.model}, {worst.connections} connections"
        yield Goal("ONNX Runtime over TensorFlow engine", worst.ratio("ONNX Runtime"), 1, True, "×", detail)
    if results.ten is not None:
        yield Goal("ready with 10 ONNX models", results.ten.ready_s, 1, False, " s")
        yield Goal("memory with 10 ONNX models (RSS)", results.ten.memory.rss_mb, 150, False, " MB")
    if results.tails is not None:
        tails = results.tails
        yield Goal("p99 of LeNet-5 beside U-Net over alone", tails.ratio(tails.beside_unet), 1.5, False, "×")
        yield Goal("p99 of LeNet-5 while a version is swapped", tails.ratio(tails.during_swap), 1.2, False, "×")
    if results.gateway is not None:
        yield Goal("gateway over direct gRPC, p50", results.gateway.overhead_ms, 2, False, " ms")
    if results.client is not None:
        yield Goal("import of the client", results.client.import_s, 0.5, False, " s")
        yield Goal("size of the client's install", results.client.size_mb, 100, False, " MB")


def _throughput(rounds: Rounds, results: Results) -> Iterator[Goal]:
    rivals = [*rounds.titles("rival", False), *rounds.titles("rival", True)]
    best = max(rivals, key=lambda title: rounds.median(title, lambda measured: measured.many.per_second), default="")
    for protocol, limit in ((False, 4), (True, 5)):
        ours = rounds.titles("ladle", protocol)
        if ours and best:
            fastest = max(ours, key=lambda title: rounds.ratio(title, best))
            name = "gRPC" if protocol else "REST"
            detail = f"{fastest} over {best}"
            yield Goal(f"{name} over the best rival", rounds.ratio(fastest, best), limit, True, "×", detail)
    for text, server, empty in EMPTY:
        yield Goal(text, rounds.ratio(server, empty) * 100, 75, True, " %")
    if results.in_process:
        tensorflow = results.in_process_p50_ms
        for title in OURS:
            one = rounds.median(title, lambda measured: measured.one.p50_ms) / tensorflow
            detail = f"TensorFlow in process: {tensorflow:.3f} ms"
            yield Goal(f"p50 of one caller, {title}, over TensorFlow in process", one, 1, False, "×", detail)
