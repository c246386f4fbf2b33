"""The server's command line: one process, or a supervisor with its workers."""

from __future__ import annotations

import contextlib
import logging
import signal
from typing import TYPE_CHECKING

from ladle.serving import flags
from ladle.serving.repository.assembly import StartError
from ladle.serving.runtime.cores import share_cores

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def main(arguments: list[str]) -> int:
    """Runs the server with these flags; the exit status is 0 when stopped and 255 when it cannot start."""
    if any(argument in ("--help", "-h", "help") for argument in arguments):
        print(flags.usage())
        return 0
    if any(argument == "--version" or argument.startswith("--version=") for argument in arguments):
        print(_version())
        return 0
    _set_up_log()
    try:
        options = flags.parse(arguments)
        if options.workers > 1:
            from ladle.serving.workers.supervisor import Supervisor

            Supervisor(options, arguments).run()
        else:
            from ladle.serving.server import Server, run

            run(Server(options))
    except flags.FlagError as error:
        print(error)
        print(flags.usage())
        return 255
    except StartError as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return 255
    return 0


def work(connection: Connection, number: str, arguments: list[str]) -> int:
    """Runs a worker with these flags; `connection` is its supervisor's. Its exit status."""
    from ladle.serving.server import Server, run
    from ladle.serving.workers.worker import Follower

    _set_up_log(f"worker {number}: ")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    options = flags.parse(arguments, say=False)
    share_cores(options.workers)
    try:
        run(Server(options, Follower(connection, options.wait_for_models)))
    except StartError as error:
        print(f"Failed to start worker {number}. Error: {error}", flush=True)
        return 255
    return 0


def _set_up_log(name: str = "") -> None:
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname).1s {name}%(message)s")


def _version() -> str:
    from importlib import metadata

    import onnxruntime

    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"Ladle model server: {metadata.version('ladle')}\nONNX Runtime: {onnxruntime.__version__}"
    return f"Ladle model server: not installed as a package\nONNX Runtime: {onnxruntime.__version__}"
