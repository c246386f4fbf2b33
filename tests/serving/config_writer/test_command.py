"""`ladle config`: the files that it writes, and the repositories and options that it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.config import model_server_config_pb2

from ladle import command as ladle_command
from ladle.clients.wire import messages as pb
from ladle.serving.config_writer.merging import can_be_merged


@pytest.fixture
def home(tiny_repository: Path, tmp_path: Path) -> Path:
    """A repository with two models; the requests of one can be merged."""
    for name in ("half_plus_two", "classifier"):
        shutil.copytree(tiny_repository / name, tmp_path / "models" / name)
    return tmp_path / "models"


def config(home: Path, *options: str) -> int:
    return ladle_command.main(["config", "--repository", str(home), *options])


def test_the_file_is_what_tensorflow_servings_own_message_reads(home: Path) -> None:
    assert config(home) == 0
    message = text_format.Parse((home / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    entries = {entry.name: entry for entry in message.model_config_list.config}
    assert set(entries) == {"half_plus_two", "classifier"}
    entry = entries["classifier"]
    assert (entry.base_path, entry.model_platform) == ("/models/classifier", "tensorflow")
    assert list(entry.model_version_policy.specific.versions) == [1]
    assert dict(entry.version_labels) == {"stable": 1, "canary": 1}


def test_a_model_in_text_form_is_in_the_file_and_is_batched(home: Path) -> None:
    version = home / "half_plus_two" / "1"
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    (version / "saved_model.pbtxt").write_text(text_format.MessageToString(saved))
    (version / "saved_model.pb").unlink()
    assert config(home) == 0
    assert 'name: "half_plus_two"' in (home / "models.config").read_text()
    assert (version / "batching_params.pbtxt").is_file()


def test_files_that_were_changed_by_hand_are_kept(home: Path) -> None:
    assert config(home) == 0
    (home / "batching.config").write_text("max_batch_size { value: 8 } num_batch_threads { value: 1 }")
    monitoring = (home / "monitoring.config").read_text()
    assert config(home) == 0
    assert (home / "batching.config").read_text().startswith("max_batch_size { value: 8 }")
    assert (home / "monitoring.config").read_text() == monitoring
    parameters = text_format.Parse(
        (home / "half_plus_two/1/batching_params.pbtxt").read_text(), pb.BatchingParameters()
    )
    assert parameters.max_batch_size.value == 8
    assert not parameters.HasField("num_batch_threads")


@pytest.mark.parametrize(
    ("inputs", "outputs", "merged"),
    [
        pytest.param({"x": [-1, 3]}, {"y": [-1, 2]}, True, id="rows"),
        pytest.param({"bytes": [-1]}, {"label": [-1]}, True, id="strings"),
        pytest.param({"n": [], "seed": []}, {"images": [-1, 2]}, False, id="scalars"),
        pytest.param({"image": [-1, -1, -1, 1]}, {"mask": [-1, 4]}, False, id="free sizes in"),
        pytest.param({"bytes": [-1]}, {"mask": [-1, -1]}, False, id="free sizes out"),
        pytest.param({"x": [4, 3]}, {"y": [4]}, False, id="fixed rows"),
        pytest.param({"x": [-1, 3]}, {"mean": []}, False, id="no row for each"),
    ],
)
def test_only_signatures_with_independent_rows_are_merged(
    inputs: dict[str, list[int]], outputs: dict[str, list[int]], merged: bool, tiny: Any, tmp_path: Path
) -> None:
    tensors = [{alias: ("float32", shape) for alias, shape in part.items()} for part in (inputs, outputs)]
    model = tiny.Model({"serving_default": tiny.Signature(*tensors, graph=None)}, {})
    (tmp_path / "m").mkdir()
    assert can_be_merged(model.write(tmp_path / "m")) is merged


def test_a_running_server_follows_the_labels(home: Path, tiny: Any, serve: Callable[..., Any]) -> None:
    assert config(home, "--mounted-at", str(home)) == 0
    server = serve(
        f"--model_config_file={home / 'models.config'}",
        "--model_config_file_poll_wait_seconds=0.1",
        "--allow_version_labels_for_unavailable_models=true",
        models=["half_plus_two"],
    )

    def answer(label: str) -> Any:
        body = b'{"instances": [[1.0]]}'
        return json.loads(server.send("POST", f"/v1/models/half_plus_two/labels/{label}:predict", body)[1])

    def step(*options: str) -> None:
        assert config(home, "--mounted-at", str(home), *options) == 0

    assert answer("canary") == {"predictions": [[2.5]]}
    tiny.half_plus(7).write(home / "half_plus_two", 2)
    step()
    server.wait_for_state("half_plus_two", 2, "AVAILABLE")
    assert answer("canary") == {"predictions": [[2.5]]}
    step()
    server.wait_for(lambda: answer("canary") == {"predictions": [[7.5]]})
    assert answer("stable") == {"predictions": [[2.5]]}
    step("--promote", "half_plus_two")
    server.wait_for(lambda: answer("stable") == {"predictions": [[7.5]]})
    step("--stable", "half_plus_two=1")
    server.wait_for(lambda: answer("stable") == {"predictions": [[2.5]]})


def test_pending_labels_and_removed_models_are_reported(
    home: Path, tiny: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config(home) == 0
    tiny.half_plus(7).write(home / "half_plus_two", 2)
    shutil.rmtree(home / "classifier")
    capsys.readouterr()
    assert config(home, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["models"]["half_plus_two"]["pending"] == {"canary": 2}
    assert said["gone"] == ["classifier"]
    assert config(home) == 0
    assert "half_plus_two  stable 1  canary 2  loads 1, 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--stable", "half_plus_two"], 2, "got --stable half_plus_two; expected NAME=VERSION, for example unet=2"),
        (["--canary", "none=1"], 2, "got model none; expected one of classifier, half_plus_two"),
        (["--canary", "classifier=4"], 2, "classifier: got version 4 for canary; expected one of 1"),
        (
            ["--promote", "classifier", "--stable", "classifier=1"],
            2,
            "classifier: got --promote with --stable or --canary",
        ),
        (["--mounted-at", "models"], 2, "got --mounted-at models; expected an absolute path, for example /models"),
    ],
)
def test_bad_options_are_refused(
    options: list[str], status: int, message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config(home, *options) == status
    assert message in capsys.readouterr().err
    assert not (home / "models.config").exists()


def test_a_repository_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config(tmp_path) == 2
    assert "has no <name>/<version>/saved_model.pb" in capsys.readouterr().err
    assert config(tmp_path / "none") == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"ladle config: {tmp_path / 'none'}: no such folder; `ladle train lenet5 --preset quick` makes"
    )


def test_a_damaged_previous_file_is_not_overwritten(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "models.config").write_text("model_config_list { con")
    assert config(home) == 1
    assert "Invalid protobuf file" in capsys.readouterr().err
    assert (home / "models.config").read_text() == "model_config_list { con"


def test_splits_and_shadows_are_written_changed_and_taken_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def traffic() -> Any:
        return json.loads((home / "traffic.json").read_text())

    shutil.copytree(home / "half_plus_two" / "1", home / "half_plus_two" / "2")
    assert config(home, "--stable", "half_plus_two=1", "--canary", "half_plus_two=2") == 0
    assert not (home / "traffic.json").exists()
    assert config(home, "--split", "half_plus_two=stable:100", "--shadow", "half_plus_two=half_plus_two/canary:10") == 0
    shadow = {"to": "half_plus_two/canary", "percent": 10}
    assert traffic() == {"half_plus_two": {"split": {"default": {"stable": 100}}, "shadow": shadow}}
    assert config(home, "--split", "half_plus_two=stable:99.5,canary:0.5", "--split", "classifier/all=1:100") == 0
    assert traffic() == {
        "half_plus_two": {"split": {"default": {"stable": 99.5, "canary": 0.5}}, "shadow": shadow},
        "classifier": {"split": {"all": {"1": 100}}},
    }
    assert config(home, "--shadow", "half_plus_two=", "--split", "classifier/all=") == 0
    assert traffic() == {"half_plus_two": {"split": {"default": {"stable": 99.5, "canary": 0.5}}}}
    capsys.readouterr()
    before = (home / "models.config").read_text()
    for option, told in (
        ("--split=half_plus_two=stable:90", 'half_plus_two: the split "default" adds up to 90 %; expected 100'),
        ("--split=half_plus_two=stabel:100", 'half_plus_two has no version label "stabel"; did you mean stable?'),
        ("--shadow=half_plus_two=half_plus_too/canary", 'there is no model "half_plus_too" in models.config; did you'),
    ):
        assert config(home, option) == 1
        assert told in capsys.readouterr().err
    for option in ("--split=half_plus_two", "--split=half_plus_two=stable", "--shadow=x", "--shadow=x=x/1:many"):
        assert config(home, option) == 2
    # A file that someone has changed is checked, too, and models.config stays as it is.
    (home / "traffic.json").write_text('{"half_plus_two": {"split": {"default": {"3": 100}}}}')
    assert config(home) == 1
    assert "models.config does not load version 3 of half_plus_two; it loads 1, 2" in capsys.readouterr().err
    assert (home / "models.config").read_text() == before
