"""The SavedModel called in process, without a server: the time of TensorFlow alone.

python -m benchmarks.in_process FOLDER INPUT.npy ALIAS

Each line on stdin is a number of seconds to measure; each answer on stdout is {"per_second", "p50_ms", "p99_ms"}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.requests.load import LoadError, percentile
from benchmarks.requests.models import ROOT, Subject


class InProcess:
    """A child process that loads the SavedModel once and measures on request."""

    def __init__(self, subject: Subject, scratch: Path) -> None:
        self._subject = subject
        self._file = scratch / "input.npy"
        np.save(self._file, subject.array)

    def __enter__(self) -> InProcess:
        command = [sys.executable, "-m", "benchmarks.in_process", str(self._subject.folder), str(self._file)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*command, self._subject.alias],
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        self._ask("")
        return self

    def measure(self, seconds: float) -> dict[str, float]:
        """Call the model again and again for `seconds`: per_second, p50_ms, p99_ms."""
        figures: dict[str, float] = json.loads(self._ask(f"{seconds}\n"))
        return figures

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise LoadError(f"got no answer from TensorFlow in process; expected it to run {self._subject.folder}")
        return answer

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    import tensorflow as tf

    folder, file, alias = sys.argv[1:4]
    model = tf.saved_model.load(folder)
    function = model.signatures["serving_default"]
    array = np.load(file)

    def run() -> Any:
        return {name: output.numpy() for name, output in function(**{alias: tf.constant(array)}).items()}

    for _ in range(20):
        run()
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        end = time.perf_counter() + float(line)
        while time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        times.sort()
        figures = {"per_second": len(times) / sum(times)}
        figures |= {"p50_ms": percentile(times, 50) * 1e3, "p99_ms": percentile(times, 99) * 1e3}
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
