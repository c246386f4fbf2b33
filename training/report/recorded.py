"""What was measured of each network: in the user's model repository, else the figures that come with Ladle.

`python -m ladle.training.report.results` writes `figures.json`: one entry for each network, of its preset `quick` if
it has one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ladle.training.data import own_name
from ladle.training.evaluate.headline import headline
from ladle.training.store import publish

Record = dict[str, Any]
"""What is kept of one trained version: `ladle.training.report.results.record`."""

FILE = Path(__file__).with_name("figures.json")
CARD = "assets.extra/card.json"


def own(record: Mapping[str, Any]) -> str:
    """Name of the user's folder or file that the data came from; empty for a data set of Ladle's."""
    return own_name(str(record.get("source", "")))


def data(record: Mapping[str, Any]) -> str:
    """The data as the pages call them: the set, the user's folder if it came from one, and whether it is synthetic."""
    folder = f" ({own(record)})" if own(record) else ""
    return f"{record['data']}{folder}{' (**synthetic**)' if record['synthetic'] else ''}"


def chosen(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records that come with Ladle, by network: that of `quick` if there is one, else the newest."""
    ranked = sorted(records, key=lambda record: (record["preset"] == "quick", str(record["created"])))
    kept = ("preset", "data", "synthetic", "seconds", "machine")
    by_name = {r["network"]: {**{name: r[name] for name in kept}, "metrics": headline(r["metrics"])} for r in ranked}
    return {name: by_name[name] for name in sorted(by_name)}


def shipped() -> dict[str, dict[str, Any]]:
    """The entries of `figures.json`, empty without it."""
    try:
        return dict(json.loads(FILE.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def measured(repository: Path) -> dict[str, dict[str, Any]]:
    """What was measured of each network, by name: `metrics`, `data`, `preset`, `synthetic`, `seconds`, `version`.

    `version` is a folder of the repository, None for a figure that came with Ladle.
    """
    found = {name: {**entry, "version": None} for name, entry in shipped().items()}
    for folder in sorted(repository.iterdir()) if repository.is_dir() else []:
        for version, told in cards(folder):
            if metrics := told.get("metrics", {}).get("test"):
                found[told["network"]] = {
                    "preset": told["preset"],
                    "data": told["data"]["name"],
                    "synthetic": told["data"]["synthetic"],
                    "seconds": told["training_seconds"],
                    "machine": told["machine"],
                    "metrics": headline(metrics),
                    "version": str(version),
                }
                break
    return found


def seconds(repository: Path, name: str, preset: str | None) -> float | None:
    """How long that preset was trained: the newest time in the repository, else the one that came with Ladle."""
    for _, told in cards(repository / name):
        if told.get("preset") == preset and told.get("training_seconds"):
            return float(told["training_seconds"])
    entry = shipped().get(name, {})
    return float(entry["seconds"]) if entry and entry["preset"] == preset else None


def cards(model: Path) -> Iterable[tuple[Path, dict[str, Any]]]:
    """The cards of a model's versions that can be read, the newest first."""
    for _, version in sorted(publish.versions(model).items(), reverse=True):
        try:
            told = json.loads((version / CARD).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and told.get("network"):
            yield version, told
