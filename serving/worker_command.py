"""`python -m ladle.serving.worker_command FD MEMORY [flags]`: forks worker processes. Only a supervisor starts it.

FD is the file descriptor of the socket to the supervisor (`workers/fork_server.py`), MEMORY that of the memory in which
native calls are noted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection

import onnxruntime

from ladle.serving import flags
from ladle.serving.errors import StartError
from ladle.serving.runtime.cores import share_cores
from ladle.serving.runtime.log import set_up_log
from ladle.serving.runtime.native_calls import native_calls
from ladle.serving.runtime.process_exit import exit_now
from ladle.serving.server import Server, run
from ladle.serving.workers import fork_server
from ladle.serving.workers.worker import Replica

log = logging.getLogger(__name__)


def run_worker(connection: Connection, memory: int, number: int, arguments: list[str]) -> int:
    """Runs a worker until its supervisor stops it; returns its exit status. `connection` leads to the supervisor."""
    native_calls.attach(memory, number - 1)
    # Only the supervisor stops a worker. Until the server sets its own handler, SIGINT would end it with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    options = flags.parse(arguments, report=False)
    set_up_log(number, options.log_format)
    share_cores(options.workers)
    try:
        run(Server(options, Replica(connection, options.wait_for_models)))
    except StartError as error:
        print(f"Failed to start worker {number}. Error: {error}", flush=True)
        return 255
    return 0


def main(descriptor: int, memory: int, arguments: list[str]) -> None:
    """Forks workers until the supervisor ends."""
    with contextlib.suppress(ImportError):  # imported by a server when it runs: in each worker, were it not here
        import uvloop  # noqa: F401

    def worker(number: int, connection: int) -> None:
        # Forked processes would otherwise draw the same numbers in operations without a seed.
        onnxruntime.set_seed(int.from_bytes(os.urandom(4), "little") >> 1)
        status = 1
        try:
            status = run_worker(Connection(connection), memory, number, arguments)
        except Exception:
            log.exception("the worker ended")
        exit_now(status)

    with socket.socket(fileno=descriptor) as control:
        fork_server.serve(control, worker)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
