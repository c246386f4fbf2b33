"""A trained model becomes a version: what it holds, and what stops it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import ladle
from ladle import models
from ladle.models import Assets, Core, Network, Signature
from ladle.models._steps import LookupLabel
from ladle.training.export.export import ExportError, Run, Samples, export
from ladle.training.store import card, publish

RUN = Run(
    data={"name": "generated", "synthetic": True, "splits": {"train": 8, "test": 8}},
    metrics={"test": {"accuracy": 0.5}},
    epochs=1,
    training_seconds=1.25,
    machine="a test",
    preset="quick",
)
TEXT = "A fine film, and never dull."


def given(network: Network, **overrides: Any) -> dict[str, Any]:
    """All that export wants for an untrained network at its tiny config."""
    config = network.configured(**{**network.tiny, **overrides})
    inputs = {name: np.concatenate([value] * 16) for name, value in network.example(config).items()}
    assets = Assets()
    samples = Samples()
    if network.task == "sentiment":
        words = (*(f"word{n}" for n in range(config.vocab_size - 5)), "film", "größe")
        assets, samples = Assets(("negative", "positive"), words), Samples(texts=(TEXT,), labels=("positive",))
    elif "image" in inputs:
        classes = getattr(config, "num_classes", 0) + (network.task == "segment")
        assets = Assets(tuple(f"class {n}" for n in range(classes)))
        samples = Samples(images=(inputs["image"][:9] * 255).astype(np.uint8), labels=assets.labels[:1] * 9)
    model = network.build(config)
    what = {"network": network, "model": model, "config": config, "assets": assets, "run": RUN}
    return {**what, "parity_inputs": inputs, "samples": samples}


def with_core(function: Callable[..., Any], **answers: Any) -> dict[str, Any]:
    """Export arguments of a network whose one core is `function` of x float32 [b, 2]."""
    lenet = models.get("lenet5")
    core = Core("model", function, {"x": tf.TensorSpec([None, 2], tf.float32, name="x")})
    signature = Signature(core, ("y",), **answers)
    network = dataclasses.replace(
        lenet, name="odd", signatures=lambda model, config, assets: {"serving_default": signature}
    )
    x = np.random.default_rng(0).random((64, 2), np.float32)
    return {**given(lenet), "network": network, "parity_inputs": {"x": x}, "samples": Samples()}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of lenet5, with pictures."""
    root = tmp_path_factory.mktemp("lenet")
    (root / "report").mkdir()
    (root / "report" / "curves.png").write_bytes(b"a picture")
    (root / "report" / "notes.txt").write_text("not a picture")
    return export(**given(models.get("lenet5")), repository=root / "repository", report=root / "report")


