"""Run the model server of this checkout and say on which line of ours its main thread is, every millisecond of CPU.

python -m benchmarks.profiling.sampler FLAG ...

`benchmarks.profiling.steps` starts it. A line on stdin begins a new count; the answer on stdout is the count so far, in
JSON: [file, function, source line, samples]. A signal that arrives while a C function runs is handled when that
returns, in the frame that called it, so the time of the C function counts for the line that called it. What the event
loop itself does in C, such as reading a socket, counts for the callback that it calls next.
"""

from __future__ import annotations

import json
import linecache
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EVERY_S = 0.001
_ROOMS = ("serving", "clients")


class Sampler:
    """Counts the innermost line of ours at each tick of the process's CPU clock."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._files: dict[str, str] = {}

    def start(self) -> None:
        """From now on; from the main thread."""
        signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def take(self) -> list[list[Any]]:
        """The counts since the last call."""
        counts, self._counts = self._counts, Counter()
        entries = list(counts.items())  # in one step of the interpreter: the main thread may still hold the old counts
        return [
            [file, function, linecache.getline(str(ROOT / file), line).strip() if file else "", count]
            for (file, function, line), count in entries
        ]

    def _tick(self, number: int, frame: FrameType | None) -> None:
        while frame is not None:
            name = frame.f_code.co_filename
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = self._inside(name)
            if file:
                self._counts[file, frame.f_code.co_name, frame.f_lineno or 0] += 1
                return
            frame = frame.f_back
        self._counts["", "", 0] += 1

    def _inside(self, name: str) -> str:
        path = Path(os.path.realpath(name))
        if not path.is_relative_to(ROOT):
            return ""
        inside = path.relative_to(ROOT)
        return inside.as_posix() if inside.parts[0] in _ROOMS and inside.name != "server.py" else ""


def main() -> None:
    sampler = Sampler()
    sys.path[0] = str(ROOT)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def obey() -> None:
        for _ in sys.stdin:
            print(json.dumps(sampler.take()), file=answers, flush=True)

    threading.Thread(target=obey, daemon=True).start()
    sampler.start()
    from ladle.serving.command import main as serve

    serve(sys.argv[1:])


if __name__ == "__main__":
    main()
