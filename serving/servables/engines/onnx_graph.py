"""An ONNX graph in memory, and the number of threads of its runs.

A small graph runs fastest on one thread. A large one gets a second session with more threads, which is used while
cores are free.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime

from ladle.clients.wire.arrays import Array
from ladle.serving.runtime.cores import Cores, cpu_count
from ladle.serving.servables import shared_weights
from ladle.serving.servables.engines.gpu import device
from ladle.serving.servables.engines.gpu.device import Gpu
from ladle.serving.servables.engines.gpu.runs import Spread
from ladle.serving.servables.engines.run_memory import Measurement, RunMemory
from ladle.serving.servables.latency import QUICK_S, Latency, size_of
from ladle.serving.servables.shared_weights import SharedGraph

SLOW_S = QUICK_S
"""Only graphs whose runs take longer are tried with more threads: waking a thread costs tens of microseconds. Many rows
at a time take much longer than the one that is measured."""
KEPT_TWICE_BYTES = 2**27
"""A graph whose file is larger gets one session only, with the number of threads that was quickest at load."""
_RETRY_EVERY = 256  # runs of a size after which the slower session is measured once more
NUMPY: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
    **{f"tensor({name}{bits})": np.dtype(f"{name}{bits}") for name in ("int", "uint") for bits in (8, 16, 32, 64)},
}
"""NumPy's dtype by ONNX Runtime's name of a tensor's type."""

computing = Cores()
"""Cores that runs use, and the steps around them."""
_tuning = threading.Lock()  # one model at a time: two measurements would take the cores from each other


@dataclass
class TimedSession:
    """An ONNX Runtime session, its number of threads, and the latency of its runs while it has the cores to itself."""

    session: Any
    threads: int
    latency: Latency = field(default_factory=Latency)

    @property
    def call(self) -> Any:
        """(output names, inputs by name, None) -> arrays."""
        # InferenceSession.run checks names and types in Python, which takes longer than the rest of a small request.
        # They have been checked already, so call the native session below it.
        return getattr(self.session, "_sess", self.session).run


