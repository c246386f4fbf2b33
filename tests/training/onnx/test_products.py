"""Einsums of two operands become matrix products, which axes of size 0 do not crash."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from ladle.training.onnx.convert import session, to_onnx
from ladle.training.onnx.rewrites.products import as_matrix_products


def einsum(equation: str) -> onnx.ModelProto:
    terms = equation.partition("->")[0].split(",")
    inputs = [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, [None] * len(t)) for n, t in enumerate(terms)]
    node = helper.make_node("Einsum", [value.name for value in inputs], ["y"], equation=equation)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(equation.partition("->")[2]))
    graph = helper.make_graph([node], "g", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    "equation",
    [
        *("bhqd,bhkd->bhqk", "aecd,abcd->acbe", "acbe,aecd->abcd", "bij,bkj->bi", "bi,ci->bc", "bij,bkl->bik"),
        *("i,j->ij", "bt,bti->bi", "ij,ij->j", "abc,cde->abde", "bij,bij->", "bij,j->ib", "bij,->jb"),
    ],
)
def test_products_are_right_for_axes_of_any_size(equation: str) -> None:
    model = einsum(equation)
    as_matrix_products(model)
    assert "Einsum" not in {node.op_type for node in model.graph.node}
    run = session(model.SerializeToString(), threads=1)
    terms, random = equation.partition("->")[0].split(","), np.random.default_rng(0)
    letters = sorted(set("".join(terms)))
    for count in range(3):
        for empty in itertools.combinations(letters, count):
            sizes = {letter: 0 if letter in empty else n + 1 for n, letter in enumerate(letters)}
            arrays = [random.normal(size=[sizes[letter] for letter in term]).astype(np.float32) for term in terms]
            got = run({f"x{n}": array for n, array in enumerate(arrays)})["y"]
            expected = np.einsum(equation, *arrays)
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("equation", ["bii,bij->bj", "...i,ij->...j", "ab,bc,cd->ad"])
def test_other_einsums_stay(equation: str) -> None:
    model = einsum(equation)
    as_matrix_products(model)
    assert [node.op_type for node in model.graph.node] == ["Einsum"]


def test_attention_beside_an_einsum_that_is_no_product_survives_no_rows() -> None:
    def compute(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.einsum("bqd,bkd->bqk", x, x), "diagonal": tf.einsum("bii->bi", x)}

    run = session(to_onnx(tf.function(compute), {"x": tf.TensorSpec([None, 4, 4])}).SerializeToString(), threads=1)
    for rows in (0, 3):
        x = np.random.default_rng(0).normal(size=(rows, 4, 4)).astype(np.float32)
        for name, expected in compute(tf.constant(x)).items():
            np.testing.assert_allclose(run({"x": x})[name], expected, atol=1e-5)


def test_a_product_of_many_letters_is_converted_at_once() -> None:
    """tf2onnx would try 40320 orders of them, which takes ten minutes."""
    equation = "abcdef,abcdgh->abcefgh"
    compute = tf.function(lambda x, y: {"z": tf.einsum(equation, x, y)})
    specs = {"x": tf.TensorSpec([None, 2, 1, 3, 2, 2]), "y": tf.TensorSpec([None, 2, 1, 3, 1, 2])}
    run = session(to_onnx(compute, specs).SerializeToString(), threads=1)
    random = np.random.default_rng(0)
    arrays = {
        name: random.normal(size=[3, *spec.shape.as_list()[1:]]).astype(np.float32) for name, spec in specs.items()
    }
    np.testing.assert_allclose(run(arrays)["z"], compute(**arrays)["z"], atol=1e-5)
