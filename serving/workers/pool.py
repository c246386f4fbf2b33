"""The pool of worker processes: what all of them have loaded, and the view that all of them show.

No worker serves a version until all have loaded it, and a worker that joins later loads what the others have before it
opens its ports. While workers serve, one of them tries a new version first: a version that crashes the process then
costs one worker, not all.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ladle.serving.errors import ServingError, Unavailable
from ladle.serving.repository.versions import View
from ladle.serving.telemetry.prometheus import totals
from ladle.serving.workers.channel import Channel, ChannelClosed

log = logging.getLogger(__name__)

_SHOW_S = 10.0  # a worker that takes longer to show a view hangs
_START_S = 120.0  # a worker that takes longer to start hangs
_RESTART_S = 30.0  # wait this long for a crashed worker to come back
_MAX_CRASHES = 2


class Process(Protocol):
    """The part of subprocess.Popen that a pool uses."""

    pid: int

    def kill(self) -> None: ...

    def wait(self) -> int: ...


@dataclass(eq=False)
class Worker:
    """A worker process, and the ids of the loads that it has."""

    process: Process
    channel: Channel
    loads: set[int] = field(default_factory=set)
    has_started: bool = False

    def hangs(self, limit_s: float) -> bool:
        """Whether the worker does not answer within this many seconds. One that starts or has ended does not hang."""
        if not self.has_started:
            return False
        answer = self.channel.begin("ping")
        for wait_s in (limit_s, 1.0):  # the second: a supervisor that was itself stopped finds its time over
            try:
                answer.result(wait_s)
            except FutureTimeoutError:
                continue
            except (ChannelClosed, ServingError):
                pass
            return False
        return True


@dataclass(frozen=True)
class PooledVersion:
    """A version that every worker has loaded. A second load of the same version gets another `load_id`.

    takes_graph  as `Loaded.takes_graph`
    """

    pool: WorkerPool
    load_id: int
    model: str
    version: int
    folder: Path
    takes_graph: bool = False

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Calls `on_idle`, in a thread, once no worker runs a request on this version any more."""
        self.pool.retire(self, on_idle)


