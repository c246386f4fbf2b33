"""Model cards, as training writes them into a version's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ladle.clients.wire.versions import find_versions

Json = dict[str, Any]


def versions(repository: Path, name: str) -> list[int]:
    """The versions in a model repository, oldest first."""
    return list(find_versions(repository / name))


def folder(repository: Path, name: str, version: int | None = None) -> Path:
    """The folder of a version, by default the newest. FileNotFoundError: there is none; it names those that exist."""
    found = find_versions(repository / name)
    if version is None and found:
        version = max(found)
    if version is None or version not in found:
        there = f"it has {', '.join(map(str, found))}" if found else _others(repository)
        asked = f"version {version} of {name}" if found else name
        raise FileNotFoundError(f"{repository} holds no {asked}; {there}")
    return found[version]


def _others(repository: Path) -> str:
    if not repository.is_dir():
        return "the folder does not exist; name the model repository with --repository"
    names = sorted(child.name for child in repository.iterdir() if child.is_dir() and versions(repository, child.name))
    return f"it has {', '.join(names)}" if names else "train one with `ladle train lenet5 --preset quick`"


def read(version: Path) -> Json | None:
    """The card in a version's folder; None if there is no readable one."""
    try:
        card = json.loads((version / "assets.extra" / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) else None


def labels(repository: Path, name: str, version: int | None = None) -> list[str]:
    """The labels of the classes, by class id; empty if the card has none."""
    try:
        card = read(folder(repository, name, version)) or {}
    except FileNotFoundError:
        return []
    return [str(label) for label in card.get("labels") or []]
