"""The server's log: one line for each event, on stderr."""

from __future__ import annotations

import logging


def set_up_log(name: str = "") -> None:
    """Writes messages from INFO up to stderr; `name` begins each one."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname).1s {name}%(message)s")
