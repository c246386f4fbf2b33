"""Looks at base paths and decides which versions should be loaded."""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ladle.clients.wire import versions
from ladle.serving.runtime.paths import MODEL_NAMES, is_inside
from ladle.serving.stores.location import Location
from ladle.serving.stores.mirror import Mirror

log = logging.getLogger(__name__)

VersionFolders = dict[str, dict[int, Path]]
"""Folders of the aspired versions, which are those that should be loaded, by model and version."""


@dataclass(frozen=True)
class Policy:
    """Which of the versions on disk to load: the `num_versions` highest, all, or the listed ones."""

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, found: Collection[int]) -> set[int]:
        """The aspired ones among the version numbers on disk."""
        if self.kind == "all":
            return set(found)
        if self.kind == "specific":
            return set(self.versions) & set(found)
        return set(sorted(found)[-max(1, self.num_versions) :])


@dataclass(frozen=True)
class RequestLogging:
    """How the requests of a model are logged: the share of them, in [0, 1], and the path with which files begin."""

    sampling_rate: float
    prefix: Path


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve: where its versions appear, which of them to load, and their labels.

    root      folder that the base path must not leave through a symbolic link; None: no limit
    logging   of its requests; None: they are not logged
    location  where the versions are, if it is an object store; `base_path` is then no folder
    """

    name: str
    base_path: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)
    root: Path | None = None
    logging: RequestLogging | None = None
    location: Location | None = None


class Repository(Protocol):
    """Where models come from.

    requires_models  whether the server counts as not ready while a model is missing
    is_readable      whether the last poll could list the models
    root             folder that no version may leave through a symbolic link; None: the base path of its model
    """

    requires_models: bool
    root: Path | None

    @property
    def is_readable(self) -> bool: ...

    def poll(self) -> VersionFolders:
        """The aspired versions that are on disk now."""

    def configured(self) -> dict[str, ModelConfig]:
        """The models to serve by name, with or without versions. Never waits for the disk."""


class _Warnings:
    """Logs a warning when it arises, and while it lasts again after a minute, not at each poll."""

    def __init__(self, repeat_s: float = 60.0) -> None:
        self._repeat_s = repeat_s
        self._said: dict[str, tuple[str, float]] = {}

    def set(self, subject: str, warning: str) -> None:
        """What is wrong with the subject now; an empty warning: nothing."""
        if not warning:
            self._said.pop(subject, None)
            return
        before, at = self._said.get(subject, ("", 0.0))
        if warning != before or time.monotonic() >= at + self._repeat_s:
            log.warning("%s: %s", subject, warning)
            self._said[subject] = warning, time.monotonic()


class ConfiguredRepository:
    """The models of the command line or of a ModelServerConfig.

    A model whose base path is missing keeps the versions it had: a network disk that is away for a moment must not
    unload it.

    missing_stops  a missing base path leaves all models as they are, as in TensorFlow Serving
    mirror         of the object stores in which base paths may lie
    """

    requires_models = True
    is_readable = True
    root: Path | None = None

    def __init__(
        self, models: Collection[ModelConfig], missing_stops: bool = False, mirror: Mirror | None = None
    ) -> None:
        """ServingError when a base path lies in a store that can never answer as things are."""
        self._models = {model.name: model for model in models}
        self._missing_stops = missing_stops
        self._mirror = mirror
        self._open(models)
        self._before: VersionFolders = {}
        self._warnings = _Warnings()

    def configured(self) -> dict[str, ModelConfig]:
        return self._models

    def replace(self, models: Collection[ModelConfig]) -> None:
        """From the next poll on, serve these models and no others. ServingError as for the first models."""
        self._open(models)
        old, self._models = self._models, {model.name: model for model in models}
        # A model that keeps its base path keeps its versions if the path is missing at the next poll.
        self._before = {
            name: versions
            for name, versions in self._before.items()
            if name in self._models and self._models[name].base_path == old[name].base_path
        }
        if self._mirror is not None:
            self._mirror.keep_only({(model.location, False) for model in models if model.location is not None})

    def _open(self, models: Collection[ModelConfig]) -> None:
        for model in models:
            if model.location is not None and self._mirror is not None:
                self._mirror.open(model.location, is_repository=False)

    def poll(self) -> VersionFolders:
        aspired: VersionFolders = {}
        stop = False
        for name, model in self._models.items():
            found = self._find(model)
            if found is None:
                stop = self._missing_stops
                aspired[name] = self._before.get(name, {})
                continue
            chosen = model.policy.choose(found)
            aspired[name] = {version: found[version] for version in sorted(chosen)}
            self._warnings.set(name, _warning(model, found))
        self._before = {name: self._before.get(name, {}) for name in self._models} if stop else aspired
        return self._before

    def _find(self, model: ModelConfig) -> dict[int, Path] | None:
        if model.location is not None and self._mirror is not None:
            stored = self._mirror.find(model.location, is_repository=False)
            return None if stored is None else stored.get("")
        if model.root is not None and not is_inside(model.base_path, model.root):
            self._warnings.set(model.name, f"the base path {model.base_path} leads out of --config_root; waiting")
            return None
        found, warning = _look(model.base_path)
        if warning:
            self._warnings.set(model.name, warning)
        return found


def _look(base_path: Path) -> tuple[dict[int, Path] | None, str]:
    """The versions, or None and why there are none."""
    try:
        found = find_versions(base_path)
    except OSError as error:
        return None, f"the folder {base_path} cannot be read ({error.strerror}); waiting for it"
    return found, "" if found is not None else f"no folder {base_path}; waiting for it"


def _warning(model: ModelConfig, found: Mapping[int, Path]) -> str:
    if not found:
        where = model.location or model.base_path
        return f"{where} holds no version; put the SavedModel into a folder named by a number, for example 1"
    absent = sorted(set(model.policy.versions) - set(found)) if model.policy.kind == "specific" else []
    return f"versions {', '.join(map(str, absent))} are configured but missing" if absent else ""


class FolderRepository:
    """A repository: each folder in it is a model. Models may come and go while the server runs."""

    requires_models = False

    def __init__(self, folder: Path, policy: Policy | None = None, names: str = MODEL_NAMES) -> None:
        """names  regular expression that a folder's whole name must match to be a model"""
        self.root: Path | None = folder
        self._folder = folder
        self._policy = policy or Policy()
        self._names = re.compile(names)
        self.is_readable = False
        self._refused: set[str] = set()
        self._warnings = _Warnings()
        self._models: dict[str, ModelConfig] = {}
        self._before: VersionFolders = {}

    def configured(self) -> dict[str, ModelConfig]:
        """The models that the last poll that could read the folder found in it."""
        return self._models

    def poll(self) -> VersionFolders:
        self._list()
        aspired: VersionFolders = {}
        for name, model in self._models.items():
            found, warning = _look(model.base_path) if self.is_readable else (None, "")
            self._warnings.set(name, warning)
            if found is None:  # unreadable for the moment: a removed model would not be configured any more
                aspired[name] = self._before.get(name, {})
                continue
            aspired[name] = {version: found[version] for version in sorted(model.policy.choose(found))}
        self._before = aspired
        return aspired

    def _list(self) -> None:
        """Find the models. While the folder cannot be read, they stay as they are."""
        models = {}
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.is_dir())
        except OSError as error:
            self.is_readable = False
            self._warnings.set(str(self._folder), f"cannot be read ({error.strerror}); the models stay as they are")
            return
        self.is_readable = True
        self._warnings.set(str(self._folder), "")
        for name in names:
            if self._names.fullmatch(name):
                models[name] = ModelConfig(name, self._folder / name, self._policy)
            elif not name.startswith(".") and name not in self._refused:
                self._refused.add(name)
                log.warning("folder %r is not served; a model's name must match %s", name, self._names.pattern)
        self._models = models


