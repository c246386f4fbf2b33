"""The recorded metrics of each network: from the user's model repository, else those that come with Ladle.

`python -m ladle.training.report.results` writes `figures.json`, with one entry for each network: of the preset that
leads, most often `quick`, if that was run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ladle.training.data import own_name
from ladle.training.evaluate.headline import headline, trivial
from ladle.training.store import publish

Record = dict[str, Any]
"""What the pages keep of one trained version; `ladle.training.report.results.record` makes it."""

FILE = Path(__file__).with_name("figures.json")
CARD = "assets.extra/card.json"


def own(record: Mapping[str, Any]) -> str:
    """The name of the user's folder or file with the data; empty for a data set of Ladle."""
    return own_name(str(record.get("source", "")))


def data(record: Mapping[str, Any]) -> str:
    """The data in words: the data set, the user's folder if there is one, and a mark if it is synthetic."""
    folder = f" ({own(record)})" if own(record) else ""
    return f"{record['data']}{folder}{' (**synthetic**)' if record['synthetic'] else ''}"


def trained_on(record: Mapping[str, Any]) -> int | None:
    """The training examples in use: all of the split, or `train_limit` of them; None if the record has no split."""
    if "train" not in record.get("splits", {}):
        return None
    count, limit = int(record["splits"]["train"]), int((record.get("config") or {}).get("train_limit", 0))
    return min(count, limit) if limit else count


def key(entry: Record) -> tuple[str, ...]:
    """The key of a record; a newer record with the same key replaces it."""
    return (entry["network"], entry["data"], entry["preset"] or "", own(entry))


def pictured(entries: Iterable[Record], drawn: Mapping[str, tuple[str, ...]]) -> list[Record]:
    """The entries with the names of their pictures under `pictures`.

    drawn  the key of the record whose run each new picture shows, by name; others lose the picture that it replaces
    """
    found = []
    for entry in entries:
        kept = {name for name in entry.get("pictures", ()) if name not in drawn}
        names = sorted(kept | {name for name, shown in drawn.items() if shown == key(entry)})
        bare = {name: value for name, value in entry.items() if name != "pictures"}
        found.append({**bare, "pictures": names} if names else bare)
    return found


def nearest(entries: Iterable[Record], wanted: str) -> list[Record]:
    """The entries on a data set first, then those on the user's files of that set, then the others."""
    order = (wanted, f"own_{wanted}")
    return sorted(entries, key=lambda entry: order.index(entry["data"]) if entry["data"] in order else len(order))


def distinct(entries: Iterable[Record]) -> list[Record]:
    """The entries without the older of two that are one experiment, such as presets that say the same.

    The one that stays has the other presets under `also`.
    """
    kept: list[Record] = []
    for entry in entries:
        twin = next((n for n, other in enumerate(kept) if _is_same_run(entry, other)), None)
        if twin is None:
            kept.append(entry)
            continue
        older, newer = sorted((kept[twin], entry), key=lambda each: str(each["created"]))
        kept[twin] = {**newer, "also": [*older.get("also", []), *newer.get("also", []), older["preset"]]}
    return kept


def _is_same_run(a: Record, b: Record) -> bool:
    """Whether two runs had the same data and the same options, as far as both know them, and the same result."""
    if key(a)[:2] != key(b)[:2] or own(a) or own(b) or not a.get("config") or not b.get("config"):
        return False
    common = a["config"].keys() & b["config"].keys()
    return a["metrics"] == b["metrics"] and all(a["config"][name] == b["config"][name] for name in common)


def chosen(
    records: Iterable[Mapping[str, Any]],
    usual: Mapping[str, str] | None = None,
    leads: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """The entries that come with Ladle, by network.

    The newest record of the preset that leads, if that is another than `quick`; else of preset `quick` on its usual
    data set, else of preset `quick`, else on a data set of Ladle's, else the newest of all.

    usual  the data set of each network's preset `quick`
    leads  the preset that leads, of networks where that is another than `quick`
    """

    def rank(record: Mapping[str, Any]) -> tuple[bool, bool, bool, bool, str]:
        name, preset = record["network"], record["preset"]
        is_first = preset == (leads or {}).get(name)
        return (
            is_first,
            not own(record),
            preset == "quick",
            record["data"] == (usual or {}).get(name),
            str(record["created"]),
        )

    ranked = sorted(records, key=rank)
    kept = ("preset", "data", "synthetic", "seconds", "machine", "parameters", "examples")
    by_name = {
        r["network"]: {
            **{name: r.get(name) for name in kept},
            "metrics": headline(r["metrics"]),
            "baseline": trivial(r["metrics"], r.get("more", {}).get("baselines"), r.get("folds")),
            **({"folds": r["folds"]} if "folds" in r else {}),
        }
        for r in ranked
    }
    return {name: by_name[name] for name in sorted(by_name)}


def shipped() -> dict[str, dict[str, Any]]:
    """The entries of `figures.json`; empty without the file."""
    try:
        return dict(json.loads(FILE.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def measured(repository: Path) -> dict[str, dict[str, Any]]:
    """The metrics of each network and their origin, by name: `metrics` (the headline), `baseline` (what it stands
    beside, in words), `folds` if it was cross-validated, `data`, `examples` (of the test split), `preset`,
    `synthetic`, `seconds`, `machine`, `parameters`, `version`.

    `version` is a folder of the repository; None for metrics that come with Ladle.
    """
    found = {name: {**entry, "version": None} for name, entry in shipped().items()}
    for folder in sorted(repository.iterdir()) if repository.is_dir() else []:
        for version, card in cards(folder):
            if metrics := card.get("metrics", {}).get("test"):
                found[card["network"]] = {
                    "preset": card["preset"],
                    "data": card["data"]["name"],
                    "synthetic": card["data"]["synthetic"],
                    "seconds": card["training_seconds"],
                    "machine": card["machine"],
                    "parameters": card["parameters"],
                    "examples": card["data"].get("splits", {}).get("test", 0),
                    "metrics": headline(metrics),
                    "baseline": trivial(metrics, metrics.get("baselines"), card["metrics"].get("folds")),
                    **({"folds": card["metrics"]["folds"]} if "folds" in card["metrics"] else {}),
                    "version": str(version),
                }
                break
    return found


def seconds(repository: Path, name: str, preset: str | None) -> float | None:
    """Training time of a preset in seconds: the newest in the repository, else Ladle's own record, else None."""
    for _, card in cards(repository / name):
        if card.get("preset") == preset and card.get("training_seconds"):
            return float(card["training_seconds"])
    entry = shipped().get(name, {})
    return float(entry["seconds"]) if entry and entry["preset"] == preset else None


def cards(model: Path) -> Iterable[tuple[Path, dict[str, Any]]]:
    """A model's versions and their cards, the newest first; versions without a readable card are left out."""
    for _, version in sorted(publish.versions(model).items(), reverse=True):
        try:
            card = json.loads((version / CARD).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(card, dict) and card.get("network"):
            yield version, card