# One for each task; tests/test_networks.py exports all.
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        *((name, {}) for name in ("lenet5", "sentiment_lstm", "unet", "vae", "wgan_gp")),
        ("fcn8s", {"decoder": "unpool"}),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value.values()),
)
def test_a_network_exports_all_of_its_signatures(name: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    arguments = given(models.get(name), **overrides)
    version = export(**arguments, repository=tmp_path)
    assert version == tmp_path / name / "1"
    content = card.read(version)
    assert content is not None
    signatures = arguments["network"].signatures(arguments["model"], arguments["config"], arguments["assets"])
    assert set(content["signatures"]) == set(signatures)
    assert set(content["onnx"]) == {signature.core.file for signature in signatures.values()}
    for signature in content["signatures"].values():
        assert signature["graph"] in content["onnx"]
    for file, graph in content["onnx"].items():
        written = (version / file).read_bytes()
        assert graph["sha256"] == hashlib.sha256(written).hexdigest()
        assert graph["parity"]["inputs"] >= 64
        assert graph["parity"]["max_abs"] <= 1e-4
        assert graph["parity"]["argmax_equal"]
        loaded = onnx.load_from_string(written)
        assert max(entry.version for entry in loaded.opset_import if entry.domain == "") <= 18
        assert all(value.type.tensor_type.shape.dim[0].dim_param == "batch" for value in loaded.graph.input)
    saved = tf.saved_model.load(str(version)).signatures
    example = {key: tf.constant(value) for key, value in arguments["network"].example(arguments["config"]).items()}
    session = onnxruntime.InferenceSession(version / "model.onnx", providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    answers = dict(
        zip(outputs, session.run(outputs, {key: value.numpy() for key, value in example.items()}), strict=True)
    )
    for key, wanted in saved["serving_default"](**example).items():
        if wanted.dtype.is_floating:
            np.testing.assert_allclose(answers[key], wanted, atol=1e-4)


def test_recurrent_layers_become_native_ones(tmp_path: Path) -> None:
    version = export(**given(models.get("sentiment_lstm")), repository=tmp_path)
    operations = [node.op_type for node in onnx.load(version / "model.onnx").graph.node]
    assert operations.count("LSTM") == 2
    assert not {"Loop", "Scan"} & set(operations)


def test_no_shape_is_computed_at_run_time_where_only_the_batch_is_free(lenet: Path) -> None:
    assert "Shape" not in {node.op_type for node in onnx.load(lenet / "model.onnx").graph.node}


def test_the_card_says_what_the_version_is(lenet: Path) -> None:
    content = card.read(lenet)
    assert content is not None
    wanted = {"network": "lenet5", "task": "classify", "version": 1, "preset": "quick", "seed": 42, "epochs": 1}
    assert {key: content[key] for key in wanted} == wanted
    assert content["data"]["synthetic"] is True
    assert content["config"]["filters"] == [2, 4]
    assert content["parameters"] > 0
    assert content["metrics"] == {"test": {"accuracy": 0.5}}
    assert content["size_bytes"] == card.size_bytes(lenet) - (lenet / card.FILE).stat().st_size
    assert content["versions"]["tensorflow"] == tf.__version__
    assert content["signatures"]["serving_bytes"]["before"][0]["op"] == "decode_image"
    assert content["signatures"]["serving_default"]["inputs"] == {
        "image": {"dtype": "float32", "shape": [None, 28, 28, 1]}
    }
    assert content["signatures"]["serving_default"]["outputs"]["label"] == {"dtype": "string", "shape": [None]}


def test_words_travel_one_a_line(tmp_path: Path) -> None:
    arguments = given(models.get("sentiment_lstm"))
    version = export(**arguments, repository=tmp_path)
    assert (version / "assets" / "labels.txt").read_bytes() == b"negative\npositive\n"
    words = (version / "assets" / "vocabulary.txt").read_bytes().decode().split("\n")
    assert tuple(words[:-1]) == arguments["assets"].vocabulary


def test_classify_has_the_method_that_tensorflow_serving_asks_for(lenet: Path) -> None:
    saved = saved_model_pb2.SavedModel.FromString((lenet / "saved_model.pb").read_bytes())
    methods = {name: definition.method_name for name, definition in saved.meta_graphs[0].signature_def.items()}
    assert methods["classify"] == "tensorflow/serving/classify"
    assert methods["serving_default"] == methods["serving_bytes"] == "tensorflow/serving/predict"


def test_the_saved_model_holds_no_optimizer(lenet: Path) -> None:
    variables = tf.train.list_variables(str(lenet / "variables" / "variables"))
    weights = sum(int(np.prod(shape)) for name, shape in variables if not name.startswith("_CHECKPOINTABLE"))
    content = card.read(lenet)
    assert content is not None
    assert weights == content["parameters"]


def test_samples_and_pictures_travel_along(lenet: Path) -> None:
    entries = json.loads((lenet / "assets.extra" / "samples" / "samples.json").read_text())
    assert len(entries) == 8
    assert entries[0] == {"file": "0.png", "label": "class 0"}
    image = tf.io.decode_png((lenet / "assets.extra" / "samples" / "0.png").read_bytes())
    assert image.shape == (28, 28, 1)
    assert left_in(lenet / "assets.extra" / "report") == ["curves.png"]


def test_a_new_version_stands_beside_the_old_one(tmp_path: Path) -> None:
    arguments = given(models.get("vae"))
    first = export(**arguments, repository=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    second = export(**arguments, repository=tmp_path)
    assert second.name == "2"
    assert json.loads((second / card.FILE).read_text())["version"] == 2
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before


def test_engines_that_disagree_stop_the_export(tmp_path: Path) -> None:
    arguments = with_core(lambda x: {"y": x + tf.random.uniform(tf.shape(x))})
    with pytest.raises(ExportError, match=r'odd was not exported: .*model\.onnx: output "y" differs by'):
        export(**arguments, repository=tmp_path / "repository")
    assert left_in(tmp_path) == []


def test_a_core_that_onnx_cannot_express_is_exported_without_a_graph(tmp_path: Path) -> None:
    arguments = with_core(lambda x: {"y": tf.strings.length(tf.strings.as_string(x))})
    content = card.read(export(**arguments, repository=tmp_path))
    assert content is not None
    assert content["onnx"] == {}
    assert "graph" not in content["signatures"]["serving_default"]
    assert content["signatures"]["serving_default"]["reason"].startswith("ONNX has no ")
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_signature_that_fails_stops_the_export(tmp_path: Path) -> None:
    arguments = with_core(lambda x: {"y": tf.cast(x[:, 0] * 0 + 5, tf.int64)}, after=[LookupLabel(["only"], "y", "y")])
    with pytest.raises(ExportError, match='signature "serving_default" of the written SavedModel fails'):
        export(**arguments, repository=tmp_path / "repository")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": np.zeros((63, 2), np.float32)}, "got 63 parity inputs; expected at least 64 real ones"),
        ({"y": np.zeros((64, 2), np.float32)}, "parity inputs are y; expected x"),
    ],
    ids=["too few", "another name"],
)
def test_parity_inputs_must_fit(inputs: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=words):
        export(**{**with_core(lambda x: {"y": x}), "parity_inputs": inputs}, repository=tmp_path)
    assert left_in(tmp_path) == []


def test_a_repository_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "repository").write_text("a file")
    with pytest.raises(ExportError, match="repository"):
        export(**given(models.get("vae")), repository=tmp_path / "repository")


