"""Verified graphs run on ONNX Runtime; others are not touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import DataLoss, InvalidArgument
from serving.cores import cpu_count
from serving.onnx_engine import OnnxEngine
from serving.saved_model import parse_signature, read_card, read_signature_defs


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


def test_only_what_is_asked_is_computed(tiny: Any, tmp_path: Path) -> None:
    engine = load(tiny.image_classifier().write(tmp_path))
    image = {"image": np.ones((3, 2, 2, 1), np.float32)}
    assert sorted(engine.run("serving_default", image, ["label"])) == ["label"]
    from_graph, after = engine.plans["serving_default"].chosen[("label",)]
    assert (from_graph, [step.op for step in after]) == (["class_id"], ["lookup_label"])


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
            "wanted a file of the version's folder",
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


def test_a_refused_shape_is_told_without_the_librarys_words(tiny: Any, tmp_path: Path) -> None:
    engine = load(tiny.identities().write(tmp_path))
    uneven = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    with pytest.raises(InvalidArgument, match=r'cannot run inputs of these shapes: "a" float32 \[2\], "b"') as caught:
        engine.run("sum", uneven, ["total"])
    assert "onnx" not in str(caught.value).lower()


def test_a_slow_graph_gets_the_threads_that_are_quickest(tiny: Any, tmp_path: Path) -> None:
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
