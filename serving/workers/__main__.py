"""`python -m ladle.serving.workers FD NUMBER [flags]`: a worker process, started by its supervisor.

FD is the descriptor of the socket that connects the two.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from ladle.serving.command import work
from ladle.serving.repository.assembly import leave

if __name__ == "__main__":
    leave(work(Connection(int(sys.argv[1])), sys.argv[2], sys.argv[3:]))
