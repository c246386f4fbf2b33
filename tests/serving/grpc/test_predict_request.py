"""Messages that match a template are read as protobuf reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.varints import varint
from ladle.serving.dataplane.core import ModelSpec
from ladle.serving.grpc.predict_request import (
    _LEARN_EVERY,
    _LENGTHS,
    _MAX_AROUND_BYTES,
    _MAX_MESSAGE_BYTES,
    _TEMPLATES_PER_LENGTH,
    MatchedRequest,
    PredictRequestParser,
)


def message(
    array: Array,
    model: str = "m",
    version: int | None = None,
    label: str = "",
    signature: str = "",
    outputs: tuple[str, ...] = (),
    alias: str = "x",
) -> bytes:
    request = pb.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    tensors.fill(request.inputs[alias], array, content=True)
    serialized: bytes = request.SerializeToString()
    return serialized


def row(value: float) -> Array:
    return np.full((1, 3), value, np.float32)


@given(
    st.data(),
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
    st.sampled_from(["<f4", "<f8", "<i8", "|i1", "|b1", "<f2", "<c8"]),
    st.text(max_size=5),
    st.lists(st.text(max_size=5), max_size=2),
)
def test_a_matched_request_says_what_the_message_says(
    data: Any, shape: tuple[int, ...], dtype: str, name: str, outputs: list[str]
) -> None:
    first, second = (
        np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), "u1").view(dtype).reshape(shape)
        for size in [int(np.prod(shape)) * np.dtype(dtype).itemsize] * 2
    )
    how = {"model": name, "outputs": tuple(outputs), "alias": name, "signature": name}
    requests = PredictRequestParser()
    requests.parse(message(first, **how))
    payload = message(second, **how)
    found, wanted = requests.parse(payload), pb.PredictRequest.FromString(payload)
    if not isinstance(found, MatchedRequest):  # the numbers stood at two places of the first
        assert found == wanted
        return
    assert found.template.spec == ModelSpec(name, signature=name)
    assert found.template.output_filter == tuple(wanted.output_filter)
    assert found.inputs.keys() == wanted.inputs.keys()
    read = found.inputs[name]
    assert (read.dtype, read.shape, read.tobytes()) == (second.dtype, shape, second.tobytes())


def test_the_bytes_around_the_numbers_choose_the_template() -> None:
    """All have the same length."""
    requests = PredictRequestParser()
    templates: list[dict[str, Any]] = [{"model": "a"}, {"model": "b"}, {"alias": "y"}, {"model": "a", "alias": "z"}]
    for _ in range(2 * _LEARN_EVERY):
        for case in templates:
            requests.parse(message(row(1), **case))
    for case in templates:
        found = requests.parse(message(row(2), **case))
        assert isinstance(found, MatchedRequest)
        assert (found.template.spec.name, list(found.inputs)) == (case.get("model", "m"), [case.get("alias", "x")])
        assert found.inputs[case.get("alias", "x")].tolist() == [[2, 2, 2]]
    other = message(row(2).reshape(3, 1))
    assert list(requests.parse(other).inputs["x"].tensor_shape.dim) == [pb.TensorShapeProto.Dim(size=n) for n in (3, 1)]


@pytest.mark.parametrize("version", [None, 7])
def test_versions_and_labels_are_not_confused(version: int | None) -> None:
    requests = PredictRequestParser()
    label = "" if version else "stable"
    for value in (1, 2):
        found = requests.parse(message(row(value), version=version, label=label, outputs=("p", "q")))
    assert isinstance(found, MatchedRequest)
    assert found.template.spec == ModelSpec("m", version, label or None)
    assert found.template.output_filter == ("p", "q")


def unknown(text: str) -> bytes:
    """Field 100, of bytes."""
    return varint(100 << 3 | 2) + varint(len(text)) + text.encode()


def test_numbers_whose_bytes_occur_elsewhere_in_the_message_are_read_right() -> None:
    """Before the numbers or behind them, as text, number, or field of a newer version: what is there may change."""
    name, other = row(0.5).tobytes().decode(), "z" * 12
    seven, eight = (pb.PredictRequest(model_spec={"name": "m", "version": {"value": v}}) for v in (7, 8))
    numbers = pb.PredictRequest()
    tensors.fill(numbers.inputs["x"], np.array([7], "i1"), content=True)
    before, after = numbers.SerializeToString(), [seven.SerializeToString(), eight.SerializeToString()]
    for first, second in (
        (message(row(0.5), outputs=(name,)), message(row(0.5), outputs=(other,))),
        (message(row(0.5), model=name), message(row(0.5), model=other)),
        (message(row(0.5), alias=name), message(row(0.5), alias=other)),
        (before + after[0], before + after[1]),
        (after[0] + before, after[1] + before),
        (unknown(name) + message(row(0.5)), unknown(other) + message(row(0.5))),
    ):
        requests = PredictRequestParser()
        for _ in range(2 * _LEARN_EVERY):
            requests.parse(first)
        found, wanted = requests.parse(second), pb.PredictRequest.FromString(second)
        name = found.template.spec.name if isinstance(found, MatchedRequest) else found.model_spec.name
        assert name == wanted.model_spec.name
        wanted_outputs = found.template.output_filter if isinstance(found, MatchedRequest) else found.output_filter
        assert list(wanted_outputs) == list(wanted.output_filter)
        ((alias, proto),) = wanted.inputs.items()
        array = found.inputs[alias]
        array = array if isinstance(found, MatchedRequest) else tensors.to_array(array)
        np.testing.assert_array_equal(array, tensors.to_array(proto))


def test_messages_without_a_template_do_not_stop_others_from_being_learned() -> None:
    requests = PredictRequestParser()
    typed = pb.PredictRequest(model_spec={"name": "m"})
    tensors.fill(typed.inputs["x"], row(1))
    for _ in range(2):
        requests.parse(typed.SerializeToString())
        found = requests.parse(message(row(1)))
    assert isinstance(found, MatchedRequest)


def test_messages_that_no_template_can_describe_are_parsed_by_protobuf() -> None:
    values, nothing, two = pb.PredictRequest(), pb.PredictRequest(), pb.PredictRequest()
    values.model_spec.name = two.model_spec.name = "m"
    tensors.fill(values.inputs["x"], row(1))
    tensors.fill(two.inputs["x"], row(1), content=True)
    tensors.fill(two.inputs["y"], row(1), content=True)
    wrong = pb.PredictRequest.FromString(message(row(1)))
    wrong.inputs["x"].tensor_shape.dim[0].size = 2
    text = pb.PredictRequest.FromString(message(np.array([b"a", b"b"], object)))
    long = pb.PredictRequest.FromString(message(row(1), model="m" * _MAX_AROUND_BYTES))
    large = pb.PredictRequest.FromString(message(np.zeros(_MAX_MESSAGE_BYTES // 4, np.float32)))
    for request in (values, nothing, two, wrong, text, long, large):
        requests = PredictRequestParser()
        for _ in range(2):
            assert requests.parse(request.SerializeToString()) == request


def test_a_large_message_is_matched_without_a_parser() -> None:
    requests = PredictRequestParser()
    first, second = (np.full((1, 224, 224, 3), value, np.float32) for value in (1, 2))
    assert requests.match(message(first)) is None
    requests.parse(message(first))
    found = requests.match(message(second))
    assert found is not None
    np.testing.assert_array_equal(found.inputs["x"], second)
    assert requests.match(message(second, model="n")) is None


def test_bytes_that_are_no_message_are_refused() -> None:
    requests = PredictRequestParser()
    good = message(row(1))
    requests.parse(good)
    for bad in (good[:-1], b"\xff" + good[1:], good[:-1] + b"\xff\xff"):
        with pytest.raises(DecodeError):
            requests.parse(bad)


def test_new_templates_replace_old_ones() -> None:
    requests = PredictRequestParser()
    for number in range(20 * _LEARN_EVERY):
        requests.parse(message(row(1), model=f"{number:03}"))
    for _ in range(_LEARN_EVERY):
        requests.parse(message(row(1), model="new"))
    assert isinstance(requests.parse(message(row(2), model="new")), MatchedRequest)
    assert sum(len(templates) for templates in requests._templates.values()) == _TEMPLATES_PER_LENGTH


def test_the_number_of_lengths_is_bounded() -> None:
    requests = PredictRequestParser()
    for size in range(1, 2 * _LENGTHS * _LEARN_EVERY):
        requests.parse(message(np.zeros(size % 3000 + 1, np.float32), model="m" * (size // 3000 + 1)))
    assert 0 < len(requests._templates) <= _LENGTHS
