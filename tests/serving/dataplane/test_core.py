"""What the server answers, over gRPC and REST alike."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

X = np.array([[1.0], [2.0]], np.float32)
PIXELS = np.array([0.0, 0.25, 0.75, 0.5], np.float32).reshape(1, 2, 2, 1)


def only(outputs: dict[str, Any]) -> Any:
    """The single output; REST leaves out its name."""
    ((_, value),) = outputs.items()
    return value


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_predict_answers_with_the_named_outputs(ask: Any) -> None:
    answer = ask.predict("classifier", {"image": PIXELS})
    assert sorted(answer) == ["class_id", "label", "logits", "probabilities"]
    assert answer["class_id"] == [2]
    assert answer["label"] in (["shirt"], [b"shirt"])
    np.testing.assert_allclose(answer["logits"], [[0.0, 0.25, 0.75]])
    np.testing.assert_allclose(np.sum(answer["probabilities"]), 1, rtol=1e-6)


def test_predict_takes_any_batch_size(ask: Any) -> None:
    for rows in (1, 2, 7, 500):
        x = np.arange(rows, dtype=np.float32).reshape(-1, 1)
        assert only(ask.predict("half_plus_two", {"x": x})) == (x / 2 + 2).tolist()


def test_predict_of_image_bytes_decodes_and_resizes_them(ask: Any) -> None:
    grey = (PIXELS[0, ..., 0] * 255).round().astype(np.uint8)
    encoded = np.array([png(grey), png(np.kron(grey, np.ones((3, 3), np.uint8)))], object)
    answer = ask.predict("classifier", {"image_bytes": encoded}, "serving_bytes")
    assert answer["class_id"] == [2, 2]
    np.testing.assert_allclose(answer["logits"][0], grey.reshape(-1)[:3] / 255, atol=1e-6)


def test_classify_and_regress_parse_examples(ask: Any) -> None:
    rows = [{"x": [1.0]}, {"x": [4.0]}]
    assert ask.regress("half_plus_two", rows, "regress_x") == [2.5, 4.0]
    assert ask.classify("half_plus_two", rows, "classify_x") == [[["", 2.5]], [["", 4.0]]]
    (classes,) = ask.classify("classifier", [{"image": PIXELS.ravel().tolist()}], "classify")
    assert [label for label, _ in classes] == ["boot", "coat", "shirt"]
    assert max(classes, key=lambda pair: pair[1])[0] == "shirt"


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", [1.5, -0.0, 3e-38, 3.4e38]),
        ("float64", [0.1, 1e300]),
        ("int64", [2**63 - 1, -(2**63)]),
        ("int32", [2**31 - 1, -(2**31)]),
        ("uint8", [0, 255]),
        ("uint64", [2**64 - 1, 0]),
        ("bool", [True, False]),
    ],
)
def test_numbers_come_back_exactly(ask: Any, dtype: str, values: list[Any]) -> None:
    array = np.array(values, dtype)
    answer = only(ask.predict("identities", {"x": array}, dtype))
    assert np.array(answer, dtype).tolist() == array.tolist()


def test_not_finite_numbers_come_back(ask: Any) -> None:
    array = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    np.testing.assert_equal(np.array(only(ask.predict("identities", {"x": array}, "float32"))), array)


def test_several_inputs_and_outputs_keep_their_names(ask: Any) -> None:
    a, b = np.array([3.0, 1.0], np.float32), np.array([1.0, 4.0], np.float32)
    assert ask.predict("identities", {"a": a, "b": b}, "sum") == {"total": [4.0, 5.0], "difference": [2.0, -3.0]}


def test_an_empty_batch_gets_an_empty_answer(ask: Any) -> None:
    assert only(ask.predict("identities", {"x": np.zeros(0, np.float32)}, "float32")) == []


def test_status_tells_the_state_of_each_version(ask: Any) -> None:
    assert ask.status("half_plus_two") == {1: ("AVAILABLE", "OK", "")}
    assert ask.status("half_plus_two", 1) == {1: ("AVAILABLE", "OK", "")}


def test_metadata_is_that_of_saved_model_pb(ask: Any) -> None:
    answer = ask.metadata("classifier")
    assert answer["version"] == 1
    assert answer["inputs"]["serving_default"] == {"image": ("DT_FLOAT", [-1, 2, 2, 1], "serving_default_image:0")}
    assert answer["inputs"]["serving_bytes"] == {"image_bytes": ("DT_STRING", [-1], "serving_bytes_image_bytes:0")}


REFUSALS = {
    "unknown model": (("nope", {"x": X}), {}, "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    "unknown version": (
        ("half_plus_two", {"x": X}),
        {"version": 9},
        "NOT_FOUND",
        "Servable not found for request: Specific(half_plus_two, 9)",
    ),
    "unknown label": (
        ("half_plus_two", {"x": X}),
        {"label": "canary"},
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: canary",
    ),
    "wrong dtype of a scalar": (("identities", {"x": np.array(["a"], object)}, "int64"), {}, "INVALID_ARGUMENT", None),
    "shape the graph refuses": (
        ("classifier", {"image": np.zeros((2, 3, 2, 1), np.float32)}),
        {},
        "INVALID_ARGUMENT",
        'input "image" has shape [2, 3, 2, 1]; expected [-1, 2, 2, 1], where -1 is any size',
    ),
    "rank the graph refuses": (
        ("classifier", {"image": np.zeros((2, 2), np.float32)}),
        {},
        "INVALID_ARGUMENT",
        'input "image" has shape [2, 2]; expected [-1, 2, 2, 1], where -1 is any size',
    ),
    "bytes that are no image": (
        ("classifier", {"image_bytes": np.array([b"hello"], object)}, "serving_bytes"),
        {},
        "INVALID_ARGUMENT",
        'input "image_bytes", image 0 (5 bytes) is not a readable PNG or JPEG image',
    ),
}


@pytest.mark.parametrize(("call", "which", "code", "message"), REFUSALS.values(), ids=REFUSALS)
def test_predict_refuses(
    ask: Any, refused: Any, call: tuple[Any, ...], which: dict[str, Any], code: str, message: str | None
) -> None:
    with pytest.raises(refused) as caught:
        ask.predict(*call, **which)
    assert caught.value.is_code(code)
    assert message is None or caught.value.message == message


@pytest.mark.parametrize(
    ("model", "rows", "signature", "message"),
    [
        ("classifier", [{"image": [1.0] * 4}], "missing", "No signature was found with the name: missing"),
        ("identities", [{"x": [1.0]}], "sum", "Expected one input Tensor."),
        ("half_plus_two", [{"x": [1.0]}], "", "No classification inputs found in SignatureDef: serving_default"),
        (
            "half_plus_two",
            [{"y": [1.0]}],
            "classify_x",
            "Name: <unknown>, Feature: x (data type: float) is required but could not be found.",
        ),
        (
            "half_plus_two",
            [{"x": [1]}],
            "classify_x",
            "Name: <unknown>, Key: x.  Data types don't match. Expected type: float",
        ),
        (
            "half_plus_two",
            [{"x": [1.0, 2.0]}],
            "classify_x",
            "Name: <unknown>, Key: x, Index: 0.  Number of float values != expected.  "
            "values size: 2 but output shape: [1]",
        ),
    ],
    ids=["signature", "two inputs", "input name", "feature", "kind", "count"],
)
def test_classify_refuses(ask: Any, refused: Any, model: str, rows: Any, signature: str, message: str) -> None:
    with pytest.raises(refused) as caught:
        ask.classify(model, rows, signature)
    assert caught.value.is_code("INVALID_ARGUMENT")
    assert caught.value.message == message


def test_status_refuses_what_it_never_saw(ask: Any, refused: Any) -> None:
    with pytest.raises(refused, match="Could not find any versions of model nope") as caught:
        ask.status("nope")
    assert caught.value.is_code("NOT_FOUND")
    with pytest.raises(refused, match="Could not find version 7 of model half_plus_two"):
        ask.status("half_plus_two", 7)
