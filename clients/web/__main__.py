"""`ladle gateway`, or `python -m ladle.clients.web`: runs on gunicorn if it is installed, else on Werkzeug."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flask import Flask

from ladle.clients.argument_types import Parser, positive, seconds
from ladle.clients.web.config import MIB, Config

EPILOG = """examples:
  ladle gateway                                              page and API at http://localhost:8080
  ladle gateway --server grpc://gpu-box:8500 --rest http://gpu-box:8501 --repository /models --host 0.0.0.0
  ladle gateway --models lenet5,unet                         show two of the server's models
  ladle gateway --api-keys keys.txt --rate 600/minute        require keys, and limit the rate of each

in production, with gunicorn's own command line; LADLE_GATEWAY_<FIELD> sets each field of ladle.clients.web.Config:
  LADLE_GATEWAY_SERVER=grpc://localhost:8500 LADLE_GATEWAY_REPOSITORY=/models \\
  gunicorn --bind 0.0.0.0:8080 --worker-class ladle.clients.web.worker.Worker --threads 16 \\
    'ladle.clients.web:create_app()'
Each worker counts rates for itself. Set PROMETHEUS_MULTIPROC_DIR to an empty folder to add up their metrics.
$LADLE_GATEWAY_SERVER_KEY is the API key of the model server. A slow caller occupies a thread, so on a public network
put a reverse proxy that buffers requests in front of the gateway, and give --proxies 1.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted. Returns the exit code: 0 done, 1 failed, 2 misused."""
    given = build_parser().parse_args(argv)
    try:
        config = _config(given)
        _check_port(given.host, given.port)
    except OSError as error:
        where = error.filename or f"{given.host}:{given.port}"
        hint = "" if error.filename else "; choose another with --port"
        print(f"ladle gateway: {where}: {error.strerror}{hint}", file=sys.stderr)
        return 1
    except UnicodeDecodeError:
        print(f"ladle gateway: --api-keys: got {given.api_keys}, which is not text; expected UTF-8", file=sys.stderr)
        return 2
    metrics_folder = None
    if given.workers > 1 and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        metrics_folder = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="ladle-gateway-")

    def load() -> Flask:
        # Late: prometheus_client reads PROMETHEUS_MULTIPROC_DIR when it is imported.
        from ladle.clients.web.app import create_app

        return create_app(config)

    try:
        app = load()
    except ValueError as error:
        print(f"ladle gateway: {error}", file=sys.stderr)
        return 2
    shown = "localhost" if given.host in ("127.0.0.1", "0.0.0.0", "::") else given.host  # noqa: S104
    print(f"the page: http://{shown}:{given.port}/  (model server: {config.server})", file=sys.stderr, flush=True)
    own_pid = os.getpid()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            if importlib.util.find_spec("gunicorn"):
                _gunicorn(load, given)
            else:
                app.run(given.host, given.port, threaded=True)
    finally:
        if metrics_folder is not None and os.getpid() == own_pid:  # gunicorn's workers are forks and come here too
            shutil.rmtree(metrics_folder, ignore_errors=True)
    return 0


def _config(given: argparse.Namespace) -> Config:
    """OSError: the file with the keys cannot be read; UnicodeDecodeError: it is not text."""
    keys = (
        tuple(given.api_keys.read_text().splitlines() or [""]) if given.api_keys else ()
    )  # [""]: refuse an empty file
    keys += tuple(key for key in os.environ.get("LADLE_GATEWAY_KEYS", "").split(",") if key)
    return Config(
        server=given.server,
        server_key=os.environ.get("LADLE_GATEWAY_SERVER_KEY"),
        ca=given.ca,
        server_proxy=given.server_proxy,
        proxies=given.proxies,
        rest=given.rest,
        monitoring_url=given.monitoring_url,
        repository=given.repository,
        runs=given.runs,
        models=tuple(name for name in (given.models or "").split(",") if name),
        timeout_s=given.timeout,
        keys=keys,
        rate=given.rate,
        origins=tuple(given.origin),
        access_log=given.access_log,
        otlp_endpoint=given.otlp_endpoint,
        max_body_bytes=round(given.max_body_mib * MIB),
        max_pixels=given.max_pixels,
    )


def _check_port(host: str, port: int) -> None:
    """OSError: the port is taken. gunicorn would retry for five seconds and log an error each time."""
    family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _gunicorn(load: Callable[[], Flask], given: argparse.Namespace) -> None:
    from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

    class Gateway(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            settings: dict[str, Any] = {
                "bind": f"[{given.host}]:{given.port}" if ":" in given.host else f"{given.host}:{given.port}",
                "workers": given.workers,
                "worker_class": "ladle.clients.web.worker.Worker",
                "threads": given.threads,
                "keepalive": 75,
                "timeout": 120,
                "graceful_timeout": 5,
                "loglevel": "warning",
                "proc_name": "ladle-gateway",
                "child_exit": _mark_dead,
                "preload_app": False,  # each worker makes its own application, channel and locks
            }
            for key, value in settings.items():
                self.cfg.set(key, value)

        def load(self) -> Flask:
            return load()

    Gateway().run()


def _mark_dead(server: Any, worker: Any) -> None:
    """Take the gauges of a worker that has ended out of the sum."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _port(text: str) -> int:
    """A port, 0 to 65535."""
    port = int(text)
    if not 0 <= port < 2**16:
        raise argparse.ArgumentTypeError(f"got {text}; expected a port, 0 to 65535")
    return port


