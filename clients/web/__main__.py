"""Run the gateway: `python -m clients.web`, or `ladle gateway`. gunicorn where it is installed, werkzeug otherwise."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flask import Flask

from clients.web.app import create_app
from clients.web.config import Config

EPILOG = """examples:
  ladle gateway                                              page and API at http://localhost:8080
  ladle gateway --server grpc://gpu-box:8500 --repository /models --host 0.0.0.0
  ladle gateway --models lenet5,unet                         no repository at hand: names alone
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; the exit code."""
    given = build_parser().parse_args(argv)
    config = Config(
        server=given.server,
        repository=None if given.models else given.repository,
        models=tuple(name for name in (given.models or "").split(",") if name),
        timeout_s=given.timeout,
    )
    try:
        _claim(given.host, given.port)
    except OSError as error:
        print(f"ladle gateway: {given.host}:{given.port}: {error.strerror}; --port takes another", file=sys.stderr)
        return 1
    app = create_app(config)
    shown = "localhost" if given.host in ("127.0.0.1", "0.0.0.0", "::") else given.host  # noqa: S104
    print(f"the page: http://{shown}:{given.port}/  (model server: {given.server})", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        if importlib.util.find_spec("gunicorn"):
            _gunicorn(app, given)
        else:
            app.run(given.host, given.port, threaded=True)
    return 0


def _claim(host: str, port: int) -> None:
    """OSError when the port cannot be had: gunicorn would try for five seconds and say it eleven times."""
    family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _gunicorn(app: Flask, given: argparse.Namespace) -> None:
    from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

    class Gateway(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            settings: dict[str, Any] = {
                "bind": f"[{given.host}]:{given.port}" if ":" in given.host else f"{given.host}:{given.port}",
                "workers": given.workers,
                "worker_class": "gthread",
                "threads": given.threads,
                "timeout": 120,
                "graceful_timeout": 5,
                "loglevel": "warning",
                "accesslog": "-" if given.access_log else None,
                "proc_name": "ladle-gateway",
                # A channel opened before a fork does not work after it: the application connects in the worker.
                "preload_app": False,
            }
            for key, value in settings.items():
                self.cfg.set(key, value)

        def load(self) -> Flask:
            return app

    Gateway().run()


def build_parser() -> argparse.ArgumentParser:
    """Options of the gateway."""
    parser = argparse.ArgumentParser(
        prog="ladle gateway",
        description="Serve the web page and its API in front of a model server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8080, help="port of the page (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    parser.add_argument(
        "--server",
        default=os.environ.get("LADLE_ADDRESS", Config.server),
        help="model server, grpc://HOST:PORT (default: $LADLE_ADDRESS, now %(default)s)",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        help="folder of the models: names, cards, samples (default: %(default)s)",
    )
    parser.add_argument("--models", help="names with commas between, instead of a repository")
    parser.add_argument(
        "--timeout", type=float, default=Config.timeout_s, help="seconds for an answer (default: %(default)g)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=16, help="threads of each (default: %(default)s)")
    parser.add_argument("--access-log", action="store_true", help="write a line for each request to stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
