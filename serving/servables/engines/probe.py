"""`python -m ladle.serving.servables.engines.probe`: looks at ONNX graphs in child processes, one for a line of input.

A line of input is JSON: `path` of a graph, and `may_crash`, whether it holds operations that some inputs crash. A line
of output is what was found: `smallest`, the least size of free axes other than the first that does not crash the graph;
`points`, what runs on made-up inputs took; `splits`, whether the rows of a batch have nothing to do with each other.

The process imports ONNX Runtime once and forks for each graph and run. A run that crashes ends its own process only,
and each run starts with the same memory, so that the growth between two sizes can be measured to the page.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from ladle.serving.runtime.memory import trim_memory
from ladle.serving.servables.engines.onnx_graph import NUMPY

# From a size that most graphs take down to none. The step between sizes is how much too large the answer may be.
SIZES: tuple[int, ...] = (256, 128, 96, 64, 48, 32, 24, 16, 12, *range(10, -1, -1))
SIDE = 64
"""Size of free axes other than the first, in the smaller inputs that memory is measured with."""
_CHILD_S = 60.0
_ROWS_S = 0.04  # the rows of the larger input should take this long
_MOST_ROWS = 32
_MOST_ELEMENTS = 2**22  # of the larger input
_WIDE_S = 0.1  # a row with larger sides should take at most this long,
_UNCLEAR_S = 0.4  # or this long


def main() -> None:
    """Answers each line of the standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process, too; the server decides when it ends
    for line in sys.stdin:
        asked = json.loads(line)
        found = in_child(lambda asked=asked: look_at(asked["path"], asked["may_crash"]))  # type: ignore[misc]
        print(json.dumps(found or {}), flush=True)


def in_child(function: Callable[[], Any], timeout_s: float = _CHILD_S) -> Any:
    """What the function returns in a forked process; None if the process ends before that."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            with os.fdopen(write, "wb") as file:
                pickle.dump(function(), file)
        finally:
            os._exit(0)
    os.close(write)
    data, deadline = b"", time.monotonic() + timeout_s
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(read, 2**20)
        if not part:
            break
        data += part
    else:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    os.waitpid(child, 0)
    try:
        return pickle.loads(data)  # noqa: S301 (of our own child)
    except (EOFError, pickle.UnpicklingError):
        return None


def _peak_bytes() -> int:
    """The most memory that this process had."""
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


class Run(NamedTuple):
    """What a run took: memory, seconds of the processor, bytes of each output.

    answers  the outputs, or whether they are the same as alone
    """

    peak_bytes: int
    seconds: float
    sizes: dict[str, int]
    answers: Any


def look_at(path: str, may_crash: bool) -> dict[str, Any]:
    """What was found about a graph."""
    options = onnxruntime.SessionOptions()
    # One thread, which is the caller's: a forked process has no other threads.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    trim_memory()  # else the runs would find what loading has freed, and would seem to need less
    found: dict[str, Any] = {}
    if may_crash:
        found["smallest"] = _smallest(session)
    return {**found, **_measure(session, max(SIDE, found.get("smallest") or 0))}


def _smallest(session: Any) -> int:
    """Runs one row of zeros at ever smaller sizes of the free axes; the first axis has size 1."""
    if all(isinstance(size, int) for given in session.get_inputs() for size in given.shape[1:]):
        return 0
    read, write = os.pipe()

    def run() -> None:
        for at, size in enumerate(SIZES):
            with contextlib.suppress(Exception):  # refusing a shape is fine: the process lives on
                session.run(None, _feed(session, 1, size, np.zeros))
            os.write(write, bytes([at]))

    in_child(run)
    os.write(write, bytes([255]))
    survived = os.read(read, 2 * len(SIZES))
    os.close(read)
    os.close(write)
    return SIZES[survived[-2]] if len(survived) > 1 else SIZES[0] + 1


def _measure(session: Any, side: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def draw(shape: list[int], dtype: Any) -> Any:
        if dtype == np.bool_ or np.issubdtype(dtype, np.integer):
            return rng.integers(0, 2, shape).astype(dtype)
        return rng.random(shape).astype(dtype)

    given = session.get_inputs()
    by_row = [i.name for i in given if i.shape and not isinstance(i.shape[0], int)]
    first = _feed(session, 1, side, draw)
    most_rows = max(3, min(_MOST_ROWS, _MOST_ELEMENTS // sum(array.size for array in first.values())))
    more = _feed(session, most_rows, side, draw) if by_row else {}
    idle: int = in_child(_peak_bytes)
    alone: Run | None = in_child(lambda: _run(session, first))
    if alone is None:
        return {}
    points = [_point(1, first, by_row, idle, alone)]
    splits = False
    if by_row:
        rows = min(most_rows, max(3, int(_ROWS_S / max(alone.seconds, 1e-6))))
        # The row that ran alone is both the first and the last one of the batch.
        batch = {
            name: np.concatenate([array, more[name][: rows - 2], array]) if name in by_row else array
            for name, array in first.items()
        }
        merged: Run | None = in_child(lambda: _run(session, batch, alone.answers))
        if merged is not None:
            points.append(_point(rows, batch, by_row, idle, merged))
            splits = merged.answers
    if any(not isinstance(size, int) for i in given for size in i.shape[1:]):
        points += _widen(session, draw, side, by_row, idle, points)
    return {"points": points, "splits": splits}


def _widen(
    session: Any, draw: Any, side: int, by_row: list[str], idle_bytes: int, points: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The point of the largest row with sides of 2, 4, 8, ... times the size that is worth its time; or none."""
    one = points[0]
    found: list[dict[str, Any]] = []
    row_bytes = (points[1]["bytes"] - one["bytes"]) / (points[1]["rows"] - 1) if len(points) > 1 else one["bytes"]
    before, last_s, most_s = one["elements"], one["seconds"], _WIDE_S
    while True:
        side *= 2
        feed = _feed(session, 1, side, draw)
        point_elements = sum(array.size for array in feed.values())
        times = point_elements / before
        if times <= 1 or last_s * times > most_s or point_elements > _MOST_ELEMENTS:
            return found
        run: Run | None = in_child(lambda feed=feed: _run(session, feed, once=True))  # type: ignore[misc]
        if run is None:
            return found
        found = [_point(1, feed, by_row, idle_bytes, run)]
        before, last_s = point_elements, run.seconds
        # What a row needs grows with its elements, or faster. Where that is not clear yet, more time is well spent.
        grown = (found[0]["bytes"] - one["bytes"] + row_bytes) / max(1.0, row_bytes)
        linear = found[0]["elements"] / one["elements"]
        most_s = _UNCLEAR_S if 1.2 * linear < grown < linear**1.7 else _WIDE_S