class Graph:
    """An ONNX graph in memory.

    source  the path of its file, or its bytes
    call    (output names, inputs by name, None) -> arrays
    smallest  for a graph that empty inputs may crash, the least safe size of free axes other than the first; such a
            graph never runs without rows. None: no input is known to crash it
    memory  how much memory its runs need
    measurement  measures it; None when that is done
    count   an upper bound of `elements`, from the sizes of the inputs
    has_loops  its time depends on what is in its inputs, not only on their size
    narrow  the session with few threads, usually one
    spread  its sessions on a GPU; None: it runs on the CPU
    wide    a session with more threads, for runs that find cores free; None when more threads gain nothing
    """

    def __init__(
        self,
        source: str | bytes,
        size_bytes: int,
        threads: int = 0,
        gpu: Gpu | None = None,
        shared: SharedGraph | None = None,
    ) -> None:
        """ONNX Runtime's error when the graph cannot be loaded.

        size_bytes  of the graph with its weights
        threads     of each run; 0: one, until `tune` finds a better number
        gpu         the GPU that it runs on; None: the CPU. FailedPrecondition: it cannot
        shared      the same graph prepared for all workers of the server, whose weights they share
        """
        self.source, self._size_bytes, self._gpu, self._shared = source, size_bytes, gpu, shared
        self.tuned = threads > 0 or gpu is not None  # threads of the CPU do not speed up a GPU
        self.smallest: int | None = None
        self.has_loops = False
        self.memory = RunMemory(0)
        self.measurement: Measurement | None = None
        # Tensors that are broadcast make a larger one: at most the product of their sizes.
        self.count: Callable[[list[int]], int] = math.prod if isinstance(source, bytes) else sum
        self.wide: TimedSession | None = None
        self.call: Any
        self._use(TimedSession(self._open(threads or 1), threads or 1))
        self.spread: Spread | None = None
        if gpu is not None:
            more = [self._open(threads or 1) for _ in range(gpu.sessions - 1)]
            self.spread = Spread([self.session, *more], "cuda", gpu.index, gpu.io_binding)
            self.call = self.spread.call
        self._runs: dict[int, int] = {}

    def _use(self, narrow: TimedSession) -> None:
        self.narrow, self.session, self.call = narrow, narrow.session, narrow.call

    @property
    def threads(self) -> int:
        """The most threads of a run."""
        return self.wide.threads if self.wide is not None else self.narrow.threads

    @property
    def inputs(self) -> dict[str, tuple[Any, ...]]:
        """Declared shapes by name; a free axis is None or a string."""
        return {i.name: tuple(i.shape) for i in self.session.get_inputs()}

    @property
    def outputs(self) -> list[str]:
        """Output names, in the graph's order."""
        return [o.name for o in self.session.get_outputs()]

    def measured_memory(self) -> RunMemory:
        """How much memory its runs need; measured now, if it was not yet."""
        if self.measurement is not None:
            self.measurement.complete()
            self.measurement = None
        return self.memory

    def has_fixed_sides(self) -> bool:
        """Whether no axis other than the first is free, in any input."""
        return all(isinstance(size, int) for shape in self.inputs.values() for size in shape[1:])

    def row_inputs(self, feed: Mapping[str, Array]) -> list[str]:
        """The inputs whose first axis counts the rows of the batch; none if their numbers of rows differ."""
        if isinstance(self.source, bytes):  # takes any shape: rows are rows only if nothing is broadcast
            names, shapes = list(feed), {array.shape for array in feed.values()}
        else:
            names = [name for name, shape in self.inputs.items() if shape and not isinstance(shape[0], int)]
            shapes = {feed[name].shape[:1] for name in names}
        return names if len(shapes) == 1 and shapes != {()} else []

    def elements(self, feed: Mapping[str, Array]) -> int:
        """Elements of these inputs, of those with rows if there are such; the most of any tensor, if they broadcast."""
        if isinstance(self.source, bytes):
            try:
                return math.prod(np.broadcast_shapes(*(array.shape for array in feed.values())))
            except ValueError:
                return 1  # the graph refuses them
        by_row = self.row_inputs(feed)
        return sum(array.size for name, array in feed.items() if name in by_row or not by_row)

    def made_up_row(self) -> dict[str, Array] | None:
        """A row of ones, with at least 64 for a free side of an image or length of a text; None for other dtypes."""
        row: dict[str, Array] = {}
        for given in self.session.get_inputs():
            dtype = NUMPY.get(given.type)
            if dtype is None:
                return None
            size = max(64, self.smallest or 0)
            shape = [d if isinstance(d, int) else 1 if axis == 0 else size for axis, d in enumerate(given.shape)]
            row[given.name] = np.ones(shape, dtype)
        return row

    def warm_up_gpu(self, sizes: Sequence[int]) -> None:
        """Run a row of ones at each number of rows, where cuDNN measures its convolutions at each new shape."""
        if self.spread is not None and self._gpu is not None and self._gpu.convolutions == "measured":
            row = self.made_up_row()
            if row is not None and self.row_inputs(row) == list(row):
                self.spread.warm_up(row, sizes)

    def tune(self, feed: Mapping[str, Array]) -> None:
        """Measure a slow graph with more threads on these inputs, and keep the best; later calls do nothing."""
        if self.tuned:
            return
        self.tuned = True
        with _tuning:
            seconds = _measure(feed, self.session)[0]
            if seconds < SLOW_S:
                return
            best, best_s, threads = None, seconds, 2
            while threads <= cpu_count():
                tried = TimedSession(self._open(threads), threads)
                now, tried_s = _measure(feed, self.session, tried.session)
                if tried_s < best_s or best is None:
                    best, best_s = tried, tried_s
                seconds = min(seconds, now)
                threads *= 2
            if best is None:
                return
            if self._size_bytes > KEPT_TWICE_BYTES:
                if best_s < seconds:
                    self._use(best)
                return
            if best.threads > 2:
                # Runs that find too few cores free for the wide session take half as many threads, not one.
                self._use(TimedSession(self._open(best.threads // 2), best.threads // 2))
            self.wide, self.call = best, self._call

    def _call(self, outputs: Sequence[str], feed: Mapping[str, Array], options: None) -> list[Any]:
        """Run on the wide session when its cores are free and it is quicker at this size, else on the narrow one."""
        assert self.wide is not None
        held = computing.held
        few, many = self.narrow.threads - held, self.wide.threads - held
        if not computing.take(many):
            computing.take(few, force=True)
            try:
                return self.narrow.call(outputs, feed, options)  # type: ignore[no-any-return]
            finally:
                computing.give(few)
        try:
            size, overtaken = size_of(feed), computing.overtaken
            session = self._quicker(size, self.wide)
            start = time.perf_counter()
            answer = session.call(outputs, feed, options)
            if computing.overtaken == overtaken:
                session.latency.record(size, time.perf_counter() - start)
            return answer  # type: ignore[no-any-return]
        finally:
            computing.give(many)

    def _quicker(self, size: int, wide: TimedSession) -> TimedSession:
        """The quicker session for inputs of this size; now and then the other one, to measure it again."""
        many, few = wide.latency.measured_s(size), self.narrow.latency.measured_s(size)
        if many is None:
            return wide
        if few is None:
            return self.narrow
        # The other one runs at runs 1, 2, 4, 8, ... and then at every 256th: often while little is known, then rarely.
        power = size.bit_length()
        runs = self._runs[power] = self._runs.get(power, 0) + 1
        is_retry = runs & (runs - 1) == 0 if runs < _RETRY_EVERY else runs % _RETRY_EVERY == 0
        return wide if (many <= few) is not is_retry else self.narrow

    def _open(self, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # fatal only: its other messages name nodes, and errors are raised anyway
        # Waiting threads spin within a run, which is much quicker than sleeping. They must not spin after its end:
        # that would take the cores from other models and from the event loop.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        source = self.source
        if self._shared is not None:
            shared_weights.as_prepared(options)
            source = str(self._shared.path)
        session = onnxruntime.InferenceSession(source, options, providers=device.providers(self._gpu))
        device.check(session, self._gpu)
        return session


def _measure(feed: Mapping[str, Array], *sessions: Any) -> list[float]:
    """Seconds of a run on each session, the best of six. Sessions alternate, so that a disturbance hits all of them."""
    best = [float("inf")] * len(sessions)
    for _ in range(6):
        for i, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, feed)
            best[i] = min(best[i], time.perf_counter() - start)
        if max(best) > 0.5:
            break
    return best
