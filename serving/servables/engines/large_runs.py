"""Runs of a graph that need much memory: cut into parts that fit, refused if not even one row does.

What such a run has needed goes back to the system, at once or when the graph has been idle (`kept_memory.py`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from ladle.clients.wire.arrays import Array
from ladle.serving.runtime import stopping
from ladle.serving.runtime.memory import trim_memory, watch_memory
from ladle.serving.servables.engines.kept_memory import KeptMemory
from ladle.serving.servables.engines.onnx_graph import Graph
from ladle.serving.servables.engines.run_memory import FREE_BYTES
from ladle.serving.servables.steps.steps import ImageDecoding

_LOOK_S = 0.05  # a run that waits for memory looks this often whether it was stopped
_SHRINK = "memory.enable_memory_arena_shrinkage"
_AT_ONCE = 2  # runs of the largest size that is allowed may be under way together
_DECODE_BYTES = 32  # of a pixel while an image is decoded: uint8 and float32, in colour, before and after scaling


def options(stop: stopping.Stop | None, shrink: bool = False) -> Any:
    """Options of a run that `stop` ends early; None if there is nothing to say.

    shrink  gives the session's free memory back after the run
    """
    if stop is None and not shrink:
        return None
    made = onnxruntime.RunOptions()
    if shrink:
        made.add_run_config_entry(_SHRINK, "cpu:0")
    if stop is not None:
        stop.call(functools.partial(setattr, made, "terminate", True))
    return made


def run(graph: Graph, names: Sequence[str], feed: Mapping[str, Array]) -> Sequence[Array]:
    """The named outputs of a graph for large inputs.

    ResourceExhausted when the run needs more memory than it may, Cancelled when it was stopped, and ONNX Runtime's own
    errors.
    """
    stop = stopping.current()
    # The event loop waits for no measurement: what it runs itself is known to take half a millisecond.
    memory = graph.memory if stop is None else graph.measured_memory()
    by_row = graph.row_inputs(feed)
    rows = len(feed[by_row[0]]) if by_row else 1
    elements = graph.elements(feed) // rows
    part = memory.part_rows(rows, elements, names, bool(by_row))
    if not part:
        smallest = 1 if by_row and memory.splits else rows
        given = ", ".join(f'"{name}" {array.dtype} {list(array.shape)}' for name, array in feed.items())
        raise memory.refusal(
            memory.needed(smallest, elements) + memory.answer_bytes(rows, elements, names), f"inputs {given}"
        )
    needed = memory.needed(part, elements)
    if needed < FREE_BYTES and part == rows:
        return graph.call(names, feed, options(stop))  # type: ignore[no-any-return]
    outputs: list[Array] = []
    had = _kept.has(graph)  # then the process grows by less than the run needs
    gives_back = needed >= FREE_BYTES and not _kept.keep(graph, needed)
    try:
        for start in range(0, rows, part):
            if stop is not None:
                stop.check()
            inputs = {name: array[start : start + part] if name in by_row else array for name, array in feed.items()}
            with _reserve(needed, memory.limit, stop), watch_memory() as watch:
                answers = graph.call(names, inputs, options(stop, shrink=gives_back))
            if watch.is_alone and not start and not had:
                memory.learn(min(part, rows), elements, watch.grown_bytes)
            if part == rows:
                return answers  # type: ignore[no-any-return]
            if not outputs:
                outputs = [np.empty((rows, *array.shape[1:]), array.dtype) for array in answers]
            for whole, array in zip(outputs, answers, strict=True):
                whole[start : start + part] = array
        return outputs
    except Exception:
        if gives_back:
            _shrink(graph)
        raise
    finally:
        if gives_back:
            trim_memory()


def _shrink(graph: Graph) -> None:
    """Gives back what a run that did not end has left in the arenas: only the end of a run does that, so run a row."""
    row = graph.made_up_row()
    for session in (graph.narrow, graph.wide):
        if row is not None and session is not None:
            with contextlib.suppress(Exception):  # the graph need not accept a made-up row
                session.call(graph.outputs, row, options(None, shrink=True))


_kept = KeptMemory(_shrink)


class _Reserved:
    """Memory that is set aside for the large runs that are under way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = 0

    @contextlib.contextmanager
    def __call__(self, needed: int, limit: int, stop: stopping.Stop | None) -> Iterator[None]:
        """Sets memory aside for a run; waits while the others' leaves too little. Cancelled when it was stopped."""
        with self._changed:
            while limit and self._bytes and self._bytes + needed > _AT_ONCE * limit:
                self._changed.wait(_LOOK_S)
                if stop is not None:
                    stop.check()
            self._bytes += needed
        try:
            yield
        finally:
            with self._changed:
                self._bytes -= needed
                self._changed.notify_all()


_reserve = _Reserved()


def image_count(graph: Graph, names: Sequence[str], decoding: ImageDecoding, encoded: Array) -> int:
    """Images that may be decoded and run at once: all of them, or fewer when all of them need too much memory.

    ResourceExhausted when not even one fits.
    """
    memory, count = graph.memory, len(encoded)
    sizes = decoding.sizes(encoded)
    if not sizes or (decoding.size is None and len(set(sizes)) > 1):
        return count  # decoding says what is wrong with them
    height, width = decoding.size or sizes[0]
    elements = height * width * decoding.channels
    most = max(h * w for h, w in sizes)
    decoded = 8 * elements  # float32, once by itself and once in the batch
    if count * elements <= memory.free_elements and most * _DECODE_BYTES + count * decoded <= FREE_BYTES:
        return count
    if not memory.limit:
        return count
    if stopping.current() is not None:
        memory = graph.measured_memory()
    part = memory.part_rows(count, elements, names)
    left = memory.limit - memory.answer_bytes(count, elements, names) - most * _DECODE_BYTES
    each = decoded + memory.needed(1, elements)
    if not memory.splits:
        part = count if part and count * each <= left else 0
    part = min(part, math.floor(left / each))
    if part < 1:
        given = f"{count} images of {width}×{height} pixels" if count > 1 else f"an image of {width}×{height} pixels"
        raise memory.refusal(memory.limit - left + (each if memory.splits else count * each), given)
    return part
