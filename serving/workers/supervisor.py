"""`--workers=N`: one process that decides which versions to serve, and N that serve them on the same ports.

The supervisor runs the same manager and watcher as a single process does. Where a single process loads a version, the
supervisor has all workers load it. It replaces workers that end, and stops them all when it is stopped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.errors import ServingError, StartError
from ladle.serving.repository import assembly
from ladle.serving.repository.versions import View
from ladle.serving.runtime.child_process import describe, environment
from ladle.serving.runtime.cores import cpu_count
from ladle.serving.runtime.listening import listen, reason, show_address
from ladle.serving.servables import shared_weights
from ladle.serving.telemetry.prometheus import requests_by_model
from ladle.serving.workers.channel import Channel, ChannelClosed
from ladle.serving.workers.crashes import Crashes
from ladle.serving.workers.fork_server import Forked, ForkServer
from ladle.serving.workers.pool import Worker, WorkerPool
from ladle.serving.workers.signals import Signals

log = logging.getLogger(__name__)

_RESTART_DELAY_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # after workers that ended before they served
_PING_EVERY_S = 1.0
_PING_S = 10.0  # a worker that does not answer for longer is replaced
_CANNOT_START = 255  # the exit status of a worker whose StartError has told why
_EXTRA_GRACE_S = 5.0  # beyond --shutdown_grace_seconds, which the workers keep themselves


class Supervisor:
    """The process that starts, controls and replaces the workers.

    options    the values of the flags (`flags.parse`)
    arguments  the same flags as text, for the workers
    """

    def __init__(self, options: SimpleNamespace, arguments: list[str]) -> None:
        """StartError when flags contradict each other or the configuration is refused."""
        self._options = options
        self._arguments = list(arguments)
        self._pool = WorkerPool()
        self._crashes = Crashes(self._count)
        self._fork_server = ForkServer(
            self._crashes.descriptor, self._arguments, lambda: {**environment(), **self._shared}
        )
        self._stop = threading.Event()
        self._cannot_start = threading.Event()
        self._shared: dict[str, str] = {}  # the environment variable of the folder in which workers share weights
        self._processes: dict[int, Forked] = {}
        self._workers: dict[int, Worker] = {}  # by slot, those that still load included
        try:
            assembly.check(options)
            self._mirror = assembly.make_mirror(options)
            repository = assembly.make_repository(options, self._mirror)
            self._watcher: Any = None
            self._manager = assembly.make_manager(
                options, self._pool.load, cpu_count(), self._show, self._mirror, self._uses
            )
            self._watcher = assembly.make_watcher(options, repository, self._manager)
        except ServingError as error:
            raise StartError(f"{error.code}: {error.message}") from None

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then lets the workers drain. StartError when it cannot start."""
        signals = Signals((signal.SIGTERM, signal.SIGINT), self._on_signal)
        ports = self._hold_ports()
        with contextlib.ExitStack() as stack:
            if self._options.share_weights:
                self._shared = stack.enter_context(shared_weights.folder())
            self._run(ports, signals)
        log.info("stopped")

    def _run(self, ports: list[socket.socket], signals: Signals) -> None:
        keepers = [threading.Thread(target=self._keep, args=(slot,), daemon=True) for slot in range(1, self._count + 1)]
        for keeper in keepers:
            keeper.start()
        for slot in range(1, self._count + 1):
            threading.Thread(target=self._ping, args=(slot,), name="ping", daemon=True).start()
        try:
            self._start(signals)
            signals.wait()
            log.info("stopping: %d workers answer the requests in flight", self._pool.size())
        finally:
            self._watcher.stop()
            self._mirror.stop()
            self._stop.set()
            self._end_workers()
            self._fork_server.stop()
            for port in ports:
                port.close()

    @property
    def _count(self) -> int:
        return int(self._options.workers)

    def _start(self, signals: Signals) -> None:
        """Loads the models, then opens the ports."""
        self._watcher.start()
        while self._pool.size() < self._count or not assembly.is_loaded(self._options, self._manager, self._watcher):
            if self._cannot_start.is_set():
                raise StartError("UNKNOWN: a worker process ended while it started; see its messages above")
            if signals.wait(0.005):
                return
        # A signal may end a worker right now, too: `_keep` starts another, which opens the ports when it joins.
        if any(worker.process.wait() == _CANNOT_START for worker in self._pool.open()):
            raise StartError("UNKNOWN: a worker process cannot listen; see its messages above")
        log.info("%d workers serve: %s", self._pool.size(), _models(self._manager.available()))

    def _hold_ports(self) -> list[socket.socket]:
        """Reserves the ports. StartError when one is in use; with --allow_missing_rest_api only for the gRPC port."""
        host, port, rest_port = self._options.host, self._options.port, self._options.rest_api_port
        held = []
        if port:
            try:
                held.append(_hold(host or "0.0.0.0", port))  # noqa: S104 (as TensorFlow Serving; --host narrows it)
            except OSError as error:
                address = show_address(host, port)
                raise StartError(f"UNKNOWN: gRPC cannot listen on {address}: {reason(error)}") from None
        why = f"port {port} is the gRPC port" if rest_port and rest_port == port else ""
        if rest_port and not why:
            try:
                held.append(_hold(host, rest_port))
            except OSError as error:
                why = f"it cannot listen on {show_address(host or '::', rest_port)}: {reason(error)}"
        if why:
            assembly.missing_rest_api(self._options, why)
            self._arguments.append("--rest_api_port=0")
        return held

    # Workers

    def _keep(self, slot: int) -> None:
        """Runs a worker, and starts another each time it ends."""
        early_ends = 0
        while not self._stop.is_set():
            has_served = False
            try:
                status, has_served = self._run_worker(slot)
                cause = describe(status)
            except OSError as error:  # no memory or process id is free right now
                status, cause = 0, f"it could not be started: {error.strerror}"
            except Exception as error:  # an unknown error must not leave the slot empty for good
                status, cause = 0, f"it could not be started: {error}"
            if self._stop.is_set():
                return
            if self._pool.size() == 0 and not self._manager.available() and status == _CANNOT_START:
                self._cannot_start.set()
                return
            blamed = self._crashes.ended(slot - 1, -status if status < 0 else 0)
            delay = _RESTART_DELAY_S[min(early_ends, len(_RESTART_DELAY_S) - 1)]
            early_ends = 0 if has_served else early_ends + 1
            log.error(
                "worker %d ended (%s)%s; starting another in %g s", slot, cause, f": {blamed}" if blamed else "", delay
            )
            self._stop.wait(delay)

    def _run_worker(self, slot: int) -> tuple[int, bool]:
        """Starts a worker and lets it serve; its exit status when it has ended, and whether it served."""
        has_served = False
        own_end, worker_end = socket.socketpair()
        with own_end, worker_end:
            process = self._fork_server.fork(slot, worker_end.fileno())
            connection = Connection(own_end.detach())
        operations: dict[str, Callable[..., Any]] = {
            "reload": self._reload,
            "load": lambda model: self._watcher.load(model),
            "unload": lambda model: self._watcher.unload(model),
            "scrape": self._snapshots,
            "want": lambda model: self._manager.want(model),
        }
        channel = Channel(connection, operations)
        worker = Worker(process, channel)
        self._processes[slot] = process
        self._workers[slot] = worker
        if self._stop.is_set():  # it began after _end_workers had listed the others
            process.terminate()
        try:
            channel.start()
            self._pool.join(worker)
            has_served = True
        except ChannelClosed:
            pass
        except Exception as error:
            log.error("worker %d cannot load what the others serve: %s", slot, error)
            self._pool.remove(worker)
            process.kill()
        status = process.wait()
        self._pool.remove(worker)
        return status, has_served

    def _ping(self, slot: int) -> None:
        """Kills the worker of a slot when it hangs; `_keep` then starts another."""
        # A process that hangs keeps its share of the port: the kernel goes on giving it connections.
        while not self._stop.wait(_PING_EVERY_S):
            worker = self._workers.get(slot)
            if worker is not None and worker.hangs(_PING_S) and not self._stop.is_set():
                log.error("worker %d has not answered for %g s; replacing it", slot, _PING_S)
                self._pool.remove(worker)
                worker.process.kill()

    def _end_workers(self) -> None:
        """Sends SIGTERM to all workers, and SIGKILL to those that take too long."""
        processes = list(self._processes.values())
        for process in processes:
            process.terminate()
        limit = time.monotonic() + self._options.shutdown_grace_seconds + _EXTRA_GRACE_S
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, limit - time.monotonic()))
            process.kill()

    def _on_signal(self, count: int) -> None:
        if count > 1:  # exits without waiting for the requests in flight
            for process in self._processes.values():
                process.kill()
            os._exit(1)

    # The view that all workers show

    def _show(self) -> None:
        """Shows the current state of the manager and the watcher in all workers."""
        watcher, manager = self._watcher, self._manager
        models = manager.models()
        configured = frozenset(watcher.repository.configured())
        failures = {model: failure for model in models if (failure := manager.failure(model)) is not None}
        serving = manager.serving_map.versions
        self._pool.show(
            View(
                serving={
                    model: {number: pooled.load_id for number, pooled in versions.items()}
                    for model, versions in serving.items()
                },
                statuses={model: tuple(manager.status(model)) for model in models},
                labels=watcher.labels,
                logging=watcher.logging,
                traffic=watcher.traffic,
                settled=frozenset(model for model in {*models, *configured} if manager.is_settled(model)),
                failures=failures,
                configured=configured,
                is_ready=watcher.is_ready(),
                starting=watcher.starting(),
                loadable=manager.loadable(),
            )
        )

    def _uses(self) -> dict[str, float]:
        return requests_by_model(self._pool.snapshots())

    def _snapshots(self) -> list[Any]:
        """The metrics of all workers, and those of the object stores, which only this process asks."""
        return [*self._pool.snapshots(), self._mirror.snapshot()]

    def _reload(self, config: bytes) -> list[str]:
        added: list[str] = self._watcher.reload(pb.ModelServerConfig.FromString(config))
        return added


def _hold(host: str, port: int) -> socket.socket:
    """Reserves a port: a socket that is bound but does not listen. OSError when the port is in use."""
    # The kernel hands connections only to sockets that listen, so the workers get them all. While this socket is bound,
    # no other program can take the port when the workers restart.
    with listen(host, port) as listening:  # without sharing, so that it fails if another server listens on the port
        family = listening.family
    holder = socket.socket(family, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    holder.bind((host, port))
    return holder


def _models(available: dict[str, list[int]]) -> str:
    found = ", ".join(f"{model}/{'+'.join(map(str, versions))}" for model, versions in available.items())
    return found or "no models yet"