def build_parser() -> argparse.ArgumentParser:
    """The options of `ladle gateway`."""
    parser = Parser(
        prog="ladle gateway",
        description="Serve the web page and its API in front of a model server.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--port", type=_port, default=8080, help="port of the page (default: %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all (default: %(default)s)")
    add(
        "--server",
        default=os.environ.get("LADLE_ADDRESS", Config.server),
        help="model server, grpc://HOST:PORT (default: $LADLE_ADDRESS, now %(default)s)",
    )
    add("--ca", type=Path, metavar="FILE", help="CA of the model server's certificate, for grpcs://HOST:PORT")
    add(
        "--server-proxy",
        metavar="URL",
        default=os.environ.get("LADLE_GATEWAY_SERVER_PROXY"),
        help='HTTP proxy to the model server, http://HOST:PORT; "": none (default: $LADLE_GATEWAY_SERVER_PROXY; else '
        "local hosts are asked directly, others as $https_proxy, $no_proxy and their kin say)",
    )
    add(
        "--rest",
        metavar="URL",
        help="REST address of the same server, for its metrics and the page's code"
        " (default: port 8501 of its host if --server has port 8500)",
    )
    add(
        "--monitoring-url",
        metavar="URL",
        help="address of the model server's Prometheus metrics (default: TensorFlow Serving's path below --rest)",
    )
    add(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        help="folder of the served models: their cards, samples and reports (default: %(default)s)",
    )
    add(
        "--runs",
        type=Path,
        default=Path("runs"),
        help="folder of training's runs: the page shows those that train now (default: %(default)s)",
    )
    add(
        "--models",
        metavar="NAME,...",
        help="show these models only (default: all)",
    )
    add(
        "--timeout",
        type=seconds,
        default=Config.timeout_s,
        help="seconds for the model server (default: %(default)g)",
    )
    add(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help='require one of these keys; lines "NAME KEY" or "NAME sha256:HEX" (also $LADLE_GATEWAY_KEYS)',
    )
    add(
        "--rate",
        help="most requests per key, or without keys per address, such as 600/minute"
        " (default: 1200/minute with keys, no limit without)",
    )
    add(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="let pages of this origin ask (CORS); repeatable",
    )
    add(
        "--max-body-mib",
        type=seconds,
        default=Config.max_body_bytes / MIB,
        help="largest body of a request, MiB (default: %(default)g)",
    )
    add(
        "--max-pixels",
        type=positive,
        default=Config.max_pixels,
        help="most pixels of all images of a request together (default: %(default)s)",
    )
    add(
        "--proxies",
        type=int,
        choices=range(8),
        metavar="N",
        default=0,
        help="number of reverse proxies in front. Their X-Forwarded-For, -Proto, -Host and -Prefix are trusted, so they"
        " must set or remove each (default: %(default)s)",
    )
    add("--workers", type=positive, default=1, help="processes (default: %(default)s)")
    add("--threads", type=positive, default=16, help="threads per process (default: %(default)s)")
    add("--access-log", action="store_true", help="write a JSON line for each request to stdout")
    add("--otlp-endpoint", default="", metavar="URL", help="http://HOST:PORT of an OpenTelemetry collector")
    return parser


if __name__ == "__main__":
    sys.exit(main())
