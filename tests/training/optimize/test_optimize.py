"""`ladle optimize` on small trained networks and on a converted model, with real servers of what it wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from ladle import Client
from ladle.clients.cli import doctor
from ladle.serving.servables.engines.compare import compare_engines
from ladle.training.convert import run as convert
from ladle.training.errors import UsageError
from ladle.training.onnx import parity
from ladle.training.optimize import candidates, command, optimize, pairs
from ladle.training.optimize.pairs import Speed
from ladle.training.optimize.scores import OnInputs
from ladle.training.store import card, publish

FASTER, SLOWER = [Speed(1, 2.0, 1.0, 2.0, 1.0)], [Speed(1, 1.0, 2.0, 0.5, 0.0)]
METHODS = {"static int8": "QuantizeLinear", "dynamic int8": "MatMulInteger"}


@pytest.fixture(scope="module")
def trained(trained_networks: Callable[..., Path]) -> Path:
    return trained_networks(["lenet5", "vae"])


@pytest.fixture
def models(trained: Path, tmp_path: Path) -> Path:
    """A model repository that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "models"))


def optimised(version: Path, *methods: str, speeds: list[Speed] = FASTER, **more: Any) -> optimize.Result:
    """Optimise a version as if the graphs of these methods were twice as fast, whatever this machine says."""
    content = card.read(version)
    assert content is not None
    runs = optimize.sessions(version, content)
    given = SimpleNamespace(name=version.parent.name, inputs=None, data_path=None)
    judge = command._judge(given, version, content, runs)  # type: ignore[arg-type]
    return optimize.optimize(version, content, judge, runs, methods=methods, measure=lambda *_: speeds, **more)


