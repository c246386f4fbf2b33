"""`python -m ladle.serving.worker_command FD MEMORY NUMBER [flags]`: a worker process. Only a supervisor starts it.

FD is the file descriptor of the socket to the supervisor, MEMORY that of the memory in which native calls are noted,
NUMBER the worker's number in the log.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from ladle.serving import flags
from ladle.serving.errors import StartError
from ladle.serving.runtime.cores import share_cores
from ladle.serving.runtime.log import set_up_log
from ladle.serving.runtime.native_calls import native_calls
from ladle.serving.runtime.process_exit import exit_now
from ladle.serving.server import Server, run
from ladle.serving.workers.worker import Replica


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


if __name__ == "__main__":
    exit_now(run_worker(Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
