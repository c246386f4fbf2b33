"""Versions on their way into memory: what the manager knows of each, the files it needs, and the threads that load."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol

from ladle.serving.errors import MissingOperation, ServingError
from ladle.serving.repository.versions import L, State
from ladle.serving.runtime.cores import lower_priority


class Files(Protocol):
    """Brings the files of versions to this machine."""

    def prepare(self, folder: Path) -> None:
        """Fetch a version into its folder, unless it is there. ServingError says why that failed."""

    def has_failed(self, folder: Path) -> bool:
        """Whether the last attempt to fetch it failed. It is tried again when `is_due`, at any number of retries."""

    def is_due(self, folder: Path) -> bool:
        """Whether a version that could not be fetched or loaded is to be tried again."""

    def notice(self, folder: Path) -> ServingError | None:
        """What the status of an available version says beside its state."""


class LocalFiles:
    """The files are here already."""

    def prepare(self, folder: Path) -> None:
        pass

    def has_failed(self, folder: Path) -> bool:
        return False

    def is_due(self, folder: Path) -> bool:
        return False

    def notice(self, folder: Path) -> ServingError | None:
        return None


@dataclass
class Version(Generic[L]):
    """A version that the manager has seen.

    is_aspired  whether the repository and the policy still ask for it
    error       why its last attempt to load failed
    stamp       its files before that attempt
    began       when that attempt began; time.monotonic()
    seen        its files at the last poll, if they differed from `stamp`
    reloads     whether it is loaded again while it serves
    logged      the error that the log has; the same one is not logged again
    size        estimated bytes in memory, if it is loaded on demand
    """

    model: str
    number: int
    folder: Path
    state: State = State.START
    is_aspired: bool = True
    error: ServingError | None = None
    attempts: int = 0
    stamp: object = None
    began: float = 0.0
    seen: object = None
    reloads: bool = False
    logged: str = ""
    servable: L | None = None
    size: int = 0


class LoadThreads(Generic[L]):
    """Threads that load versions, in the order in which they are put.

    attempt  loads a version, or notes why that failed
    """

    def __init__(self, attempt: Callable[[Version[L]], None], threads: int) -> None:
        self._attempt = attempt
        self._jobs: queue.SimpleQueue[Version[L]] = queue.SimpleQueue()
        self._under_way: list[Version[L]] = []  # one for each thread that loads
        self._lock = threading.Lock()
        for i in range(threads):
            threading.Thread(target=self._run, name=f"load-{i}", daemon=True).start()

    def put(self, version: Version[L]) -> None:
        self._jobs.put(version)

    def put_later(self, version: Version[L], seconds: float) -> None:
        retry = threading.Timer(max(0.0, seconds), self._jobs.put, [version])
        retry.daemon = True
        retry.start()

    def loading(self) -> list[tuple[str, float]]:
        """Name, and seconds since its attempt began, of each version that a thread loads now."""
        now = time.monotonic()
        with self._lock:
            attempts = [version for version in self._under_way if version.state is State.LOADING]
            return [(f"{v.model} version {v.number}", now - v.began) for v in attempts]

    def _run(self) -> None:
        lower_priority()
        while True:
            version = self._jobs.get()
            with self._lock:
                version.began = time.monotonic()
                self._under_way.append(version)
            self._attempt(version)
            with self._lock:
                self._under_way.remove(version)


def is_worth_retrying(error: ServingError) -> bool:
    """Whether another attempt may succeed: files may still arrive, but what the server lacks stays lacking."""
    lasting = ("FAILED_PRECONDITION", "UNIMPLEMENTED", "INVALID_ARGUMENT", "PERMISSION_DENIED")
    return error.code not in lasting and not isinstance(error, MissingOperation)
