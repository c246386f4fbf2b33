"""`python -m ladle.serving.worker_command FD NUMBER [flags]`: a worker process, started by its supervisor.

FD is the descriptor of the socket that connects the two.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from ladle.serving import flags
from ladle.serving.repository.assembly import StartError
from ladle.serving.runtime.cores import share_cores
from ladle.serving.runtime.log import set_up_log
from ladle.serving.runtime.process_exit import exit_now
from ladle.serving.server import Server, run
from ladle.serving.workers.worker import Follower


def work(connection: Connection, number: str, arguments: list[str]) -> int:
    """Runs a worker with these flags; `connection` is its supervisor's. Its exit status."""
    set_up_log(f"worker {number}: ")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    options = flags.parse(arguments, report=False)
    share_cores(options.workers)
    try:
        run(Server(options, Follower(connection, options.wait_for_models)))
    except StartError as error:
        print(f"Failed to start worker {number}. Error: {error}", flush=True)
        return 255
    return 0


if __name__ == "__main__":
    exit_now(work(Connection(int(sys.argv[1])), sys.argv[2], sys.argv[3:]))
