"""Made-up requests for a signature: usual ones, and those that engines differ on. Only dtypes and shapes are known."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from ladle.training.onnx.graphs import BATCHES
from ladle.training.onnx.noise import FLOATS, INTEGERS, hard, noise, not_finite, with_floats, with_integers

Arrays = dict[str, np.ndarray]
Specs = Mapping[str, tf.TensorSpec]

ROWS = 64
"""Random rows in the comparison, besides those of the warm-up requests."""
_FEWEST_ROWS, _SECONDS = 16, 10.0
"""A model that takes longer for ROWS rows is compared on fewer."""
_LONGER = ((1, 8), (15, 3))
"""Added to an accepted length, in turn over the free axes: a shape that a graph computes can be right only at powers of
two."""
_SHORTER = (3, 2)
"""The same, of short inputs, except to pooling: TensorFlow crashes where its window does not fit."""
_MANY = 40
"""Rows at which a kernel computes several values at once."""
_FEW_ELEMENTS = 2**12
"""Most elements of a row that is repeated so often."""
LIMITS = (7, 128, 100_000, 2**25)
"""Bounds of the integers in hard inputs. TensorFlow refuses a whole request for one id beyond a table, so small ids are
tried by themselves."""
_FEW = 128
"""The bound of a number that decides how large a tensor is, or how long a loop runs."""


def hard_requests(
    specs: Specs, length: int, largest: int, small: Collection[str] = (), *, is_mixed: bool = False
) -> Iterator[Arrays]:
    """Zeros, negative and large values; other lengths of free axes, odd ones among them; one input of other rows.

    is_mixed  whether hardly two floats are the same
    """
    random = np.random.default_rng(1)
    limits = [*(most for most in LIMITS if most < largest), largest]
    for most in limits if any(spec.dtype.is_integer for spec in specs.values()) else limits[-1:]:
        # Values of a vector are computed otherwise than those that remain at its end: few rows and many.
        for count in (4, 1, _many(specs, length)) if most == largest else (4,):
            yield {
                name: hard(
                    random,
                    spec,
                    _free_rows(spec, count),
                    (length,),
                    min(most, _FEW) if name in small else most,
                    is_mixed=is_mixed,
                )
                for name, spec in specs.items()
            }
    if has_lengths(specs):
        for more in _LONGER:
            lengths = tuple(length + n for n in more)
            yield {name: noise(random, spec, _free_rows(spec, 2), lengths) for name, spec in specs.items()}
    if len(specs) > 1:
        for odd in specs:  # one row is repeated beside five where an engine allows it, two beside three never are
            for own, others in ((1, 5), (2, 3)):
                yield {
                    name: noise(random, spec, _free_rows(spec, own if name == odd else others), (length,))
                    for name, spec in specs.items()
                }


def short_requests(specs: Specs) -> Iterator[Arrays]:
    """Free axes that are short, besides the first."""
    if has_lengths(specs):
        random = np.random.default_rng(3)
        yield {name: noise(random, spec, _free_rows(spec, 2), _SHORTER) for name, spec in specs.items()}


def rowless_requests(specs: Specs, length: int) -> Iterator[Arrays]:
    """One input without rows beside two rows in the others, and the reverse, for each input whose rows are free."""
    free = [name for name, spec in specs.items() if _free_rows(spec, 0) is not None]
    random = np.random.default_rng(5)
    for odd in free if len(free) > 1 else ():
        for own, others in ((0, 2), (2, 0)):
            yield {
                name: noise(random, spec, _free_rows(spec, own if name == odd else others), (length,))
                for name, spec in specs.items()
            }


def even_requests(specs: Specs, length: int) -> Iterator[Arrays]:
    """Inputs in which all values are the same."""
    random = np.random.default_rng(4)
    for value in (0.0, 0.5):
        arrays = {name: noise(random, spec, _free_rows(spec, 2), (length,)) for name, spec in specs.items()}
        yield {name: np.full_like(array, value) for name, array in arrays.items()}


def with_infinities(specs: Specs, length: int, least: int, integers: str) -> Iterator[Arrays]:
    """Few and many NaN and infinities; of free axes, other lengths too, from `least` on."""
    random = np.random.default_rng(2)
    lengths: list[tuple[int, ...]] = [(length,)] * 5
    if has_lengths(specs):  # what is resized to a size may grow or shrink
        lengths += [(max(least, length // 4),), tuple(length + more for more in _LONGER[-1])]
    shares = ((8, 0.02), (8, 0.5), (1, 0.9), (2, 0.3), (3, 0.3), (2, 0.1), (2, 0.1))
    # Where one value is NaN, it shows how far that spreads.
    every = [*zip(shares, lengths, strict=False), *(((rows, 0.0), (length,)) for rows in (3, 8, 1))]
    for (rows, share), sizes in every:
        arrays = {name: not_finite(random, spec, _free_rows(spec, rows), sizes, share) for name, spec in specs.items()}
        yield with_integers(random, specs, arrays, integers)
    if any(spec.dtype.is_integer for spec in specs.values()):  # which may choose among branches
        for _ in range(2):
            arrays = {
                name: not_finite(random, spec, _free_rows(spec, 3), (length,), 0.3) for name, spec in specs.items()
            }
            yield {
                name: hard(random, spec, _free_rows(spec, 3), (length,), LIMITS[0])
                if spec.dtype.is_integer
                else arrays[name]
                for name, spec in specs.items()
            }


def has_lengths(specs: Specs) -> bool:
    """Whether an axis besides the first is free."""
    return any(None in spec.shape[1:] for spec in specs.values() if spec.shape.rank)


def _many(specs: Specs, length: int) -> int:
    """_MANY rows, or fewer of large inputs: TensorFlow and ONNX Runtime take seconds for those."""
    shapes = [spec.shape[1:].as_list() for spec in specs.values() if spec.shape.rank]
    elements = sum(math.prod(length if size is None else size for size in shape) for shape in shapes)
    return max(4, min(_MANY, _MANY * _FEW_ELEMENTS // max(1, elements)))


def _free_rows(spec: tf.TensorSpec, rows: int) -> int | None:
    """`rows` if the first axis is free; None if its length is fixed."""
    return rows if spec.shape.rank is None or (spec.shape.rank and spec.shape[0] is None) else None


def rows_of(request: Arrays) -> int:
    """Rows of a request; 1 for one without a batch."""
    first = next(iter(request.values()))
    return first.shape[0] if first.ndim else 1


class RandomRequests:
    """The warm-up requests, then ROWS random rows like the first of them: fewer of a model that takes seconds for one.

    rows  how many random rows there were
    """

    def __init__(
        self, specs: Specs, warm: Sequence[Arrays], length: int, integers: str = INTEGERS[0], floats: str = FLOATS[0]
    ) -> None:
        self._specs, self._warm, self._length, self.rows = specs, warm, length, 0
        self._integers, self._floats = integers, floats
        self._random = np.random.default_rng(0)

    def __iter__(self) -> Iterator[Arrays]:
        yield from self._warm
        free = all(_free_rows(spec, 1) for spec in self._specs.values())
        if not free:
            start = time.monotonic()
            while self.rows < ROWS and (self.rows < _FEWEST_ROWS or time.monotonic() - start < _SECONDS):
                yield self._rows(None)
                self.rows += 1
            return
        # Several batch sizes. The first run also prepares the engines, so the second shows what a row takes.
        every = self._rows(ROWS)
        few, some, _ = BATCHES
        yield self._first(few, every)
        start = time.monotonic()
        yield self._first(some, every)
        row_s = (time.monotonic() - start) / some
        self.rows = int(max(_FEWEST_ROWS, min(ROWS, _SECONDS / max(row_s, 1e-9))))
        yield self._first(self.rows, every)

    def _first(self, rows: int, every: Arrays) -> Arrays:
        cut = {name: array[:rows] for name, array in every.items()}
        return with_integers(self._random, self._specs, cut, "bits" if self._warm else self._integers)

    def _rows(self, count: int | None) -> Arrays:
        like = self._warm[0] if self._warm else {}
        made = {n: noise(self._random, spec, count, (self._length,), like.get(n)) for n, spec in self._specs.items()}
        made = with_floats(self._specs, made, self._floats)
        return with_integers(self._random, self._specs, made, "bits" if self._warm else self._integers)
