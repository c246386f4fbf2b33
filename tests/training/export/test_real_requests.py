"""Models that refuse made-up inputs are compared on their real ones; a graph without parity is made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ladle.training.export.conversion import convert
from ladle.training.export.version import ConvertError
from ladle.training.store import card, warmup


class Weeks(tf.Module):  # type: ignore[misc]
    """Sums over weeks: it refuses rows that are no multiple of seven, as every random batch is."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.eye(4, 3, dtype=np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])  # type: ignore[untyped-decorator]
    def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_sum(tf.reshape(x @ self.weights, [-1, 7, 3]), 1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    module = Weeks()
    tf.saved_model.save(module, str(tmp_path / "1"), {"serving_default": module.call})
    (tmp_path / "1" / "assets.extra").mkdir()
    return tmp_path / "1"


def record(folder: Path, rows: int) -> None:
    x = np.arange(4 * rows, dtype=np.float32).reshape(rows, 4)
    warmup.write(folder / warmup.FILE, "weeks", [warmup.WarmUp("serving_default", {"x": x})])


def test_a_model_that_refuses_random_inputs_is_compared_on_its_real_requests(folder: Path) -> None:
    assert "add warm-up requests with real inputs" in convert(folder).reasons["serving_default"]
    record(folder, 14)
    done = convert(folder)
    assert done.reasons == {}
    assert done.parity["serving_default"]["inputs"] >= 14


def test_a_request_that_tensorflow_refuses_is_said_to_be_the_cause(folder: Path) -> None:
    record(folder, 13)
    assert convert(folder).reasons["serving_default"].startswith("TensorFlow refuses the warm-up requests (")


def test_a_graph_without_parity_is_made_again(folder: Path) -> None:
    record(folder, 7)
    convert(folder)
    told = json.loads((folder / card.FILE).read_text())
    told["onnx"]["model.onnx"]["parity"] = None
    (folder / card.FILE).write_text(json.dumps(told))
    assert convert(folder).parity["serving_default"]["inputs"] >= 7
    assert list(json.loads((folder / card.FILE).read_text())["onnx"]) == ["model.onnx"]


def test_a_savedmodel_that_cannot_be_loaded_is_named_once(folder: Path) -> None:
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(ConvertError) as raised:
        convert(folder)
    assert str(raised.value).count("cannot be loaded") == 1
