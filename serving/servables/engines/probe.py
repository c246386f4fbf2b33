"""`python -m ladle.serving.servables.engines.probe GRAPH`: runs an ONNX graph on ever smaller inputs.

Prints each size that the process has survived, with or without an error of the graph. A size that crashes ONNX Runtime
ends the process: it must not be the server's.
"""

from __future__ import annotations

import contextlib
import sys

import numpy as np

from ladle.serving.servables.engines.onnx_graph import NUMPY, Graph

# From a size that most graphs take down to none. The step between sizes is how much too large the answer may be.
SIZES = (256, 128, 96, 64, 48, 32, 24, 16, 12, *range(10, -1, -1))


def main(path: str) -> None:
    """Runs one row of zeros at each size of the free axes; the first axis has size 1."""
    graph = Graph(path, 0, threads=1)
    for size in SIZES:
        feed = {}
        for given in graph.session.get_inputs():
            shape = [d if isinstance(d, int) else 1 if axis == 0 else size for axis, d in enumerate(given.shape)]
            feed[given.name] = np.zeros(shape, NUMPY[given.type])
        with contextlib.suppress(Exception):  # refusing a shape is fine: the server lives on
            graph.call(graph.outputs, feed, None)
        print(size, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
