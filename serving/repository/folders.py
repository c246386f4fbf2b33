"""Watches base paths and decides which versions should be loaded."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ladle.clients.wire import versions
from ladle.serving.runtime.paths import is_inside

log = logging.getLogger(__name__)

MODEL_NAMES = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
"""What a folder of a repository must be called to be a model."""

Wanted = dict[str, dict[int, Path]]
"""Folders of the versions that should be loaded, by model name and version."""


@dataclass(frozen=True)
class Policy:
    """Which of the versions on disk are wanted: the `num_versions` highest, all, or the listed ones."""

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, found: Collection[int]) -> set[int]:
        if self.kind == "all":
            return set(found)
        if self.kind == "specific":
            return set(self.versions) & set(found)
        return set(sorted(found)[-max(1, self.num_versions) :])


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve: where its versions appear, which are wanted, and what labels name them.

    root  folder that the base path may not leave through a symbolic link
    """

    name: str
    base_path: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)
    root: Path | None = None


class Repository(Protocol):
    """Where models come from.

    requires_models  whether the server is not ready while one is missing
    root             folder that no version may leave through a symbolic link; None: its model's base path
    """

    requires_models: bool
    root: Path | None

    def poll(self) -> Wanted:
        """What is on disk now and wanted."""

    def configured(self) -> dict[str, ModelConfig]:
        """The models that should be there, whether or not they have versions."""


class ConfiguredRepository:
    """The models of the command line or of a ModelServerConfig.

    A model whose base path is missing keeps the versions that were wanted before.

    missing_stops  a missing base path leaves all models as they are, as upstream has it
    """

    requires_models = True
    root: Path | None = None

    def __init__(self, models: Collection[ModelConfig], missing_stops: bool = False) -> None:
        self._models = {model.name: model for model in models}
        self._missing_stops = missing_stops
        self._before: Wanted = {}
        self._said: dict[str, str] = {}

    def configured(self) -> dict[str, ModelConfig]:
        return self._models

    def replace(self, models: Collection[ModelConfig]) -> None:
        """Serves these models from the next poll on, and no others."""
        old, self._models = self._models, {model.name: model for model in models}
        self._before = {
            name: versions
            for name, versions in self._before.items()
            if name in self._models and self._models[name].base_path == old[name].base_path
        }

    def poll(self) -> Wanted:
        wanted: Wanted = {}
        stop = False
        for name, model in self._models.items():
            found = self._find(model)
            if found is None:
                stop = self._missing_stops
                wanted[name] = self._before.get(name, {})
                continue
            chosen = model.policy.choose(found)
            wanted[name] = {version: found[version] for version in sorted(chosen)}
            self._say(name, _doubt(model, found))
        self._before = {name: self._before.get(name, {}) for name in self._models} if stop else wanted
        return self._before

    def _find(self, model: ModelConfig) -> dict[int, Path] | None:
        if model.root is not None and not is_inside(model.base_path, model.root):
            self._say(model.name, f"the base path {model.base_path} leaves --config_root; waiting")
            return None
        try:
            found = find_versions(model.base_path)
        except OSError:
            found = None
        if found is None:
            self._say(model.name, f"no folder {model.base_path}; waiting for it")
        return found

    def _say(self, name: str, doubt: str) -> None:
        """Logs a doubt when it arises, not at each poll."""
        if doubt and self._said.get(name) != doubt:
            log.warning("%s: %s", name, doubt)
        self._said[name] = doubt


def _doubt(model: ModelConfig, found: Mapping[int, Path]) -> str:
    if not found:
        return f"{model.base_path} holds no version; put the model into a folder whose name is a number, as in 1"
    absent = sorted(set(model.policy.versions) - set(found)) if model.policy.kind == "specific" else []
    return f"versions {', '.join(map(str, absent))} are configured and not there" if absent else ""


class FolderRepository:
    """Every folder below one folder is a model; models come and go while the server runs."""

    requires_models = False

    def __init__(self, folder: Path, policy: Policy | None = None, names: str = MODEL_NAMES) -> None:
        """names: a regular expression that a folder's whole name must match to be a model."""
        self.root: Path | None = folder
        self._folder = folder
        self._policy = policy or Policy()
        self._names = re.compile(names)
        self._refused: set[str] = set()
        self._models: dict[str, ModelConfig] = {}
        self._before: Wanted = {}

    def configured(self) -> dict[str, ModelConfig]:
        """The models below the folder; those of before while it cannot be read."""
        models = {}
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.is_dir())
        except OSError as error:
            log.warning("%s cannot be read (%s); everything goes on as it is", self._folder, error.strerror)
            return self._models
        for name in names:
            if self._names.fullmatch(name):
                models[name] = ModelConfig(name, self._folder / name, self._policy)
            elif not name.startswith(".") and name not in self._refused:
                self._refused.add(name)
                log.warning("%r is not a model name; wanted is %s", name, self._names.pattern)
        self._models = models
        return models

    def poll(self) -> Wanted:
        wanted: Wanted = {}
        for name, model in self.configured().items():
            try:
                found = find_versions(model.base_path)
            except OSError:
                found = None
            if found is None:  # unreadable just now; a model that went is not configured any more
                wanted[name] = self._before.get(name, {})
                continue
            wanted[name] = {version: found[version] for version in sorted(model.policy.choose(found))}
        self._before = wanted
        return wanted


def find_versions(base_path: Path) -> dict[int, Path] | None:
    """The folders whose whole name is a number, by it; None when the base path is missing.

    Any other name is ignored, so a version is published by writing it under one and renaming it. Of several names of
    one number the last in string order counts. OSError when the folder is there and cannot be read just now.
    """
    found: dict[int, Path] = {}
    try:
        for number, path in versions.numbered(base_path):
            if number in found:
                _log_duplicate(base_path, number, path.name)
            found[number] = path
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


@functools.lru_cache(1024)
def _log_duplicate(base_path: Path, number: int, name: str) -> None:
    """Logged once."""
    log.warning("%s: several names are version %d; %r counts, remove the others", base_path, number, name)


def stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells that a version's files have changed: names, sizes and times."""
    found = []
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            found.append((path, status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))