def _point(rows: int, feed: dict[str, Any], by_row: list[str], idle_bytes: int, run: Run) -> dict[str, Any]:
    elements = sum(array.size for name, array in feed.items() if name in by_row or not by_row) // rows
    grown = run.peak_bytes - idle_bytes
    return {"rows": rows, "elements": elements, "bytes": grown, "seconds": run.seconds, "outputs": run.sizes}


def _run(session: Any, feed: dict[str, Any], alone: Any = None, once: bool = False) -> Run:
    start = time.thread_time()  # not the wall clock: other models load at the same time
    answers = session.run(None, feed)
    seconds, peak = time.thread_time() - start, _peak_bytes()
    if alone is None and not once and seconds < _WIDE_S:  # the first run also touches what later ones find in memory
        start = time.thread_time()
        session.run(None, feed)
        seconds = min(seconds, time.thread_time() - start)
    sizes = {output.name: int(a.nbytes) for output, a in zip(session.get_outputs(), answers, strict=True)}
    if alone is None:
        return Run(peak, seconds, sizes, answers)
    rows = max(len(array) for array in feed.values() if array.ndim)
    same = all(
        array.ndim > 0 and len(array) == rows and _is_same(array[:1], one) and _is_same(array[-1:], one)
        for array, one in zip(answers, alone, strict=True)
    )
    return Run(peak, seconds, sizes, same)


def _is_same(a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    if not np.issubdtype(a.dtype, np.floating):
        # In a map of classes, a pixel may go either way where two classes tie.
        return bool(np.mean(a == b) > 0.95)
    return bool(np.allclose(a, b, rtol=1e-3, atol=1e-4 * float(np.max(np.abs(b), initial=0.0)), equal_nan=True))


def _feed(session: Any, rows: int, side: int, make: Callable[[list[int], Any], Any]) -> dict[str, Any]:
    feed = {}
    for given in session.get_inputs():
        shape = [d if isinstance(d, int) else rows if axis == 0 else side for axis, d in enumerate(given.shape)]
        feed[given.name] = make(shape, NUMPY[given.type])
    return feed


if __name__ == "__main__":
    main()
