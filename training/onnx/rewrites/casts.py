"""Keeps casts that change values. tf2onnx takes one after another for one, and so drops digits, wrapping and rounding.

It made `cast(cast(0.5, int32), bool)` true, `cast(cast(256, int8), bool)` too, and let 2^24 + 1 pass through float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
from tf2onnx.optimizer import back_to_back_optimizer

_CAST = ("Cast",)
_T = onnx.TensorProto
_DIGITS = {_T.BFLOAT16: 8, _T.FLOAT16: 11, _T.FLOAT: 24, _T.DOUBLE: 53}
"""Of floats, in bits: integers of so many bits are exact."""


@contextlib.contextmanager
def that_change_values() -> Iterator[None]:
    """Let tf2onnx's optimizer remove only casts after which another cast gives the same without them."""
    handlers = back_to_back_optimizer._func_map
    before = handlers[_CAST]
    handlers[_CAST] = _remove_if_exact
    try:
        yield
    finally:
        handlers[_CAST] = before


def _remove_if_exact(graph: Any, node: Any, readers: Sequence[Any]) -> list[str]:
    """Remove a cast that only casts read, if its dtype holds all values of its input's; the outputs of the others."""
    source = graph.get_dtype(node.input[0])
    if not holds_all(node.get_attr("to").i, source):
        return []
    for reader in readers:
        graph.replace_input(reader, reader.input[0], node.input[0], 0)
    graph.remove_node(node.name)
    return [reader.output[0] for reader in readers]


def holds_all(wide: int, narrow: int | None) -> bool:
    """Whether a dtype of ONNX has every value of another one."""
    if narrow is None or wide == narrow:
        return wide == narrow
    if wide in _DIGITS:
        if narrow in _DIGITS:  # bfloat16 has the range of float32, float16 has not
            return _DIGITS[wide] > _DIGITS[narrow] and wide != _T.FLOAT16
        return bool(narrow == _T.BOOL or _bits(narrow) <= _DIGITS[wide])
    if narrow == _T.BOOL:
        return bool(wide != _T.STRING)
    if narrow in _DIGITS or _T.STRING in (wide, narrow) or wide == _T.BOOL:
        return False
    limits = [np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(dtype)) for dtype in (wide, narrow)]
    return bool(limits[0].min <= limits[1].min and limits[0].max >= limits[1].max)


def _bits(integer: int) -> int:
    limits = np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(integer))
    return int(limits.bits) - (1 if limits.min < 0 else 0)
