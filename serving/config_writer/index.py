"""Writes index.json: the list of a repository's files that a server needs whose models lie on a web server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladle.serving.stores.catalog import INDEX


def write(repository: Path, found: Mapping[str, Mapping[int, Path]]) -> None:
    """List all files of these versions with size and sha256. The file appears by a rename.

    found  folders by model and version
    """
    models = {model: {folder.name: _files(folder) for folder in versions.values()} for model, versions in found.items()}
    draft = repository / f".{INDEX}"
    draft.write_text(json.dumps({"models": models}, indent=1))
    draft.rename(repository / INDEX)


def _files(folder: Path) -> dict[str, Any]:
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": digest}
    return files
