"""Graphs are measured in processes of their own; what a request needs waits for no measurement in the background."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from ladle.serving.servables.engines import probe
from ladle.serving.servables.engines.prober import background, prober
from tests.tiny_models import half_plus


def processes() -> set[int]:
    """The processes that look at graphs, children of this one."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and probe.__name__.encode() in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def test_a_request_is_measured_for_while_the_background_is_held_up(tmp_path: Path) -> None:
    half_plus(2).write(tmp_path / "model", 1)
    graph = tmp_path / "model" / "1" / "model.onnx"
    started: set[int] = set()
    while not started:  # graphs of other tests may have been measured between the two lines
        background.prober.stop()
        before = processes()
        assert background.prober.look_at(graph, may_crash=False)["points"]
        started = processes() - before
    [held] = started
    os.kill(held, signal.SIGSTOP)
    waiting = threading.Thread(target=background.prober.look_at, args=(graph, False))
    waiting.start()
    try:
        assert prober.look_at(graph, may_crash=False)["points"]
        assert waiting.is_alive()
    finally:
        os.kill(held, signal.SIGCONT)
        waiting.join()
