"""The time of each operator of a graph, from ONNX Runtime's profiler."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from ladle.clients.wire.arrays import Array
from ladle.serving.servables.engines.onnx_graph import Graph


def time_operators(graph: Graph, feed: Mapping[str, Array]) -> list[tuple[str, float, float]]:
    """Name (`Conv conv1`), start and end of each operator of a run, in seconds from the start of the first one.

    The graph is loaded a second time and runs twice; the second run counts, as the first one allocates its memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = graph.threads
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(graph.source, options, providers=["CPUExecutionProvider"])
        for _ in range(2):
            session.run(None, dict(feed))
        events = json.loads(Path(session.end_profiling()).read_text())
    runs = [event for event in events if event.get("name") == "model_run"]
    if not runs:
        return []
    last = max(runs, key=lambda event: event["ts"])
    found = []
    for event in events:
        inside = last["ts"] <= event.get("ts", -1) <= last["ts"] + last["dur"]
        if event.get("cat") == "Node" and inside and event["name"].endswith("_kernel_time"):
            name = f"{event.get('args', {}).get('op_name', '')} {event['name'].removesuffix('_kernel_time')}".strip()
            start = (event["ts"] - last["ts"]) / 1e6
            found.append((name, start, start + event["dur"] / 1e6))
    return found
