"""What a store holds: versions by model and number, read from a listing or from index.json."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ladle.clients.wire.versions import number_of
from ladle.serving.errors import DataLoss
from ladle.serving.stores.objects import Stored

INDEX = "index.json"
"""Lists the files of a repository on a web server, which has no listing of its own: docs/object-stores.md."""
MANIFEST = "assets.extra/manifest.json"
"""Written last into a version that `ladle export --to` uploads: all of its files with size and sha256."""
UPLOADING = ".uploading"
"""Lies in a version while `ladle export --to` uploads it."""
MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt", "model.tflite")
"""A version without any of these is not whole."""
_QUIET_S = 60.0
"""An upload by others whose newest file is older counts as finished at the first look."""


@dataclass(frozen=True)
class StoredVersion:
    """A version in a store.

    path   of its folder, below the location
    files  by path below that folder
    """

    path: str
    files: Mapping[str, Stored]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(stored.size for stored in self.files.values())

    @property
    def fingerprint(self) -> str:
        """Another text when a file is another."""
        digest = hashlib.sha256()
        for name, stored in sorted(self.files.items()):
            digest.update(f"{name}\0{stored.size}\0{stored.sha256 or stored.tag}\n".encode())
        return digest.hexdigest()

    @property
    def has_model(self) -> bool:
        return any(name in self.files for name in MODEL_FILES)

    def is_settled(self, before: StoredVersion | None) -> bool:
        """Whether nobody is uploading it any more.

        before  the version at the look before this one

        `ladle export --to` writes the manifest last. Other writers leave no sign: their version counts as whole once
        two looks in a row show the same files, or the newest of them was written a minute ago.
        """
        if not self.has_model:
            return False
        if MANIFEST in self.files or any(stored.sha256 for stored in self.files.values()):
            return True
        if UPLOADING in self.files:
            return False
        newest = max(stored.modified for stored in self.files.values())
        return (before is not None and before.fingerprint == self.fingerprint) or (0 < newest < time.time() - _QUIET_S)


@dataclass(frozen=True)
class Catalog:
    """The versions of a location by model and number; of a base path, the model is ""."""

    models: Mapping[str, Mapping[int, StoredVersion]] = field(default_factory=dict)

    def settled(self, before: Catalog, known: Catalog) -> Catalog:
        """The versions that nobody is uploading any more.

        before  the catalog at the look before this one
        known   the settled versions so far; one whose files are being written again stays as it was until that ends
        """
        models = {}
        for model, versions in self.models.items():
            earlier, kept = before.models.get(model, {}), known.models.get(model, {})
            found = {n: v if v.is_settled(earlier.get(n)) else kept.get(n) for n, v in versions.items() if v.has_model}
            models[model] = {n: v for n, v in found.items() if v is not None}
        return Catalog(models)


def from_listing(objects: Mapping[str, Stored], is_repository: bool) -> Catalog:
    """The versions of a listing: <model>/<version>/<file> in a repository, <version>/<file> at a base path."""
    depth = 2 if is_repository else 1
    files: dict[str, dict[str, dict[str, Stored]]] = {}
    for path, stored in objects.items():
        parts = path.split("/")
        if len(parts) <= depth or not _is_safe(parts):
            continue
        model = parts[0] if is_repository else ""
        files.setdefault(model, {}).setdefault(parts[depth - 1], {})["/".join(parts[depth:])] = stored
    return _catalog(files)


def from_index(content: bytes, model: str | None = None) -> Catalog:
    """The versions of an index.json; DataLoss when it is none. model: this one alone, under the name ""."""
    files: dict[str, dict[str, dict[str, Stored]]] = {}
    try:
        for name, versions in json.loads(content)["models"].items():
            if model is not None and name != model:
                continue
            for version, listed in versions.items():
                for path, entry in listed.items():
                    if not _is_safe([name, version, *path.split("/")]):
                        raise DataLoss(f"{INDEX} names the file {path!r}; expected a path inside its version")
                    stored = Stored(int(entry["size"]), sha256=_sha256(entry))
                    folder = files.setdefault("" if model is not None else name, {}).setdefault(version, {})
                    folder[path] = stored
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DataLoss(f'{INDEX} is not an index; `ladle config --index` writes one: {{"models": …}}') from None
    return _catalog(files)


def _sha256(entry: Mapping[str, Any]) -> str:
    digest = str(entry["sha256"])
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise DataLoss(f"{INDEX} has the sha256 {digest[:80]!r}; expected 64 hexadecimal digits")
    return digest


def _catalog(files: Mapping[str, Mapping[str, Mapping[str, Stored]]]) -> Catalog:
    models: dict[str, dict[int, StoredVersion]] = {}
    for model, versions in files.items():
        found = models.setdefault(model, {})
        for name, listed in sorted(versions.items()):
            number = number_of(name)
            if number is not None and number >= 0:
                found[number] = StoredVersion(f"{model}/{name}" if model else name, listed)
    return Catalog(models)


def _is_safe(parts: list[str]) -> bool:
    """Whether a path stays below its folder on this machine, too."""
    return all(part not in ("", ".", "..") and not re.search(r"[\\\0]", part) for part in parts)


def to_json(catalog: Catalog) -> str:
    """A catalog as text, for the next start."""
    return json.dumps(
        {
            model: {
                number: [v.path, {name: [s.size, s.tag, s.modified, s.sha256] for name, s in v.files.items()}]
                for number, v in versions.items()
            }
            for model, versions in catalog.models.items()
        }
    )


def from_json(text: str) -> Catalog:
    """The catalog that `to_json` wrote; ValueError for another text."""
    try:
        return Catalog(
            {
                model: {
                    int(number): StoredVersion(path, {name: Stored(*values) for name, values in listed.items()})
                    for number, (path, listed) in versions.items()
                }
                for model, versions in json.loads(text).items()
            }
        )
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
