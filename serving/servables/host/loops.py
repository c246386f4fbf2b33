"""Loops, branches and lists of tensors between operations on strings: tf.map_fn, tf.while_loop and tf.cond on text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.runtime import stopping
from ladle.serving.servables.host.limits import check_size
from ladle.serving.servables.host.strings import array_of

Attributes = Mapping[str, Any]
Function = Callable[..., Any]
Block = Callable[..., tuple[Any, ...]]

Tensors = list[Any]
"""A list of tensors, as TensorFlow passes it through a loop; None where nothing was written."""


def _while(blocks: Mapping[str, Block]) -> Function:
    condition, body = blocks["cond"], blocks["body"]

    def loop(*values: Any) -> tuple[Any, ...]:
        while _is_true(condition(*values)[0]):
            if (stop := stopping.running.stop) is not None:
                stop.check()
            values = body(*values)
        return values

    return loop


def _if(blocks: Mapping[str, Block]) -> Function:
    def branch(condition: Array, *values: Any) -> tuple[Any, ...]:
        return blocks["then_branch" if _is_true(condition) else "else_branch"](*values)

    return branch


def _is_true(condition: Array) -> bool:
    """As TensorFlow decides: a scalar other than 0 or an empty text, or any tensor with elements."""
    return bool(condition.item()) if condition.ndim == 0 else bool(condition.size)


def _make_list(size: Array) -> Tensors:
    check_size([int(size)])
    return [None] * int(size)


def _set(items: Tensors, at: Array, item: Any) -> Tensors:
    n = int(at)
    if n < 0:
        raise InvalidArgument(f"a list has no element {n}")
    check_size([n + 1])
    made = [*items, *([None] * (n + 1 - len(items)))]
    made[n] = item
    return made


def _get(items: Tensors, at: Array) -> Any:
    n = int(at)
    if not 0 <= n < len(items) or items[n] is None:
        raise InvalidArgument(f"a list of {len(items)} elements has none at {n}")
    return items[n]


def _stack(attributes: Attributes) -> Function:
    dtype = attributes["element_dtype"]

    def stack(items: Tensors, shape: Array) -> Array:
        shapes = {item.shape for item in items if item is not None}
        if len(shapes) > 1:
            raise InvalidArgument(f"elements of shapes {sorted(map(list, shapes))} cannot be stacked")
        inner = shapes.pop() if shapes else tuple(max(0, n) for n in np.ravel(shape).tolist())
        check_size([len(items), *inner])
        blank = np.full(inner, b"", object) if dtype == "string" else np.zeros(inner, np.dtype(dtype))
        whole = np.empty((len(items), *inner), blank.dtype)
        for n, item in enumerate(items):
            value = blank if item is None else item
            whole[n] = value[()] if value.ndim == 0 else value  # of an array without axes, what it holds
        return whole

    return stack


def _rows(x: Array) -> Tensors:
    """The elements along the first axis; those of a vector of strings as arrays, too."""
    if x.ndim == 1 and x.dtype == object:
        return [array_of([text], []) for text in x.tolist()]
    return [np.asarray(row) for row in x]


BLOCKS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Block]], Function]]] = {
    "While": (("cond", "body"), _while),
    "StatelessWhile": (("cond", "body"), _while),
    "If": (("then_branch", "else_branch"), _if),
    "StatelessIf": (("then_branch", "else_branch"), _if),
}
"""Operation -> the attributes that name its functions, and what it does with them."""
LISTS: dict[str, Callable[[Attributes], Function]] = {
    "TensorListReserve": lambda attributes: lambda shape, size: _make_list(size),
    "TensorListFromTensor": lambda attributes: lambda x, shape: _rows(x),
    "TensorListGetItem": lambda attributes: lambda items, at, shape: _get(items, at),
    "TensorListSetItem": lambda attributes: _set,
    "TensorListStack": _stack,
    "TensorListLength": lambda attributes: lambda items: np.array(len(items), np.int32),
}
"""Operations on lists of tensors, which run on the host with the loop that uses them."""
