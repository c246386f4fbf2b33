"""A PredictResponse that is encoded by hand is the message that protobuf would write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.serving.grpc.predict_response import encode_response
from ladle.serving.scheduling import rows as batch_rows

NUMBERS = st.sampled_from(
    [np.dtype(name) for name in ("f4", "f8", "i1", "u1", "i2", "i4", "i8", "u8", "f2", "?", "c8")]
)


def message(outputs: dict[str, Any], content: bool) -> Any:
    written = encode_response("lenet5", 300, "serving_default", outputs, content)
    return pb.PredictResponse.FromString(written)


@pytest.mark.parametrize("content", [False, True], ids=["typed", "content"])
@given(
    array=NUMBERS.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=9)))
)
def test_numbers_come_back_as_they_were(array: Any, content: bool) -> None:
    (found,) = message({"y": array}, content).outputs.values()
    assert bool(found.tensor_content) == (content and array.size > 0)
    np.testing.assert_array_equal(tensors.to_array(found), array)
    assert tensors.to_array(found).dtype == array.dtype


def test_strings_scalars_and_long_names_come_back_beside_the_model_spec() -> None:
    outputs = {"label": np.array([b"", b"x" * 300, "é"], object), "n" * 200: np.float32(0.5).reshape(())}
    for content in (False, True):
        found = message(outputs, content)
        assert (found.model_spec.name, found.model_spec.version.value) == ("lenet5", 300)
        assert found.model_spec.signature_name == "serving_default"
        assert tensors.to_array(found.outputs["label"]).tolist() == [b"", b"x" * 300, "é".encode()]
        assert tensors.to_array(found.outputs["n" * 200]).shape == ()


@pytest.mark.parametrize("content", [False, True], ids=["typed", "content"])
@given(
    array=NUMBERS.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=1, min_side=0, max_side=5))),
    words=st.lists(st.binary(max_size=5), min_size=5, max_size=5),
)
def test_rows_of_a_merged_run_are_written_together_as_each_alone(array: Any, words: list[bytes], content: bool) -> None:
    rows = len(array)
    merged = {"y": array, "label": np.array(words[:rows], object), "words": np.array([words] * rows, object)}
    parts = batch_rows.split(merged, [1] * rows)
    together = [encode_response("m", 1, "s", part, content) for part in parts]
    alone = [encode_response("m", 1, "s", dict(part), content) for part in parts]
    assert together == alone


@pytest.mark.parametrize("inner", [2, 2000], ids=["small", "large"])
def test_single_rows_between_larger_requests_get_their_own_outputs(inner: int) -> None:
    merged = {"y": np.arange(6 * inner, dtype=np.float32).reshape(6, inner)}
    parts = batch_rows.split(merged, [1, 2, 1, 1], padding=1)
    for part, (start, end) in zip(parts, [(0, 1), (1, 3), (3, 4), (4, 5)], strict=True):
        np.testing.assert_array_equal(tensors.to_array(message(part, False).outputs["y"]), merged["y"][start:end])
