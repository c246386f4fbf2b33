"""Runs of a graph on a GPU: on several sessions, with inputs and outputs bound there."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from ladle.clients.wire.arrays import Array


class Spread:
    """Sessions of one graph. A run takes the one with the fewest runs.

    Runs in different sessions do not share memory or streams, so they overlap on the GPU.
    """

    def __init__(self, sessions: Sequence[Any], device: str = "cuda", index: int = 0, io_binding: bool = False) -> None:
        """`device` and `index` say where to bind inputs and outputs, if at all."""
        self._sessions, self._device, self._index, self._io_binding = list(sessions), device, index, io_binding
        self._running = [0] * len(self._sessions)
        self._lock = threading.Lock()

    @property
    def running(self) -> int:
        """Runs that have begun and not ended."""
        return sum(self._running)

    def call(self, outputs: Sequence[str], feed: Mapping[str, Array], options: Any) -> list[Array]:
        """The outputs, in their order. What ONNX Runtime raises."""
        with self._lock:
            chosen = self._running.index(min(self._running))
            self._running[chosen] += 1
        try:
            session = self._sessions[chosen]
            if not self._io_binding:
                return list(getattr(session, "_sess", session).run(outputs, feed, options))
            return self._bound(session, outputs, feed, options)
        finally:
            with self._lock:
                self._running[chosen] -= 1

    def _bound(self, session: Any, outputs: Sequence[str], feed: Mapping[str, Array], options: Any) -> list[Array]:
        binding = session.io_binding()
        # The bound values must outlive the run.
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, self._index)
            for name, array in feed.items()
        }
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, self._device, self._index)
        session.run_with_iobinding(binding, options)
        return list(binding.copy_outputs_to_cpu())

    def warm_up(self, row: Mapping[str, Array], sizes: Sequence[int]) -> None:
        """Run each session once at each number of rows, so that cuDNN has chosen before the first request."""
        for session in self._sessions:
            for rows in sizes:
                session.run(None, {name: np.repeat(array, rows, 0) for name, array in row.items()})
