"""An ONNX graph in memory, and how many threads a run of it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnxruntime

from ladle.clients.wire.arrays import Array
from ladle.serving.runtime.cores import Cores, cpu_count
from ladle.serving.servables.latency import Pace, size_of

SLOW_S = 1e-3
"""A run that takes longer is tried with more threads."""
KEPT_TWICE_BYTES = 2**27
"""A graph and its weights that take more are kept once: with the number of threads that was quickest at load."""
_TRY_AGAIN = 256  # runs of a size after which the slower number of threads is measured once more
_tuning = threading.Lock()  # one model at a time: two measurements would take the cores from each other
_cores = Cores()


@dataclass
class Way:
    """A session, its number of threads, and what its runs take when they have the cores to themselves."""

    session: Any
    threads: int
    pace: Pace = field(default_factory=Pace)

    @property
    def call(self) -> Any:
        """Runs it: (outputs, inputs by name, None) -> arrays."""
        # What InferenceSession.run checks once more, and what takes longer than all of our own, has been checked.
        return getattr(self.session, "_sess", self.session).run


class Graph:
    """An ONNX graph in memory.

    source  its file, or its bytes
    call    runs it: (outputs, inputs by name, None) -> arrays
    wide    a way with more threads, for runs that find the cores free; None for graphs that gain nothing by it
    """

    def __init__(self, source: str | bytes, size_bytes: int, threads: int = 0) -> None:
        """size_bytes  of the graph with its weights    threads  of each run; 0: as `tune` finds"""
        self.source, self._size_bytes = source, size_bytes
        self.tuned = threads > 0
        self.wide: Way | None = None
        self._use(Way(self._open(threads or 1), threads or 1))
        self._runs: dict[int, int] = {}

    def _use(self, narrow: Way) -> None:
        self.narrow, self.session, self.call = narrow, narrow.session, narrow.call

    @property
    def threads(self) -> int:
        """The most that a run takes."""
        return self.wide.threads if self.wide is not None else self.narrow.threads

    @property
    def inputs(self) -> dict[str, tuple[Any, ...]]:
        """Declared shapes by name; a free axis is None or a name."""
        return {i.name: tuple(i.shape) for i in self.session.get_inputs()}

    @property
    def outputs(self) -> list[str]:
        return [o.name for o in self.session.get_outputs()]

    def tune(self, feed: Mapping[str, Array]) -> None:
        """Measures a slow graph with more threads on these inputs, once."""
        if self.tuned:
            return
        self.tuned = True
        with _tuning:
            seconds = _measure(feed, self.session)[0]
            if seconds < SLOW_S:
                return
            ways, threads, least = [self.narrow], 2, seconds
            while threads <= cpu_count():
                way = Way(self._open(threads), threads)
                now, more = _measure(feed, self.session, way.session)
                if more < least or len(ways) == 1:
                    ways[1:], least = [way], more
                seconds = min(seconds, now)
                threads *= 2
            if len(ways) == 1:
                return
            if self._size_bytes > KEPT_TWICE_BYTES:
                if least < seconds:
                    self._use(ways[1])
                return
            if ways[1].threads > 2:
                self._use(Way(self._open(ways[1].threads // 2), ways[1].threads // 2))
            self.wide, self.call = ways[1], self._call

    def _call(self, outputs: Sequence[str], feed: Mapping[str, Array], options: None) -> list[Any]:
        """With many threads where the cores are free and that is quicker for inputs of this size, else with few."""
        assert self.wide is not None
        if not _cores.take(self.wide.threads):
            _cores.take(self.narrow.threads, force=True)
            try:
                return self.narrow.call(outputs, feed, options)  # type: ignore[no-any-return]
            finally:
                _cores.give(self.narrow.threads)
        try:
            size = size_of(feed)
            way = self._quicker(size, self.wide)
            start = time.perf_counter()
            answer = way.call(outputs, feed, options)
            way.pace.record(size, time.perf_counter() - start)
            return answer  # type: ignore[no-any-return]
        finally:
            _cores.give(self.wide.threads)

    def _quicker(self, size: int, wide: Way) -> Way:
        """The way to run inputs of this size; at times the slower one, to measure it again."""
        many, few = wide.pace.measured_s(size), self.narrow.pace.measured_s(size)
        if many is None:
            return wide
        if few is None:
            return self.narrow
        power = size.bit_length()
        runs = self._runs[power] = self._runs.get(power, 0) + 1
        tries = runs & (runs - 1) == 0 if runs < _TRY_AGAIN else runs % _TRY_AGAIN == 0
        return wide if (many <= few) is not tries else self.narrow

    def _open(self, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Threads that wait for the next operation spin, which is much quicker, but not beyond the end of the run:
        # that would take the cores from other models and from the event loop.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(self.source, options, providers=["CPUExecutionProvider"])


def _measure(feed: Mapping[str, Array], *sessions: Any) -> list[float]:
    """Seconds of a run on each session, the best of a few; in turn, so that what disturbs one disturbs all."""
    best = [float("inf")] * len(sessions)
    for _ in range(6):
        for i, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, feed)
            best[i] = min(best[i], time.perf_counter() - start)
        if max(best) > 0.5:
            break
    return best