def operations(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("method", METHODS)
def test_a_faster_graph_becomes_the_next_version_and_is_served(
    method: str, models: Path, serve: Callable[..., Any]
) -> None:
    before = models / "lenet5" / "1"
    result = optimised(before, method, tolerance=20.0)
    assert result.kept == {"model.onnx": method}
    assert result.version == models / "lenet5" / "2"
    assert METHODS[method] in operations(result.version / "model.onnx")
    assert METHODS[method] not in operations(before / "model.onnx")
    told, old = card.read(result.version), card.read(before)
    assert told is not None
    assert old is not None
    made = told["quantized"]
    assert (made["from_version"], made["tolerance"], told["version"]) == (1, 20.0, 2)
    assert made["graphs"]["model.onnx"]["method"] == method
    assert made["graphs"]["model.onnx"]["ratio"] == 2.0
    assert made["processor"]
    assert made["headline"]["before"] == pytest.approx(old["metrics"]["test"]["accuracy"])
    assert made["headline"]["after"] == told["metrics"]["test"]["accuracy"] == told["headline"]["value"]
    assert (result.version / "saved_model.pb").read_bytes() == (before / "saved_model.pb").read_bytes()
    assert [finding.state for finding in doctor.repository(models) if "lenet5" in finding.what] == ["ok", "ok"]
    assert "may differ" in compare_engines(result.version, parity.compare)

    server = serve("--repository", models, models=["lenet5"])
    image = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    session = onnxruntime.InferenceSession(result.version / "model.onnx")
    expected = session.run(["probabilities"], {"image": image})[0]
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        found = client.predict("lenet5", image)
        assert client.metadata("lenet5").version == 2
    assert np.allclose(found["probabilities"], expected, atol=1e-5)


def test_nothing_is_written_if_nothing_is_faster_or_only_a_check_was_asked(models: Path) -> None:
    version = models / "lenet5" / "1"
    result = optimised(version, *METHODS, speeds=SLOWER)
    assert (result.kept, result.version, result.headline) == ({}, None, None)
    assert "version 1 stays: no graph is faster and as good" in command.sentence("lenet5", result, False)
    checked = optimised(version, "static int8", tolerance=20.0, write=False)
    assert (checked.kept, checked.version) == ({"model.onnx": "static int8"}, None)
    assert "nothing written; it would be model.onnx static int8 2.00×" in command.sentence("lenet5", checked, True)
    assert list(publish.versions(models / "lenet5")) == [1]
    assert sorted(path.name for path in (models / "lenet5").iterdir()) == ["1"]


def test_each_graph_of_a_model_is_decided_by_itself(models: Path) -> None:
    result = optimised(models / "vae" / "1", "dynamic int8", tolerance=50.0)
    assert set(result.graphs) == {"model.onnx", "encode.onnx", "decode.onnx"}
    assert set(result.kept) <= set(result.graphs)
    assert result.headline is not None
    assert result.headline["name"] == "elbo"
    assert result.version is not None
    for file in result.graphs:
        same = (result.version / file).read_bytes() == (models / "vae" / "1" / file).read_bytes()
        assert same is (file not in result.kept)


# Models that were converted


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """A repository with a converted convolutional classifier without any data of ours."""
    keras.utils.set_random_seed(0)
    x = keras.Input((12, 12, 3), name="x")
    y = keras.layers.Conv2D(8, 3, activation="relu")(x)
    y = keras.layers.Conv2D(8, 3, activation="relu")(y)
    y = keras.layers.Dense(4, activation="softmax", name="y")(keras.layers.GlobalAveragePooling2D()(y))
    file = tmp_path / "shapes.keras"
    keras.Model(x, y).save(file)
    assert convert([str(file), "--repository", str(tmp_path / "models")]) == 0
    return tmp_path / "models"


def written(
    path: Path, rows: int = 80, name: str = "x", size: int = 12, channels: int = 3, dtype: str = "float64"
) -> Path:
    """An NPZ file as NumPy makes it: of float64, where nobody asks for another dtype."""
    np.savez(path, **{name: np.random.default_rng(0).random((rows, size, size, channels)).astype(dtype)})
    return path


@pytest.mark.parametrize(("tolerance", "kept"), [(20.0, True), (0.0, False)], ids=["allowed", "refused"])
def test_a_converted_model_is_measured_by_its_agreement_on_given_inputs(
    tolerance: float, kept: bool, converted: Path, tmp_path: Path
) -> None:
    version = converted / "shapes" / "1"
    content = card.read(version)
    assert content is not None
    runs = optimize.sessions(version, content)
    judge = OnInputs(written(tmp_path / "real.npz"), content, runs)
    assert len(judge.inputs["model.onnx"]["x"]) == 40
    result = optimize.optimize(version, content, judge, runs, tolerance=tolerance, measure=lambda *_: FASTER)
    static = next(tried for tried in result.graphs["model.onnx"] if tried.method == "static int8")
    assert static.value is not None
    assert 0.8 < static.value < 1.0  # int8 is near, and not the same
    assert result.kept.get("model.onnx") == ("static int8" if kept else "fused")
    assert "points worse; at most 0 are allowed" in static.reason or kept


REFUSED = {
    "no inputs": (
        None,
        "was not trained here, so it has no test split to be measured on; give real inputs with --inputs",
    ),
    "few rows": ({"rows": 39}, "x has 39 rows; expected 40 or more real ones"),
    "other names": ({"name": "image"}, "got image; expected x"),
    "a wrong shape": ({"name": "x", "size": 11, "channels": 2}, "model.onnx cannot run x float32 [40, 11, 11, 2]: "),
    "other values": ({"dtype": "U1"}, "x is <U1; expected float32"),
    "no arrays": ("text", "cannot be read; expected arrays by input name, by numpy.savez"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_that_cannot_be_measured_are_refused(
    case: str, converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how, words = REFUSED[case]
    file = tmp_path / "real.npz"
    if isinstance(how, dict):
        written(file, **how)  # type: ignore[arg-type]
    elif how:
        file.write_text(how)
    given = ["--inputs", str(file)] if how else []
    assert command.main(["shapes", "--repository", str(converted), *given]) == 2
    assert words in capsys.readouterr().err
    assert list(publish.versions(converted / "shapes")) == [1]


def test_the_command_measures_and_says_what_it_found(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "real.npz", rows=40)
    line = ["shapes", "--repository", str(converted), "--inputs", str(file), "--tolerance", "20", "--json"]
    code = command.main(line)
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["kept"] else 1)
    assert [tried["method"] for tried in found["graphs"]["model.onnx"]] == ["static int8", "dynamic int8", "fused"]
    assert all(tried["speed"]["ratio"] > 0 for tried in found["graphs"]["model.onnx"])
    if code == 0:  # it is optimised now, and nothing is made of it again
        assert command.main(line) == 1
        assert "version 2 was optimised already, from version 1; give --version N" in capsys.readouterr().err
    assert command.main([*line, "--version", "7"]) == 1
    assert "got version 7; expected one of 1" in capsys.readouterr().err


def test_the_methods_of_the_command_are_those_of_the_card() -> None:
    assert tuple(candidates.METHODS) == command.METHODS


def test_a_graph_whose_answers_are_no_numbers_is_never_kept(converted: Path, tmp_path: Path) -> None:
    version = converted / "shapes" / "1"
    content = card.read(version)
    assert content is not None
    runs = optimize.sessions(version, content)
    judge = OnInputs(written(tmp_path / "real.npz"), content, runs)
    for wrong in (np.nan, np.inf):

        def run(inputs: Any, wrong: float = wrong) -> dict[str, np.ndarray]:
            return {name: array * np.float32(wrong) for name, array in runs["model.onnx"](inputs).items()}

        score = judge.score({"model.onnx": run})
        assert pairs.too_poor(score.name, 1.0, score.value, 50.0)
    assert judge.score(runs).value == 1.0


def test_the_rows_of_an_npz_file_must_be_numbers(converted: Path, tmp_path: Path) -> None:
    content = card.read(converted / "shapes" / "1")
    assert content is not None
    np.savez(tmp_path / "a.npz", x=np.float32(1))
    with pytest.raises(UsageError, match="x has 0 rows"):
        OnInputs(tmp_path / "a.npz", content, optimize.sessions(converted / "shapes" / "1", content))


@pytest.mark.slow
def test_an_int8_network_is_kept_only_where_it_is_faster_and_as_good(tmp_path: Path) -> None:
    from ladle.training.run import session

    where = {"repository": tmp_path / "models", "runs": tmp_path / "runs"}
    session.run("resnet18", overrides={"epochs": 2, "train_limit": 1000}, synthetic=True, report=False, **where)
    before = card.read(tmp_path / "models" / "resnet18" / "1")
    code = command.main(["resnet18", "--repository", str(tmp_path / "models")])
    found = publish.versions(tmp_path / "models" / "resnet18")
    assert code == (0 if len(found) == 2 else 1)
    if code == 0:
        told = card.read(found[2])
        assert told is not None
        assert before is not None
        assert all(how["ratio"] >= 1.1 for how in told["quantized"]["graphs"].values())
        assert told["metrics"]["test"]["accuracy"] >= before["metrics"]["test"]["accuracy"] - 0.005
