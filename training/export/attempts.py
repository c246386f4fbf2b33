"""Tells which run a conversion is about to make, so that another process knows which one ended it.

TensorFlow and ONNX Runtime can end the process on some inputs: no exception can be caught. `ladle convert` works
in a child process. When a run ends it, the conversion starts again and leaves that run out.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ladle.training.onnx.parity import Run

TENSORFLOW, ONNX_RUNTIME = "TensorFlow", "ONNX Runtime"


@dataclass(frozen=True)
class Attempt:
    """One run: an engine on one set of inputs of a signature."""

    signature: str
    engine: str
    inputs: str


class CrashError(Exception):
    """Raised in place of a run that ended an earlier process."""


class Attempts:
    """The runs of a conversion.

    crashed  those that ended the process before; they raise CrashError
    """

    def __init__(self, crashed: Collection[Attempt] = (), descriptor: int | None = None) -> None:
        """Of `descriptor`, a pipe: each run is written to it before it starts, as a line of JSON."""
        self.crashed, self._descriptor = frozenset(crashed), descriptor

    def watched(self, run: Run, signature: str, engine: str) -> Run:
        """The same function, which tells each run before it makes it."""

        def told(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            shapes = (f"{name} {array.dtype} {list(array.shape)}" for name, array in sorted(arrays.items()))
            attempt = Attempt(signature, engine, ", ".join(shapes))
            if attempt in self.crashed:
                raise CrashError(f"{engine} crashes on {attempt.inputs}")
            self._tell(dataclasses.asdict(attempt))
            result = run(arrays)
            self._tell(None)
            return result

        return told if self._descriptor is not None or self.crashed else run

    def _tell(self, message: object) -> None:
        if self._descriptor is not None:
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")
