"""gunicorn's worker with threads, except that a caller who keeps a closed connection open holds up nobody.

gunicorn --worker-class ladle.clients.web.worker.Worker --threads 16 'ladle.clients.web:create_app()'

After an answer with `Connection: close`, gunicorn 27 waits up to two seconds for the caller to close its side. It does
so in the one thread that accepts connections and hands out requests, so all other callers wait, too. Here the thread
that answered waits.
"""

from __future__ import annotations

import contextlib
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]


class Worker(ThreadWorker):  # type: ignore[misc]
    """A `gthread` worker that closes a connection in the thread that answered on it."""

    def handle(self, conn: Any) -> Any:
        """What becomes of the connection: falsy, it ends."""
        kept = super().handle(conn)
        if not kept:
            with contextlib.suppress(OSError):  # a failed handshake has closed it already
                conn.close(graceful=True)
            conn.close = _closed  # the main thread, which counts connections, closes it again
        return kept


def _closed(graceful: bool = False) -> None:
    pass
