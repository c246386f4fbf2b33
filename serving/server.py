"""The server's process: loads, opens the ports, answers, and drains when told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc.aio
import numpy as np
import onnxruntime
import uvicorn

from serving import flags, lifecycle
from serving.core import Core
from serving.errors import ServingError
from serving.grpc_api import GrpcApi
from serving.lifecycle import StartError
from serving.loading import Loader
from serving.onnx_engine import cpu_count
from serving.rest_api import RestApi

log = logging.getLogger(__name__)

_MAX_GRPC_BYTES = 2**31 - 1


class Server:
    """One server process, made from its flags (`flags.parse`)."""

    def __init__(self, options: SimpleNamespace) -> None:
        """StartError when the flags contradict each other or the configuration is not acceptable."""
        self._options = options
        try:
            lifecycle.check(options)
            self._repository = lifecycle.make_repository(options)
            self._manager = lifecycle.make_manager(options, _loader(options), cpu_count())
            self._watcher = lifecycle.make_watcher(options, self._repository, self._manager)
        except ServingError as error:
            raise StartError(f"{error.code}: {error.message}") from None
        self._core = Core(self._manager, self._watcher, options.enable_signature_method_name_check)
        limit = options.max_request_bytes
        self._grpc = GrpcApi(self._core, options.enable_serialization_as_tensor_content, limit)
        self._rest = RestApi(
            self._core, options.rest_api_timeout_in_ms / 1000, limit, options.rest_api_enable_cors_support
        )
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then finishes what runs. StartError when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._watcher.start()
        if self._repository.requires_models and not await self._load():
            return
        grpc_server = await self._start_grpc()
        rest = _Uvicorn(self._rest, self._rest_sockets(), self._options.shutdown_grace_seconds)
        rest_task = asyncio.create_task(rest.run())
        log.info("%s", self._ready_line(bool(rest.sockets)))
        await self._stop.wait()
        log.info("stopping: finishing running requests")
        self._grpc.is_draining = self._rest.is_draining = True
        self._watcher.stop()
        rest.should_exit = True
        await asyncio.gather(grpc_server.stop(self._options.shutdown_grace_seconds), rest_task)
        log.info("stopped")

    async def _load(self) -> bool:
        """Waits until each configured model is available or has failed; False when told to end before."""
        models = list(self._repository.configured())
        while not self._manager.wait_until_settled(models, timeout_s=0):
            settled = asyncio.to_thread(self._manager.wait_until_settled, models, 0.2)
            await settled
            if self._stop.is_set():
                return False
        lifecycle.check_start(self._manager, models)
        return True

    async def _start_grpc(self) -> grpc.aio.Server:
        options = [
            ("grpc.max_receive_message_length", min(self._options.max_request_bytes, _MAX_GRPC_BYTES)),
            ("grpc.max_send_message_length", _MAX_GRPC_BYTES),
            ("grpc.so_reuseport", 0),
            *_channel_arguments(self._options.grpc_channel_arguments),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers(self._grpc.handlers())
        host = self._options.host or "0.0.0.0"  # noqa: S104 (as TensorFlow Serving; --host narrows it)
        address = f"[{host}]:{self._options.port}" if ":" in host else f"{host}:{self._options.port}"
        try:
            if self._options.port:
                server.add_insecure_port(address)
            if self._options.grpc_socket_path:
                _remove_stale_socket(Path(self._options.grpc_socket_path))
                server.add_insecure_port(f"unix:{self._options.grpc_socket_path}")
        except RuntimeError:
            raise StartError(f"UNKNOWN: gRPC cannot listen on {address}; is it in use?") from None
        await server.start()
        return server

    def _rest_sockets(self) -> list[socket.socket]:
        port = self._options.rest_api_port
        if not port:
            return []
        if port == self._options.port:
            log.error("REST is off: its port %d is the gRPC port; choose another", port)
            return []
        try:
            return [_listen(self._options.host, port)]
        except OSError as error:
            log.error("REST is off: it cannot listen on port %d: %s", port, error.strerror)
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


class _Uvicorn(uvicorn.Server):
    """Uvicorn inside our own loop: our signals, our sockets."""

    def __init__(self, app: RestApi, sockets: list[socket.socket], grace_s: int) -> None:
        self.sockets = sockets
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=grace_s,
            )
        )

    async def run(self) -> None:  # type: ignore[override]
        if self.sockets:
            await self.serve(sockets=self.sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _loader(options: SimpleNamespace) -> Loader:
    tags = tuple(tag for tag in options.saved_model_tags.split(",") if tag)
    return Loader(tags, options.enable_model_warmup, max(1, options.num_request_iterations_for_warmup))


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    return [(name, int(value) if value.lstrip("-").isdigit() else value) for name, _, value in pairs]


def _listen(host: str, port: int) -> socket.socket:
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, backlog=2048, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=2048)


def _remove_stale_socket(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()


def main(arguments: list[str]) -> int:
    """Runs the server with these flags; the exit status is 0 when stopped and 255 when it cannot start."""
    if any(argument in ("--help", "-h", "help") for argument in arguments):
        print(flags.usage())
        return 0
    if any(argument.startswith("--version") for argument in arguments):
        print(_version())
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    np.seterr(over="ignore")  # numbers beyond float32 become infinite, as in TensorFlow Serving
    try:
        options = flags.parse(arguments)
        server = Server(options)
        _run(server)
    except flags.FlagError as error:
        print(error)
        print(flags.usage())
        return 255
    except StartError as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return 255
    return 0


def _run(server: Server) -> None:
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(server.run())
    else:
        uvloop.run(server.run())


def _version() -> str:
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"Ladle model server: {metadata.version('ladle')}\nONNX Runtime: {onnxruntime.__version__}"
    return f"Ladle model server: not installed as a package\nONNX Runtime: {onnxruntime.__version__}"


def leave(status: int) -> None:
    """Ends the process at once: threads that still load a model do not hold it up."""
    logging.shutdown()
    os._exit(status)
