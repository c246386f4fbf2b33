"""Loads and unloads versions so that a model stays available: the new one first, then the old one goes.

Loading runs in threads of the manager's own. What is served is one immutable snapshot, replaced as a whole, so
requests find their version without a lock.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from ladle.serving.errors import Cancelled, Internal, ServingError
from ladle.serving.repository.folders import stamp
from ladle.serving.repository.versions import Failure, L, Serving, State
from ladle.serving.runtime.cores import step_back
from ladle.serving.runtime.memory import give_back_soon

log = logging.getLogger(__name__)


Load = Callable[[str, int, Path], L]


@dataclass
class Version(Generic[L]):
    """A version that the manager knows of.

    error  why its last attempt to load failed        stamp  its files before that attempt
    """

    model: str
    number: int
    folder: Path
    state: State = State.START
    wanted: bool = True
    error: ServingError | None = None
    attempts: int = 0
    stamp: object = None
    servable: L | None = None


class Manager(Generic[L]):
    """The versions of all models and their states.

    load              makes a servable of (model, version, folder), or raises ServingError
    retries           further attempts after a failed load
    retry_interval_s  pause between them
    threads           how many versions load at once
    retry_changed     tries a version that failed again once its files have changed
    unload_first      lets go of old versions before it loads new ones, for models of which two have no room
    show              called after each change of versions or states, in the order of the changes
    """

    def __init__(
        self,
        load: Load[L],
        retries: int = 0,
        retry_interval_s: float = 60.0,
        threads: int = 2,
        retry_changed: bool = False,
        unload_first: bool = False,
        show: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._retries = retries
        self._retry_interval_s = retry_interval_s
        self._retry_changed = retry_changed
        self._unload_first = unload_first
        self._show = show
        self._versions: dict[str, dict[int, Version[L]]] = {}
        self._serving: Serving[L] = Serving({})
        self._changed = threading.Condition()  # guards everything above
        self._jobs: queue.SimpleQueue[Version[L]] = queue.SimpleQueue()
        for i in range(threads):
            threading.Thread(target=self._work, name=f"load-{i}", daemon=True).start()

    # Reading

    def find(self, model: str, version: int | None = None) -> L:
        """The servable of a version, or of the highest that is available; NotFound in upstream's words."""
        return self._serving.find(model, version)

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
        """The available versions by model."""
        return self._serving.numbers()

    def serving(self) -> Serving[L]:
        """What requests can reach now."""
        return self._serving

    def is_available(self, model: str) -> bool:
        return model in self._serving.latest

    def is_settled(self, model: str) -> bool:
        """Whether a wanted version is available or has failed, or none is wanted."""
        with self._changed:
            return self._settled(model)

    def failure(self, model: str) -> Failure | None:
        """Why the model is not there: the highest wanted version that was decided on, if it failed to load."""
        with self._changed:
            decided = self._decided(model)
            if decided is None or decided.error is None or decided.state is not State.END:
                return None
            return Failure(model, decided.number, decided.error)

    def _settled(self, model: str) -> bool:
        wanted = any(v.wanted for v in self._versions.get(model, {}).values())
        return not wanted or self._decided(model) is not None

    def _decided(self, model: str) -> Version[L] | None:
        known = self._versions.get(model, {}).values()
        decided = [v for v in known if v.wanted and v.state in (State.AVAILABLE, State.END)]
        return max(decided, key=lambda v: v.number, default=None)

    # Changing

    def set_wanted(self, wanted: Mapping[str, Mapping[int, Path]]) -> None:
        """Loads what is wanted and not there, and lets go of what is there and not wanted."""
        changed = self._changed_since() if self._retry_changed else []
        with self._changed:
            for model in {*wanted, *self._versions}:
                self._want(model, wanted.get(model, {}), changed)
                self._step(model)
            self._tell()

    def _tell(self) -> None:
        self._show()
        self._changed.notify_all()

    def _changed_since(self) -> list[Version[L]]:
        """The versions that failed and whose files are others now; looks at the disk, so without the lock."""
        with self._changed:
            ended = [v for known in self._versions.values() for v in known.values() if v.state is State.END]
        return [version for version in ended if version.wanted and stamp(version.folder) != version.stamp]

    def _want(self, model: str, folders: Mapping[int, Path], changed: list[Version[L]]) -> None:
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
            ended = version_known is not None and version_known.state is State.END
            is_changed = any(version is version_known for version in changed)
            if version_known is None or (ended and (is_changed or not version_known.wanted)):
                known[number] = Version(model, number, folder)
            else:
                if not version_known.wanted:
                    version_known.folder = folder
                version_known.wanted = True

    def _step(self, model: str) -> None:
        """Unloads what is superseded and loads what is wanted, as the transition policy has it."""
        known = self._versions.get(model, {})
        ready = sorted((v for v in known.values() if v.state is State.AVAILABLE), key=lambda v: v.number)
        unwanted = [v for v in ready if not v.wanted]
        replaced = any(v.wanted for v in ready) or not any(v.wanted for v in known.values())
        for version in unwanted if replaced or self._unload_first else unwanted[:-1]:
            self._unload(version)
        if self._unload_first and any(v.state is State.UNLOADING for v in known.values()):
            return
        for version in sorted(known.values(), key=lambda v: v.number, reverse=True):
            if version.state is State.START and version.wanted:
                version.state = State.LOADING
                self._jobs.put(version)

    def _unload(self, version: Version[L]) -> None:
        servable = version.servable
        if servable is None:  # unloading the one before has already come to this one
            return
        version.state = State.UNLOADING
        self._tell()
        version.servable = None
        self._publish(version.model, version.number, None)
        self._tell()
        servable.retire(lambda: self._unloaded(version))

    def _unloaded(self, version: Version[L]) -> None:
        with self._changed:
            if version.state is not State.UNLOADING:
                return
            version.state = State.END
            log.info("%s version %d: unloaded", version.model, version.number)
            give_back_soon()
            if version.wanted:  # again, since it began to leave
                self._versions[version.model][version.number] = Version(version.model, version.number, version.folder)
            self._step(version.model)
            self._tell()

    def _publish(self, model: str, number: int, servable: L | None) -> None:
        versions = {name: dict(known) for name, known in self._serving.versions.items()}
        if servable is None:
            versions[model].pop(number)
        else:
            versions.setdefault(model, {})[number] = servable
        self._serving = Serving(versions)

    # Threads of the manager

    def _work(self) -> None:
        step_back()
        while True:
            self._attempt(self._jobs.get())

    def _attempt(self, version: Version[L]) -> None:
        if version.state is not State.LOADING:
            return
        version.attempts += 1
        version.stamp = stamp(version.folder)
        try:
            servable = self._load(version.model, version.number, version.folder)
        except ServingError as error:
            self._failed(version, error)
        except Exception:
            log.exception("%s version %d", version.model, version.number)
            self._failed(version, Internal("the version could not be loaded; the server's log says why"))
        else:
            self._loaded(version, servable)

    def _loaded(self, version: Version[L], servable: L) -> None:
        with self._changed:
            if version.state is not State.LOADING:  # cancelled meanwhile
                servable.retire(lambda: None)
                return
            version.servable = servable
            self._publish(version.model, version.number, servable)
            self._show()
            version.state = State.AVAILABLE
            version.error = None
            self._show()
            self._step(version.model)
            self._tell()

    def _failed(self, version: Version[L], error: ServingError) -> None:
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
                self._tell()
                return
            log.error("%s: not loaded: %s", name, error)
            version.state = State.END
            self._step(version.model)
            self._tell()


def is_worth_retrying(error: ServingError) -> bool:
    """A folder may still be incomplete; what this server cannot run, it will not learn."""
    return error.code not in ("FAILED_PRECONDITION", "UNIMPLEMENTED", "INVALID_ARGUMENT", "PERMISSION_DENIED")
