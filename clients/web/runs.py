"""The runs that train now, read from the run folders that training writes: runs/<name>/<time>/."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ladle.clients.web.http.schema import Schema, array, boolean, integer, nullable, number, obj, string

try:
    import fcntl
except ImportError:  # Windows has none: no run is known to train there
    fcntl = None  # type: ignore[assignment]

Json = dict[str, Any]

MAX_BYTES = 2**20
MAX_RUNS = 100
RUN: Schema = obj(
    {
        "name": string("name of the network, or the one that --name gave it"),
        "epoch": integer(0, about="epochs done"),
        "epochs": nullable(integer(1)),
        "seconds": number(0, about="time of training so far, at the end of the last epoch"),
        "metrics": {"type": "object", "description": "of the last epoch"},
        "exporting": boolean(about="all epochs are done"),
    }
)
RUNS = array(RUN, about="networks that train now, from the folder of --runs")


def active(root: Path | None) -> list[Json]:
    """An entry as RUN for each name whose newest run trains now. Folders that cannot be read are left out."""
    found: list[Json] = []
    for home in _folders(root)[:MAX_RUNS]:
        runs = _folders(home)
        if runs and (entry := _entry(home.name, runs[-1])):
            found.append(entry)
    return found


def _folders(path: Path | None) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(path) if entry.is_dir()) if path else []
    except OSError:
        return []


def _entry(name: str, run: Path) -> Json | None:
    described = _read(run / "run.json")
    if not isinstance(described, dict) or described.get("exported") is not None or not _is_held(run):
        return None
    what = described.get("what")
    config = what.get("config") if isinstance(what, dict) else None
    epochs = config.get("epochs") if isinstance(config, dict) else None
    epochs = epochs if isinstance(epochs, int) and epochs > 0 else None
    history = _read(run / "history.json")
    last = history[-1] if isinstance(history, list) and history and isinstance(history[-1], dict) else {}
    done = last.get("epoch", 0) if isinstance(last.get("epoch", 0), int) else 0
    numbers = {key: value for key, value in last.items() if isinstance(value, int | float)}
    seconds = float(numbers.pop("seconds", 0))
    for key in ("epoch", "learning_rate"):
        numbers.pop(key, None)
    return {
        "name": name,
        "epoch": done,
        "epochs": epochs,
        "seconds": round(seconds, 1),
        "metrics": numbers,
        "exporting": epochs is not None and done >= epochs,
    }


def _is_held(run: Path) -> bool:
    """Whether a process holds the folder's lock, as training does while it lasts, however it ends."""
    if fcntl is None:
        return False
    try:
        lock = os.open(run, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _read(path: Path) -> Any:
    """The JSON of a small file; None if it cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
