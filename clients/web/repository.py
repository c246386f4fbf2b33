"""The model repository as the gateway reads it: versions, cards, samples and pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ladle.clients.library import cards
from ladle.clients.wire.versions import find_versions

Json = dict[str, Any]
T = TypeVar("T")

REPORTS = {
    "curves.png": "Training curves",
    "confusion.png": "Confusion matrix",
    "mistakes.png": "Worst mistakes",
    "masks.png": "Masks beside the truth",
    "reconstructions.png": "Reconstructions",
    "samples.png": "Generated images",
    "scatter.png": "Prediction against truth",
}
"""Pictures of a report with their titles. No other file of its folder is served."""


class Repository:
    """Reads the repository's folders and files. Threads share it.

    Nothing is read whose path, after following all symbolic links, lies outside the repository.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root

    def models(self) -> dict[str, ModelFiles]:
        """The folders that hold a version, by name in order. Each folder is listed at most once."""
        if self._root is None:
            return {}
        try:
            names = sorted(os.listdir(self._root))
        except (OSError, ValueError):
            return {}
        found = {name: self.model(name) for name in names}
        return {name: files for name, files in found.items() if files.versions}

    def model(self, name: str) -> ModelFiles:
        """The files of one model; without versions if the repository does not hold it, or `name` is no file name."""
        if self._root is None or not is_file_name(name):
            return ModelFiles(self)
        try:
            return ModelFiles(self, find_versions(self._root / name))
        except (OSError, ValueError):
            return ModelFiles(self)

    def card(self, path: Path) -> Json | None:
        """A checked card; None if there is none. ValueError: a sentence on what is wrong with it."""
        return self._read(path, cards.read_card)

    def samples(self, path: Path) -> list[Json] | None:
        """The checked entries of a `samples.json`; None if there is none. ValueError as in `card`."""
        return self._read(path, cards.read_samples)

    def reports(self, folder: Path) -> list[str]:
        """The pictures of REPORTS that a folder has, in their order."""
        try:
            return self._pictures(folder)
        except (OSError, ValueError):
            return []

    def file(self, path: Path) -> Path | None:
        """The real path of a regular file; None if there is none, or if it lies outside the repository."""
        real = Path(os.path.realpath(path))
        return real if self._is_inside(real) and real.is_file() else None

    def _pictures(self, folder: Path) -> list[str]:
        if not self._is_inside(folder):
            return []
        there = {entry.name for entry in os.scandir(folder) if not entry.is_symlink() or self._is_inside(entry.path)}
        return [name for name in REPORTS if name in there and (folder / name).is_file()]

    def _read(self, path: Path, read: Callable[[Path], T]) -> T | None:
        if not self._is_inside(path) and path.exists():
            raise ValueError(f"{path.name}: got a symbolic link out of the repository; copy the file there")
        try:
            return read(path)
        except FileNotFoundError:
            return None

    def _is_inside(self, path: str | Path) -> bool:
        """Whether the path lies in the repository after following all symbolic links, as the model server requires."""
        root = os.path.realpath(self._root or "")
        return os.path.realpath(path).startswith(root.rstrip(os.sep) + os.sep)


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model's versions. Its methods take a version; None, or one without a folder, is the newest."""

    repository: Repository
    versions: dict[int, Path] = field(default_factory=dict)

    def card(self, version: int | None = None) -> Json | None:
        """As `Repository.card`."""
        extra = self._extra(version)
        return self.repository.card(extra / "card.json") if extra else None

    def samples(self, version: int | None = None) -> list[Json] | None:
        """As `Repository.samples`."""
        extra = self._extra(version)
        return self.repository.samples(extra / "samples" / "samples.json") if extra else None

    def reports(self, version: int | None = None) -> list[str]:
        """As `Repository.reports`."""
        extra = self._extra(version)
        return self.repository.reports(extra / "report") if extra else []

    def file(self, folder: str, name: str, version: int | None = None) -> Path | None:
        """The real path of a file in the folder `samples` or `report`; None as in `Repository.file`."""
        extra = self._extra(version)
        return self.repository.file(extra / folder / name) if extra and is_file_name(name) else None

    def _extra(self, version: int | None) -> Path | None:
        if not self.versions:
            return None
        return self.versions[version if version in self.versions else max(self.versions)] / "assets.extra"


def is_file_name(text: str) -> bool:
    """Whether a caller's text is one name below a folder, and no way out of it."""
    return Path(text).name == text and "\0" not in text
