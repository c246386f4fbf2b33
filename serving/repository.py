"""Watches base paths and decides which versions should be loaded."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

log = logging.getLogger(__name__)

_VERSION = re.compile(r"-?[0-9]+\Z")
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_INT64 = 2**63

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
    """A model to serve: where its versions appear, which are wanted, and what labels name them."""

    name: str
    base_path: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)


class Repository(Protocol):
    """Where models come from. `requires_models`: whether the server is not ready while one is missing."""

    requires_models: bool

    def poll(self) -> Wanted:
        """What is on disk now and wanted."""

    def configured(self) -> dict[str, ModelConfig]:
        """The models that should be there, whether or not they have versions."""


class ConfiguredRepository:
    """The models of the command line or of a ModelServerConfig.

    A model whose base path is missing keeps the versions that were wanted before.
    """

    requires_models = True

    def __init__(self, models: Collection[ModelConfig]) -> None:
        self._models = {model.name: model for model in models}
        self._before: Wanted = {}
        self._missing: set[str] = set()

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
        for name, model in self._models.items():
            try:
                found = find_versions(model.base_path)
            except OSError:
                found = None
            if found is None:
                if name not in self._missing:
                    log.warning("%s: no folder %s; waiting for it", name, model.base_path)
                self._missing.add(name)
                wanted[name] = self._before.get(name, {})
                continue
            self._missing.discard(name)
            chosen = model.policy.choose(found)
            wanted[name] = {version: found[version] for version in sorted(chosen)}
        self._before = wanted
        return wanted


class FolderRepository:
    """Every folder below one folder is a model; models come and go while the server runs."""

    requires_models = False

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        self._folder = folder
        self._policy = policy or Policy()
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
            if _MODEL.match(name):
                models[name] = ModelConfig(name, self._folder / name, self._policy)
            elif not name.startswith(".") and name not in self._refused:
                self._refused.add(name)
                log.warning("%s is not a model name; wanted letters, digits, '_', '-' and '.'", name)
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

    Any other name is ignored, so a version is published by writing it under one and renaming it. OSError when the
    folder is there and cannot be read just now.
    """
    try:
        names = sorted(os.listdir(base_path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    numbered = [(int(name), name) for name in names if _VERSION.match(name) and len(name) <= 64]
    return {number: base_path / name for number, name in numbered if -_INT64 <= number < _INT64}
