"""The server process: loads models, opens the ports, answers, and drains when it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.otlp import is_wanted
from ladle.serving.dataplane.core import Core
from ladle.serving.dataplane.routing import Router
from ladle.serving.dataplane.shadow import Shadows
from ladle.serving.errors import InvalidArgument, ServingError, StartError
from ladle.serving.grpc import backend
from ladle.serving.grpc.api import GrpcApi
from ladle.serving.grpc.http2 import application
from ladle.serving.grpc.profiler import ProfilerApi
from ladle.serving.grpc.reload import ReloadApi
from ladle.serving.open_inference.model_control import ModelControl
from ladle.serving.repository import assembly
from ladle.serving.repository.assembly import missing_rest_api
from ladle.serving.repository.batching_files import BatchingFiles
from ladle.serving.repository.versions import Configuration, Versions
from ladle.serving.repository.watcher import Watcher
from ladle.serving.request_log.request_log import make_request_log
from ladle.serving.rest.api import RestApi
from ladle.serving.rest.http.messages import Limits
from ladle.serving.rest.http.server import HttpServer
from ladle.serving.runtime import tls
from ladle.serving.runtime.cores import cpu_count
from ladle.serving.runtime.listening import Keep, listen, make_now, raise_file_limit, reason, show_address
from ladle.serving.runtime.memory import spare_collections
from ladle.serving.runtime.native_calls import native_calls
from ladle.serving.runtime.process_exit import exit_now
from ladle.serving.runtime.text_proto import read_text_proto
from ladle.serving.scheduling.limits import queue_limits
from ladle.serving.scheduling.scheduler import Scheduler
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.loader import make_loader
from ladle.serving.stores.mirror import Mirror
from ladle.serving.telemetry import prometheus
from ladle.serving.telemetry.metrics import Metrics, Snapshot
from ladle.serving.telemetry.observer import make_observer
from ladle.serving.telemetry.tracing import make_tracing
from ladle.serving.workers.guardian import Link
from ladle.serving.workers.worker import Replica

log = logging.getLogger(__name__)

_BEAT_EVERY_S = 1.0
_RESTORE_S = 5.0  # after a crash, new connections wait this long for the models that were served


class Server:
    """One server process.

    options  the values of its flags (`flags.parse`)
    replica  in a worker: the versions that the supervisor decides on; the ports are then shared
    link     to the guardian, which keeps the ports and starts the server again after a crash
    """

    def __init__(self, options: SimpleNamespace, replica: Replica | None = None, link: Link | None = None) -> None:
        """StartError when flags contradict each other or the configuration is refused."""
        self._options = options
        self._replica = replica
        self._link = link
        self._keep = make_now if link is None else link.keep
        self._metrics = Metrics()
        try:
            self._metrics_path = _metrics_path(options)
            assembly.check(options)
            self._loader = make_loader(options, self._metrics)
            self._watcher: Watcher | None = None
            self._mirror: Mirror | None = None
            self._manager: Versions
            configuration: Configuration
            if replica is not None:
                self._manager = configuration = replica
            else:
                self._mirror = assembly.make_mirror(options)
                repository = assembly.make_repository(options, self._mirror)
                self._manager = manager = assembly.make_manager(
                    options, self._loader, cpu_count(), mirror=self._mirror, uses=self._uses
                )
                configuration = self._watcher = assembly.make_watcher(options, repository, manager)
            self._settings = _grpc_settings(options, replica is not None, self._keep)
            self._backend, self._backend_reason = backend.choose(self._settings)
            self._credentials = tls.read_credentials(Path(options.ssl_config_file)) if options.ssl_config_file else None
        except ServingError as error:
            raise StartError(f"{error.code}: {error.message}") from None
        # num_batch_threads counts for the whole server, so it sets the scheduler's threads, not those of a model.
        threads = self._loader.batching.threads if self._loader.batching else None
        scheduler = Scheduler(threads, queue_limits(options), self._metrics)
        has_traffic = bool(options.traffic_config_file)
        router = Router(self._manager, configuration) if has_traffic else None
        timeout_s = options.rest_api_timeout_in_ms / 1000
        self._shadows = (
            Shadows(self._manager, configuration, scheduler, self._metrics, timeout_s) if has_traffic else None
        )
        self._core = Core(self._manager, configuration, options.enable_signature_method_name_check, scheduler, router)
        limit = options.max_request_bytes
        self._request_log = make_request_log(options, lambda: configuration.logging, self._metrics)
        self._tracing = make_tracing(options)
        wants = self._request_log.offer if self._request_log is not None else None
        sees = self._shadows.see if self._shadows is not None else None
        observer = make_observer(options, wants, self._tracing, self._metrics, sees)
        control = ModelControl(self._core, options.allow_model_control)
        self._grpc = GrpcApi(
            self._core,
            options.enable_serialization_as_tensor_content,
            limit,
            self._metrics,
            ReloadApi(self._core, options.allow_config_reload, self._counters),
            observer,
            self._snapshots,
            ProfilerApi(_profile_folder(options), observer, self._time_operators),
            control,
        )
        self._rest = RestApi(
            self._core,
            options.rest_api_timeout_in_ms / 1000,
            limit,
            options.rest_api_enable_cors_support,
            options.max_json_depth,
            self._metrics,
            self._scrape,
            self._metrics_path,
            observer,
            self._snapshots,
            options.max_queued_seconds,
            control,
        )
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then answers the requests in flight. StartError when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if self._link is not None:
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
                loop.add_signal_handler(signal.SIGHUP, self._on_signal)
            loop.add_reader(self._link.fileno(), self._on_guardian_ended, self._link.fileno())
        raise_file_limit()
        spare_collections()
        if not await self._load():
            return
        sockets = self._rest_sockets()
        grpc_server = await backend.start(self._settings, self._backend, self._grpc.methods(), self._credentials)
        rest = HttpServer(self._rest.__call__, _http_limits(self._options), self._rest.headers)
        await rest.start(sockets)
        log.info("gRPC backend %s: %s", self._backend, self._backend_reason)
        if self._replica is not None:
            self._replica.report_open()
        else:
            log.info("%s", self._ready_line(bool(sockets)))
        if self._link is not None:
            self._link.report_ready()
            self._beat()
        reading = self._read_batching_files()
        await self._stop.wait()
        if reading is not None:
            reading.cancel()
        log.info("stopping: answering the requests in flight")
        self._grpc.drain()
        self._rest.is_draining = True
        if self._watcher is not None:
            self._watcher.stop()
        if self._mirror is not None:
            self._mirror.stop()
        grace_s = self._options.shutdown_grace_seconds
        await asyncio.gather(grpc_server.stop(grace_s), rest.stop(grace_s))
        if self._request_log is not None:
            await asyncio.to_thread(self._request_log.close)
        if self._shadows is not None:
            self._shadows.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        log.info("stopped")

    def _read_batching_files(self) -> asyncio.Task[None] | None:
        """The task that reads batching parameters again; None: they are read once."""
        options = self._options
        poll_s, file = options.batching_parameters_file_poll_wait_seconds, options.batching_parameters_file
        if poll_s <= 0 or self._loader.batching is None or not (file or self._loader.own_batching):
            return None
        files = BatchingFiles(self._loader, self._manager, Path(file) if file else None, poll_s)
        return asyncio.create_task(files.run())

    def _time_operators(
        self, model: str, version: int, signature: str, inputs: Mapping[str, Array]
    ) -> list[tuple[str, float, float]]:
        """The operators of one run and their seconds from its start; none for a version without a graph."""
        try:
            servable = self._manager.serving_map.find(model, version)
        except ServingError:  # unloaded meanwhile
            return []
        engine = servable.engines.get(signature)
        if not isinstance(engine, OnnxEngine):
            return []
        try:
            return engine.time_operators(signature, inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            log.warning("%s version %d: its operators were not timed: %s", model, version, error)
            return []

    def _counters(self) -> dict[str, float]:
        """This process's counters, by the names that Prometheus sees."""
        return prometheus.counters(self._snapshot())

    async def _scrape(self, openmetrics: bool = False) -> bytes:
        """The metrics of all processes of the server, in Prometheus's text format or in OpenMetrics'."""
        return await prometheus.render_in_pieces(await self._snapshots(), openmetrics)

    async def _snapshots(self) -> Sequence[Snapshot]:
        """The metrics of all processes of the server."""
        if self._replica is not None:
            found: Sequence[Snapshot] = await self._replica.scrape()
            return found
        self._metrics.set_available(self._manager.available())
        stores = self._mirror.snapshot() if self._mirror is not None else {}
        return [await self._metrics.snapshot_in_pieces(), *filter(None, [stores])]

    def _uses(self) -> dict[str, float]:
        return self._metrics.requests_by_model()

    def _snapshot(self) -> Snapshot:
        """This process's metrics."""
        self._metrics.set_available(self._manager.available())
        return self._metrics.snapshot()

    def _on_signal(self) -> None:
        """Starts the shutdown; at the second signal, exits at once."""
        # A terminal or a service manager may signal all processes of a server, so that a worker gets the first signal
        # twice. Its supervisor ends it at the second one.
        is_alone = self._replica is None and self._link is None
        if self._stop.is_set() and is_alone:
            log.info("second signal: exiting without waiting for the requests in flight")
            exit_now(1)
        self._stop.set()

    def _on_guardian_ended(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        self._stop.set()

    def _beat(self) -> None:
        """Shows the guardian every second that the event loop runs."""
        native_calls.beat()
        asyncio.get_running_loop().call_later(_BEAT_EVERY_S, self._beat)

    async def _load(self) -> bool:
        """Waits until the ports may open; False when the server is stopped before that."""
        if self._watcher is not None:
            self._watcher.start()
        else:
            assert self._replica is not None
            loop = asyncio.get_running_loop()
            self._replica.start(self._loader, self._snapshot, lambda: _set_in_loop(loop, self._stop))
        began = time.monotonic()
        while not self._may_open() or (self._is_restoring() and time.monotonic() - began < _RESTORE_S):
            if self._stop.is_set():
                return False
            await asyncio.sleep(0.005)
        return True

    def _is_restoring(self) -> bool:
        """Whether a server before this one has crashed, and models that were there have not been loaded again."""
        return self._link is not None and self._link.is_restart and bool(self._watcher and self._watcher.starting())

    def _may_open(self) -> bool:
        if self._watcher is not None:
            return assembly.is_loaded(self._options, self._manager, self._watcher)
        return self._replica is not None and self._replica.may_open()

    def _rest_sockets(self) -> list[socket.socket]:
        """The socket for REST, or none. StartError: it cannot be had, and --allow_missing_rest_api is not given."""
        port = self._options.rest_api_port
        if not port:
            return []
        if port == self._options.port:
            missing_rest_api(self._options, f"port {port} is the gRPC port")
            return []
        try:
            address = show_address(self._options.host or "::", port)
            return [self._keep(address, lambda: listen(self._options.host, port, share=self._replica is not None))]
        except OSError as error:
            missing_rest_api(
                self._options, f"it cannot listen on {show_address(self._options.host or '::', port)}: {reason(error)}"
            )
            return []

    def _ready_line(self, has_rest: bool) -> str:
        options = self._options
        where = [f"gRPC on port {options.port}"] if options.port else []
        where += [f"gRPC at {options.grpc_socket_path}"] if options.grpc_socket_path else []
        where += [f"REST on port {options.rest_api_port}"] if has_rest else []
        models = ", ".join(
            f"{model}/{'+'.join(map(str, versions))}" for model, versions in self._manager.available().items()
        )
        engine = f"ONNX Runtime {onnxruntime.__version__}"
        return f"serving {', '.join(where)}; engine {engine}; models: {models or 'none yet'}"


def _metrics_path(options: SimpleNamespace) -> str:
    """The path of the metrics on the REST port; "" when they are off."""
    path, is_enabled = "", options.enable_metrics
    if options.monitoring_config_file:
        found = read_text_proto(Path(options.monitoring_config_file), pb.MonitoringConfig).prometheus_config
        path, is_enabled = found.path, found.enable
    path = path or options.metrics_path
    if path.lower().startswith(("/v1/", "/v2/")) or path == "/" or not path.startswith("/"):
        raise InvalidArgument(
            f"got monitoring path {path}; expected a path outside /v1/ and /v2/, such as {prometheus.PATH}"
        )
    return path if is_enabled else ""


def _profile_folder(options: SimpleNamespace) -> Path | None:
    """The folder of profiles; None if the profiler is off. InvalidArgument when it is no folder."""
    if not options.profile_dir:
        return None
    folder = Path(options.profile_dir).absolute()
    if not folder.is_dir():
        raise StartError(f"INVALID_ARGUMENT: got --profile_dir={options.profile_dir}; expected a folder to write into")
    return folder


def _grpc_settings(options: SimpleNamespace, share: bool, keep: Keep) -> backend.Settings:
    return backend.Settings(
        backend=options.grpc_backend,
        host=options.host,
        port=options.port,
        socket_path=options.grpc_socket_path,
        ssl_file=options.ssl_config_file,
        arguments=options.grpc_channel_arguments,
        max_bytes=options.max_request_bytes,
        share=share,
        traces=is_wanted(options.otlp_endpoint),
        keep=keep,
        max_buffered_bytes=options.max_buffered_bytes,
        max_unread_s=options.max_queued_seconds,
        limits=application.Limits(
            header_bytes=options.max_header_bytes,
            streams=options.max_concurrent_streams,
            connections=options.max_connections,
            read_timeout_s=options.request_read_seconds,
        ),
    )


def _set_in_loop(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to stop
        loop.call_soon_threadsafe(event.set)


def _http_limits(options: SimpleNamespace) -> Limits:
    return Limits(
        body_bytes=options.max_request_bytes,
        header_bytes=options.max_header_bytes,
        read_timeout_s=options.request_read_seconds,
        keep_alive_s=options.keep_alive_seconds,
        connections=options.max_connections,
        buffered_bytes=options.max_buffered_bytes,
    )


def run(server: Server) -> None:
    """Runs a server until it stops."""
    np.seterr(over="ignore")  # numbers beyond float32 become infinite, as in TensorFlow Serving
    # Seconds that a thread in Python code may keep the event loop waiting. Python's default of 5 ms is longer than most
    # requests take.
    sys.setswitchinterval(1e-3)
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(server.run())
    else:
        uvloop.run(server.run())
