"""Fetches a version whole and checks it: sizes, the checksums of its manifest or index, and those of its model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ladle.serving.errors import DataLoss
from ladle.serving.stores.catalog import MANIFEST, UPLOADING, StoredVersion
from ladle.serving.stores.objects import Objects, Stored

_CARD = "assets.extra/card.json"


def fetch(objects: Objects, version: StoredVersion, path: str, folder: Path, count: Callable[[int], None]) -> None:
    """Write all files of a version into an empty folder.

    path   of the version below the objects' location
    count  called with the bytes of each piece as it arrives

    DataLoss when a file is missing, cut off or another than its checksum says; ServingError when the store fails.
    """
    found = {}
    for name, stored in sorted(version.files.items()):
        if name != UPLOADING:
            found[name] = _fetch_file(objects, f"{path}/{name}", stored, folder / name, count)
    _check_manifest(folder, found)
    _check_card(folder, found)


def _fetch_file(objects: Objects, path: str, stored: Stored, target: Path, count: Callable[[int], None]) -> str:
    """The file's sha256 in hexadecimal digits."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    with target.open("xb") as file:
        for piece in objects.download(path, stored):
            size += len(piece)
            if size > stored.size:
                break
            file.write(piece)
            digest.update(piece)
            count(len(piece))
    if size != stored.size:
        got = f"more than {stored.size}" if size > stored.size else str(size)
        raise DataLoss(f"{path}: got {got} bytes; expected {stored.size}: upload the version again")
    if stored.sha256 and digest.hexdigest() != stored.sha256:
        raise DataLoss(f"{path}: its sha256 is not the one that the index has; upload the version again")
    return digest.hexdigest()


def _check_manifest(folder: Path, found: dict[str, str]) -> None:
    if MANIFEST not in found:
        return
    listed = _read(folder, MANIFEST).get("files")
    if not isinstance(listed, dict):
        raise DataLoss(f"{MANIFEST} lists no files; upload the version again")
    for name, entry in sorted(listed.items()):
        if name not in found:
            raise DataLoss(f"{name} is in {MANIFEST} and not in the store; upload the version again")
        if not isinstance(entry, dict) or entry.get("sha256") != found[name]:
            raise DataLoss(f"{name}: its sha256 is not the one that {MANIFEST} has; upload the version again")


def _check_card(folder: Path, found: dict[str, str]) -> None:
    """Compare the graphs and the SavedModel with the card, if there is one."""
    if _CARD not in found:
        return
    from ladle.serving.servables.saved_model import checksum

    card = _read(folder, _CARD)
    graphs = card.get("onnx")
    for name, entry in sorted(graphs.items()) if isinstance(graphs, dict) else ():
        expected = entry.get("sha256") if isinstance(entry, dict) else None
        if expected and found.get(name) != expected:
            state = "is not in the store" if name not in found else "is not the one that card.json describes"
            raise DataLoss(f"{name} {state}; upload the version again")
    described = card.get("saved_model")
    if isinstance(described, dict) and described.get("sha256") != checksum(folder):
        raise DataLoss("the SavedModel is not the one that card.json describes; upload the version again")


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DataLoss(f"{name} is not a JSON object; upload the version again")
    return content
