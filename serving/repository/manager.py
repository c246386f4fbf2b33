"""Loads and unloads versions so that a model stays available: the new version loads first, then the old one goes.

The manager loads in threads of its own. What requests can reach is one immutable `ServingMap`, replaced as a whole, so
a request finds its version without a lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic

from ladle.serving.errors import Cancelled, Internal, ResourceExhausted, ServingError
from ladle.serving.repository.demand import Demand, estimate
from ladle.serving.repository.folders import stamp
from ladle.serving.repository.loading import Files, LoadThreads, LocalFiles, Version, is_worth_retrying
from ladle.serving.repository.versions import Failure, L, ServingMap, State
from ladle.serving.runtime.memory import trim_memory_soon

log = logging.getLogger(__name__)

Load = Callable[[str, int, Path], L]
"""(model, version, folder) -> servable, or ServingError."""


class Manager(Generic[L]):
    """The versions of all models and their states.

    load              makes a servable of (model, version, folder), or raises ServingError
    retries           further attempts after a failed load
    retry_interval_s  seconds between attempts
    threads           versions that load at once
    retry_changed     load a version again once its files have changed, if it failed or a graph may have arrived
    unload_first      unload old versions before loading new ones, for models that do not fit into memory twice
    show              called after each change of the serving map or of a state, in the order of the changes
    files             brings the files of versions here
    demand            the budget of models that are loaded on demand; None: all are loaded
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
        files: Files | None = None,
        demand: Demand | None = None,
    ) -> None:
        self._demand = demand
        self._load = load
        self._files: Files = files or LocalFiles()
        self._retries = retries
        self._retry_interval_s = retry_interval_s
        self._retry_changed = retry_changed
        self._unload_first = unload_first
        self._show = show
        self._versions: dict[str, dict[int, Version[L]]] = {}
        self.serving_map: ServingMap[L] = ServingMap({})
        self._changed = threading.Condition()  # guards everything above
        if demand is not None:
            demand.watch(self._changed)
        self._threads = LoadThreads(self._attempt, threads)

    # Reading

    def status(self, model: str) -> list[tuple[int, State, ServingError | None]]:
        """Number, state and error of every version seen so far, highest first; empty for an unknown model."""
        with self._changed:
            versions = self._versions.get(model, {})
            return [
                (v.number, v.state, self._files.notice(v.folder) if v.state is State.AVAILABLE else v.error)
                for _, v in sorted(versions.items(), reverse=True)
            ]

    def folders(self) -> set[Path]:
        """The folders of the versions that are loaded, or about to be."""
        at_rest = (State.START, State.END)
        with self._changed:
            versions = [version for numbers in self._versions.values() for version in numbers.values()]
            return {version.folder for version in versions if version.state not in at_rest}

    def models(self) -> list[str]:
        """Every model seen so far."""
        with self._changed:
            return sorted(self._versions)

    def available(self) -> dict[str, list[int]]:
        """The available versions of each model."""
        return self.serving_map.numbers()

    def loading(self) -> list[tuple[str, float]]:
        """Name, and seconds since its attempt began, of each version that a thread loads now."""
        return self._threads.loading()

    def is_available(self, model: str) -> bool:
        return model in self.serving_map.latest

    def is_loadable(self, model: str) -> bool:
        """Whether the model is loaded on demand, and a version of it is not in memory that could be."""
        if self._demand is None:
            return False
        with self._changed:
            at_work = (State.START, State.LOADING, State.UNLOADING)
            return any(v.is_aspired and v.state in at_work for v in self._versions.get(model, {}).values())

    def loadable(self) -> frozenset[str]:
        """The models for which `is_loadable` holds."""
        return frozenset(filter(self.is_loadable, self.models())) if self._demand is not None else frozenset()

    def want(self, model: str) -> None:
        """Begin to load a model that is loaded on demand. Returns at once."""
        with self._changed:
            if self._demand is None or model not in self._versions:
                return
            self._demand.want(model)
            self._transition(model)
            self._notify()

    def _rests(self, model: str) -> bool:
        """Whether the model is loaded on demand, and nobody has asked for it."""
        return self._demand is not None and model not in self._demand.wanted

    def is_settled(self, model: str) -> bool:
        """Whether an aspired version is available or has failed, or the model has no aspired version."""
        with self._changed:
            has_aspired = any(v.is_aspired for v in self._versions.get(model, {}).values())
            return not has_aspired or self._rests(model) or self._highest_settled(model) is not None

    def failure(self, model: str) -> Failure | None:
        """The failure of the highest aspired version that has loaded or failed; None if it loaded."""
        with self._changed:
            settled = self._highest_settled(model)
            if settled is None or settled.error is None or settled.state is not State.END:
                return None
            return Failure(model, settled.number, settled.error)

    def _highest_settled(self, model: str) -> Version[L] | None:
        versions = self._versions.get(model, {}).values()
        settled = [v for v in versions if v.is_aspired and v.state in (State.AVAILABLE, State.END)]
        return max(settled, key=lambda v: v.number, default=None)

    # Changing

    def set_aspired_versions(self, aspired: Mapping[str, Mapping[int, Path]]) -> None:
        """Load the aspired versions that are missing and unload those that are no longer aspired.

        aspired  folders by model and version
        """
        changed = self._failed_and_changed() if self._retry_changed else []
        self._reload(self._graphs_arrived() if self._retry_changed else [])
        with self._changed:
            for model in {*aspired, *self._versions}:
                self._aspire(model, aspired.get(model, {}), changed)
                self._transition(model)
            self._notify()

    def retry(self, model: str) -> None:
        """Load the wanted versions of a model that have failed or, on demand, are not in memory."""
        with self._changed:
            versions = self._versions.get(model, {})
            for number, version in versions.items():
                if version.is_aspired and version.state is State.END:
                    versions[number] = Version(model, number, version.folder, logged=version.logged)
            if self._demand is not None:
                self._demand.want(model)
            self._transition(model)
            self._notify()

    def show(self) -> None:
        """Shows the present state to those who serve: something beside the versions has changed."""
        with self._changed:
            self._show()

    def _notify(self) -> None:
        self._show()
        self._changed.notify_all()

    def _failed_and_changed(self) -> list[Version[L]]:
        """Failed versions whose files have changed since."""
        with self._changed:
            ended = [v for versions in self._versions.values() for v in versions.values() if v.state is State.END]
        # The disk may be slow, and requests for status need the lock: stamps are taken without it.
        return [version for version in ended if version.is_aspired and self._has_changed(version)]

    def _has_changed(self, version: Version[L]) -> bool:
        if self._files.is_due(version.folder):
            return True
        return not self._files.has_failed(version.folder) and stamp(version.folder) != version.stamp

    def _graphs_arrived(self) -> list[Version[L]]:
        """Versions that serve without a graph, whose files have changed since and stood still between two polls."""
        with self._changed:
            found = [v for versions in self._versions.values() for v in versions.values() if v.state is State.AVAILABLE]
            found = [v for v in found if v.is_aspired and not v.reloads and v.servable and v.servable.takes_graph]
        arrived = []
        for version in found:
            if not (version.folder / "assets.extra" / "card.json").exists():  # nothing names a graph yet
                continue
            now = stamp(version.folder)
            if now == version.stamp:
                continue
            if now == version.seen:
                arrived.append(version)
            version.seen = now
        return arrived

    def _reload(self, arrived: list[Version[L]]) -> None:
        with self._changed:
            for version in arrived:
                if version.state is not State.AVAILABLE:
                    continue
                log.info("%s version %d: its files changed; it is loaded again", version.model, version.number)
                if self._unload_first:  # it does not fit into memory twice; `_unloaded` loads it again
                    self._unload(version)
                else:
                    version.reloads = True
                    self._threads.put(version)

    def _aspire(self, model: str, folders: Mapping[int, Path], changed: list[Version[L]]) -> None:
        if not folders and model not in self._versions:
            return
        versions = self._versions.setdefault(model, {})
        for number, version in versions.items():
            if number not in folders and version.is_aspired:
                version.is_aspired = False
                if version.state in (State.START, State.LOADING):
                    version.state = State.END
                    version.error = Cancelled("Loading of servable cancelled")
        for number, folder in folders.items():
            seen = versions.get(number)
            has_ended = seen is not None and seen.state is State.END
            is_changed = any(version is seen for version in changed)
            if seen is None or (has_ended and (is_changed or not seen.is_aspired)):
                logged = seen.logged if seen is not None else ""
                versions[number] = Version(model, number, folder, logged=logged)
            else:
                if not seen.is_aspired:
                    seen.folder = folder
                seen.is_aspired = True

    def _transition(self, model: str) -> None:
        """Unload what has been replaced and queue what is to load, by the transition policy."""
        versions = self._versions.get(model, {})
        available = sorted((v for v in versions.values() if v.state is State.AVAILABLE), key=lambda v: v.number)
        stale = [v for v in available if not v.is_aspired]
        has_replacement = any(v.is_aspired for v in available) or not any(v.is_aspired for v in versions.values())
        # Without a replacement the newest stale version goes on answering, so that the model stays available.
        for version in stale if has_replacement or self._unload_first else stale[:-1]:
            self._unload(version)
        if self._unload_first and any(v.state is State.UNLOADING for v in versions.values()):
            return
        if self._rests(model):
            return
        for version in sorted(versions.values(), key=lambda v: v.number, reverse=True):
            if version.state is State.START and version.is_aspired:
                version.state = State.LOADING
                self._threads.put(version)

    def _unload(self, version: Version[L]) -> None:
        servable = version.servable
        if servable is None:  # retiring the one before ended at once and came here first, through _unloaded
            return
        # Clients that watch the status see UNLOADING before the version is gone, and shows follow in that order.
        version.state = State.UNLOADING
        self._notify()
        version.servable = None
        self._publish(version.model, version.number, None)
        self._notify()
        servable.retire(lambda: self._unloaded(version))

    def _unloaded(self, version: Version[L]) -> None:
        with self._changed:
            if version.state is not State.UNLOADING:
                return
            version.state = State.END
            log.info("%s version %d: unloaded", version.model, version.number)
            trim_memory_soon()
            if version.is_aspired:  # it became aspired again while its last requests ran
                self._versions[version.model][version.number] = Version(version.model, version.number, version.folder)
            self._transition(version.model)
            self._notify()

    def _publish(self, model: str, number: int, servable: L | None) -> None:
        """Add a version to the serving map; remove it without a servable."""
        versions = {name: dict(numbers) for name, numbers in self.serving_map.versions.items()}
        if servable is None:
            versions[model].pop(number)
        else:
            versions.setdefault(model, {})[number] = servable
        self.serving_map = ServingMap(versions)

    # In the loading threads

    def _attempt(self, version: Version[L]) -> None:
        if version.reloads:
            self._attempt_again(version)
            return
        if version.state is not State.LOADING:
            return
        version.attempts += 1
        try:
            self._files.prepare(version.folder)
            version.stamp = stamp(version.folder)  # before the load: a file that changes during it counts as changed
            if self._demand is not None:
                self._make_room(version, self._demand)
            servable = self._load(version.model, version.number, version.folder)
        except ServingError as error:
            self._failed(version, error)
        except Exception:
            log.exception("%s version %d", version.model, version.number)
            self._failed(version, Internal("the version could not be loaded; the server's log says why"))
        else:
            self._loaded(version, servable)

    def _attempt_again(self, version: Version[L]) -> None:
        """Load a version that serves; the new load takes the place of the old one, which stays if it fails."""
        version.stamp = stamp(version.folder)
        servable = None
        try:
            servable = self._load(version.model, version.number, version.folder)
        except Exception as error:
            log.warning("%s version %d: serves as before; not loaded again: %s", version.model, version.number, error)
        with self._changed:
            version.reloads = False
            self._changed.notify_all()
            if servable is None:
                return
            if version.state is not State.AVAILABLE:  # withdrawn during the load
                servable.retire(lambda: None)
                return
            before, version.servable = version.servable, servable
            self._publish(version.model, version.number, servable)
            self._notify()
            if before is not None:
                before.retire(trim_memory_soon)

    def _loaded(self, version: Version[L], servable: L) -> None:
        with self._changed:
            if version.state is not State.LOADING:  # cancelled during the load
                servable.retire(lambda: None)
                return
            # A client that sees AVAILABLE must get an answer: the version is reachable before its status says so.
            version.servable = servable
            self._publish(version.model, version.number, servable)
            self._show()
            version.state = State.AVAILABLE
            version.error = None
            self._show()
            self._transition(version.model)
            self._notify()

    def _make_room(self, version: Version[L], demand: Demand) -> None:
        """Unload the models that were used longest ago until this version fits. ResourceExhausted: it never will."""
        size = estimate(version.folder)
        if size > demand.limit:
            raise ResourceExhausted(
                f"the version takes about {size} bytes in memory and --max_resident_bytes allows {demand.limit}"
            )
        with self._changed:
            version.size = size
            sizes: dict[str, int] = {}
            for versions in self._versions.values():
                for other in versions.values():
                    if other.state in (State.AVAILABLE, State.LOADING) and other.size:
                        sizes[other.model] = sizes.get(other.model, 0) + other.size
            for model in demand.leaving(sizes, version.model):
                available = [other for other in self._versions[model].values() if other.state is State.AVAILABLE]
                if available:
                    log.info("%s leaves the memory to %s", model, version.model)
                    demand.wanted.pop(model, None)
                for other in available:
                    self._unload(other)

    def _failed(self, version: Version[L], error: ServingError) -> None:
        name = f"{version.model} version {version.number}"
        with self._changed:
            if version.state is not State.LOADING:
                return
            version.error = error
            is_here = not self._files.has_failed(version.folder)
            if is_here and version.attempts <= self._retries and is_worth_retrying(error):
                log.warning("%s: not loaded, next attempt in %g s: %s", name, self._retry_interval_s, error)
                self._threads.put_later(version, self._retry_interval_s)
                self._notify()
                return
            if is_here or str(error) != version.logged:
                log.error("%s: not loaded: %s%s", name, error, "" if is_here else "; it is tried again")
            version.logged = str(error)
            version.state = State.END
            self._transition(version.model)
            self._notify()