EXPORTER = """
    import os, sys
    sys.path[:0] = sys.argv[1:3]
    import test_export_arguments as t
    from ladle import models
    from pathlib import Path
    print("ready", flush=True)
    for repository in sys.stdin:  # a child for each, all of which share this process's slow imports
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            while True:
                t.export(**t.given(models.get("lenet5")), repository=Path(repository.strip()))
"""


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory):
    """Starts processes that export lenet5 to a repository, over and over."""
    path = tmp_path_factory.mktemp("exporter")
    (path / "test_export_arguments.py").write_text(Path(__file__).read_text())
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(EXPORTER),
        str(Path(ladle.__file__).resolve().parents[1]),
        str(path),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started: list[int] = []

        def start(repository: Path) -> int:
            process.stdin.write(f"{repository}\n")
            process.stdin.flush()
            started.append(int(process.stdout.readline()))
            return started[-1]

        yield start
        process.kill()


@pytest.mark.parametrize(
    "seen",
    [".tmp-*", ".tmp-*/saved_model.pb", ".tmp-*/assets.extra/card.json", "2/saved_model.pb"],
    ids=["begun", "saved model", "card", "second version"],
)
def test_a_killed_export_leaves_whole_versions_and_a_draft_that_the_next_removes(
    seen: str, exporter: Callable[[Path], int], tmp_path: Path
) -> None:
    pid, folder = exporter(tmp_path), tmp_path / "lenet5"
    deadline = time.monotonic() + 120
    while not list(folder.glob(seen)):
        assert time.monotonic() < deadline
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1]:
        pass
    before = publish.versions(folder)
    assert all(_is_whole(version) for version in before.values())
    assert all(name.isdigit() or name.startswith(".tmp-") for name in left_in(folder))
    export(**given(models.get("lenet5")), repository=tmp_path)
    assert left_in(folder) == sorted(str(n + 1) for n in range(len(before) + 1))


def _is_whole(version: Path) -> bool:
    content = card.read(version)
    assert content is not None
    graphs = {file: hashlib.sha256((version / file).read_bytes()).hexdigest() for file in content["onnx"]}
    written = card.size_bytes(version) - (version / card.FILE).stat().st_size
    return graphs == {file: g["sha256"] for file, g in content["onnx"].items()} and written == content["size_bytes"]
