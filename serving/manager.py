"""Loads and unloads versions so that a model stays available: the new one first, then the old one goes.

Loading runs in threads of the manager's own. What is served is one immutable snapshot, replaced as a whole, so
requests find their version without a lock.
"""

from __future__ import annotations

import enum
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.errors import Cancelled, Internal, NotFound, ServingError
from serving.servable import Servable

log = logging.getLogger(__name__)

Load = Callable[[str, int, Path], Servable]


class State(enum.IntEnum):
    """Where a version is in its life, numbered as on the wire."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """A version that the manager knows of. `error`: why its last attempt to load failed."""

    model: str
    number: int
    folder: Path
    state: State = State.START
    wanted: bool = True
    error: ServingError | None = None
    attempts: int = 0
    servable: Servable | None = None


@dataclass(frozen=True)
class _Serving:
    """What requests can reach: versions by model and number, and each model's highest."""

    versions: Mapping[str, Mapping[int, Servable]]
    latest: Mapping[str, Servable]


class Manager:
    """The versions of all models and their states.

    load              makes a servable of (model, version, folder), or raises ServingError
    retries           further attempts after a failed load
    retry_interval_s  pause between them
    threads           how many versions load at once
    """

    def __init__(self, load: Load, retries: int = 0, retry_interval_s: float = 60.0, threads: int = 2) -> None:
        self._load = load
        self._retries = retries
        self._retry_interval_s = retry_interval_s
        self._versions: dict[str, dict[int, Version]] = {}
        self._serving = _Serving({}, {})
        self._changed = threading.Condition()  # guards everything above
        self._jobs: queue.SimpleQueue[Version] = queue.SimpleQueue()
        for i in range(threads):
            threading.Thread(target=self._work, name=f"load-{i}", daemon=True).start()

    # Reading

    def find(self, model: str, version: int | None = None) -> Servable:
        """The servable of a version, or of the highest that is available; NotFound in upstream's words."""
        serving = self._serving
        if version is None:
            servable = serving.latest.get(model)
            if servable is None:
                raise NotFound(f"Servable not found for request: Latest({model})")
            return servable
        servable = serving.versions.get(model, {}).get(version)
        if servable is None:
            raise NotFound(f"Servable not found for request: Specific({model}, {version})")
        return servable

    def status(self, model: str) -> list[tuple[int, State, ServingError | None]]:
        """Number, state and error of every version ever seen, highest first; empty for an unknown model."""
        with self._changed:
            known = self._versions.get(model, {})
            return [(v.number, v.state, v.error) for _, v in sorted(known.items(), reverse=True)]

    def models(self) -> list[str]:
        """Every model ever seen."""
        with self._changed:
            return sorted(self._versions)

    def available(self) -> dict[str, list[int]]:
        """The available versions by model, for people."""
        return {model: sorted(versions) for model, versions in sorted(self._serving.versions.items())}

    def is_settled(self, model: str) -> bool:
        """Whether the model's newest wanted version that is no longer loading is known: available or failed."""
        with self._changed:
            return self._settled(model)

    def is_available(self, model: str) -> bool:
        return model in self._serving.latest

    def failure(self, model: str) -> Version | None:
        """The highest wanted version, if it failed to load."""
        with self._changed:
            wanted = [v for v in self._versions.get(model, {}).values() if v.wanted]
            newest = max(wanted, key=lambda v: v.number, default=None)
            return newest if newest is not None and newest.state is State.END else None

    def wait_until_settled(self, models: list[str], timeout_s: float | None = None) -> bool:
        """Blocks until each of the models is available or has failed; False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: all(self._settled(m) for m in models), timeout_s)

    def _settled(self, model: str) -> bool:
        wanted = [v for v in self._versions.get(model, {}).values() if v.wanted]
        return not wanted or max(wanted, key=lambda v: v.number).state in (State.AVAILABLE, State.END)

    # Changing

    def set_wanted(self, wanted: Mapping[str, Mapping[int, Path]]) -> None:
        """Loads what is wanted and not there, and lets go of what is there and not wanted."""
        with self._changed:
            for model in {*wanted, *self._versions}:
                self._want(model, wanted.get(model, {}))
                self._step(model)
            self._changed.notify_all()

    def _want(self, model: str, folders: Mapping[int, Path]) -> None:
        if not folders and model not in self._versions:
            return
        known = self._versions.setdefault(model, {})
        for number, version in known.items():
            if number not in folders and version.wanted:
                version.wanted = False
                if version.state in (State.START, State.LOADING):
                    version.state = State.END
                    version.error = Cancelled("Loading of servable cancelled")
        for number, folder in folders.items():
            version_known = known.get(number)
            if version_known is None or (version_known.state is State.END and not version_known.wanted):
                known[number] = Version(model, number, folder)
            else:
                version_known.wanted = True

    def _step(self, model: str) -> None:
        """The availability-preserving policy: unload what is superseded, load what is wanted."""
        known = self._versions.get(model, {})
        ready = sorted((v for v in known.values() if v.state is State.AVAILABLE), key=lambda v: v.number)
        unwanted = [v for v in ready if not v.wanted]
        replaced = any(v.wanted for v in ready) or not any(v.wanted for v in known.values())
        for version in unwanted if replaced else unwanted[:-1]:
            self._unload(version)
        for version in sorted(known.values(), key=lambda v: v.number, reverse=True):
            if version.state is State.START and version.wanted:
                version.state = State.LOADING
                self._jobs.put(version)

    def _unload(self, version: Version) -> None:
        servable = version.servable
        assert servable is not None
        version.state = State.UNLOADING
        version.servable = None
        self._publish(version.model, version.number, None)

        def end() -> None:
            with self._changed:
                if version.state is State.UNLOADING:
                    version.state = State.END
                    log.info("%s version %d: unloaded", version.model, version.number)
                    self._changed.notify_all()

        servable.retire(end)

    def _publish(self, model: str, number: int, servable: Servable | None) -> None:
        versions = {name: dict(known) for name, known in self._serving.versions.items()}
        if servable is None:
            versions[model].pop(number)
            if not versions[model]:
                del versions[model]
        else:
            versions.setdefault(model, {})[number] = servable
        latest = {name: known[max(known)] for name, known in versions.items()}
        self._serving = _Serving(versions, latest)

    # Threads of the manager

    def _work(self) -> None:
        while True:
            self._attempt(self._jobs.get())

    def _attempt(self, version: Version) -> None:
        if version.state is not State.LOADING:
            return
        version.attempts += 1
        try:
            servable = self._load(version.model, version.number, version.folder)
        except ServingError as error:
            self._failed(version, error)
        except Exception:
            log.exception("%s version %d", version.model, version.number)
            self._failed(version, Internal("the version could not be loaded; the server's log says why"))
        else:
            self._loaded(version, servable)

    def _loaded(self, version: Version, servable: Servable) -> None:
        with self._changed:
            if version.state is State.LOADING:  # else cancelled meanwhile
                version.servable = servable
                self._publish(version.model, version.number, servable)
                version.state = State.AVAILABLE
                version.error = None
                self._step(version.model)
            self._changed.notify_all()

    def _failed(self, version: Version, error: ServingError) -> None:
        name = f"{version.model} version {version.number}"
        with self._changed:
            if version.state is not State.LOADING:
                return
            version.error = error
            if version.attempts <= self._retries and is_worth_retrying(error):
                log.warning("%s: not loaded, next attempt in %g s: %s", name, self._retry_interval_s, error)
                retry = threading.Timer(max(0.0, self._retry_interval_s), self._jobs.put, [version])
                retry.daemon = True
                retry.start()
                return
            log.error("%s: not loaded: %s", name, error)
            version.state = State.END
            self._step(version.model)
            self._changed.notify_all()


def is_worth_retrying(error: ServingError) -> bool:
    """A folder may still be incomplete; what this server cannot run, it will not learn."""
    return error.code not in ("FAILED_PRECONDITION", "UNIMPLEMENTED", "INVALID_ARGUMENT")
