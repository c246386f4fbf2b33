"""How long calls take, by the size of their input: decides what may run on the event loop."""

from __future__ import annotations

from collections.abc import Mapping

from ladle.clients.wire.arrays import Array

QUICK_S = 500e-6
"""A call expected to take no longer runs on the event loop; any other goes to a thread."""
_RISE = 1.05  # a call that was held up, by another process say, lengthens the estimate by no more


class Pace:
    """What a call takes when nothing holds it up, in seconds, for each power of two of input elements."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def record(self, size: int, seconds: float) -> None:
        power = size.bit_length()
        known = self._seconds.get(power)
        self._seconds[power] = seconds if known is None else min(seconds, known * _RISE)

    def is_quick(self, size: int) -> bool:
        """Whether a call of this size should end within QUICK_S; unknown ones are not quick."""
        expected = self.expected_s(size)
        return expected is not None and expected <= QUICK_S

    def measured_s(self, size: int) -> float | None:
        """Seconds that calls of about this size took; None before the first of them."""
        return self._seconds.get(size.bit_length())

    def expected_s(self, size: int) -> float | None:
        """Seconds that a call of this size should take; None before the first call.

        Between measured sizes the estimate errs on the long side: time grows no faster than the input.
        """
        power = size.bit_length()
        known = self._seconds.get(power)
        if known is not None or not self._seconds:
            return known
        smaller = [p for p in self._seconds if p < power]
        if smaller:
            nearest = max(smaller)
            return self._seconds[nearest] * 2.0 ** (power - nearest)
        return self._seconds[min(self._seconds)]


def size_of(inputs: Mapping[str, Array]) -> int:
    """Elements of all inputs; of strings, their bytes."""
    size = 0
    for array in inputs.values():
        size += array.size if array.dtype.kind != "O" else sum(map(len, array.ravel().tolist()))
    return size
