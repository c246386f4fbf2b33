"""What a model's configuration says of its splits and its shadow, and how their requests have gone so far."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ladle.serving.dataplane.core import Core
from ladle.serving.repository.traffic import Arm, Shadow
from ladle.serving.telemetry.metrics import Snapshot

TRAFFIC = "traffic"
"""The parameter of a model's configuration that holds it, as JSON; also the name of the server's extension."""
_RESULTS = ("same", "different", "failed", "dropped")


def traffic(core: Core, name: str, snapshots: Sequence[Snapshot]) -> str | None:
    """Splits and shadow of a model, with counts since the server's start, as JSON; None if it has neither.

    split   by name: for each arm its name, version, percent, requests, errors and mean_ms
    shadow  to, version, percent; how many copies were same, different, failed and dropped; outputs: for each its name,
            same, different and largest_difference; answer_ms and shadow_ms, the means of the runs
    """
    found = core.traffic(name)
    if found is None or not (found.splits or found.shadow):
        return None
    shown: dict[str, Any] = {"split": {}}
    for split, arms in found.splits.items():
        shown["split"][split] = [_arm(core, name, split, arm, snapshots) for arm in arms]
    if found.shadow is not None:
        shown["shadow"] = _shadow(core, name, found.shadow, snapshots)
    return json.dumps(shown, ensure_ascii=False)


def _arm(core: Core, name: str, split: str, arm: Arm, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    version = core.version_of(name, arm.name)
    key = [name, split, arm.name, str(version)]
    requests = errors = 0
    for labels, value in _rows(snapshots, "own_split_requests"):
        if labels[:4] == key:
            requests += value
            errors += value if labels[4] != "OK" else 0
    times = [cells for labels, cells in _rows(snapshots, "own_split_latency") if labels == key]
    return {
        "arm": arm.name,
        "version": version,
        "percent": arm.percent,
        "requests": requests,
        "errors": errors,
        "mean_ms": _mean_ms(times),
    }


def _shadow(core: Core, name: str, shadow: Shadow, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    version = core.version_of(shadow.model, shadow.name)

    def rows(metric: str) -> Iterator[tuple[list[str], Any]]:
        """Those of this shadow, by the labels after it. All versions that answered count together."""
        for labels, value in _rows(snapshots, metric):
            if [labels[0], *labels[2:4]] == [name, str(shadow), str(version)]:
                yield labels[4:], value

    results = dict.fromkeys(_RESULTS, 0)
    for (result,), value in rows("own_shadow"):
        results[result] += value
    outputs: dict[str, dict[str, Any]] = {}
    for (output, result), value in rows("own_shadow_outputs"):
        row = outputs.setdefault(output, {"name": output, "same": 0, "different": 0, "largest_difference": None})
        row[result] += value
    for (output,), value in rows("own_shadow_difference"):
        if output in outputs:
            outputs[output]["largest_difference"] = max(outputs[output]["largest_difference"] or 0.0, value)
    for row in outputs.values():
        if row["largest_difference"] is not None and math.isinf(row["largest_difference"]):
            row["largest_difference"] = "infinite"  # JSON has no such number
    times = list(rows("own_shadow_latency"))
    return {
        "to": str(shadow),
        "version": version,
        "percent": shadow.percent,
        **results,
        "outputs": [outputs[output] for output in sorted(outputs)],
        "answer_ms": _mean_ms([cells for (run,), cells in times if run == "answer"]),
        "shadow_ms": _mean_ms([cells for (run,), cells in times if run == "shadow"]),
    }


def _rows(snapshots: Sequence[Snapshot], metric: str) -> Iterator[tuple[list[str], Any]]:
    for snapshot in snapshots:
        yield from snapshot.get(metric, ())


def _mean_ms(histograms: Sequence[Sequence[float]]) -> float | None:
    """The mean of histograms of microseconds, in milliseconds; None without a sample."""
    count = sum(sum(cells[:-1]) for cells in histograms)
    return round(sum(cells[-1] for cells in histograms) / count / 1000, 3) if count else None
