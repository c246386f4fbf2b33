"""Keeps a local copy of what stores hold: looks at them in a thread, and fetches a version when it is to be loaded.

A store that does not answer takes nothing away: what it held at the last look stays, and so do the versions in the
cache. The next start begins with them if the store is still away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladle.serving.errors import DataLoss, NotFound, ServingError
from ladle.serving.stores import catalog
from ladle.serving.stores.cache import Cache
from ladle.serving.stores.catalog import INDEX, Catalog, StoredVersion
from ladle.serving.stores.fetch import fetch
from ladle.serving.stores.location import Location
from ladle.serving.stores.objects import Objects

log = logging.getLogger(__name__)

_LOOKS_AT_ONCE = 8
_LONGEST_WAIT_S = 60.0
_LONGEST_WAIT_FOR_OTHER_FILES_S = 600.0  # what is damaged in the store is fetched again seldom: it may be large
_LASTING = ("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION")


class Notice(ServingError):  # noqa: N818
    """What a status says of a version that answers as before. gRPC OK, HTTP 200."""

    code = "OK"


@dataclass
class _Place:
    """A repository or a base path in a store, and what it held at the last look.

    seen      at the last look
    settled   of that, the versions that nobody is uploading any more; None: the store has never answered
    fault     why the last look failed
    notice    the same for the status of versions that answer
    tag       ETag of the index
    failures  looks that failed in a row
    next_look time.monotonic()
    """

    location: Location
    is_repository: bool
    objects: Objects
    seen: Catalog = field(default_factory=Catalog)
    settled: Catalog | None = None
    fault: ServingError | None = None
    notice: Notice | None = None
    tag: str = ""
    failures: int = 0
    next_look: float = 0.0


def look(location: Location) -> Catalog:
    """What a repository in a store holds now; ServingError when it does not answer."""
    found = _read(_Place(location, True, Objects(location)))
    assert found is not None
    return found


def _read(place: _Place) -> Catalog | None:
    """What the place holds; None when it is what it held before."""
    if not place.location.is_http:
        return catalog.from_listing(place.objects.list(), place.is_repository)
    try:
        answer = place.objects.read(INDEX, place.tag)
    except NotFound:
        raise NotFound(
            f"{place.objects.location}/{INDEX}: not found; a web server needs this list of its models: "
            "`ladle config --index` writes it"
        ) from None
    if answer is None:
        return None
    content, place.tag = answer
    return catalog.from_index(content, None if place.is_repository else place.location.name)


@dataclass
class _Failure:
    """Fetches of a version that failed in a row, and when to try again, in time.monotonic() seconds."""

    count: int
    again_at: float
    fingerprint: str


class Mirror:
    """The stores of a server, and the cache.

    cache_dir   folder of the cache; made and locked when the first store is opened
    max_bytes   of the cache; below 0: nine tenths of what is free
    poll_s      seconds between looks; 0: none after the first
    connect     makes the objects of a location
    """

    def __init__(
        self,
        cache_dir: Path,
        max_bytes: int = -1,
        poll_s: float = 10.0,
        connect: Callable[[Location], Objects] = Objects,
    ) -> None:
        self._cache_dir = cache_dir
        self._max_bytes = max_bytes
        self._poll_s = poll_s
        self._connect = connect
        self._cache: Cache | None = None
        self._places: dict[tuple[Location, bool], _Place] = {}
        self._versions: dict[Path, tuple[_Place, StoredVersion]] = {}
        self._fetched: dict[Path, str] = {}  # fingerprints
        self._failed: dict[Path, _Failure] = {}
        self._fetched_bytes = 0
        self._failed_fetches = 0
        self._is_running = False
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards the counters and _versions
        self.in_use: Callable[[], set[Path]] = set

    # Called by repositories

    def open(self, location: Location, is_repository: bool) -> None:
        """Look at a place for the first time. ServingError when it can never answer as things are.

        A store that is merely away, or was there at an earlier start, is no error: it is looked at again.
        """
        if (location, is_repository) in self._places:
            return
        place = _Place(location, is_repository, self._connect(self._index_location(location, is_repository)))
        if self._cache is None:
            self._cache = Cache(self._cache_dir, self._max_bytes, lambda: self.in_use())
        self._look(place)
        if place.settled is None:
            assert place.fault is not None
            remembered = self._cache.load_catalog(location)
            if remembered is None and place.fault.code in _LASTING:
                raise place.fault
            if remembered is not None:
                log.warning("%s: serving what is in the cache", location)
                self._settle(place, remembered)
        self._places[location, is_repository] = place
        if not self._is_running and self._poll_s > 0:
            self._is_running = True
            threading.Thread(target=self._run, name="stores", daemon=True).start()

    def keep_only(self, locations: Iterable[tuple[Location, bool]]) -> None:
        """Look at no other places any more."""
        for gone in set(self._places) - set(locations):
            del self._places[gone]

    def find(self, location: Location, is_repository: bool) -> dict[str, dict[int, Path]] | None:
        """The folders of the versions by model and number, fetched or not; None while the store has never answered."""
        place = self._places[location, is_repository]
        if place.settled is None:
            return None
        return {
            model: {number: self._folder(place, version) for number, version in sorted(versions.items())}
            for model, versions in place.settled.models.items()
        }

    def fault(self, location: Location, is_repository: bool) -> str:
        """Why the last look failed; "" if it did not."""
        fault = self._places[location, is_repository].fault
        return "" if fault is None else fault.message

    def stop(self) -> None:
        """End the thread, and let another server have the cache."""
        self._stop.set()
        if self._cache is not None:
            self._cache.close()

    # Called by the manager

    def prepare(self, folder: Path) -> None:
        """Fetch the version that belongs into this folder, if it is one of a store. ServingError says why it failed."""
        found = self._versions.get(folder)
        if found is None:
            return
        place, version = found
        assert self._cache is not None
        fingerprint = version.fingerprint
        if not self._cache.has(folder, fingerprint):
            began = time.monotonic()
            try:
                with self._cache.filling(folder, version.size, fingerprint) as part:
                    fetch(place.objects, version, self._path(place, version), part, self._count)
            except OSError as error:
                raise self._note_failure(
                    folder, fingerprint, DataLoss(f"the cache cannot hold it: {error.strerror}")
                ) from None
            except ServingError as error:
                raise self._note_failure(folder, fingerprint, error) from None
            log.info("fetched %s/%s in %.1f s", place.location, version.path, time.monotonic() - began)
        self._failed.pop(folder, None)
        self._fetched[folder] = fingerprint
        self._cache.used(folder)

    def has_failed(self, folder: Path) -> bool:
        """Whether the last attempt to fetch this version failed."""
        return folder in self._failed

    def is_due(self, folder: Path) -> bool:
        """Whether a version that could not be fetched or loaded is to be fetched again."""
        found = self._versions.get(folder)
        if found is None:
            return False
        failed = self._failed.get(folder)
        if failed is not None:
            return time.monotonic() >= failed.again_at or failed.fingerprint != found[1].fingerprint
        return folder in self._fetched and self._fetched[folder] != found[1].fingerprint

    def notice(self, folder: Path) -> ServingError | None:
        """What the status of an available version says beside its state."""
        found = self._versions.get(folder)
        return None if found is None else found[0].notice

    def snapshot(self) -> dict[str, list[Any]]:
        """The metrics of the stores, as `telemetry.metrics.Snapshot` has them; empty without a store."""
        if self._cache is None:
            return {}
        places = list(self._places.values())
        return {
            "own_store_up": [[[str(place.location)], 0 if place.fault else 1] for place in places],
            "own_store_fetched": [[[], self._fetched_bytes]],
            "own_store_failures": [[[], self._failed_fetches]],
            "own_cache_bytes": [[[], self._cache.size()]],
            "own_cache_limit": [[[], self._cache.limit]],
        }

    # In its own threads

    def _run(self) -> None:
        with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="look") as pool:
            while not self._stop.wait(min(1.0, self._poll_s)):
                due = [place for place in list(self._places.values()) if time.monotonic() >= place.next_look]
                list(pool.map(self._look, due))

    def _look(self, place: _Place) -> None:
        try:
            found = _read(place)
            # In a store, a folder without files does not exist: this may be another bucket under the old name.
            if found is not None and not found.models and place.settled is not None and place.settled.models:
                raise NotFound(f"{place.location}: the store holds no version any more; the models stay as they are")
        except Exception as error:
            if not isinstance(error, ServingError):
                log.exception("%s", place.location)
            self._lost(place, error if isinstance(error, ServingError) else DataLoss("the server's log says more"))
            return
        if place.fault is not None and place.settled is not None:
            log.info("%s answers again", place.location)
        place.fault = place.notice = None
        place.failures = 0
        place.next_look = time.monotonic() + self._poll_s
        if found is None:  # nothing is new
            return
        # Without a later look, all that is there counts.
        before = place.seen if self._poll_s > 0 else found
        place.seen = found
        settled = found.settled(before, place.settled or Catalog())
        if settled != place.settled:
            assert self._cache is not None
            # Noted first: whatever a server before a crash has served, the next one finds in the list.
            self._cache.keep_catalog(place.location, settled)
            self._settle(place, settled)

    def _lost(self, place: _Place, error: ServingError) -> None:
        place.failures += 1
        wait_s = min(max(1.0, self._poll_s) * 2 ** min(place.failures - 1, 10), _LONGEST_WAIT_S)
        place.next_look = time.monotonic() + wait_s
        if place.fault is None or place.fault.message != error.message:
            log.warning("%s; what is loaded stays, the store is asked again", error.message)
            when = time.strftime("%H:%M:%S", time.gmtime())
            place.notice = Notice(f"the store has not answered since {when} UTC; this version stays: {error.message}")
            place.fault = error

    def _settle(self, place: _Place, settled: Catalog) -> None:
        place.settled = settled
        with self._lock:
            versions = {folder: entry for folder, entry in self._versions.items() if entry[0] is not place}
            for model in settled.models.values():
                versions.update({self._folder(place, version): (place, version) for version in model.values()})
            self._versions = versions

    def _folder(self, place: _Place, version: StoredVersion) -> Path:
        assert self._cache is not None
        return self._cache.folder_of(place.location, version.path)

    def _path(self, place: _Place, version: StoredVersion) -> str:
        """The version's folder among the objects that are read."""
        is_below = place.location.is_http and not place.is_repository
        return f"{place.location.name}/{version.path}" if is_below else version.path

    def _index_location(self, location: Location, is_repository: bool) -> Location:
        """The place whose objects are read: a web server's index lies beside the models."""
        return location.parent if location.is_http and not is_repository else location

    def _note_failure(self, folder: Path, fingerprint: str, error: ServingError) -> ServingError:
        before = self._failed.get(folder)
        count = before.count + 1 if before is not None and before.fingerprint == fingerprint else 1
        longest = _LONGEST_WAIT_FOR_OTHER_FILES_S if isinstance(error, DataLoss) else _LONGEST_WAIT_S
        self._failed[folder] = _Failure(count, time.monotonic() + min(2.0 ** (count - 1), longest), fingerprint)
        with self._lock:
            self._failed_fetches += 1
        return error

    def _count(self, size: int) -> None:
        with self._lock:
            self._fetched_bytes += size
