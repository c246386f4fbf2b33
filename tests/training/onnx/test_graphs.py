"""Inputs on which the cores of a network are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle.models import Core, Signature
from ladle.models._steps import ParseExample
from ladle.training.onnx import graphs


def core(name: str, function: Callable[..., Any], **inputs: list[int | None]) -> Core:
    return Core(name, function, {key: tf.TensorSpec(shape, tf.float32, name=key) for key, shape in inputs.items()})


IMAGE = {"image": np.random.default_rng(0).random((64, 4), np.float32)}
THROUGH = core("model", lambda image: {"out": image}, image=[None, 4])
ENCODE = core("encode", lambda image: {"code": image[:, :2] * 3.0}, image=[None, 4])
DECODE = core("decode", lambda code: {"image": tf.tile(code, [1, 2])}, code=[None, 2])


def test_a_core_gets_the_outputs_of_another_core() -> None:
    signatures = {
        "decode": Signature(DECODE, ("image",)),
        "encode": Signature(ENCODE, ("code",)),
        "serving_default": Signature(THROUGH, ("out",)),
    }
    chosen = graphs.inputs(signatures, IMAGE)
    np.testing.assert_array_equal(chosen["encode"]["image"], IMAGE["image"])
    np.testing.assert_allclose(chosen["decode"]["code"], IMAGE["image"][:, :2] * 3.0)


@pytest.mark.parametrize(("rows", "distinct"), [(64, None), (10, 10)], ids=["all differ", "repeated"])
def test_parity_on_repeated_rows_says_how_many_differ(tmp_path: Path, rows: int, distinct: int | None) -> None:
    image = np.resize(IMAGE["image"][:rows], (64, 4))
    entries, _ = graphs.write(tmp_path, {"serving_default": Signature(ENCODE, ("code",))}, {"encode": {"image": image}})
    parity = entries["encode.onnx"]["parity"]
    assert (parity["inputs"], parity.get("distinct")) == (64, distinct)


def test_inputs_that_no_core_returns_are_seeded_noise() -> None:
    signatures = {"serving_default": Signature(THROUGH, ("out",)), "decode": Signature(DECODE, ("image",))}
    first, second = (graphs.inputs(signatures, IMAGE)["decode"]["code"] for _ in range(2))
    assert first.shape == (64, 2)
    assert 0.5 < first.std() < 1.5
    np.testing.assert_array_equal(first, second)


def test_inputs_pass_through_the_steps_before_the_default_core() -> None:
    default = Signature(THROUGH, ("out",), before=[ParseExample("image", [4])])
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[1, 2, 3, 4]))
    example = tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()
    chosen = graphs.inputs({"serving_default": default}, {"inputs": np.array([example] * 2, dtype=object)})
    np.testing.assert_array_equal(chosen["model"]["image"], [[1, 2, 3, 4]] * 2)


def test_all_rows_are_compared_at_three_batch_sizes() -> None:
    sizes = [len(batch["image"]) for batch in graphs.batches({"image": np.zeros((100, 4))}, 100)]
    assert sizes == [1, 7, 64, 36]


def test_cores_are_traced_once_however_many_signatures_use_them() -> None:
    calls = []
    counted = core("model", lambda image: calls.append(1) or {"out": image}, image=[None, 4])
    shared = graphs.share_cores({name: Signature(counted, ("out",)) for name in ("serving_default", "same")})
    for signature in shared.values():
        tf.function(signature.__call__).get_concrete_function(image=tf.TensorSpec([None, 4]))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("signatures", "words"),
    [
        (
            {
                "serving_default": Signature(THROUGH, ("out",)),
                "b": Signature(core("model", lambda image: {"out": -image}, image=[None, 4]), ("out",)),
            },
            'signature "b" brings a second core named model',
        ),
        ({"serving_default": Signature(ENCODE, ("code",))}, "the core of serving_default is encode; expected model"),
    ],
    ids=["one name twice", "default without its name"],
)
def test_each_core_needs_its_own_name(signatures: dict[str, Signature], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        graphs.share_cores(signatures)
