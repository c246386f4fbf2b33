"""Verified graphs run on ONNX Runtime; others are not touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.serving.errors import DataLoss, InvalidArgument
from ladle.serving.runtime.cores import cpu_count
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.saved_model import parse_signature, read_card, read_signature_defs


def load(folder: Path) -> OnnxEngine:
    signatures = {name: parse_signature(name, d) for name, d in read_signature_defs(folder).items()}
    card = read_card(folder)
    assert card is not None
    return OnnxEngine(folder, card, signatures)


def change_card(folder: Path, change: Any) -> None:
    path = folder / "assets.extra" / "card.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))


def test_only_the_requested_outputs_are_computed(tiny: Any, tmp_path: Path) -> None:
    engine = load(tiny.image_classifier().write(tmp_path))
    image = {"image": np.ones((3, 2, 2, 1), np.float32)}
    assert sorted(engine.run("serving_default", image, ["label"])) == ["label"]
    from_graph, after = engine.plans["serving_default"].chosen[("label",)]
    assert (from_graph, [step.op for step in after]) == (["class_id"], ["lookup_label"])


def test_a_prepared_run_answers_as_any_other(tiny: Any, tmp_path: Path) -> None:
    engine = load(tiny.image_classifier().write(tmp_path))
    pictures = np.random.default_rng(3).random((2, 1, 2, 2, 1), np.float32)
    for names in (("label",), ("probabilities", "class_id")):
        run = engine.prepare("serving_default", {"image": pictures[0]}, names)
        assert run is not None
        for picture in pictures:
            found, expected = run({"image": picture}), engine.run("serving_default", {"image": picture}, names)
            assert list(found) == list(expected)
            assert all(np.array_equal(found[name], expected[name]) for name in names)


def test_a_prepared_run_is_refused_in_the_same_words(tiny: Any, tmp_path: Path) -> None:
    engine = load(tiny.image_classifier().write(tmp_path))
    run = engine.prepare("serving_default", {"image": np.ones((1, 2, 2, 1), np.float32)}, ("label",))
    assert run is not None
    with pytest.raises(InvalidArgument, match=r"image.* \[1, 2, 3, 1\]"):
        run({"image": np.ones((1, 2, 3, 1), np.float32)})


def test_what_is_looked_at_before_each_run_is_not_prepared(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.image_classifier().write(tmp_path)
    image = {"image": np.ones((1, 2, 2, 1), np.float32)}
    assert load(folder).prepare("serving_default", {"image": image["image"][:0]}, ("label",)) is None
    change_card(folder, lambda card: card["onnx"]["model.onnx"].update(finite=True))
    assert load(folder).prepare("serving_default", image, ("label",)) is None


def test_a_graph_with_a_loop_is_never_quick(tiny: Any, tmp_path: Path) -> None:
    for name, model, is_quick in (("loop", tiny.looping(), False), ("plain", tiny.half_plus(2), True)):
        latency = load(model.write(tmp_path / name)).latency("serving_default")
        latency.record(1, 1e-6)
        assert latency.is_quick(1) == is_quick


def test_signatures_share_one_session_of_a_graph(tiny: Any, tmp_path: Path) -> None:
    engine = load(tiny.image_classifier().write(tmp_path))
    assert len({id(plan.graph) for plan in engine.plans.values()}) == 1


def test_a_graph_without_parity_is_not_used(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.half_plus(1).write(tmp_path)
    assert sorted(load(folder).plans) == ["classify_x", "regress_x", "serving_default"]
    change_card(folder, lambda card: card["onnx"]["model.onnx"].pop("parity"))
    assert sorted(load(folder).plans) == ["classify_x", "regress_x"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["onnx"]["model.onnx"].update(sha256="0"), "model.onnx is not the graph that was verified"),
        (
            lambda card: (
                card["onnx"].update({"../x.onnx": card["onnx"]["model.onnx"]})
                or card["signatures"]["serving_default"].update(graph="../x.onnx")
            ),
            "expected a file name in the version's folder",
        ),
        (
            lambda card: (
                card["onnx"].update({"x.onnx": card["onnx"]["model.onnx"]})
                or card["signatures"]["serving_default"].update(graph="x.onnx")
            ),
            "the graph x.onnx, which cannot be read",
        ),
        (
            lambda card: card["signatures"]["serving_default"].update(after=[]),
            "disagree on signature serving_default: nothing provides label",
        ),
    ],
    ids=["checksum", "outside", "missing", "outputs"],
)
def test_a_card_that_does_not_fit_the_folder_fails_the_load(
    tiny: Any, tmp_path: Path, change: Any, message: str
) -> None:
    folder = tiny.image_classifier().write(tmp_path)
    change_card(folder, change)
    with pytest.raises(DataLoss, match=message):
        load(folder)


def test_the_error_for_a_wrong_shape_leaves_out_the_librarys_words(tiny: Any, tmp_path: Path) -> None:
    engine = load(tiny.identities().write(tmp_path))
    uneven = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    with pytest.raises(InvalidArgument, match=r'cannot run inputs of these shapes: "a" float32 \[2\], "b"') as caught:
        engine.run("sum", uneven, ["total"])
    assert "onnx" not in str(caught.value).lower()


def test_a_graph_verified_for_finite_numbers_refuses_others(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.half_plus(1).write(tmp_path)
    x = {"x": np.array([1, np.nan, np.inf], np.float32)}
    assert np.isnan(load(folder).run("serving_default", x, ["y"])["y"][1])
    change_card(folder, lambda card: card["onnx"]["model.onnx"].update(finite=True))
    engine = load(folder)
    engine.tune("serving_default", engine.example("serving_default") or {})
    np.testing.assert_array_equal(
        engine.run("serving_default", {"x": np.array([3e38, 3e38], np.float32)}, ["y"])["y"], np.float32(3e38) / 2 + 1
    )
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(InvalidArgument, match='input "x" holds NaN or infinity, for which the ONNX graph was not'):
            engine.run("serving_default", {"x": np.array([1, value], np.float32)}, ["y"])


@pytest.mark.parametrize(
    ("operation", "inputs", "message"),
    [
        ("Div", [[1, 2], [1, 0]], "Integer division by zero"),
        ("Mod", [[1, 2], [1, 0]], "Integer division by zero"),
        ("Gather", [[5, 6, 7], [0, 9]], "indices[1] = 9 is not in [0, 3)"),
        ("Gather", [[5, 6, 7], [0, -9]], "indices[1] = -9 is not in [0, 3)"),
    ],
)
def test_a_refused_value_has_tensorflows_words(
    operation: str, inputs: list[list[int]], message: str, tmp_path: Path
) -> None:
    from onnx import TensorProto, helper

    from ladle.serving.servables.engines.onnx import _refusal
    from ladle.serving.servables.engines.onnx_graph import Graph

    tensors = [helper.make_tensor_value_info(name, TensorProto.INT64, [name]) for name in "xyz"]
    graph = helper.make_graph([helper.make_node(operation, ["x", "y"], ["z"])], "g", tensors[:2], tensors[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = tmp_path / "g.onnx"
    path.write_bytes(model.SerializeToString())
    loaded = Graph(str(path), 0, threads=1)
    feed = {name: np.array(values) for name, values in zip("xy", inputs, strict=True)}
    with pytest.raises(Exception, match="Non-zero status") as caught:
        loaded.call(["z"], feed, None)
    assert str(_refusal(loaded, feed, caught.value)) == message


def test_a_slow_graph_gets_the_quickest_number_of_threads(tiny: Any, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    side = 700
    weights = numpy_helper.from_array(np.ones((side, side), np.float32) / side, "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in "xy"]
    graph = helper.make_model(
        helper.make_graph(nodes, "slow", tensors[:1], tensors[1:], [weights]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    declared = {"x": ("float32", [side, side])}
    signature = tiny.Signature(declared, {"y": ("float32", [side, side])})
    engine = load(tiny.Model({"serving_default": signature}, {"model.onnx": graph}).write(tmp_path))
    plan = engine.plans["serving_default"]
    assert not plan.graph.tuned
    example = engine.example("serving_default")
    assert example is not None
    engine.tune("serving_default", example)
    assert plan.graph.tuned
    assert 1 <= plan.graph.threads <= cpu_count()
    np.testing.assert_allclose(engine.run("serving_default", example, ["y"])["y"], 1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (2, 3, 1), (0, 1)], ids=str)
def test_a_graph_that_computes_each_element_takes_any_shape(tiny: Any, tmp_path: Path, shape: tuple[int, ...]) -> None:
    engine = load(tiny.half_plus(2).write(tmp_path))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    y = engine.run("serving_default", {"x": x}, ["y"])["y"]
    assert y.shape == shape
    np.testing.assert_array_equal(y, x / 2 + 2)


def test_other_graphs_take_only_the_declared_rank(tiny: Any, tmp_path: Path) -> None:
    engine = load(tiny.image_classifier().write(tmp_path))
    with pytest.raises(InvalidArgument, match=r'"image" has shape \[2, 2, 1\]; expected \[-1, 2, 2, 1\]'):
        engine.run("serving_default", {"image": np.ones((2, 2, 1), np.float32)}, ["logits"])


def external(tiny: Any, location: str) -> Any:
    """x + w, w in a file of its own."""
    from onnx import helper

    model = tiny.onnx_model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": ("float32", [-1])},
        {"y": ("float32", [-1])},
        {"w": np.float32([0.0])},
    )
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = 1
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        weight.external_data.add(key=key, value=value)
    declared = {"x": ("float32", [-1])}
    return tiny.Model({"serving_default": tiny.Signature(declared, {"y": ("float32", [-1])})}, {"model.onnx": model})


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "link", "weights/../../secret"])
def test_weights_outside_of_the_versions_folder_fail_the_load(tiny: Any, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(b"1234")
    folder = external(tiny, location).write(tmp_path / "m")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DataLoss, match=r"^model.onnx has weights outside of the version's folder; export") as caught:
        load(folder)
    assert str(tmp_path) not in str(caught.value)


def test_weights_in_the_versions_folder_are_read(tiny: Any, tmp_path: Path) -> None:
    folder = external(tiny, "weights").write(tmp_path / "m")
    (folder / "weights").write_bytes(np.float32(5).tobytes())
    assert load(folder).run("serving_default", {"x": np.float32([1, 2])}, ["y"])["y"].tolist() == [6, 7]
    (folder / "weights").unlink()
    with pytest.raises(DataLoss, match=r"^model.onnx cannot be read as an ONNX graph; export the version again$"):
        load(folder)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "int64", "uint8", "uint64", "bool"])
def test_every_dtype_that_numpy_has_goes_through(tiny: Any, tmp_path: Path, dtype: str) -> None:
    from onnx import helper

    tensors = {"x": (dtype, [-1])}, {"y": (dtype, [-1])}
    graph = tiny.onnx_model([helper.make_node("Identity", ["x"], ["y"])], *tensors)
    engine = load(tiny.Model({"s": tiny.Signature(*tensors)}, {"model.onnx": graph}).write(tmp_path))
    for x in (np.array([0, 1, 1], dtype), np.zeros(0, dtype), np.array(1, dtype)):
        y = engine.run("s", {"x": x}, ["y"])["y"]
        assert (y.dtype, y.shape, y.tolist()) == (x.dtype, x.shape, x.tolist())
