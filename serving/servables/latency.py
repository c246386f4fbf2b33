"""How long calls take by the size of their inputs. It decides what may run on the event loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ladle.clients.wire.arrays import Array

QUICK_S = 500e-6
"""A call that should take at most this many seconds runs on the event loop; any other goes to a thread."""
# The minimum over calls is what a call takes by itself: another process can only add to it. Letting the estimate rise
# slowly follows a model that has become slower, without believing one call that was held up.
_RISE = 1.05
_RISING, _FALLING = 0.4, 0.1


def size_of(inputs: Mapping[str, Array]) -> int:
    """Elements of all inputs; a string counts by its bytes."""
    size = 0
    for array in inputs.values():
        size += array.size if array.dtype.kind != "O" else sum(map(len, array.ravel().tolist()))
    return size


class Latency:
    """Seconds that an undisturbed call takes, for each power of two of its size.

    size_of  counts what decides the time of a call: input elements, decoded ones where images are decoded
    seconds  by `size.bit_length()`
    by_shape  the shapes of the inputs decide the size
    wall     seconds of threads' runs beside everything else that runs, by the key that the scheduler gives them
    on_loop  the same of signatures whose time depends on the size alone, and empty for others: what it has at most
             QUICK_S for may run on the event loop. A size that was not measured never does: nobody knows its time
    """

    def __init__(self, count: Callable[[Mapping[str, Array]], int] = size_of, is_steady: bool = True) -> None:
        self.size_of = count
        self.seconds: dict[int, float] = {}
        self.wall: dict[int, float] = {}
        self.by_shape = count is size_of
        self.on_loop = self.seconds if is_steady else {}

    def record(self, size: int, seconds: float) -> None:
        """Add one measured call with `size` input elements."""
        power = size.bit_length()
        before = self.seconds.get(power)
        self.seconds[power] = seconds if before is None else min(seconds, before * _RISE)

    def record_wall(self, key: int, seconds: float) -> None:
        """Add the seconds from a run's start to its end: an average that rises sooner than it falls."""
        # What is run although it takes longer than expected is answered too late, for nothing; the reverse is harmless.
        before = self.wall.get(key, seconds)
        self.wall[key] = before + (_RISING if seconds > before else _FALLING) * (seconds - before)

    def is_quick(self, size: int) -> bool:
        """Whether a call of this size takes at most QUICK_S; False before the first one of this size."""
        measured = self.on_loop.get(size.bit_length())
        return measured is not None and measured <= QUICK_S

    def measured_s(self, size: int) -> float | None:
        """Seconds that calls of about this size took; None before the first one."""
        return self.seconds.get(size.bit_length())

    def expected_s(self, size: int) -> float | None:
        """Seconds that a call of this size should take; None before the first call of any size.

        A size that was not measured gets a high estimate: that of the next smaller one, scaled by the size. Time
        rarely grows faster than the input.
        """
        power = size.bit_length()
        measured = self.seconds.get(power)
        if measured is not None or not self.seconds:
            return measured
        smaller = [p for p in self.seconds if p < power]
        if smaller:
            nearest = max(smaller)
            return self.seconds[nearest] * 2.0 ** (power - nearest)
        return self.seconds[min(self.seconds)]
