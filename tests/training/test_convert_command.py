"""`ladle convert` as a command: Keras files, several models, single signatures, a tolerance, a check."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import Client
from ladle.training.convert import main, run
from ladle.training.store import card

ROOT = Path(__file__).resolve().parents[2]


def small() -> keras.Model:
    x = keras.Input((4,), name="x")
    return keras.Model(x, keras.layers.Dense(2, activation="softmax", name="y")(x))


class Mixed(tf.Module):
    """Signatures that convert, that hold strings, that call Python and that count."""

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def double(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def halve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def lengths(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope("tokenizer"):
            return {"n": tf.strings.length(tf.strings.regex_replace(text, "a", "b"))}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def python(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope("mine"):
            return {"y": tf.ensure_shape(tf.numpy_function(lambda v: v + 1, [x], tf.float32), [None, 2])}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def counted(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope("counter"):
            return {"y": x + self.count.assign_add(1.0)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = Mixed()
    signatures = {
        "serving_default": model.double,
        "halve": model.halve,
        "text": model.lengths,
        "python": model.python,
        "counted": model.counted,
    }
    tf.saved_model.save(model, str(tmp_path / "mixed" / "1"), signatures=signatures)
    return tmp_path / "mixed"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_h5_file_becomes_the_next_version(tmp_path: Path) -> None:
    file, repository = tmp_path / "a.h5", tmp_path / "models"
    small().save(file)
    for version in ("1", "2"):
        assert run([str(file), "--repository", str(repository), "--name", "shapes"]) == 0
        assert (repository / "shapes" / version / "model.onnx").is_file()
    assert sorted(path.name for path in (repository / "shapes").iterdir()) == ["1", "2"]


def test_a_keras_file_becomes_a_version_that_is_served(
    tmp_path: Path, serve: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    model, file, repository = small(), tmp_path / "My shapes.keras", tmp_path / "models"
    model.save(file)
    assert main([str(file), "--repository", str(repository)]) == 0
    printed = capfd.readouterr()
    assert str(repository / "My_shapes" / "1") in printed.out
    assert "serving_default: compared on" in printed.err
    content = card.read(repository / "My_shapes" / "1")
    assert content is not None
    assert (content["network"], content["version"], content["description"]) == (
        "My_shapes",
        1,
        "Exported from the Keras file My shapes.keras.",
    )
    assert {name: entry["graph"] for name, entry in content["signatures"].items()} == {
        "serving_default": "model.onnx",
        "serve": "model.onnx",
    }
    server = serve("--repository", repository, models=["My_shapes"])
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        [found] = client.predict("My_shapes", x).values()
    assert np.allclose(found, model(x), atol=1e-6)


@keras.saving.register_keras_serializable("elsewhere")
class Mine(keras.layers.Layer):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x + 1


def write(form: str, path: Path) -> Path:
    """A Keras file that cannot be loaded without its program, or at all."""
    x = keras.Input((4,), name="x")
    if form.startswith("custom"):
        keras.Model(x, Mine()(x)).save(path)
    elif form.startswith("Lambda"):
        keras.Model(x, keras.layers.Lambda(lambda t: 2 * t)(x)).save(path)
    elif form == "lambda as activation":
        with pytest.warns(UserWarning, match="lambda"):
            keras.Model(x, keras.layers.Activation(lambda t: 2 * t)(x)).save(path)
    elif form == "weights":
        small().save_weights(path)
    elif form == "text":
        path.write_text("no model")
    return path


UNLOADABLE = {
    "custom": ("a.keras", "of your own, whose code is not in the file; export it in the program that has the code"),
    "custom h5": ("a.h5", "uses elsewhere>Mine of your own, whose code is not in the file; export it in the program"),
    "Lambda": ("a.keras", "has a Lambda layer, whose code Keras does not load from a file; rebuild it with a layer"),
    "Lambda h5": ("a.h5", "has a Lambda layer, whose code Keras does not load from a file; rebuild it with a layer"),
    "lambda as activation": ("a.keras", "lambda"),
    "weights": ("a.weights.h5", "holds weights alone; save the whole model: model.save('NAME.keras')"),
    "text": ("a.keras", "cannot be read"),
    "missing": ("a.keras", "is not a file"),
}


@pytest.mark.parametrize("form", UNLOADABLE)
def test_a_keras_file_that_cannot_be_loaded_is_refused_with_the_cure(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, said = UNLOADABLE[form]
    file = write(form, tmp_path / name)
    # The process that converts knows nothing of the classes of this one.
    for known in [key for key in keras.saving.get_custom_objects() if key.endswith("Mine")]:
        monkeypatch.delitem(keras.saving.get_custom_objects(), known)
    assert run([str(file), "--repository", str(tmp_path / "models")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"ladle convert: {file}")
    assert said in error
    assert not (tmp_path / "models").exists()


def test_a_failure_names_operation_layer_and_cure(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(saved), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["graphs"]) == {"serving_default", "halve", "text"}
    found = {name: (told["operation"], told["layer"]) for name, told in answer["obstacles"].items()}
    assert found["python"] == ("PyFunc", "mine")
    assert found["counted"] == ("AssignAddVariableOp", "counter")
    assert "in place of tf.py_function" in answer["obstacles"]["python"]["cure"]
    assert "changes no variable" in answer["obstacles"]["counted"]["cure"]
    assert all("served on TensorFlow" in told["cure"] for told in answer["obstacles"].values())
    assert answer["seconds"].keys() == {"serving_default", "halve", "text", "python", "counted"}


def test_a_check_tells_the_same_and_writes_nothing(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(saved)
    assert run([str(saved), "--check"]) == 1
    printed = capsys.readouterr().out
    assert "nothing written" in printed
    assert "PyFunc in mine: rebuild with TensorFlow operations" in printed
    assert run([str(saved), "--check", "--signature", "halve", "--signature", "serving_default"]) == 0
    assert files(saved) == before


def test_a_check_of_a_keras_file_writes_nothing(tmp_path: Path) -> None:
    small().save(tmp_path / "a.keras")
    assert run([str(tmp_path / "a.keras"), "--check", "--repository", str(tmp_path / "models")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]


def test_one_signature_is_converted_and_the_card_has_all(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(saved), "--signature", "halve"]) == 0
    content = card.read(saved / "1")
    assert content is not None
    assert content["signatures"].keys() == {"serving_default", "halve", "text", "python", "counted"}
    assert content["signatures"]["halve"]["graph"] == "halve.onnx"
    assert content["signatures"]["serving_default"]["reason"] == "it was not asked for"
    assert run([str(saved)]) == 0
    content = card.read(saved / "1")
    assert content is not None
    assert content["signatures"]["serving_default"]["graph"] == "model.onnx"
    assert run([str(saved), "--signature", "third"]) == 1
    assert 'has no signature "third"; expected one of counted, halve, python' in capsys.readouterr().err


def test_a_tolerance_stands_in_the_card_with_its_reason(saved: Path) -> None:
    reason = "bicubic resize"
    assert run([str(saved), "--signature", "halve", "--tolerance", "1e-3", "--reason", reason]) == 0
    content = card.read(saved / "1")
    assert content is not None
    parity = content["onnx"]["halve.onnx"]["parity"]
    assert (parity["relative"], parity["reason"]) == (1e-3, reason)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["a", "--tolerance", "1e-3"], "--tolerance needs --reason TEXT"),
        (["a", "--reason", "why not"], "--reason belongs to --tolerance X"),
        (["a", "--tolerance", "2", "--reason", "x"], "expected a number above 0 and below 1"),
        (["a", "--tolerance", "nan", "--reason", "x"], "expected a number above 0 and below 1"),
        (["a.keras", "b.keras", "--name", "x"], "--name: got 2 models; expected one"),
        (["a.keras", "--name", "a/b"], "--name: got 'a/b'; expected letters"),
        (["a", "--name", "x"], "--name is for a Keras file"),
        ([], "MODEL"),
    ],
)
def test_options_that_do_not_go_together_are_misuse(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_several_models_go_on_after_a_failure_and_end_with_a_summary(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small().save(tmp_path / "a.keras")
    places = [str(tmp_path / "missing"), str(tmp_path / "a.keras")]
    assert main(["--json", *places, "--repository", str(tmp_path / "models")]) == 1
    printed = capfd.readouterr()
    missing, made = json.loads(printed.out)
    assert missing == {"folder": places[0], "done": False}
    assert made["folder"] == str(tmp_path / "models" / "a" / "1")
    assert f"ladle convert: {places[0]} is not a folder; give a SavedModel" in printed.err
    assert printed.err.strip().splitlines()[-1] == f"1 of 2 converted; not: {places[0]}"
    assert f"2/2: {places[1]}" in printed.err


def test_ctrl_c_ends_the_child_without_a_traceback(tmp_path: Path) -> None:
    small().export(tmp_path / "small" / "1", verbose=False)
    command = [sys.executable, "-m", "ladle", "convert", "--check", str(tmp_path / "small")]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stderr is not None
        assert "loading TensorFlow" in running.stderr.readline()  # the child says it
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        assert running.stderr.read() == ""
    assert running.returncode == 130
