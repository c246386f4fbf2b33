"""What requests ask of versions and configuration: the manager answers, or in a worker what its supervisor said."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ladle.serving.errors import NotFound, ServingError


class State(enum.IntEnum):
    """Where a version is in its life, numbered as on the wire."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class Failure:
    """A version that could not be loaded, and why. `number`: None when the model has no version."""

    model: str
    number: int | None
    error: ServingError


def describe(failures: Iterable[Failure]) -> str:
    """Failures as upstream lists them."""
    return "".join(
        f"{{{{name: {f.model}{'' if f.number is None else f' version: {f.number}'}}}"
        f" due to error: {f.error.code}: {f.error.message}}}, "
        for f in failures
    )


class Loaded(Protocol):
    """A version in memory, here or in the worker processes."""

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Calls `on_idle` once no request runs any more."""


L = TypeVar("L", bound=Loaded)


class Serving(Generic[L]):
    """What requests can reach, never changed: versions by model and number, and each model's highest."""

    def __init__(self, versions: Mapping[str, Mapping[int, L]]) -> None:
        self.versions = {model: known for model, known in versions.items() if known}
        self.latest = {model: known[max(known)] for model, known in self.versions.items()}

    def find(self, model: str, version: int | None = None) -> L:
        """The version, or the highest; NotFound in upstream's words."""
        if version is None:
            latest = self.latest.get(model)
            if latest is None:
                raise NotFound(f"Servable not found for request: Latest({model})")
            return latest
        found = self.versions.get(model, {}).get(version)
        if found is None:
            raise NotFound(f"Servable not found for request: Specific({model}, {version})")
        return found

    def numbers(self) -> dict[str, list[int]]:
        """The versions by model."""
        return {model: sorted(versions) for model, versions in sorted(self.versions.items())}


class Versions(Protocol):
    """The versions of all models."""

    def find(self, model: str, version: int | None = None) -> Any:
        """The servable of a version, or of the highest that is available; NotFound in upstream's words."""

    def status(self, model: str) -> list[tuple[int, State, ServingError | None]]:
        """Number, state and error of every version ever seen, highest first; empty for an unknown model."""

    def models(self) -> list[str]:
        """Every model ever seen."""

    def available(self) -> dict[str, list[int]]:
        """The available versions by model."""

    def is_settled(self, model: str) -> bool:
        """Whether a wanted version is available or has failed, or none is wanted."""

    def is_available(self, model: str) -> bool:
        """Whether the model has a version that answers."""

    def failure(self, model: str) -> Failure | None:
        """Why the model is not there: the highest wanted version that was decided on, if it failed to load."""


class Configuration(Protocol):
    """Which models should be there, and their labels.

    waits_for_models  whether a model without versions is waited for, as upstream does
    """

    waits_for_models: bool

    @property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        """Versions by model and label."""

    def is_configured(self, model: str) -> bool:
        """Whether the model should be there."""

    def is_ready(self) -> bool:
        """Whether every configured model is available; of a folder's models, whether each has been tried."""

    def reload(self, config: Any) -> list[str]:
        """Replaces the configuration by a ModelServerConfig; the models it adds. ServingError when it may not be."""


Status = tuple[int, State, ServingError | None]


@dataclass(frozen=True)
class View:
    """What all workers show.

    serving     the load that answers for each version, by model and number
    statuses    of each model's versions, highest first
    labels      versions by model and label
    settled     models of which a wanted version is available or has failed
    configured  models that should be there
    """

    serving: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    statuses: Mapping[str, Sequence[Status]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    configured: frozenset[str] = frozenset()
    is_ready: bool = False
