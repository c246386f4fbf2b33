"""The memory that large runs leave with their graphs: kept for the next run, and given back when none comes.

ONNX Runtime's arena would keep it for ever. Giving it back after each run costs a U-Net two fifths of its time, since
the system has to make all of its pages anew.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

from ladle.serving.runtime.cores import lower_priority, process_count
from ladle.serving.runtime.memory import total_bytes, trim_memory
from ladle.serving.servables.engines.onnx_graph import Graph

IDLE_S = 5.0
"""A graph that has not run for so long gives its memory back."""
_MOST_BYTES = 2**28
_SHARE = 16  # of the memory that there is
_RUNS = 2  # so many runs of a graph may have been under way together, each with memory of its own


class KeptMemory:
    """What the graphs of this process keep, together at most `limit` bytes.

    give_back  makes a graph give back what no run uses
    """

    def __init__(self, give_back: Callable[[Graph], None], limit: int = 0) -> None:
        self._give_back = give_back
        self._limit = limit or min(_MOST_BYTES, total_bytes() // _SHARE) // process_count()
        self._changed = threading.Condition()
        self._bytes: weakref.WeakKeyDictionary[Graph, int] = weakref.WeakKeyDictionary()
        self._ran: weakref.WeakKeyDictionary[Graph, float] = weakref.WeakKeyDictionary()
        self._is_watched = False

    def keep(self, graph: Graph, needed: int) -> bool:
        """Whether a graph may keep what a run needs, so many bytes; if not, all give back what they have."""
        with self._changed:
            others = sum(size for other, size in self._bytes.items() if other is not graph)
            wanted = max(_RUNS * needed, self._bytes.get(graph, 0))
            if others + wanted <= self._limit:
                self._bytes[graph], self._ran[graph] = wanted, time.monotonic()
                if not self._is_watched:
                    self._is_watched = True
                    threading.Thread(target=self._watch, name="kept memory", daemon=True).start()
                return True
            kept = list(self._bytes)
            self._bytes.clear()
        for each in kept:
            self._give_back(each)
        return False

    def has(self, graph: Graph) -> bool:
        """Whether the graph has memory of an earlier run."""
        with self._changed:
            return graph in self._bytes

    def _watch(self) -> None:
        lower_priority()
        while True:
            with self._changed:
                if not self._bytes:
                    self._is_watched = False
                    return
                now = time.monotonic()
                idle = [graph for graph in self._bytes if now - self._ran[graph] >= IDLE_S]
                for graph in idle:
                    del self._bytes[graph]
                if not idle:
                    last = min(self._ran[graph] for graph in self._bytes)
                    self._changed.wait(max(0.01, last + IDLE_S - now))
                    continue
            while idle:
                self._give_back(idle.pop())
            del graph  # an unloaded version's graph must not stay in memory because of this thread
            trim_memory()
