"""The model repository as the gateway reads it: versions, cards, samples and pictures, cached by modification time."""

from __future__ import annotations

import contextlib
import os
import time
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
    "answers.png": "All answers",
    "masks.png": "Masks beside the truth",
    "reconstructions.png": "Reconstructions",
    "filtered.png": "Filters",
    "samples.png": "Generated images",
    "latent.png": "Latent space",
    "density.png": "Points and the critic's score",
    "descents.png": "Descents",
    "scatter.png": "Prediction against truth",
}
"""Pictures of a report with their titles. No other file of its folder is served."""
SETTLED_S = 2.0
"""What changed less than this ago is read anew: file systems count time in steps, and may show two changes as one."""
MAX_CACHED = 20_000


class Repository:
    """Reads the repository's folders and files. Threads share it.

    A folder or file is read again when its inode, size or times have changed. Nothing is read whose path, after
    following all symbolic links, lies outside the repository.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._cache: dict[Path, tuple[tuple[int, ...], Any]] = {}

    def models(self) -> dict[str, ModelFiles]:
        """The folders that hold a version, by name in order. Each folder is listed at most once."""
        if self._root is None:
            return {}
        try:
            names = self._cached(self._root, lambda path: sorted(os.listdir(path)))
        except (OSError, ValueError):
            return {}
        found = {name: self.model(name) for name in names}
        return {name: files for name, files in found.items() if files.versions}

    def model(self, name: str) -> ModelFiles:
        """The files of one model; without versions if the repository does not hold it, or `name` is no file name."""
        if self._root is None or not is_file_name(name):
            return ModelFiles(self)
        try:
            return ModelFiles(self, self._cached(self._root / name, find_versions))
        except (OSError, ValueError):
            return ModelFiles(self)

    def card(self, path: Path) -> Json | None:
        """A checked card; None if there is none. ValueError: a sentence on what is wrong with it."""
        return self._read(path, cards.read_card)

    def samples(self, path: Path) -> list[Json] | None:
        """The checked entries of a `samples.json`; None if there is none. ValueError as in `card`."""
        return self._read(path, cards.read_samples)

    def labels(self, path: Path) -> list[str] | None:
        """The lines of a `labels.txt`; None if there is none. ValueError as in `card`."""
        return self._read(path, cards.read_labels)

    def reports(self, folder: Path) -> list[str]:
        """The pictures of REPORTS that a folder has, in their order."""
        try:
            return self._cached(folder, self._pictures)
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
        def checked(path: Path) -> T | ValueError:
            if not self._is_inside(path):
                return ValueError(f"{path.name}: got a symbolic link out of the repository; copy the file there")
            try:
                return read(path)
            except ValueError as error:
                return error

        try:
            found = self._cached(path, checked)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ValueError(f"{path.name}: got {error.strerror}; expected a file that can be read") from None
        if isinstance(found, ValueError):
            raise ValueError(str(found))  # a new one: raising the cached one would add to its traceback each time
        return found

    def _cached(self, path: Path, read: Callable[[Path], T]) -> T:
        """What `read(path)` returned when the path was as it is now. OSError: there is no such path."""
        now, status = time.time(), path.stat()
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._cache.get(path)
        if known is not None and known[0] == stamp:
            kept: T = known[1]
            return kept
        found = read(path)
        if now - status.st_mtime > SETTLED_S:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[path] = stamp, found
        return found

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

    def labels(self, version: int | None = None) -> list[str]:
        """The labels of the classes: the card's, else those of the first readable `labels.txt`; else none."""
        with contextlib.suppress(ValueError):
            if found := (self.card(version) or {}).get("labels"):
                return [str(label) for label in found]
        extra = self._extra(version)
        if extra is None:
            return []
        for file in cards.LABEL_FILES:
            with contextlib.suppress(ValueError):
                if lines := self.repository.labels(extra.parent / file):
                    return lines
        return []

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
