"""Both engines run on the inputs in a version's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ladle.serving.servables.engines.compare import compare_engines
from ladle.training.onnx.parity import compare


@pytest.fixture(scope="module")
def version(zoo: Path) -> Path:
    return zoo / "lenet5" / "1"


def test_the_report_says_that_engines_agree(version: Path) -> None:
    said = compare_engines(version, compare)
    assert said.startswith("TensorFlow and ONNX Runtime agree on ")
    assert " signatures within " in said


def test_a_graph_with_other_weights_is_detected(version: Path, tmp_path: Path) -> None:
    import hashlib

    import onnx
    from onnx import numpy_helper

    other = tmp_path / "1"
    shutil.copytree(version, other)
    graph = onnx.load(other / "model.onnx")
    for weights in graph.graph.initializer:
        array = numpy_helper.to_array(weights)
        if array.dtype == "float32" and array.ndim > 1:
            weights.CopyFrom(numpy_helper.from_array(array * 1.5, weights.name))
    onnx.save(graph, other / "model.onnx")
    card = json.loads((other / "assets.extra" / "card.json").read_text())
    card["onnx"]["model.onnx"]["sha256"] = hashlib.sha256((other / "model.onnx").read_bytes()).hexdigest()
    (other / "assets.extra" / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r'output "\w+" differs'):
        compare_engines(other, compare)


def test_a_version_without_inputs_cannot_be_compared(version: Path, tmp_path: Path) -> None:
    other = tmp_path / "1"
    shutil.copytree(version, other)
    shutil.rmtree(other / "assets.extra" / "samples", ignore_errors=True)
    (other / "assets.extra" / "tf_serving_warmup_requests").unlink()
    with pytest.raises(ValueError, match="came with no inputs to compare on"):
        compare_engines(other, compare)
