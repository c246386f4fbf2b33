"""Random small graphs answer on ONNX Runtime what they answer on TensorFlow, on values at which engines differ."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ladle.training.onnx import convert
from tests.training.onnx import random_graphs
from tests.training.onnx.random_graphs import WIDTH

NUMBER = st.integers(0, 2**20)
GRAPHS = st.tuples(
    st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), min_size=1, max_size=7), st.lists(NUMBER, max_size=3)
)
RANDOM = np.random.default_rng(0)
VALUES = np.array([0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 1, -1, 2, -2, 3, -7, 9, 30, -30, 255, -256, 1e4], np.float32)
INTEGERS = np.array([0, 1, -1, 2, 3, 5, 6, -6, 7, -7, 255, 256, -300, 2**24 + 1, 2**31 - 1, -(2**31)], np.int32)


def check(graph: tuple[list[tuple[int, int, int, int]], list[int]]) -> None:
    """Convert a graph and compare it on few rows and many."""
    steps, smooth = graph
    specs = {"x": tf.TensorSpec([None, WIDTH], tf.float32), "n": tf.TensorSpec([None, WIDTH], tf.int32)}
    function = tf.function(functools.partial(random_graphs.compute, steps, smooth))
    session = convert.session(convert.to_onnx(function, specs).SerializeToString(), threads=1)
    for rows in (1, 3, 17):
        arrays = {"x": RANDOM.choice(VALUES, (rows, WIDTH)), "n": RANDOM.choice(INTEGERS, (rows, WIDTH))}
        expected = {name: value.numpy() for name, value in function(**arrays).items()}
        got = session(arrays)
        told = f"{random_graphs.describe(steps, smooth)}\n{arrays}"
        for name in ("exact", "int", "bool"):
            np.testing.assert_array_equal(got[name], expected[name], err_msg=f"{name} of {told}")
        spread = max(1.0, np.abs(expected["smooth"][np.isfinite(expected["smooth"])]).max(initial=0))
        np.testing.assert_allclose(got["smooth"], expected["smooth"], rtol=1e-4, atol=1e-4 * spread, err_msg=told)


@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(GRAPHS)
def test_random_graphs_answer_what_tensorflow_answers(graph: tuple[list[tuple[int, int, int, int]], list[int]]) -> None:
    check(graph)


@pytest.mark.slow
@pytest.mark.timeout(5400)
@settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(GRAPHS)
def test_thousands_of_random_graphs_do(graph: tuple[list[tuple[int, int, int, int]], list[int]]) -> None:
    check(graph)


@pytest.mark.slow
@pytest.mark.parametrize("name", random_graphs.EXACT)
def test_each_exact_operation_answers_what_tensorflow_answers(name: str) -> None:
    at = list(random_graphs.EXACT).index(name)
    check(([(at, 0, 0, 0)], []))


@pytest.mark.slow
@pytest.mark.parametrize("name", random_graphs.SMOOTH)
def test_each_smooth_operation_answers_what_tensorflow_answers(name: str) -> None:
    check(([], [list(random_graphs.SMOOTH).index(name)]))
