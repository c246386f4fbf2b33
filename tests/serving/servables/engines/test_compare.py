"""Both engines run on the inputs in a version's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ladle import doctor_command
from ladle.clients.cli import doctor
from ladle.serving.servables.engines.compare import EnginesDifferError, compare_engines
from ladle.training.export import tfserving_check
from ladle.training.onnx.parity import compare
from ladle.training.store import warmup


@pytest.fixture(scope="module")
def version(zoo: Path) -> Path:
    return zoo / "lenet5" / "1"


def test_the_report_says_that_engines_agree(version: Path) -> None:
    said = compare_engines(version, compare)
    assert said.startswith("TensorFlow and ONNX Runtime agree on ")
    assert " signatures within " in said


def with_weights_times(factor: float, version: Path, other: Path, **parity: float) -> Path:
    """A copy of a version whose graph has other weights. parity: what its card has beside that of the graph before."""
    import hashlib

    import onnx
    from onnx import numpy_helper

    shutil.copytree(version, other)
    graph = onnx.load(other / "model.onnx")
    for weights in graph.graph.initializer:
        array = numpy_helper.to_array(weights)
        if array.dtype == "float32" and array.ndim > 1:
            weights.CopyFrom(numpy_helper.from_array((array * factor).astype(np.float32), weights.name))
    onnx.save(graph, other / "model.onnx")
    card = json.loads((other / "assets.extra" / "card.json").read_text())
    entry = card["onnx"]["model.onnx"]
    entry["sha256"] = hashlib.sha256((other / "model.onnx").read_bytes()).hexdigest()
    entry["parity"] |= parity
    (other / "assets.extra" / "card.json").write_text(json.dumps(card))
    return other


def test_a_graph_with_other_weights_is_detected(version: Path, tmp_path: Path) -> None:
    with pytest.raises(EnginesDifferError, match=r'output "\w+" differs'):
        compare_engines(with_weights_times(1.5, version, tmp_path / "1"), compare)


def test_a_graph_may_differ_as_much_as_when_it_was_made(version: Path, tmp_path: Path) -> None:
    """Half precision has three digits; the card says what was allowed."""
    with pytest.raises(EnginesDifferError, match="differs"):
        compare_engines(with_weights_times(1.001, version, tmp_path / "1"), compare)
    assert "agree" in compare_engines(with_weights_times(1.001, version, tmp_path / "2", relative=0.02), compare)


class Rows(tf.Module):  # type: ignore[misc]
    """Softmax of x @ w, and a graph network: messages along edges, which name nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.eye(4, 3, dtype=np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])  # type: ignore[untyped-decorator]
    def rows(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.nn.softmax(x @ self.weights)}

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, 4], tf.float32, "nodes"), tf.TensorSpec([None, 2], tf.int32, "edges")]
    )
    def messages(self, nodes: tf.Tensor, edges: tf.Tensor) -> dict[str, tf.Tensor]:
        sent = tf.gather(nodes, edges[:, 0]) @ self.weights
        return {"h": tf.math.unsorted_segment_sum(sent, edges[:, 1], tf.shape(nodes)[0])}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound models of users, and some with a fault."""
    repository = tmp_path_factory.mktemp("models")
    module = Rows()
    graph = {"nodes": np.eye(3, 4, dtype=np.float32), "edges": np.array([[0, 1], [2, 0]], np.int32)}
    requests: dict[str, list[warmup.WarmUp]] = {
        "plain": [],
        "silent": [],
        "graph": [warmup.WarmUp("serving_default", graph)],
        "scalar": [warmup.WarmUp("serving_default", {"x": np.array(1, np.float32)})],
        "names": [warmup.WarmUp("serving_default", {"z": np.ones((1, 4), np.float32)})],
        "stranger": [warmup.WarmUp("absent", {"x": np.ones((1, 4), np.float32)})],
        "damaged": [],
        "foreign": [],
    }
    signatures = {"graph": {"serving_default": module.messages}, "silent": {}}
    for name, warm in requests.items():
        folder = repository / name / "1"
        tf.saved_model.save(module, str(folder), signatures.get(name, {"serving_default": module.rows}))
        (folder / "assets.extra").mkdir()
        if warm:
            warmup.write(folder / warmup.FILE, name, warm)
    (repository / "damaged" / "1" / warmup.FILE).write_bytes(b"these are no records")
    saved = repository / "foreign" / "1" / "saved_model.pb"
    saved.write_bytes(saved.read_bytes().replace(b"\x06MatMul", b"\x06MyOpXX"))
    return repository


SOUND = {
    "plain": "loads in TensorFlow, nothing run: it has no warm-up requests and no samples",
    "silent": "loads in TensorFlow, nothing run: it has no signatures",
    "graph": "TensorFlow answers 1 request of 1 signature; there is no graph to compare it with",
}
FAULTS = {
    "scalar": "serving_default fails on its own requests: In[0] ",  # and words that depend on the processor
    "names": "Signature input alias: x(feed name: serving_default_x:0) not found in request",
    "stranger": 'a warm-up request asks the signature "absent"; expected one of serving_default',
    "damaged": "the warm-up file is damaged.",
    "foreign": "Op type not registered 'MyOpXX'",
}


def test_a_sound_model_is_not_broken_for_want_of_requests(models: Path) -> None:
    findings = {finding.what: finding for finding in doctor.repository(models, doctor_command._compare_engines)}
    for name, said in SOUND.items():
        finding = findings[f"parity {name}/1"]
        assert (finding.state, finding.detail, finding.repair) == ("ok", said, None)
    for name, said in FAULTS.items():
        finding = findings[f"parity {name}/1"]
        assert (finding.state, finding.repair) == ("broken", None)
        assert said in finding.detail
        assert "\n" not in finding.detail


def test_the_check_runs_real_requests_alone_and_says_when_there_are_none(models: Path) -> None:
    found = {version.parent.name: tfserving_check.check(version) for version in models.glob("*/1")}
    assert {name for name, result in found.items() if not result.faults} == set(SOUND)
    assert str(found["plain"]).startswith("loads, nothing run: it has no warm-up requests; ")
    assert str(found["silent"]).startswith("loads, nothing run: it has no signatures; ")
    assert (found["graph"].not_run, found["graph"].signatures) == ("", 1)
    faults = {
        "scalar": "serving_default failed on its warm-up request: Cannot feed value of shape ()",
        "names": "serving_default failed on its warm-up request: got the inputs z; expected x",
        "stranger": 'a warm-up request asks the signature "absent", which it does not have',
        "damaged": "its warm-up requests cannot be read: ",
        "foreign": "the operation MyOpXX is not TensorFlow's own",
    }
    for name, said in faults.items():
        [fault] = found[name].faults
        assert said in fault
        assert "\n" not in fault


def test_a_graph_without_requests_loads_and_nothing_is_run(version: Path, tmp_path: Path) -> None:
    other = tmp_path / "1"
    shutil.copytree(version, other)
    shutil.rmtree(other / "assets.extra" / "samples", ignore_errors=True)
    (other / "assets.extra" / "tf_serving_warmup_requests").unlink()
    said = compare_engines(other, compare)
    assert said == "loads in TensorFlow and ONNX Runtime, nothing run: it has no warm-up requests and no samples"
