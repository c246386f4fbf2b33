from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle import models
from ladle.training import __main__ as command
from ladle.training import data
from ladle.training.data import DataError, to_folder
from ladle.training.errors import UsageError
from ladle.training.evaluate import functions
from ladle.training.evaluate.evaluate import Evaluation
from ladle.training.export import inputs
from ladle.training.loop import run_folder
from ladle.training.run import session
from ladle.training.run.request import compose, load, of_version
from ladle.training.weights import initial
from tests.siblings import DISTINCT

ROOT = Path(__file__).resolve().parents[3]
TINY = ["--filters", "2,4", "--units", "16,12", "--batch-size", "16"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository and a folder of runs, with one trained lenet5."""
    home = tmp_path_factory.mktemp("home")
    overrides = {**models.get("lenet5").tiny, "epochs": 2, "learning_rate": 1e-2}
    session.run("lenet5", overrides=overrides, synthetic=True, repository=home / "models", runs=home / "runs")
    return home


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    """The user's own digits, in the layout of keras.datasets."""
    digits = data.load("synthetic_digits", count=240, seed=3)
    parts = {
        "x_train": digits.train.x[..., 0],
        "y_train": digits.train.y,
        "x_test": digits.test.x[..., 0],
        "y_test": digits.test.y,
    }
    np.savez(tmp_path / "mnist.npz", **{name: np.asarray(part) for name, part in parts.items()})
    return tmp_path / "mnist.npz"


def card(version: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((version / "assets.extra" / "card.json").read_text())
    return content


def test_a_run_ends_as_a_version_with_a_complete_card(home: Path) -> None:
    told = card(home / "models" / "lenet5" / "1")
    assert told["network"] == "lenet5"
    assert told["data"]["synthetic"] is True
    assert told["data"]["name"] == "synthetic_digits"
    assert told["data"]["splits"] == {"train": 840, "validation": 120, "test": 240}
    assert told["config"]["filters"] == [2, 4]
    assert told["epochs"] == 2
    assert told["training_seconds"] > 0
    assert 0.3 < told["metrics"]["test"]["accuracy"] <= 1
    assert set(told["metrics"]["validation"]) == {"loss", "accuracy", "top_3_accuracy"}
    assert told["headline"] == {"name": "accuracy", "value": told["metrics"]["test"]["accuracy"], "split": "test"}


def test_a_run_folder_keeps_history_pictures_and_the_exported_version(home: Path) -> None:
    folder = run_folder.newest(home / "runs", "lenet5")
    assert run_folder.read(folder)["exported"] == str(home / "models" / "lenet5" / "1")
    history = json.loads((folder / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2]
    assert {p.name for p in (folder / "report").iterdir()} == {"curves.png", "confusion.png", "mistakes.png"}
    assert len(list((folder / "pictures").glob("predictions-epoch-*.png"))) == 2
    assert (folder / "tensorboard" / "validation").is_dir()


def test_evaluate_measures_the_same_metrics_as_the_card(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["evaluate", "lenet5", "--repository", str(home / "models"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["synthetic"] is True
    told = card(home / "models" / "lenet5" / "1")["metrics"]["test"]
    assert answer["metrics"].pop("baselines") == told.pop("baselines")
    assert answer["metrics"] == pytest.approx(told, rel=1e-5)


def test_a_baseline_is_printed_with_the_metric_that_it_is_measured_in(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"elbo": -248.3, "squared_error": 0.016, "baselines": {"PCA with 10 components": 0.02441}}
    session.print_metrics(Evaluation(metrics=told, answers={}, notes=[]))
    assert "  baseline  squared error of PCA with 10 components 0.02441\n" in capsys.readouterr().err


def test_a_checkpoint_is_exported_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--repository", str(home / "again"), "--runs", str(home / "runs")]
    assert command.main(["export", "lenet5", *places]) == 0
    assert capsys.readouterr().out.strip() == str(home / "again" / "lenet5" / "1")
    first, second = (card(home / repository / "lenet5" / "1") for repository in ("models", "again"))
    assert second["metrics"] == first["metrics"]


@pytest.mark.parametrize(("option", "file"), [("keras", "m.keras"), ("h5", "m.h5"), ("weights", "m.weights.h5")])
def test_an_exported_keras_file_is_the_start_of_another_run(
    option: str, file: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / file
    assert command.main(["export", "lenet5", "--runs", str(home / "runs"), f"--{option}", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert list(tmp_path.iterdir()) == [path.parent]  # no version
    network = models.get("lenet5")
    prepared = load(compose(network, overrides={**network.tiny, "seed": 7}, synthetic=True))
    model = network.build(prepared.config)
    initial.assign(initial.find(path), network, model, prepared.config, prepared.assets)
    image = np.random.default_rng(0).random((8, 28, 28, 1), np.float32)
    exported = functions.exported(home / "models" / "lenet5" / "1")("serving_default", image=image)["logits"]
    np.testing.assert_allclose(model(image), exported, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "file", "ending"),
    [("keras", "m.h5", ".keras"), ("h5", "m.weights.h5", ".h5"), ("weights", "m.h5", ".weights.h5")],
)
def test_a_keras_file_with_another_formats_ending_is_refused(
    option: str, file: str, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["export", "lenet5", f"--{option}", file]) == 2
    assert f"--{option}: got {file}; expected a name that ends in {ending}" in capsys.readouterr().err


def test_a_card_repeats_its_run_to_the_same_weights(home: Path, tmp_path: Path) -> None:
    file = home / "models" / "lenet5" / "1" / "assets.extra" / "card.json"
    places: dict[str, Any] = {"repository": tmp_path / "models", "runs": tmp_path / "runs", "report": False}
    version = session.run("lenet5", file=file, synthetic=True, **places)
    image = np.random.default_rng(0).random((8, 28, 28, 1), np.float32)
    answers = [
        functions.exported(path)("serving_default", image=image)["logits"]
        for path in (version, home / "models" / "lenet5" / "1")
    ]
    np.testing.assert_array_equal(*answers)


def test_a_run_starts_from_the_weights_of_a_version(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = home / "models" / "lenet5"
    overrides = {**models.get("lenet5").tiny, "train_limit": 16, "learning_rate": 0.0, "seed": 7}
    places: dict[str, Any] = {"repository": tmp_path / "models", "runs": tmp_path / "runs", "report": False}
    version = session.run("lenet5", overrides=overrides, synthetic=True, initial_weights=begin, **places)
    image = np.random.default_rng(0).random((8, 28, 28, 1), np.float32)
    answers = [functions.exported(path)("serving_default", image=image)["logits"] for path in (version, begin / "1")]
    np.testing.assert_array_equal(*answers)
    told = card(version)["initial"]
    assert told["source"] == "user's path: lenet5 version 1"
    assert len(told["sha256"]) == 64
    [logs] = re.findall(r"^  curves    tensorboard --logdir (.*)$", capsys.readouterr().err, re.MULTILINE)
    assert list(Path(logs).rglob("*.tfevents.*"))


def test_the_weights_of_a_run_are_those_of_its_best_epoch(home: Path) -> None:
    network, folder = models.get("lenet5"), run_folder.newest(home / "runs", "lenet5")
    prepared = load(compose(network, overrides={**network.tiny, "seed": 7}, synthetic=True))
    model = network.build(prepared.config)
    initial.assign(initial.find(folder), network, model, prepared.config, prepared.assets)
    image = np.random.default_rng(0).random((8, 28, 28, 1), np.float32)
    wanted = functions.exported(home / "models" / "lenet5" / "1")("serving_default", image=image)["logits"]
    np.testing.assert_allclose(model(image), wanted, atol=1e-5)


def test_a_run_on_own_files_is_named_measured_and_exported_with_the_same_files_only(
    own_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places, run = ["--repository", str(tmp_path / "models")], ["--runs", str(tmp_path / "runs")]
    given = [*TINY, "--epochs", "1", "--no-report", "--data", str(own_files)]
    assert command.main(["train", "lenet5", *given, *places, *run]) == 0
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lenet5_mnist"]
    told = card(tmp_path / "models" / "lenet5_mnist" / "1")["data"]
    assert told["synthetic"] is False
    assert (told["name"], told["source"]) == ("own_fashion_mnist", "user's path: mnist.npz")
    assert (told["origin"], told["licence"]) == ("the user", "the user's")
    assert str(tmp_path) not in json.dumps(told)
    for arguments in (["evaluate", "lenet5_mnist", *places], ["export", "lenet5_mnist", *places, *run]):
        assert command.main(arguments) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.endswith("was trained on your own mnist.npz; give it with --data-path")
    assert command.main(["evaluate", "lenet5_mnist", "--data-path", str(own_files), *places]) == 0
    export = ["export", "lenet5_mnist", *places, *run, "--data-path", str(own_files)]
    assert command.main(export) == 0

    with np.load(own_files) as arrays:
        changed = {**arrays, "x_train": arrays["x_train"][::-1]}
    np.savez(own_files, **changed)
    assert command.main(export) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "expected own_fashion_mnist from user's path: mnist.npz (sha256 " in said
    assert said.endswith("give the files of the run with --data-path")


def test_generated_data_written_to_files_stays_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    to_folder.write(data.load("synthetic_digits", count=80), tmp_path / "digits")
    given = ["--data", "image_folder", "--data-path", "digits", "--channels", "1", "--no-report"]
    assert command.main(["train", "lenet5", *TINY, "--epochs", "1", *given]) == 0
    told = card(tmp_path / "model_repository" / "lenet5_digits" / "1")["data"]
    assert (told["synthetic"], told["source"]) == (True, "user's path: digits")
    assert "\n            splits as the folders give them\n" in capsys.readouterr().err
    assert command.main(["evaluate", "lenet5_digits", "--data-path", "digits"]) == 0
    assert command.main(["export", "lenet5_digits", "--data-path", "digits"]) == 0
    capsys.readouterr()
    assert command.main(["evaluate", "lenet5_digits"]) == 2
    assert "was trained on your own digits; give it with --data-path" in capsys.readouterr().err


def test_precision_of_training_does_not_reach_the_exported_model(tmp_path: Path) -> None:
    overrides = {**models.get("lenet5").tiny, "train_limit": 64}
    version = session.run(
        "lenet5",
        overrides=overrides,
        synthetic=True,
        precision="mixed_bfloat16",
        report=False,
        repository=tmp_path / "models",
        runs=tmp_path / "runs",
    )
    assert card(version)["onnx"]["model.onnx"]["parity"]["max_abs"] < 1e-4
    assert card(version)["precision"] == "mixed_bfloat16"


@pytest.mark.slow
def test_terminated_training_prints_one_line_and_continues_later(tmp_path: Path) -> None:
    arguments = ["--epochs", "20", "--synthetic", "--repository", str(tmp_path / "m"), "--runs", str(tmp_path / "r")]
    child = subprocess.Popen(
        [sys.executable, "-m", "ladle.training", "train", "lenet5", *TINY, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    said = [next(line for line in child.stderr if "epoch  1/20" in line)]
    child.send_signal(signal.SIGTERM)
    said += child.stderr.readlines()
    assert child.wait() == 1
    assert said[-1].startswith("ladle train: stopped at epoch ")
    assert said[-1].endswith("the same command continues from there\n")
    assert "Traceback" not in "".join(said)
    assert not (tmp_path / "m").exists()

    assert command.main(["train", "lenet5", *TINY, *arguments]) == 0
    assert len(list((tmp_path / "r" / "lenet5").iterdir())) == 1
    history = json.loads(next((tmp_path / "r" / "lenet5").glob("*/history.json")).read_text())
    assert [row["epoch"] for row in history] == list(range(1, 21))


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    command_line = [sys.executable, "-m", "ladle.training", "list"]
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_networks_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert command.main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(models.names())
    assert rows["lenet5"]["parameters"] == 61_706
    assert rows["lenet5"]["config"]["filters"] == [6, 16]
    assert rows["lenet5"]["measured"]["metrics"].keys() == {"accuracy"}
    assert command.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "NETWORK                 TASK           WEIGHTS  MEASURED"
    at = next(i for i, line in enumerate(lines) if line.startswith("vgg19 "))
    assert re.match(r"vgg19 +classify +494,490  accuracy 0\.\d+$", lines[at])  # of the network that was measured
    below = " ".join(line.strip() for line in lines[at + 1 : at + 4])
    assert "Measured on fashion_mnist, preset quick. Baseline: logistic regression on 5,000 images 0.8" in below
    assert "Measured on 4 examples of photographs" in " ".join(line.strip() for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["train", "lenet55"], "did you mean lenet5", id="unknown network"),
        pytest.param(["train"], "got no network", id="no network"),
        pytest.param(["export", "lenet6"], "unknown network 'lenet6'; did you mean lenet5", id="no network to export"),
        pytest.param(["train", "lenet5", "--preset", "fast"], "expected one of quick, full", id="unknown preset"),
        pytest.param(["train", "lenet5", "--schedule", "x", "--synthetic"], 'got schedule "x"', id="unknown schedule"),
        pytest.param(
            ["train", "lenet5", "--epochs", "0", "--synthetic"], "got epochs 0; expected 1 or more", id="no epochs"
        ),
        pytest.param(["train", "lenet5", "--runs", "/dev/null"], "--runs: /dev/null is a file", id="no folder of runs"),
        pytest.param(
            ["train", "lenet5", "--repository", "/dev/null/m"], "--repository: /dev/null is a file", id="no repository"
        ),
        pytest.param(["train", "lenet5", "--config", "none.json"], "none.json: cannot be read", id="no config file"),
        pytest.param(
            ["train", "wgan_gp", "--synthetic", "--height", "20", "--width", "20"],
            "wgan_gp cannot be built: images are 20×20; expected squares of 28, 32, 64",
            id="unfit shape",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["train", "lenet5", "--epochs", "x"], "got 'x'; expected an integer", id="wrong type"),
        pytest.param(
            ["train", "lenet5", "--latent-dim", "3"],
            "unknown option --latent-dim; see",
            id="not its own",
        ),
        pytest.param(
            ["export", "lenet5", "--synthetic"],
            "unknown option --synthetic; see",
            id="not of export",
        ),
        pytest.param(["tain"], "got 'tain'; did you mean train?", id="unknown command"),
    ],
)
def test_an_unknown_option_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["evaluate", "lenet5"], "has no version; train it first", id="nothing to evaluate"),
        pytest.param(["export", "lenet5"], "has no run with a checkpoint", id="nothing to export"),
        pytest.param(["train", "lenet5", "--data", "imdb", "--synthetic"], "holds text", id="unfit data"),
    ],
)
def test_work_that_fails_is_one_line_and_exit_code_1(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_network_that_fails_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "synthetic_digits", "--epochs", "1", "--train-limit", "64", "--no-report"]
    assert command.main(["train", "sentiment_lstm", "lenet5", "--jobs", "1", *arguments]) == 1
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if line.startswith("ladle train: ")] == [
        "ladle train: synthetic_digits holds images; expected text for sentiment_lstm: choose another --data"
    ]
    assert said.out.startswith(str(Path("model_repository") / "lenet5" / "1"))


def test_generated_data_replace_an_unavailable_set_and_are_marked(tmp_path: Path) -> None:
    places = ["--repository", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    arguments = ["train", "lenet5", "--data", "image_folder", *TINY, "--height", "24", "--width", "24", *places]
    arguments += ["--channels", "1", "--epochs", "1", "--train-limit", "64", "--no-report"]
    assert command.main(arguments) == 1
    assert command.main([*arguments, "--synthetic-if-missing"]) == 0
    told = card(tmp_path / "models" / "lenet5" / "1")
    assert (told["data"]["name"], told["data"]["synthetic"]) == ("synthetic_digits", True)
    assert (told["config"]["height"], told["config"]["num_classes"]) == (24, 10)
    assert command.main(["evaluate", "lenet5", *places[:2]]) == 0

    folder = run_folder.newest(tmp_path / "runs", "lenet5")
    (folder / "run.json").write_text(json.dumps({**run_folder.read(folder), "exported": None}))
    assert command.main([*arguments, "--synthetic-if-missing"]) == 0
    assert len(list((tmp_path / "runs" / "lenet5").iterdir())) == 1  # the interrupted run went on


def test_real_data_are_used_if_available(own_files: Path) -> None:
    overrides = {"data": "mnist", "height": 28, "width": 28}
    request = compose(models.get("lenet5"), overrides=overrides, data_path=own_files, synthetic_if_missing=True)
    assert not load(request).dataset.provenance.synthetic


def test_images_of_another_shape_than_asked_for_are_refused(own_files: Path) -> None:
    request = compose(models.get("lenet5"), overrides={"height": 32, "width": 32}, data_path=own_files)
    with pytest.raises(UsageError, match=r"got height 32; expected 28, as \w+ has; leave the option out"):
        load(request)


def test_generated_images_have_the_shape_asked_for() -> None:
    request = compose(models.get("vae"), overrides={"height": 32, "width": 24, "channels": 3}, synthetic=True)
    assert load(request).train.x.shape[1:] == (32, 24, 3)


def test_a_model_is_not_measured_on_data_with_other_labels(home: Path, tmp_path: Path) -> None:
    version = home / "models" / "lenet5" / "1"
    for label in "ab":
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        import tensorflow as tf

        for i in range(20):
            picture = tf.io.encode_png(np.full((28, 28, 1), i, np.uint8)).numpy()
            (folder / f"{i}.png").write_bytes(picture)
    with pytest.raises(DataError):
        of_version(version, tmp_path / "images", synthetic=False)


def test_samples_show_each_class_in_turn() -> None:
    chosen = inputs.samples(load(compose(models.get("lenet5"), synthetic=True)))
    assert len(chosen) == inputs.SAMPLES
    assert chosen.labels == tuple(f"digit {k}" for k in range(8))


@DISTINCT
def test_parity_inputs_are_enough_and_fit_serving_default(name: str) -> None:
    network = models.get(name)
    prepared = load(compose(network, overrides=network.tiny, synthetic=True))
    model = network.build(prepared.config)
    chosen = inputs.parity_inputs(network, model, prepared)
    spec = network.signatures(model, prepared.config, prepared.assets)["serving_default"].inputs
    assert set(chosen) == set(spec)
    for key, array in chosen.items():
        assert len(array) == 64
        assert spec[key].shape.is_compatible_with(array.shape)
        assert array.dtype == spec[key].dtype.as_numpy_dtype
