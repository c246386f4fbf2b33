"""Child processes: the environment that they are started in, and how they ended."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import ladle


def environment() -> dict[str, str]:
    """This process's environment; a child finds this package in it even where the package is not installed."""
    root = Path(ladle.__file__).resolve().parents[1]
    if root.name == "site-packages":
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}


def describe(status: int) -> str:
    """`signal 6 (SIGABRT)` or `exit status 1`, from a status as `subprocess` gives it."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {-status} ({signal.Signals(-status).name})"
    return f"signal {-status}"
