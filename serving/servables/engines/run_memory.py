"""How much memory a run of a graph needs, by the shapes of its inputs: what may run whole, in parts, or not at all.

The estimate grows with the rows, and with a power of the size of a row. Its figures are measured when the graph is
loaded (`probe.py`), and raised when a run turns out to need more.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ladle.serving.errors import ResourceExhausted

FREE_BYTES = 2**25
"""A run that needs less is not counted: it is neither cut nor watched, and its memory is kept for the next one."""
PART_S = 0.5
"""Parts of a run should take at most this long: between two parts, a run can be stopped."""
_MARGIN = 1.3  # of the estimate; measurements at small sizes were up to a quarter too low at large ones
_ANSWER_COPIES = 4  # outputs are held once as arrays, and up to three times while an answer is written
_SURPRISE = 1.25  # so many times the estimate raise it: less may be what other requests took at the time
_FORGET = 0.9
_LEAST_POWER = 1.15  # less is the arena's rounding
_MAX_POWER = 2.0  # attention grows with the square of a sequence's length
_GUESSED_FREE_ELEMENTS = 2**14  # of a graph that was not measured
_TRUSTED = 4  # so many times what ran at load is not too large, either
_GUESSED_GROWTH = 8  # bytes for each byte of its inputs, before the first run


class RunMemory:
    """Estimates the runs of one graph.

    limit          bytes that a run may need; 0: any number
    splits         the rows of a batch have nothing to do with each other, so that it can run in parts
    free_elements  runs whose inputs have at most this many elements in all need no estimate
    """

    def __init__(self, limit: int, points: Sequence[Mapping[str, Any]] = (), splits: bool = False) -> None:
        """`points` are the measurements of `probe.py`: one row, several rows, and one row with larger sides."""
        self.limit = limit
        self.splits = splits
        self._lock = threading.Lock()
        self._factor = 1.0  # learnt
        self._fixed = 0.0
        self._row_elements = 1
        self._row_bytes = float(_GUESSED_GROWTH * 4)
        self._row_s = 0.0
        self._power = self._time_power = 1.0
        self._outputs: dict[str, float] = {}
        self._output_powers: dict[str, float] = {}
        if points:
            self._read(points)
        self.free_elements = self._find_free_elements() if points else _GUESSED_FREE_ELEMENTS
        if not limit:
            self.free_elements = 2**62

    @classmethod
    def of_elementwise(cls, limit: int, outputs: Sequence[str]) -> RunMemory:
        """Of a graph that computes each element by itself: a few tensors of the size of an output are alive at once."""
        size = {"rows": 1, "elements": 1, "bytes": 32, "seconds": 1e-8, "outputs": dict.fromkeys(outputs, 8)}
        memory = cls(limit, [size], splits=True)
        memory._output_powers = dict.fromkeys(outputs, 1.0)
        return memory

    def _read(self, points: Sequence[Mapping[str, Any]]) -> None:
        one = points[0]
        many = next((point for point in points if point["rows"] > 1), None)
        wide = next((point for point in points[1:] if point["elements"] > one["elements"]), None)
        self._row_elements = max(1, one["elements"])
        least = 4.0 * one["elements"] + sum(one["outputs"].values())
        if many is not None:
            self._row_bytes = max(least, (many["bytes"] - one["bytes"]) / (many["rows"] - 1))
            self._row_s = max(0.0, (many["seconds"] - one["seconds"]) / (many["rows"] - 1))
        elif wide is not None:
            self._row_bytes = max(least, (wide["bytes"] - one["bytes"]) / (_times(one, wide) - 1))
            self._row_s = one["seconds"]
        else:
            self._row_bytes, self._row_s = max(least, float(one["bytes"])), one["seconds"]
        self._fixed = max(0.0, one["bytes"] - self._row_bytes)
        self._outputs = {name: size / one["rows"] for name, size in one["outputs"].items()}
        if wide is None:
            return
        times = _times(one, wide)
        grown = (wide["bytes"] - self._fixed) / self._row_bytes
        self._power = _power(grown, times)
        self._time_power = _power(wide["seconds"] / max(one["seconds"], 1e-6), times)
        if self._power < _LEAST_POWER:
            self._power, self._row_bytes = 1.0, self._row_bytes * max(1.0, grown / times)
        for name, size in self._outputs.items():
            self._output_powers[name] = max(0.0, _exponent(wide["outputs"][name] / max(1, size), times))

    def _find_free_elements(self) -> int:
        """The most elements that need no estimate, however they are spread over rows and sides."""
        memory = max(0.0, FREE_BYTES - self._fixed) / (_MARGIN * self._factor * self._row_bytes)
        time = PART_S / max(self._row_s, 1e-9)
        rows = min(memory, time) if self.splits else memory
        # All in one row is the worst case where a row grows faster than its elements.
        return int(self._row_elements * (rows if rows < 1 else rows ** (1 / max(self._power, self._time_power))))

    def trust(self, elements: int) -> None:
        """A run with so many elements did well. Before the measurement, little more than that needs no estimate."""
        if not self._outputs:
            self.free_elements = max(self.free_elements, _TRUSTED * elements)

    def needed(self, rows: int, elements: int) -> int:
        """Bytes that a run needs for this many rows with this many elements each."""
        scaled = (elements / self._row_elements) ** self._power if elements > self._row_elements else 1.0
        growth = max(scaled * self._row_bytes, 8.0 * elements)
        return int(self._fixed + _MARGIN * self._factor * rows * growth)

    def answer_bytes(self, rows: int, elements: int, names: Sequence[str]) -> int:
        """Bytes that these outputs take until the answer is sent."""
        ratio = max(1.0, elements / self._row_elements)
        each = sum(self._outputs.get(name, 0.0) * ratio ** self._output_powers.get(name, 0.0) for name in names)
        return int(_ANSWER_COPIES * rows * each)

    def part_rows(self, rows: int, elements: int, names: Sequence[str], splits: bool = True) -> int:
        """Rows of a part of a run: all of them, if it need not be cut; 0 if not even one row fits into the limit.

        names   outputs that the run computes
        splits  False: these inputs must run whole
        """
        kept = self.answer_bytes(rows, elements, names)
        if not self.limit:
            return rows
        if not (self.splits and splits):
            return rows if self.needed(rows, elements) + kept <= self.limit else 0
        each = self.needed(1, elements) - self._fixed
        fitting = int((self.limit - kept - self._fixed) / max(1.0, each))
        if fitting < 1:
            return 0
        scaled = max(1.0, elements / self._row_elements) ** self._time_power
        quick = int(PART_S / max(self._row_s * scaled, 1e-9))
        return min(rows, fitting, max(1, quick))

    def refusal(self, needed: int, given: str) -> ResourceExhausted:
        """The error for a run that needs so many bytes; `given` says what was sent."""
        return ResourceExhausted(
            f"got {given}, for which the model needs about {show_bytes(needed)} of memory at once; "
            f"--max_run_bytes allows {show_bytes(self.limit)}; send fewer or smaller rows"
        )

    def learn(self, rows: int, elements: int, seen_bytes: int) -> None:
        """Raises the estimate if a run needed more, and lowers it again, step by step, if later ones do not."""
        # `seen_bytes` counts what else the process did at the time: without a way back, the estimate would creep up.
        ratio = seen_bytes / max(1, self.needed(rows, elements))
        with self._lock:
            self._factor = max(1.0, self._factor * (ratio if ratio > _SURPRISE else _FORGET))
            self.free_elements = min(self.free_elements, self._find_free_elements())


class Measurement:
    """Something to measure once: in the background when nothing loads, or earlier, when a run needs to know.

    measure  is told whether it is in the background
    """

    def __init__(self, measure: Callable[[bool], None]) -> None:
        self._measure: Callable[[bool], None] | None = measure
        self._lock = threading.Lock()

    def complete(self, in_background: bool = False) -> None:
        """Measures, or waits for whoever does; later calls return at once."""
        with self._lock:
            measure, self._measure = self._measure, None
            if measure is not None:
                measure(in_background)


def _times(one: Mapping[str, Any], wide: Mapping[str, Any]) -> float:
    return float(wide["elements"] / max(1, one["elements"]))


def _exponent(growth: float, times: float) -> float:
    """The power with which something grows that becomes `growth` times as large with `times` as many elements."""
    return min(_MAX_POWER, math.log(max(growth, 1.0)) / math.log(times))


def _power(growth: float, times: float) -> float:
    return max(1.0, _exponent(growth, times))


def show_bytes(size: int) -> str:
    """A size as people read it: `1.5 GiB`."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
