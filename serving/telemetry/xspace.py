"""Captured requests as an XSpace, the file that TensorBoard's profile plugin reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ladle.clients.wire import messages as pb

PS_PER_S = 10**12


@dataclass(frozen=True)
class Event:
    """Something that took time: seconds of `time.perf_counter()`, and facts to show."""

    name: str
    began: float
    ended: float
    facts: Mapping[str, int | str]


def encode(hostname: str, lanes: Mapping[str, Sequence[Event]], epoch_ns: int) -> bytes:
    """The serialized XSpace.

    lanes     the events of each line; those of a line may lie inside each other, but not overlap otherwise
    epoch_ns  nanoseconds since 1970 at which the clock of the events was 0
    """
    space = pb.get("tensorflow.profiler.XSpace")(hostnames=[hostname])
    plane = space.planes.add(id=1, name="/host:CPU")
    names: dict[str, int] = {}
    facts: dict[str, int] = {}
    for number, (name, events) in enumerate(lanes.items(), 1):
        if not events:
            continue
        line = plane.lines.add(id=number, display_id=number, name=name, display_name=name)
        first = min(event.began for event in events)
        line.timestamp_ns = epoch_ns + int(first * 1e9)
        line.duration_ps = int((max(event.ended for event in events) - first) * PS_PER_S)
        for event in sorted(events, key=lambda event: (event.began, -event.ended)):
            # The difference of two rounded times, so that what lies inside an event still does.
            began, ended = int((event.began - first) * PS_PER_S), int((event.ended - first) * PS_PER_S)
            number_of_name = names.setdefault(event.name, len(names) + 1)
            entry = line.events.add(metadata_id=number_of_name, offset_ps=began, duration_ps=ended - began)
            for fact, value in event.facts.items():
                _add_stat(entry, facts.setdefault(fact, len(facts) + 1), value)
    for name, number in names.items():
        plane.event_metadata[number].id, plane.event_metadata[number].name = number, name
    for name, number in facts.items():
        plane.stat_metadata[number].id, plane.stat_metadata[number].name = number, name
    serialized: bytes = space.SerializeToString()
    return serialized


def _add_stat(event: Any, number: int, value: int | str) -> None:
    if isinstance(value, str):
        event.stats.add(metadata_id=number, str_value=value)
    else:
        event.stats.add(metadata_id=number, int64_value=value)


def spread(events: Sequence[tuple[Event, Sequence[Event]]], name: str) -> dict[str, list[Event]]:
    """Puts events, each with what lies inside it, into as few lines as they need so that none overlap."""
    ends: list[float] = []
    lanes: dict[str, list[Event]] = {}
    for event, inside in sorted(events, key=lambda pair: pair[0].began):
        place = next((i for i, end in enumerate(ends) if end <= event.began), len(ends))
        ends[place : place + 1] = [event.ended]
        lanes.setdefault(f"{name} {place + 1}", []).extend([event, *inside])
    return lanes
