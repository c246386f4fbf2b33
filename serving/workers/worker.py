"""A worker: a process that serves what its supervisor tells it to, on ports that all workers share.

The supervisor says which versions to load, which of them requests may reach, and what their states are; so all
workers show one view.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladle.serving.errors import Unavailable
from ladle.serving.repository.versions import Failure, ServingMap, Status, View
from ladle.serving.runtime.memory import trim_memory_soon
from ladle.serving.servables.servable import Servable
from ladle.serving.workers.channel import Channel, ChannelClosed

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Follower:
    """Versions and configuration as the supervisor says: what the manager and the watcher are to a single process.

    waits_for_models  whether a reload waits for models without versions
    """

    def __init__(self, connection: Connection, waits_for_models: bool = False) -> None:
        self.waits_for_models = waits_for_models
        self._view = View()
        self._serving_map: ServingMap[Servable] = ServingMap({})
        self._loads: dict[int, Servable] = {}
        self._load: Callable[[str, int, Path], Servable] | None = None
        self._snapshot: Callable[[], Any] = dict
        self._opening = threading.Event()
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._end: Callable[[], None] = lambda: None
        slow: dict[str, Callable[..., Any]] = {"load": self._load_version, "retire": self._retire, "open": self._open}
        quick: dict[str, Callable[..., Any]] = {
            "ping": lambda: None,
            "show": self._show,
            "snapshot": lambda: self._snapshot(),
        }
        self._channel = Channel(connection, slow, quick, lambda: self._end())

    def start(
        self, load: Callable[[str, int, Path], Servable], snapshot: Callable[[], Any], end: Callable[[], None]
    ) -> None:
        """Obeys the supervisor from now on; `end` is called when that has ended."""
        self._load, self._snapshot, self._end = load, snapshot, end
        self._channel.start()

    # What the supervisor calls

    def _load_version(self, load: int, model: str, number: int, folder: str) -> None:
        assert self._load is not None
        self._loads[load] = self._load(model, number, Path(folder))

    def _show(self, view: View) -> None:
        self._serving_map = ServingMap(
            {
                model: {number: self._loads[load] for number, load in numbers.items()}
                for model, numbers in view.serving.items()
            }
        )
        self._view = view

    def _retire(self, load: int) -> None:
        """Returns when no request runs on the version any more."""
        servable = self._loads.pop(load, None)
        if servable is not None:
            idle = threading.Event()
            servable.retire(idle.set)
            idle.wait()
            trim_memory_soon()

    def _open(self) -> None:
        self._opening.set()
        self._opened.result()

    # What the server calls

    def is_told_to_open(self) -> bool:
        return self._opening.is_set()

    def say_open(self) -> None:
        """Tells the supervisor that the ports are open."""
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self._opened.set_result(None)

    async def scrape(self) -> list[Any]:
        """The metrics of all workers."""
        found: list[Any] = await asyncio.wrap_future(self._channel.begin("scrape"))
        return found

    # Versions

    def find(self, model: str, version: int | None = None) -> Servable:
        return self._serving_map.find(model, version)

    def status(self, model: str) -> list[Status]:
        return list(self._view.statuses.get(model, ()))

    def models(self) -> list[str]:
        return sorted(self._view.statuses)

    def available(self) -> dict[str, list[int]]:
        return self._serving_map.numbers()

    def is_settled(self, model: str) -> bool:
        return model in self._view.settled

    def is_available(self, model: str) -> bool:
        return model in self._serving_map.latest

    def failure(self, model: str) -> Failure | None:
        return self._view.failures.get(model)

    # Configuration

    @property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        return self._view.labels

    def is_configured(self, model: str) -> bool:
        return model in self._view.configured

    def is_ready(self) -> bool:
        return self._view.is_ready

    def reload(self, config: Any) -> list[str]:
        try:
            added: list[str] = self._channel.call("reload", config.SerializeToString())
        except ChannelClosed:
            raise Unavailable("the server is stopping") from None
        return added