class WorkerPool:
    """The workers that serve. Any thread may call it."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._workers: list[Worker] = []
        self._loaded: dict[int, PooledVersion] = {}
        self._view = View()
        self._is_open = False
        self._ended_metrics: list[Any] = []  # one snapshot: the sum over the workers that have ended
        self._last_metrics: dict[int, Any] = {}  # by process id
        self._changed = threading.Condition()  # guards everything above

    # Called by the manager

    def load(self, model: str, version: int, folder: Path) -> PooledVersion:
        """Loads a version in all workers. If one cannot load it, none keeps it: ServingError."""
        pooled = PooledVersion(self, next(self._ids), model, version, folder)
        crashes = 0
        while True:  # until no worker lacks it: others may join meanwhile
            with self._changed:
                self._changed.wait_for(lambda: bool(self._workers))
                if crashes:  # never try it again on the last worker that serves
                    self._changed.wait_for(lambda: len(self._workers) > 1, _RESTART_S)
                lacking = [worker for worker in self._workers if pooled.load_id not in worker.loads]
                if not lacking:
                    self._loaded[pooled.load_id] = pooled
                    return pooled
                if self._is_open and self._view.serving and len(lacking) == len(self._workers):
                    del lacking[:-1]  # one worker tries it first
                begun = [(worker, self._begin_load(worker, pooled)) for worker in lacking]
            wait([future for _, future in begun])
            errors = []
            for worker, future in begun:
                try:
                    pooled = replace(pooled, takes_graph=future.result())
                except ChannelClosed:
                    crashes += 1
                    self.remove(worker)
                except ServingError as error:
                    errors.append(error)
                else:
                    with self._changed:
                        worker.loads.add(pooled.load_id)
            if errors or crashes >= _MAX_CRASHES:
                self.retire(pooled, lambda: None)
                raise (
                    errors[0]
                    if errors
                    else Unavailable("worker processes crashed while they loaded the version; check the memory limit")
                )

    def show(self, view: View) -> None:
        """Makes all workers show the view, and returns when they do. A worker that does not in time is killed."""
        # The lock is held until all have answered: a request for a version that one worker shows must not reach
        # another that does not, and a worker that joins meanwhile must get this view.
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

    def retire(self, pooled: PooledVersion, on_idle: Callable[[], None]) -> None:
        """Unloads a version that no worker shows any more; a thread calls `on_idle` when all have unloaded it."""
        with self._changed:
            self._loaded.pop(pooled.load_id, None)
            begun = [
                worker.channel.begin("retire", pooled.load_id)
                for worker in self._workers
                if pooled.load_id in worker.loads
            ]
            for worker in self._workers:
                worker.loads.discard(pooled.load_id)

        def wait_until_idle() -> None:
            wait(begun)
            on_idle()

        threading.Thread(target=wait_until_idle, name="retire", daemon=True).start()

    # Called by the supervisor

    def join(self, worker: Worker) -> None:
        """Brings a new worker to what the others have and show, and lets it serve. ServingError, ChannelClosed."""
        worker.channel.begin("ping").result(_START_S)
        worker.has_started = True
        while True:
            with self._changed:
                lacking = [pooled for load_id, pooled in self._loaded.items() if load_id not in worker.loads]
                if not lacking:
                    for load_id in worker.loads - self._loaded.keys():
                        worker.channel.begin("retire", load_id)
                    worker.loads &= self._loaded.keys()
                    worker.channel.begin("show", self._view).result(_SHOW_S)
                    self._workers.append(worker)
                    self._changed.notify_all()
                    is_open = self._is_open
                    break
            for pooled in lacking:
                try:
                    self._begin_load(worker, pooled).result()
                except ServingError:
                    with self._changed:
                        if pooled.load_id in self._loaded:  # else it was retired meanwhile, and its files may be gone
                            raise
                else:
                    worker.loads.add(pooled.load_id)
        if is_open:
            worker.channel.call("open")

    def remove(self, worker: Worker) -> None:
        """Removes a worker that has ended; its last metrics stay in the sum."""
        with self._changed:
            if worker in self._workers:
                self._workers.remove(worker)
            last = self._last_metrics.pop(worker.process.pid, None)
            if last is not None:
                self._ended_metrics = [totals([*self._ended_metrics, last])]

    def open(self) -> list[Worker]:
        """Opens the ports of all workers, now and later. Returns the workers that ended instead."""
        with self._changed:
            self._is_open = True
            begun = [(worker, worker.channel.begin("open")) for worker in self._workers]
        ended = []
        for worker, future in begun:
            try:
                future.result()
            except ChannelClosed:
                ended.append(worker)
        return ended

    def size(self) -> int:
        """The number of workers that serve."""
        with self._changed:
            return len(self._workers)

    def snapshots(self) -> list[Any]:
        """The metrics of all workers, and the sum of those that have ended: counters never fall."""
        with self._changed:
            begun = [(worker, worker.channel.begin("snapshot")) for worker in self._workers]
        found: dict[int, Any] = {}
        for worker, future in begun:
            try:
                found[worker.process.pid] = future.result(_SHOW_S)
            except (ChannelClosed, ServingError, FutureTimeoutError):
                continue
        with self._changed:
            # A worker that was removed meanwhile is in the sum already.
            pids = {worker.process.pid for worker in self._workers}
            self._last_metrics.update({pid: snapshot for pid, snapshot in found.items() if pid in pids})
            return [*found.values(), *self._ended_metrics]

    def _begin_load(self, worker: Worker, pooled: PooledVersion) -> Future[Any]:
        return worker.channel.begin("load", pooled.load_id, pooled.model, pooled.version, str(pooled.folder))
