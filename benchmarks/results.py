"""All results of one run, or of several runs that measured a part each."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import machine
from benchmarks.engines import Comparison
from benchmarks.front import Client, Gateway
from benchmarks.profiling.steps import Steps
from benchmarks.real.measuring import Row
from benchmarks.startup import Start, WorkerMemory
from benchmarks.tails import Tails
from benchmarks.throughput import Rounds, median

SECTIONS = ("throughput", "steps", "real", "engines", "workers", "batching", "tails", "start", "gateway", "client")
"""What can be measured by itself, in the order of the page."""


@dataclass
class Results:
    """The results of each section: None if it was not run, a string if it could not run, with the reason.

    machine     on which the newest section was measured
    machines    the machine of each section, with its time and load
    in_process  calls of TensorFlow without a server, one entry per round: per_second, p50_ms, p99_ms
    worker_memory  what a further worker adds
    four, ten   starts of the server with the four models under test, and with ten small ones
    """

    machine: Mapping[str, Any]
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    rounds: Rounds | None = None
    in_process: list[dict[str, float]] = field(default_factory=list)
    engines: list[Comparison] | str | None = None
    workers: list[Comparison] | str | None = None
    batching: list[Comparison] | str | None = None
    real: list[Row] | None = None
    steps: list[Steps] | None = None
    tails: Tails | None = None
    four: Start | None = None
    ten: Start | None = None
    worker_memory: list[WorkerMemory] | None = None
    gateway: Gateway | None = None
    client: Client | None = None

    @property
    def in_process_p50_ms(self) -> float:
        return median([found["p50_ms"] for found in self.in_process])

    def is_busy(self, section: str) -> bool:
        """Whether a section was measured while others used the machine."""
        return section in self.machines and machine.is_busy(self.machines[section])

    def as_dict(self) -> dict[str, Any]:
        """The results as JSON types."""
        return asdict(self)


def from_dict(data: Mapping[str, Any]) -> Results:
    """What `Results.as_dict` returned. TypeError: the JSON is of another form."""
    known = {each.name for each in dataclasses.fields(Results)}
    if "machines" not in data:
        raise TypeError("got results without the machine of each section; expected those of this version")
    found: Results = _read(Results, {name: value for name, value in data.items() if name in known})
    return found


def _read(kind: Any, value: Any) -> Any:
    """JSON types -> a value of the annotated type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None or isinstance(value, str):
            return value
        return _read(next(each for each in inner if each not in (str, types.NoneType)), value)
    if origin is list:
        return [_read(inner[0], each) for each in value]
    if origin is dict:
        return {key: _read(inner[1], each) for key, each in value.items()}
    if origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_read(each, item) for each, item in zip(kinds, value, strict=True))
    if dataclasses.is_dataclass(kind):
        types_of = typing.get_type_hints(kind)
        return typing.cast(Any, kind)(**{name: _read(types_of[name], each) for name, each in value.items()})
    return value
