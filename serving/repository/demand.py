"""Which models of a large repository are in memory: within a budget, those used longest ago leave first."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_GRAPH_FACTOR = 1.2
_TENSORFLOW_FACTOR = 2.0
_EACH_BYTES = 512 * 1024


class Demand:
    """The budget of models that are loaded on demand. The manager calls it under its lock.

    limit  bytes that the models in memory may take, as `estimate` has them
    uses   number of requests so far by model; asked once a second, so that requests have nothing to note
    """

    def __init__(self, limit: int, uses: Callable[[], Mapping[str, float]] = dict) -> None:
        self.limit = limit
        self.uses = uses
        self.wanted: dict[str, float] = {}
        """When each model that is to be in memory was last used, in time.monotonic() seconds."""
        self._counts: dict[str, float] = {}
        self._looked = 0.0

    def want(self, model: str) -> None:
        """Note that a request asks for a model now."""
        self.wanted[model] = time.monotonic()

    def watch(self, lock: threading.Condition) -> None:
        """Look once a second in a thread of its own, with the manager's lock."""
        threading.Thread(target=self._watch, args=(lock,), name="use", daemon=True).start()

    def _watch(self, lock: threading.Condition) -> None:
        while True:
            time.sleep(_LOOK_S)
            try:
                counts = self.uses()
            except Exception:  # the thread must outlive a worker that ends meanwhile
                log.exception("the requests by model are not known")
            else:
                with lock:
                    self.look(counts)

    def look(self, counts: Mapping[str, float]) -> None:
        """Note which models have been used since the last look. counts: what `uses` gave."""
        for model, wanted in self.wanted.items():
            if counts.get(model, 0.0) != self._counts.get(model, 0.0):
                # A count does not say when. The last look is the earliest time: with the present one, the request that
                # a model came for would make it newer than one that came after it.
                self.wanted[model] = max(wanted, self._looked)
        self._counts = dict(counts)
        self._looked = time.monotonic()

    def leaving(self, sizes: Mapping[str, int], keep: str) -> list[str]:
        """The models that must leave so that the others fit; never `keep`. sizes: bytes of each model in memory."""
        excess = sum(sizes.values()) - self.limit
        gone = []
        for model in sorted(sizes, key=lambda model: self.wanted.get(model, 0.0)):
            if excess <= 0:
                break
            if model != keep:
                gone.append(model)
                excess -= sizes[model]
        return gone


def estimate(folder: Path) -> int:
    """Bytes that a version takes in memory, by the size of its files.

    Measured: a graph adds 1.00 to 1.16 times its file for files of 8 to 128 MiB, and a version of a few kilobytes adds
    300 kB. A SavedModel without graphs counts twice.
    """
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    graphs = sum(size for path, size in sizes.items() if path.suffix == ".onnx")
    read = _GRAPH_FACTOR * graphs if graphs else _TENSORFLOW_FACTOR * sum(sizes.values())
    return int(read) + _EACH_BYTES
