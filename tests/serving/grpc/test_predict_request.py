"""Messages of a form that has been seen are read as protobuf reads them."""

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
    _FORMS,
    _LEARN_EVERY,
    _LENGTHS,
    _MOST_AROUND,
    _MOST_BYTES,
    Known,
    PredictRequests,
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
def test_known_forms_say_what_the_message_says(
    data: Any, shape: tuple[int, ...], dtype: str, name: str, outputs: list[str]
) -> None:
    first, second = (
        np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), "u1").view(dtype).reshape(shape)
        for size in [int(np.prod(shape)) * np.dtype(dtype).itemsize] * 2
    )
    how = {"model": name, "outputs": tuple(outputs), "alias": name, "signature": name}
    requests = PredictRequests()
    requests.parse(message(first, **how))
    payload = message(second, **how)
    found, wanted = requests.parse(payload), pb.PredictRequest.FromString(payload)
    if not isinstance(found, Known):  # the numbers stood at two places of the first
        assert found == wanted
        return
    assert found.form.spec == ModelSpec(name, signature=name)
    assert found.model_spec == wanted.model_spec
    assert found.form.output_filter == tuple(wanted.output_filter)
    assert found.inputs.keys() == wanted.inputs.keys()
    read = found.inputs[name]
    assert (read.dtype, read.shape, read.tobytes()) == (second.dtype, shape, second.tobytes())


def test_what_stands_around_the_numbers_decides() -> None:
    """All have the same length."""
    requests = PredictRequests()
    forms: list[dict[str, Any]] = [{"model": "a"}, {"model": "b"}, {"alias": "y"}, {"model": "a", "alias": "z"}]
    for _ in range(2 * _LEARN_EVERY):
        for form in forms:
            requests.parse(message(row(1), **form))
    for form in forms:
        found = requests.parse(message(row(2), **form))
        assert isinstance(found, Known)
        assert (found.form.spec.name, list(found.inputs)) == (form.get("model", "m"), [form.get("alias", "x")])
        assert found.inputs[form.get("alias", "x")].tolist() == [[2, 2, 2]]
    other = message(row(2).reshape(3, 1))
    assert list(requests.parse(other).inputs["x"].tensor_shape.dim) == [pb.TensorShapeProto.Dim(size=n) for n in (3, 1)]


@pytest.mark.parametrize("version", [None, 7])
def test_versions_and_labels_are_kept_apart(version: int | None) -> None:
    requests = PredictRequests()
    label = "" if version else "stable"
    for value in (1, 2):
        found = requests.parse(message(row(value), version=version, label=label, outputs=("p", "q")))
    assert isinstance(found, Known)
    assert found.form.spec == ModelSpec("m", version, label or None)
    assert found.form.output_filter == ("p", "q")


def unknown(text: str) -> bytes:
    """Field 100, of bytes."""
    return varint(100 << 3 | 2) + varint(len(text)) + text.encode()


def test_numbers_that_stand_elsewhere_too_are_not_mistaken() -> None:
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
        requests = PredictRequests()
        for _ in range(2 * _LEARN_EVERY):
            requests.parse(first)
        found, wanted = requests.parse(second), pb.PredictRequest.FromString(second)
        assert found.model_spec == wanted.model_spec
        wanted_outputs = found.form.output_filter if isinstance(found, Known) else found.output_filter
        assert list(wanted_outputs) == list(wanted.output_filter)
        ((alias, proto),) = wanted.inputs.items()
        array = found.inputs[alias]
        array = array if isinstance(found, Known) else tensors.to_array(array)
        np.testing.assert_array_equal(array, tensors.to_array(proto))


def test_messages_between_that_cannot_be_learned_hinder_nothing() -> None:
    requests = PredictRequests()
    typed = pb.PredictRequest(model_spec={"name": "m"})
    tensors.fill(typed.inputs["x"], row(1))
    for _ in range(2):
        requests.parse(typed.SerializeToString())
        found = requests.parse(message(row(1)))
    assert isinstance(found, Known)


def test_what_has_no_numbers_in_one_piece_is_read_as_ever() -> None:
    values, nothing, two = pb.PredictRequest(), pb.PredictRequest(), pb.PredictRequest()
    values.model_spec.name = two.model_spec.name = "m"
    tensors.fill(values.inputs["x"], row(1))
    tensors.fill(two.inputs["x"], row(1), content=True)
    tensors.fill(two.inputs["y"], row(1), content=True)
    wrong = pb.PredictRequest.FromString(message(row(1)))
    wrong.inputs["x"].tensor_shape.dim[0].size = 2
    text = pb.PredictRequest.FromString(message(np.array([b"a", b"b"], object)))
    long = pb.PredictRequest.FromString(message(row(1), model="m" * _MOST_AROUND))
    large = pb.PredictRequest.FromString(message(np.zeros(_MOST_BYTES // 4, np.float32)))
    for request in (values, nothing, two, wrong, text, long, large):
        requests = PredictRequests()
        for _ in range(2):
            assert requests.parse(request.SerializeToString()) == request


def test_what_is_no_message_is_refused() -> None:
    requests = PredictRequests()
    good = message(row(1))
    requests.parse(good)
    for bad in (good[:-1], b"\xff" + good[1:], good[:-1] + b"\xff\xff"):
        with pytest.raises(DecodeError):
            requests.parse(bad)


def test_forms_that_are_asked_for_now_take_the_place_of_old_ones() -> None:
    requests = PredictRequests()
    for number in range(20 * _LEARN_EVERY):
        requests.parse(message(row(1), model=f"{number:03}"))
    for _ in range(_LEARN_EVERY):
        requests.parse(message(row(1), model="new"))
    assert isinstance(requests.parse(message(row(2), model="new")), Known)
    assert sum(len(forms) for forms in requests._forms.values()) == _FORMS


def test_lengths_are_bounded() -> None:
    requests = PredictRequests()
    for size in range(1, 2 * _LENGTHS * _LEARN_EVERY):
        requests.parse(message(np.zeros(size % 3000 + 1, np.float32), model="m" * (size // 3000 + 1)))
    assert 0 < len(requests._forms) <= _LENGTHS
