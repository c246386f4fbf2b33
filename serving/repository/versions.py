"""What requests may ask about versions and configuration.

`Versions` and `Configuration` are interfaces. In a single process the manager and the watcher implement them; in a
worker the follower does, from the `View` that its supervisor sends.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ladle.serving.errors import NotFound, ServingError
from ladle.serving.repository.folders import RequestLogging
from ladle.serving.repository.traffic import Traffic


class State(enum.IntEnum):
    """The state of a version. The numbers are those of ModelVersionStatus.State on the wire."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class Failure:
    """A version that failed to load, and why. `number` is None when the model has no version at all."""

    model: str
    number: int | None
    error: ServingError


def describe(failures: Iterable[Failure]) -> str:
    """Failures as TensorFlow Serving lists them."""
    return "".join(
        f"{{{{name: {f.model}{'' if f.number is None else f' version: {f.number}'}}}"
        f" due to error: {f.error.code}: {f.error.message}}}, "
        for f in failures
    )


class Loaded(Protocol):
    """A version in memory, in this process or in its workers."""

    @property
    def takes_graph(self) -> bool:
        """Whether it runs on TensorFlow only because no graph was there when it was loaded."""

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Call `on_idle` once the last request on this version has ended."""


L = TypeVar("L", bound=Loaded)


class ServingMap(Generic[L]):
    """The versions that requests can reach, by model and number. Immutable: a change makes a new map."""

    def __init__(self, versions: Mapping[str, Mapping[int, L]]) -> None:
        self.versions = {model: numbers for model, numbers in versions.items() if numbers}
        # Most requests name no version: their answer is prepared once, not searched for at each request.
        self.latest = {model: numbers[max(numbers)] for model, numbers in self.versions.items()}

    def find(self, model: str, version: int | None = None) -> L:
        """The version, by default the highest; NotFound in TensorFlow Serving's words."""
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
        """The version numbers of each model, lowest first."""
        return {model: sorted(versions) for model, versions in sorted(self.versions.items())}


class Versions(Protocol):
    """The versions of all models.

    serving_map  what requests can reach now. It is replaced as a whole, so that a request needs no lock to read it
    """

    serving_map: ServingMap[Any]

    def status(self, model: str) -> list[tuple[int, State, ServingError | None]]:
        """Number, state and error of every version seen so far, highest first; empty for an unknown model."""

    def models(self) -> list[str]:
        """Every model seen so far."""

    def available(self) -> dict[str, list[int]]:
        """The available versions of each model."""

    def is_settled(self, model: str) -> bool:
        """Whether an aspired version is available or has failed, or the model has no aspired version."""

    def is_available(self, model: str) -> bool:
        """Whether the model has an available version."""

    def failure(self, model: str) -> Failure | None:
        """The failure of the highest aspired version that has loaded or failed; None if it loaded."""

    def is_loadable(self, model: str) -> bool:
        """Whether the model is loaded on demand, and a version of it is not in memory that could be."""

    def want(self, model: str) -> None:
        """Begin to load a model that is loaded on demand. Returns at once."""


class Configuration(Protocol):
    """Which models are configured, and their labels.

    waits_for_models  whether start-up and reloads wait for a model that has no version yet, as TensorFlow Serving does
    """

    waits_for_models: bool

    @property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        """Version numbers by model and label."""

    @property
    def logging(self) -> Mapping[str, RequestLogging]:
        """The request log of each model that has one."""

    @property
    def traffic(self) -> Traffic:
        """How requests are split among versions and copied, by model."""

    def is_configured(self, model: str) -> bool:
        """Whether the model is configured."""

    def is_ready(self) -> bool:
        """Whether every configured model is available; with --repository, whether each was tried once."""

    def is_starting(self, model: str) -> bool:
        """Whether the model was there at the start and has neither loaded nor failed yet."""

    def reload(self, config: Any) -> list[str]:
        """Replace the configuration by a ModelServerConfig; the names of the added models. ServingError: refused."""

    def load(self, model: str) -> None:
        """Begin to load what the repository has of a model now. NotFound: no such model, or no version of it."""

    def unload(self, model: str) -> None:
        """Unload a model, and keep it so until `load` or a new configuration. NotFound: no such model."""


Status = tuple[int, State, ServingError | None]


@dataclass(frozen=True)
class View:
    """What all workers show to clients at one time.

    serving     number of the load that answers for each version, by model and version
    statuses    of each model's versions, highest first
    labels      version numbers by model and label
    logging     as `Configuration.logging`
    traffic     as `Configuration.traffic`
    settled     models for which `Versions.is_settled` holds
    configured  models for which `Configuration.is_configured` holds
    starting    models for which `Configuration.is_starting` holds
    loadable    models for which `Versions.is_loadable` holds
    """

    serving: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    statuses: Mapping[str, Sequence[Status]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    logging: Mapping[str, RequestLogging] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=dict)
    settled: frozenset[str] = frozenset()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    configured: frozenset[str] = frozenset()
    is_ready: bool = False
    starting: frozenset[str] = frozenset()
    loadable: frozenset[str] = frozenset()
