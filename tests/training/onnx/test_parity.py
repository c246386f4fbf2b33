"""What counts as the same answer of two engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ladle.training.onnx.parity import MismatchError, Parity, compare


def compared(expected: dict[str, Any], got: dict[str, Any]) -> Parity:
    expected, got = ({name: np.asarray(value) for name, value in outputs.items()} for outputs in (expected, got))
    return compare(lambda _: expected, lambda _: got, [{}], rows=1)


def logits(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_a_difference_within_the_tolerance_is_measured() -> None:
    parity = compared({"logits": logits(2, 1)}, {"logits": logits(2.00005, 1)})
    assert parity.max_abs == pytest.approx(5e-5, rel=0.01)
    assert parity.max_rel == pytest.approx(2.5e-5, rel=0.01)
    assert parity.argmax_equal


def test_a_larger_difference_is_refused_by_the_output_s_name() -> None:
    with pytest.raises(MismatchError, match=r'"logits" differs by 0\.0002; at most 0\.0001 is allowed'):
        compared({"logits": logits(2, 1)}, {"logits": logits(2.0002, 1)})


def test_large_values_may_differ_by_what_float32_can_tell() -> None:
    compared({"price": logits(1e5)}, {"price": logits(1e5 + 0.05)})
    with pytest.raises(MismatchError):
        compared({"price": logits(1e5)}, {"price": logits(1e5 + 0.5)})


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "infinity"])
def test_nan_and_infinity_must_be_at_the_same_places(value: float) -> None:
    compared({"logits": logits(value, 1)}, {"logits": logits(value, 1)})
    for expected, got in ((value, 1.0), (1.0, value)):
        with pytest.raises(MismatchError, match="NaN or infinity"):
            compared({"logits": logits(expected, 1)}, {"logits": logits(got, 1)})


def test_class_ids_must_be_the_same() -> None:
    outputs = {"logits": logits(1.0, 1.00001)}
    with pytest.raises(MismatchError, match='"class_id" differs in 1 of 1'):
        compared({**outputs, "class_id": np.array([1])}, {**outputs, "class_id": np.array([0])})


def test_a_pixel_may_go_to_either_of_two_classes_that_score_the_same() -> None:
    scores = np.array([[[[0.5, 0.50001], [0.9, 0.1]]]], np.float32)  # [1, 1, 2, 2]
    ours, theirs = {"scores": scores, "map": np.array([[[1, 0]]])}, {"scores": scores, "map": np.array([[[0, 0]]])}
    parity = compared(ours, theirs)
    assert (parity.argmax_equal, parity.ties) == (False, 1)
    with pytest.raises(MismatchError, match='"map" differs in 1 of 2'):
        compared(ours, {"scores": scores, "map": np.array([[[1, 1]]])})


def test_images_may_differ_by_one_level() -> None:
    compared({"images": np.array([0, 255], np.uint8)}, {"images": np.array([1, 254], np.uint8)})
    with pytest.raises(MismatchError, match="2 levels"):
        compared({"images": np.array([0], np.uint8)}, {"images": np.array([2], np.uint8)})


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ({"scores": logits(1)}, "outputs are scores; expected logits"),
        ({"logits": logits(1, 2)}, r"float32 \[1, 2\]; expected float32 \[1, 1\]"),
        ({"logits": np.ones((1, 1))}, r"float64 \[1, 1\]; expected float32"),
    ],
    ids=["name", "shape", "dtype"],
)
def test_outputs_must_agree_in_name_shape_and_dtype(got: dict[str, Any], words: str) -> None:
    with pytest.raises(MismatchError, match=words):
        compared({"logits": logits(1)}, got)


def test_an_engine_that_fails_disagrees() -> None:
    def fails(_: Any) -> Any:
        raise RuntimeError("no such axis")

    with pytest.raises(MismatchError, match="no such axis"):
        compare(lambda _: {}, fails, [{}], rows=1)


@pytest.mark.parametrize(("size", "is_same"), [(1e3, True), (1.0, True), (1e-5, True), (1e3, False), (1e-5, False)])
def test_a_difference_is_small_beside_the_spread_of_the_output(size: float, is_same: bool) -> None:
    expected = size * logits(-1, 0.5, 1)
    got = expected + np.float32(size * (1e-5 if is_same else 1e-3))
    if is_same:
        compare(lambda _: {"y": expected}, lambda _: {"y": got}, [{}], rows=1, by_spread=True)
    else:
        with pytest.raises(MismatchError, match='"y" differs by'):
            compare(lambda _: {"y": expected}, lambda _: {"y": got}, [{}], rows=1, by_spread=True)


def test_one_value_is_compared_by_the_spread_of_all_requests() -> None:
    requests = [{"x": logits(3)}, {"x": logits(1)}]

    def shifted(by: float) -> Any:
        return lambda request: {"y": request["x"] + np.float32(by)}

    assert compare(shifted(0), shifted(1e-4), requests, rows=2, by_spread=True).spreads == {"y": 2.0}
    with pytest.raises(MismatchError):
        compare(shifted(0), shifted(1e-3), requests, rows=2, by_spread=True)


def test_probabilities_may_differ_by_an_absolute_amount() -> None:
    expected = np.full((1, 1000), 1e-3, np.float32)
    got = expected.copy()
    got[0, 0] += 5e-5
    compare(lambda _: {"p": expected}, lambda _: {"p": got}, [{}], rows=1, by_spread=True)
    with pytest.raises(MismatchError):
        compare(lambda _: {"p": expected[:, :500]}, lambda _: {"p": got[:, :500]}, [{}], rows=1, by_spread=True)
