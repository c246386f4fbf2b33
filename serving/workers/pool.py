"""The worker processes as one: what they all have loaded, and what they all show.

A version is loaded by every worker before any shows it, and a worker that comes later loads what the others have before
it opens its ports. A version that brings a process down brings down one: while others serve, one worker tries it first.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ladle.serving.errors import ServingError, Unavailable
from ladle.serving.repository.versions import View
from ladle.serving.telemetry.prometheus import lasting
from ladle.serving.workers.channel import Channel, ChannelClosed

log = logging.getLogger(__name__)

_SHOW_S = 10.0  # a worker that takes longer to show a view hangs
_RETURN_S = 30.0  # that a worker is waited for which was started again
_MAX_DEATHS = 2


class Process(Protocol):
    """The part of subprocess.Popen that a pool needs."""

    pid: int

    def kill(self) -> None: ...


@dataclass(eq=False)
class Worker:
    """A worker process and the loads that it holds."""

    process: Process
    channel: Channel
    loads: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Spread:
    """A version that all workers have loaded."""

    pool: Pool
    number: int
    model: str
    version: int
    folder: Path

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Calls `on_idle`, in a thread, once no worker runs a request on it any more."""
        self.pool.retire(self, on_idle)


class Pool:
    """The workers that serve."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._workers: list[Worker] = []
        self._held: dict[int, Spread] = {}
        self._view = View()
        self._is_open = False
        self._before: list[Any] = []  # the last metrics of workers that have ended
        self._last: dict[int, Any] = {}
        self._changed = threading.Condition()  # guards everything above

    # For the manager

    def load(self, model: str, version: int, folder: Path) -> Spread:
        """Loads a version in all workers; ServingError, and no worker keeps it, when one cannot."""
        spread = Spread(self, next(self._numbers), model, version, folder)
        deaths = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._workers))
                if deaths:  # another is to try it, beside one that serves
                    self._changed.wait_for(lambda: len(self._workers) > 1, _RETURN_S)
                lacking = [worker for worker in self._workers if spread.number not in worker.loads]
                if not lacking:
                    self._held[spread.number] = spread
                    return spread
                if self._is_open and self._view.serving and len(lacking) == len(self._workers):
                    del lacking[:-1]
                begun = [(worker, self._begin_load(worker, spread)) for worker in lacking]
            wait([future for _, future in begun])
            errors = []
            for worker, future in begun:
                try:
                    future.result()
                except ChannelClosed:
                    deaths += 1
                    self.remove(worker)
                except ServingError as error:
                    errors.append(error)
                else:
                    with self._changed:
                        worker.loads.add(spread.number)
            if errors or deaths >= _MAX_DEATHS:
                self.retire(spread, lambda: None)
                raise (
                    errors[0]
                    if errors
                    else Unavailable(
                        "worker processes ended while they loaded the version; the system may be short of memory"
                    )
                )

    def show(self, view: View) -> None:
        """Makes all workers show the view; returns when they do. One that does not is ended."""
        with self._changed:
            if view == self._view:
                return
            self._view = view
            begun = [(worker, worker.channel.begin("show", view)) for worker in self._workers]
            for worker, future in begun:
                try:
                    future.result(_SHOW_S)
                except (ChannelClosed, ServingError, FutureTimeoutError):
                    self.remove(worker)
                    worker.process.kill()

    def retire(self, spread: Spread, on_idle: Callable[[], None]) -> None:
        """Lets go of a version that is not shown any more; `on_idle` is called in a thread, when all have."""
        with self._changed:
            self._held.pop(spread.number, None)
            begun = [
                worker.channel.begin("retire", spread.number)
                for worker in self._workers
                if spread.number in worker.loads
            ]
            for worker in self._workers:
                worker.loads.discard(spread.number)

        def end() -> None:
            wait(begun)
            on_idle()

        threading.Thread(target=end, name="retire", daemon=True).start()

    # For the supervisor

    def join(self, worker: Worker) -> None:
        """Brings a worker to what the others have and show, and lets it serve. ServingError, ChannelClosed."""
        worker.channel.call("ping")
        while True:
            with self._changed:
                lacking = [spread for number, spread in self._held.items() if number not in worker.loads]
                if not lacking:
                    for number in worker.loads - self._held.keys():
                        worker.channel.begin("retire", number)
                    worker.loads &= self._held.keys()
                    worker.channel.begin("show", self._view).result(_SHOW_S)
                    self._workers.append(worker)
                    self._changed.notify_all()
                    is_open = self._is_open
                    break
            for spread in lacking:
                try:
                    self._begin_load(worker, spread).result()
                except ServingError:
                    with self._changed:
                        if spread.number in self._held:  # else it has left meanwhile, and perhaps its files
                            raise
                else:
                    worker.loads.add(spread.number)
        if is_open:
            worker.channel.call("open")

    def remove(self, worker: Worker) -> None:
        """Goes on without a worker that has ended."""
        with self._changed:
            if worker in self._workers:
                self._workers.remove(worker)
            last = self._last.pop(worker.process.pid, None)
            if last is not None:
                self._before = [lasting([*self._before, last])]

    def open(self) -> None:
        """Opens the ports of all workers, and of those that come; ChannelClosed when one cannot."""
        with self._changed:
            self._is_open = True
            begun = [worker.channel.begin("open") for worker in self._workers]
        for future in begun:
            future.result()

    def size(self) -> int:
        """How many workers serve."""
        with self._changed:
            return len(self._workers)

    def snapshots(self) -> list[Any]:
        """The metrics of all workers, and the last known ones of those that have ended: counters never fall."""
        with self._changed:
            begun = [(worker, worker.channel.begin("snapshot")) for worker in self._workers]
        found: dict[int, Any] = {}
        for worker, future in begun:
            try:
                found[worker.process.pid] = future.result(_SHOW_S)
            except (ChannelClosed, ServingError, FutureTimeoutError):
                continue
        with self._changed:
            self._last.update({pid: snapshot for pid, snapshot in found.items() if self._serves(pid)})
            return [*found.values(), *self._before]

    def _serves(self, pid: int) -> bool:
        return any(worker.process.pid == pid for worker in self._workers)

    def _begin_load(self, worker: Worker, spread: Spread) -> Future[Any]:
        return worker.channel.begin("load", spread.number, spread.model, spread.version, str(spread.folder))
