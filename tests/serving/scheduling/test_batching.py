"""Merged requests: each gets its own rows, whatever ran with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.scheduling import rows as batch_rows
from ladle.serving.servables.batching_parameters import Batching

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def rows(count: int, first: int = 0, inner: tuple[int, ...] = (2,), dtype: str = "float32") -> Any:
    numbers = np.arange(first, first + count * int(np.prod(inner))).reshape(count, *inner)
    return (
        np.array([[str(n).encode() for n in row] for row in numbers], object) if dtype == "O" else numbers.astype(dtype)
    )


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, padding=st.integers(0, 4), dtype=st.sampled_from(["float32", "int64", "bool", "O"]))
def test_splitting_a_merged_run_gives_each_request_its_rows(sizes: list[int], padding: int, dtype: str) -> None:
    requests = [{"a": rows(n, 100 * i, dtype=dtype), "b": rows(n, i)} for i, n in enumerate(sizes)]
    merged = batch_rows.merge(requests, padding)
    assert {len(array) for array in merged.values()} == {sum(sizes) + padding}
    for request, part in zip(requests, batch_rows.split(merged, sizes, padding), strict=True):
        np.testing.assert_equal(dict(part), request)


def test_padding_rows_copy_the_first_row_of_the_last_request() -> None:
    merged = batch_rows.merge([{"x": rows(1)}, {"x": rows(2, 10)}], padding=2)
    np.testing.assert_equal(merged["x"][3:], [[10, 11], [10, 11]])


def test_inner_sizes_are_padded_with_each_tensors_own_first_element() -> None:
    short, long = np.full((1, 1, 3), 7, np.int32), np.ones((2, 2, 2), np.int32)
    merged = batch_rows.merge([{"x": short}, {"x": long}], pad_inner=True)["x"]
    assert merged.shape == (3, 2, 3)
    assert merged[0].tolist() == [[7, 7, 7], [7, 7, 7]]
    assert merged[1].tolist() == [[1, 1, 1], [1, 1, 1]]
    words = batch_rows.merge([{"x": np.array([[b"a"]], object)}, {"x": np.array([[b"b", b"c"]], object)}], 0, True)["x"]
    assert words.tolist() == [[b"a", b"a"], [b"b", b"c"]]


def test_empty_inner_axes_can_be_padded() -> None:
    merged = batch_rows.merge([{"x": np.zeros((1, 0), np.float32)}, {"x": np.ones((1, 2), np.float32)}], 0, True)["x"]
    assert merged.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        ({"x": rows(1), "y": rows(2)}, "Batching Run() input tensors must have equal 0th-dimension size"),
        ({"x": rows(9)}, "Task size 9 is larger than maximum input batch size 8"),
    ],
    ids=["scalar", "rows", "too many"],
)
def test_inputs_that_cannot_be_merged_are_refused(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        batch_rows.count_rows({name: np.asarray(array) for name, array in inputs.items()}, Batching(max_batch_size=8))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.array(3.0), "Batched output tensor has 0 dimensions"),
        (
            rows(3),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
            "input tensors",
        ),
    ],
    ids=["scalar", "rows"],
)
def test_outputs_that_cannot_be_split_are_refused(output: Any, message: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        batch_rows.split({"y": output}, [1, 1])
    assert str(caught.value) == message


def test_only_requests_that_can_be_merged_share_a_merge_key() -> None:
    def key(outputs: Any, inner: tuple[int, ...] = (2,), pad: bool = False) -> Any:
        inputs = {"x": np.zeros((1, *inner), np.float32)}
        return batch_rows.merge_key(outputs, inputs, Batching(pad_variable_length_inputs=pad))

    assert key(("a", "b")) == key(("b", "a"))
    assert key(("a",)) != key(("a", "b"))
    assert key(("a",), (2,)) != key(("a",), (3,))
    assert key(("a",), (2,), pad=True) == key(("a",), (3,), pad=True)
    assert key(("a",), (2,), pad=True) != key(("a",), (2, 1), pad=True)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 40), first=st.integers(0, 7), limit=st.integers(1, 8))
def test_the_parts_of_a_large_request_join_to_the_whole(count: int, first: int, limit: int) -> None:
    whole = {"x": rows(count), "y": rows(count, 5, (1, 2))}
    parts = batch_rows.cut(whole, count, min(first, limit), limit)
    assert all(1 <= len(part["x"]) <= limit for part in parts)
    if first and count > first:
        assert len(parts[0]["x"]) == min(first, limit)
    np.testing.assert_equal(batch_rows.join(parts), whole)
