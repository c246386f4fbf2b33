"""`python -m serving.work FD NUMBER [flags]`: a worker process, as its supervisor starts it; FD is their connection."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from serving.command import work
from serving.lifecycle import leave

if __name__ == "__main__":
    leave(work(Connection(int(sys.argv[1])), sys.argv[2], sys.argv[3:]))
