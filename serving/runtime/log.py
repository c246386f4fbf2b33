"""The server's log: one line for each event, on stderr."""

from __future__ import annotations

import logging


def set_up_log(name: str = "") -> None:
    """Log from INFO on; `name` begins each message."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname).1s {name}%(message)s")
