"""All results of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import real as real_requests
from benchmarks import steps as request_steps
from benchmarks.engines import Comparison
from benchmarks.front import Client, Gateway
from benchmarks.startup import Start
from benchmarks.tails import Tails
from benchmarks.throughput import Rounds, median


@dataclass
class Results:
    """The results of each section: None if it was not run, a string if it could not run, with the reason.

    in_process  calls of TensorFlow without a server, one entry per round: per_second, p50_ms, p99_ms
    four, ten   starts of the server with the four models under test, and with ten small ones
    """

    machine: Mapping[str, Any]
    rounds: Rounds | None = None
    in_process: list[dict[str, float]] = field(default_factory=list)
    engines: list[Comparison] | str | None = None
    workers: list[Comparison] | str | None = None
    batching: list[Comparison] | str | None = None
    real: list[real_requests.Row] | None = None
    steps: list[request_steps.Steps] | None = None
    tails: Tails | None = None
    four: Start | None = None
    ten: Start | None = None
    gateway: Gateway | None = None
    client: Client | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def in_process_p50_ms(self) -> float:
        return median([found["p50_ms"] for found in self.in_process])

    def as_dict(self) -> dict[str, Any]:
        """The results as JSON types."""
        data: dict[str, Any] = {"machine": dict(self.machine), "in_process": self.in_process, "notes": self.notes}
        data["rounds"] = self.rounds.as_dict() if self.rounds else None
        for name in ("engines", "workers", "batching"):
            value = getattr(self, name)
            data[name] = [asdict(found) for found in value] if isinstance(value, list) else value
        data["real"] = real_requests.as_dict(self.real) if self.real is not None else None
        data["steps"] = request_steps.as_dict(self.steps) if self.steps is not None else None
        for name in ("tails", "four", "ten", "gateway", "client"):
            value = getattr(self, name)
            data[name] = asdict(value) if value is not None else None
        return data