class StoreRepository:
    """A repository in an object store: <name>/<version>/, as in a folder. Models may come and go.

    While the store does not answer, all models stay as they are.
    """

    requires_models = False
    root: Path | None = None

    def __init__(
        self, location: Location, mirror: Mirror, policy: Policy | None = None, names: str = MODEL_NAMES
    ) -> None:
        """names: as for `FolderRepository`. ServingError when the store can never answer as things are."""
        self._location = location
        self._mirror = mirror
        self._policy = policy or Policy()
        self._names = re.compile(names)
        self._models: dict[str, ModelConfig] = {}
        self._warnings = _Warnings()
        mirror.open(location, is_repository=True)

    @property
    def is_readable(self) -> bool:
        """Whether it is known what the store holds."""
        return self._mirror.find(self._location, is_repository=True) is not None

    def configured(self) -> dict[str, ModelConfig]:
        return self._models

    def poll(self) -> VersionFolders:
        found = self._mirror.find(self._location, is_repository=True) or {}
        aspired = {
            name: {version: versions[version] for version in sorted(self._policy.choose(versions))}
            for name, versions in sorted(found.items())
            if self._names.fullmatch(name)
        }
        self._warnings.set(str(self._location), "" if aspired else "no <model>/<version>/saved_model.pb yet")
        self._models = {name: ModelConfig(name, Path(name), self._policy) for name in aspired}
        return aspired


def find_versions(base_path: Path) -> dict[int, Path] | None:
    """What TensorFlow Serving takes for versions: paths whose whole name is a number. None without a base path.

    It ignores other names, so a writer publishes a version by renaming a finished folder to its number. Of several
    names for one number, the last in string order counts. OSError when the folder exists but cannot be read.
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
    """Log a duplicate once, not at each poll."""
    log.warning("%s: several names mean version %d; %r counts; remove the others", base_path, number, name)


def stamp(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What differs once a file of a version has changed: path, size in bytes, and times of each file and folder.

    The times are those of the last write and, since it also tells of new permissions, of the last change.
    """
    paths = [os.fspath(folder)]
    for where, folders, names in os.walk(folder):
        paths += [os.path.join(where, name) for name in (*folders, *names)]
    found = []
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError:  # removed since the walk listed it, or in a folder that may not be searched
            continue
        found.append((path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(sorted(found))
