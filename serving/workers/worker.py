"""What a worker process knows: a replica of the supervisor's decisions, and the versions that it has loaded.

The supervisor says which versions to load, which of them answer requests, and what their states are. All workers
therefore show the same view.
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
from ladle.serving.repository.folders import RequestLogging
from ladle.serving.repository.traffic import Traffic
from ladle.serving.repository.versions import Failure, ServingMap, Status, View
from ladle.serving.runtime.memory import trim_memory_soon
from ladle.serving.servables.servable import Servable
from ladle.serving.workers.channel import Channel, ChannelClosed

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Replica:
    """Versions and configuration in a worker; in a single process, the manager and the watcher have this part.

    connection        to the supervisor
    waits_for_models  whether a reload waits for models without versions
    """

    def __init__(self, connection: Connection, waits_for_models: bool = False) -> None:
        self.waits_for_models = waits_for_models
        self._view = View()
        self.serving_map: ServingMap[Servable] = ServingMap({})
        self._loaded: dict[int, Servable] = {}  # by load id: a version may be loaded again before the old load is gone
        self._load: Callable[[str, int, Path], Servable] | None = None
        self._snapshot: Callable[[], Any] = dict
        self._loop: asyncio.AbstractEventLoop | None = None
        self._may_open = threading.Event()
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._on_close: Callable[[], None] = lambda: None
        slow: dict[str, Callable[..., Any]] = {
            "load": self._load_version,
            "retire": self._retire,
            "open": self._open_ports,
            "ping": self._ping,
        }
        # Views must be shown in the order in which they were sent, so `show` runs in the reading thread.
        quick: dict[str, Callable[..., Any]] = {
            "show": self._show,
            "snapshot": lambda: self._snapshot(),
        }
        self._channel = Channel(connection, slow, quick, lambda: self._on_close())

    def start(
        self, load: Callable[[str, int, Path], Servable], snapshot: Callable[[], Any], on_close: Callable[[], None]
    ) -> None:
        """Follows the supervisor from now on. Called on the event loop.

        load      loads a version: model, version, folder
        snapshot  returns this process's metrics
        on_close  called when the supervisor has ended
        """
        self._load, self._snapshot, self._on_close = load, snapshot, on_close
        self._loop = asyncio.get_running_loop()
        self._channel.start()

    # Called by the supervisor

    def _ping(self) -> None:
        """Returns once the event loop has run a callback: a process whose loop is stuck does not serve."""
        answered = threading.Event()
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is about to end
            self._loop.call_soon_threadsafe(answered.set)
            answered.wait()

    def _load_version(self, load_id: int, model: str, number: int, folder: str) -> bool:
        """Loads a version; its `takes_graph`."""
        assert self._load is not None
        servable = self._loaded[load_id] = self._load(model, number, Path(folder))
        return servable.takes_graph

    def _show(self, view: View) -> None:
        self.serving_map = ServingMap(
            {
                model: {number: self._loaded[load_id] for number, load_id in numbers.items()}
                for model, numbers in view.serving.items()
            }
        )
        self._view = view

    def _retire(self, load_id: int) -> None:
        """Unloads a version; returns when the last request on it has been answered."""
        servable = self._loaded.pop(load_id, None)
        if servable is not None:
            idle = threading.Event()
            servable.retire(idle.set)
            idle.wait()
            trim_memory_soon()

    def _open_ports(self) -> None:
        self._may_open.set()
        self._opened.result()

    # Called by the server

    def may_open(self) -> bool:
        """Whether the supervisor has told this worker to open its ports."""
        return self._may_open.is_set()

    def report_open(self) -> None:
        """Tells the supervisor that the ports are open."""
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self._opened.set_result(None)

    async def scrape(self) -> list[Any]:
        """The metrics of all workers."""
        snapshots: list[Any] = await asyncio.wrap_future(self._channel.begin("scrape"))
        return snapshots

    # Versions

    def status(self, model: str) -> list[Status]:
        return list(self._view.statuses.get(model, ()))

    def models(self) -> list[str]:
        return sorted(self._view.statuses)

    def available(self) -> dict[str, list[int]]:
        return self.serving_map.numbers()

    def is_settled(self, model: str) -> bool:
        return model in self._view.settled

    def is_available(self, model: str) -> bool:
        return model in self.serving_map.latest

    def failure(self, model: str) -> Failure | None:
        return self._view.failures.get(model)

    def is_loadable(self, model: str) -> bool:
        return model in self._view.loadable

    def want(self, model: str) -> None:
        self._channel.begin("want", model)

    # Configuration

    @property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        return self._view.labels

    @property
    def logging(self) -> Mapping[str, RequestLogging]:
        return self._view.logging

    @property
    def traffic(self) -> Traffic:
        return self._view.traffic

    def is_configured(self, model: str) -> bool:
        return model in self._view.configured

    def is_ready(self) -> bool:
        return self._view.is_ready

    def is_starting(self, model: str) -> bool:
        return model in self._view.starting

    def reload(self, config: Any) -> list[str]:
        added: list[str] = self._ask("reload", config.SerializeToString())
        return added

    def load(self, model: str) -> None:
        self._ask("load", model)

    def unload(self, model: str) -> None:
        self._ask("unload", model)

    def _ask(self, operation: str, argument: Any) -> Any:
        try:
            return self._channel.call(operation, argument)
        except ChannelClosed:
            raise Unavailable("the server is stopping; retry later") from None
