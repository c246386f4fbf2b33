"""ONNX Runtime alone: what no server can exceed.

python -m benchmarks.servers.limit GRAPH INPUTS.npz [OUTPUT ...]

Without an OUTPUT, each call computes all outputs of the graph. Our server computes only those that an answer needs.

Each line on stdin is a number of seconds; each answer on stdout is {"many", "one"}: calls per second with a thread for
each core, every call on one thread, and with one caller, on one thread or on all cores, whichever was quicker.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

Array = np.ndarray[Any, np.dtype[Any]]


def session(graph: Path, threads: int) -> Any:
    """A session as our server opens it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def many(loaded: Any, feed: Mapping[str, Array], outputs: Sequence[str], seconds: float, threads: int) -> float:
    """Calls per second of so many threads together."""
    counts = [0] * threads
    end = time.perf_counter() + seconds

    def call(number: int) -> None:
        while time.perf_counter() < end:
            loaded.run(outputs or None, feed)
            counts[number] += 1

    callers = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return sum(counts) / (time.perf_counter() - start)


def main() -> None:
    graph, file, outputs = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    with np.load(file) as opened:
        feed = {name: opened[name] for name in opened.files}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    narrow, wide = session(graph, 1), session(graph, cores)
    for loaded in (narrow, wide):
        for _ in range(5):
            loaded.run(outputs or None, feed)
    for line in sys.stdin:
        seconds = float(line)
        one = max(many(loaded, feed, outputs, seconds / 2, 1) for loaded in (narrow, wide))
        print(json.dumps({"many": many(narrow, feed, outputs, seconds, cores), "one": one}), flush=True)


if __name__ == "__main__":
    main()
