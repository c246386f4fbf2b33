"""Replaces ONNX's Einsum of two operands by a matrix product.

ONNX Runtime divides by an axis of size 0 in some of them, which ends the process: `bhqd,bhkd->bhqk` of no rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from tf2onnx.optimizer.einsum_optimizer import EinsumOptimizer

from ladle.training.onnx.simplify import subgraphs

_MOST_LETTERS = 5


@contextlib.contextmanager
def without_long_search() -> Iterator[None]:
    """Let tf2onnx look for the best form of small products alone.

    It tries all orders of the letters: of seven, as in attention over two axes, 5040 in a minute.
    """
    search = EinsumOptimizer._optimize_einsum

    def of_few_letters(optimizer: Any, node: Any, graph: Any) -> Any:
        letters = {letter for letter in node.attr["equation"].s.decode() if letter.isalpha()}
        return len(letters) <= _MOST_LETTERS and search(optimizer, node, graph)

    EinsumOptimizer._optimize_einsum = of_few_letters
    try:
        yield
    finally:
        EinsumOptimizer._optimize_einsum = search


def as_matrix_products(model: onnx.ModelProto) -> None:
    """Replace the products of two operands in which no term repeats a letter; the others stay, and do no harm."""
    for graph in subgraphs(model.graph):
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            terms = _terms(node)
            nodes += [node] if terms is None else _Product(graph, node, *terms).made
        if len(nodes) != len(graph.node):
            del graph.node[:]
            graph.node.extend(nodes)


def _terms(node: onnx.NodeProto) -> tuple[str, str, str] | None:
    if node.op_type != "Einsum" or len(node.input) != 2:
        return None
    equation = onnx.helper.get_attribute_value(node.attribute[0]).decode().replace(" ", "")
    given, _, result = equation.partition("->")
    first, second = given.split(",")
    is_plain = "." not in equation and "->" in equation
    is_plain &= all(len(set(term)) == len(term) for term in (first, second, result))
    return (first, second, result) if is_plain else None


class _Product:
    """The nodes of one product.

    A letter belongs to both operands and the result (batch), to both operands alone (the sum runs over it), or to one
    operand and the result. One that only a single operand has is summed up before.
    """

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto, first: str, second: str, result: str) -> None:
        self._graph, self._prefix, self.made = graph, f"{node.output[0]}/product", list[onnx.NodeProto]()
        batch = [letter for letter in result if letter in first and letter in second]
        inner = [letter for letter in first if letter in second and letter not in result]
        left = [letter for letter in result if letter in first and letter not in second]
        right = [letter for letter in result if letter in second and letter not in first]
        a = self._ordered(node.input[0], first, [*batch, *left, *inner])
        b = self._ordered(node.input[1], second, [*batch, *inner, *right])
        sizes_a, sizes_b = self._node("Shape", [a]), self._node("Shape", [b])
        n, rows, sums, columns = len(batch), len(left), len(inner), len(right)
        shape = self._part(sizes_a, 0, n)
        between = self._part(sizes_a, n + rows, n + rows + sums)
        a = self._matrix(a, shape, self._part(sizes_a, n, n + rows), between, rows == sums == 1)
        b = self._matrix(b, shape, between, self._part(sizes_b, n + sums, n + sums + columns), sums == columns == 1)
        product = self._node("MatMul", [a, b])
        if not (rows == columns == 1):
            parts = [shape, self._part(sizes_a, n, n + rows), self._part(sizes_b, n + sums, n + sums + columns)]
            product = self._node("Reshape", [product, self._node("Concat", parts, axis=0)], allowzero=1)
        order = [*batch, *left, *right]
        moved = {"perm": [order.index(letter) for letter in result]} if result else {}
        self._node("Transpose" if result else "Identity", [product], node.output[0], **moved)

    def _ordered(self, x: str, term: str, letters: Sequence[str]) -> str:
        """The operand with its axes in this order; it is summed over those that are not among them."""
        kept = [letter for letter in term if letter in letters]
        if len(kept) < len(term):
            axes = self._constant([n for n, letter in enumerate(term) if letter not in letters])
            x = self._node("ReduceSum", [x, axes], keepdims=0)
        if kept != [*letters]:
            x = self._node("Transpose", [x], perm=[kept.index(letter) for letter in letters])
        return x

    def _matrix(self, x: str, batch: str, rows: str, columns: str, is_one: bool) -> str:
        if is_one:
            return x
        sides = [self._node("ReduceProd", [part], keepdims=1) for part in (rows, columns)]
        return self._node("Reshape", [x, self._node("Concat", [batch, *sides], axis=0)], allowzero=1)

    def _part(self, sizes: str, start: int, end: int) -> str:
        return self._node("Slice", [sizes, self._constant([start]), self._constant([end])])

    def _constant(self, values: Sequence[int]) -> str:
        name = f"{self._prefix}/constant_{len(self._graph.initializer)}"
        self._graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def _node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: object) -> str:
        output = output or f"{self._prefix}/{len(self.made)}"
        self.made.append(onnx.helper.make_node(kind, inputs, [output], f"{output}/{kind}", **attributes))
        return output
