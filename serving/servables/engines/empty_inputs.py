"""Answers requests without rows, and keeps inputs from a graph that they would crash.

ONNX Runtime's recurrent layers end the whole process, not the request, on a batch of no rows; GRU also on a sequence of
no steps, and Einsum on both. (The C++ runtime aborts; no exception can be caught.) Nobody but the client knows such a
shape before the request arrives, so inputs with an axis of size 0 never reach a graph that has such a layer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.engines.onnx_graph import NUMPY, Graph
from ladle.serving.servables.steps.steps import Step, Tensors

log = logging.getLogger(__name__)

# Found by running 63 operations with rows, steps or sides of size 0, 1 and 2 in child processes, on ONNX Runtime 1.32.
CRASHING = frozenset({"Einsum", "GRU", "LSTM", "RNN"})
"""Operations that end the process when an axis of their input has size 0."""
_MOST_ELEMENTS = 2**16  # of the made-up row whose outputs show the sizes of an answer without rows


class _OtherRowsError(InvalidArgument):
    """Refuses a request without rows to a graph of which an output has other rows than the inputs."""


def run(graph: Graph, names: Sequence[str], feed: Mapping[str, Array]) -> Sequence[Array]:
    """The named outputs of a graph for inputs of which at least one is empty.

    Without rows, every output has no rows either, and the graph does not run if the sizes of its other axes are known.
    InvalidArgument when inputs do not fit the graph or could crash it, and ONNX Runtime's own errors.
    """
    if isinstance(graph.source, bytes):  # computes each element by itself, for inputs of any shape
        return graph.call(names, feed, None)  # type: ignore[no-any-return]
    check_shapes(graph, feed)
    rowless = _is_rowless(graph, feed)
    if rowless and (answers := _empty_outputs(graph, names, feed)) is not None:
        return answers
    if graph.smallest is None:
        try:
            return graph.call(names, feed, None)  # type: ignore[no-any-return]
        except Exception:
            answers = _shaped_if_possible(graph, names, feed) if rowless else None
            if answers is None:
                raise
            return answers
    if rowless:
        return _shaped_by_one_row(graph, names, feed)
    # A graph with a crashing layer: an empty axis that the probe found harmless may run, if there are rows.
    if all(len(feed[name]) for name, shape in graph.inputs.items() if shape and not isinstance(shape[0], int)):
        return graph.call(names, feed, None)  # type: ignore[no-any-return]
    raise _different_rows(feed)


def _different_rows(feed: Mapping[str, Array]) -> InvalidArgument:
    return InvalidArgument(f"got inputs with different numbers of rows: {_describe(feed)}; expected the same for all")


def rows_or_none(graph: Graph) -> Step:
    """A step that refuses inputs without rows beside inputs with rows."""
    free = tuple(name for name, shape in graph.inputs.items() if shape and not isinstance(shape[0], int))

    def check(tensors: Tensors) -> None:
        if len({len(tensors[name]) > 0 for name in free if tensors[name].ndim}) > 1:
            raise _different_rows({name: tensors[name] for name in free})

    return Step("check_rows", free, (), check)


def with_elements(feeds: tuple[str, ...]) -> Step:
    """A step that refuses tensors without elements, such as texts without words."""

    def check(tensors: Tensors) -> None:
        for name in feeds:
            if tensors[name].ndim and len(tensors[name]) and not tensors[name].size:
                raise InvalidArgument(
                    "the request leaves the ONNX graph without elements, as a text without words does, for which it "
                    "was not verified; send others, or start the server with --engine=tensorflow"
                )

    return Step("check_elements", feeds, (), check)


def check_shapes(graph: Graph, feed: Mapping[str, Array]) -> None:
    """InvalidArgument for an input that does not fit its declared shape, or has an axis that could crash the graph."""
    smallest = graph.smallest or 0
    for name, shape in graph.inputs.items():
        given = feed[name].shape
        if not fits(shape, given):
            raise InvalidArgument(misfit(name, shape, given))
        if any(not isinstance(size, int) and g < smallest for size, g in zip(shape[1:], given[1:], strict=True)):
            raise InvalidArgument(
                f'input "{name}" has shape {list(given)}; expected at least {smallest} on each axis of free size'
            )


def fits(shape: tuple[Any, ...], given: tuple[int, ...]) -> bool:
    """Whether an input may have this shape; free axes of the declared one are None or strings."""
    return len(given) == len(shape) and all(
        not isinstance(size, int) or size == g for size, g in zip(shape, given, strict=True)
    )


def misfit(name: str, shape: tuple[Any, ...], given: tuple[int, ...]) -> str:
    """The error text for an input that does not fit its declared shape."""
    expected = [size if isinstance(size, int) else -1 for size in shape]
    return f'input "{name}" has shape {list(given)}; expected {expected}, where -1 is any size'


def _describe(feed: Mapping[str, Array]) -> str:
    return ", ".join(f'"{name}" {array.dtype} {list(array.shape)}' for name, array in feed.items())


def _is_rowless(graph: Graph, feed: Mapping[str, Array]) -> bool:
    """Whether the inputs have a free first axis, the rows, and all have none of them."""
    counts = [len(feed[name]) for name, shape in graph.inputs.items() if shape and not isinstance(shape[0], int)]
    return bool(counts) and not any(counts)


def _empty_outputs(
    graph: Graph, names: Sequence[str], feed: Mapping[str, Array], unknown: int | None = None
) -> list[Array] | None:
    """Outputs without rows, of the declared shapes; None when an output has fixed rows or an axis of unknown size.

    unknown  size of an axis whose size depends on the inputs in a way that the graph does not declare
    """
    sizes: dict[Any, int | None] = {}
    for name, shape in graph.inputs.items():
        sizes.update({size: g for size, g in zip(shape, feed[name].shape, strict=True) if isinstance(size, str)})
    answers = []
    for output in graph.session.get_outputs():
        if output.name not in names:
            continue
        if not output.shape or isinstance(output.shape[0], int):
            return None
        inner = [size if isinstance(size, int) else sizes.get(size, unknown) for size in output.shape[1:]]
        if None in inner:
            return None
        answers.append(np.zeros([0, *(size or 0 for size in inner)], NUMPY[output.type]))
    return answers


def _shaped_if_possible(graph: Graph, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array] | None:
    """Outputs without rows, of the shapes that a row gives, or else with axes of size 0 where a size is unknown."""
    try:
        return _shaped_by_one_row(graph, names, feed)
    except _OtherRowsError:
        raise
    except Exception:  # the graph may refuse the made-up row in any way
        return _empty_outputs(graph, names, feed, unknown=0)


def _shaped_by_one_row(graph: Graph, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
    """Outputs without rows of the shapes that one row of zeros gives. InvalidArgument when that cannot tell them."""
    free = {name for name, shape in graph.inputs.items() if shape and not isinstance(shape[0], int)}
    row = {
        name: np.zeros((1, *array.shape[1:]), array.dtype) if name in free else array for name, array in feed.items()
    }
    if any(not array.size for array in row.values()) or sum(math.prod(a.shape) for a in row.values()) > _MOST_ELEMENTS:
        raise InvalidArgument(f"got no rows: {_describe(feed)}; expected at least one")
    answers: list[Array] = list(graph.call(names, row, None))
    if any(array.ndim == 0 or len(array) != 1 for array in answers):
        raise _OtherRowsError(f"got no rows: {_describe(feed)}; expected at least one")
    return [array[:0] for array in answers]


def safe_size(path: Path, found: Mapping[str, Any]) -> int:
    """The smallest size of free axes, other than the first, with which one row does not crash the graph.

    A graph may cut steps off before a recurrent layer, so a size above 0 can crash, too.

    found  what the probe found out: it tries one size after the other, downwards, until one ends its process
    """
    smallest: int | None = found.get("smallest")
    if smallest is None:
        log.warning("%s: sizes that may crash the graph were not found; empty axes are refused", path)
        return 1
    if smallest:
        log.info("%s: free axes smaller than %d may crash the graph; such requests are refused", path, smallest)
    return smallest
