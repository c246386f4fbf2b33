from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ladle.clients.web import runs
from ladle.training.errors import TrainingError, UsageError
from ladle.training.loop import run_folder

WHAT = {"network": "toy", "config": {"filters": (1, 2)}}


def test_an_interrupted_run_of_the_same_description_is_found_again(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path, "toy", WHAT, True) as first:
        first.checkpoint.write_bytes(b"")
    with run_folder.opened(tmp_path, "toy", WHAT, True) as second:
        assert second.path == first.path
        second.update(exported="models/toy/1")
    with run_folder.opened(tmp_path, "toy", WHAT, True) as third:
        assert third.path != first.path
    assert json.loads((first.path / "run.json").read_text()) == {
        "what": {"network": "toy", "config": {"filters": [1, 2]}},
        "exported": "models/toy/1",
    }


@pytest.mark.parametrize(("what", "resume"), [({**WHAT, "config": {}}, True), (WHAT, False)], ids=["other", "new"])
def test_another_description_or_no_resume_starts_a_new_run(
    tmp_path: Path, what: dict[str, object], resume: bool
) -> None:
    with run_folder.opened(tmp_path, "toy", WHAT, True) as first:
        first.checkpoint.write_bytes(b"")
    with run_folder.opened(tmp_path, "toy", what, resume) as second:
        assert second.path != first.path


def test_a_run_that_another_process_holds_is_not_resumed(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path, "toy", WHAT, True) as first:
        first.checkpoint.write_bytes(b"")
        with run_folder.opened(tmp_path, "toy", WHAT, True) as second:
            assert second.path != first.path


def test_the_newest_run_with_a_checkpoint_is_found(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="train it first"):
        run_folder.newest(tmp_path, "toy")
    for _ in range(3):
        with run_folder.opened(tmp_path, "toy", WHAT, False) as folder:
            folder.checkpoint.write_bytes(b"")
    with run_folder.opened(tmp_path, "toy", WHAT, False):
        pass
    assert run_folder.newest(tmp_path, "toy") == folder.path
    with pytest.raises(TrainingError, match=r"is not a run: it has no run\.json"):
        run_folder.read(tmp_path)


def test_tensorboard_shows_scalars_and_images(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path, "toy", WHAT, True) as folder:
        for epoch, loss in ((1, 0.5), (2, 0.25)):
            folder.add_scalars(epoch, {"loss": loss, "val_loss": loss + 1})
        folder.add_image(2, "samples", np.zeros((4, 6, 3), np.uint8))
    events = {}
    for part in ("training", "validation"):
        events[part] = EventAccumulator(str(folder.path / "tensorboard" / part)).Reload()
        assert events[part].Tags()["tensors"][0] == "loss"
    values = [float(tf.make_ndarray(e.tensor_proto)) for e in events["training"].Tensors("loss")]
    assert values == [0.5, 0.25]
    assert float(tf.make_ndarray(events["validation"].Tensors("loss")[1].tensor_proto)) == 1.25
    assert "samples" in events["training"].Tags()["tensors"]
    picture = tf.io.decode_png((folder.path / "pictures" / "samples-epoch-002.png").read_bytes())
    assert picture.shape == (4, 6, 3)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run_folder.check_writable(tmp_path / "new" / "runs", "--runs")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match=r"--runs: .*file is a file; expected a folder; give another --runs"):
        run_folder.check_writable(tmp_path / "file" / "runs", "--runs")
    opened = run_folder.opened(tmp_path / "file", "toy", WHAT, True)
    with pytest.raises(TrainingError, match=r"cannot make a run folder .*; give another --runs"), opened:
        pass


def test_the_gateway_sees_a_run_while_it_lasts(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path, "lenet5", {"config": {"epochs": 4}}, resume=False) as folder:
        folder.write_history([{"epoch": 1, "loss": 0.5, "seconds": 1.5}])
        [entry] = runs.active(tmp_path)
        assert (entry["name"], entry["epoch"], entry["epochs"], entry["seconds"]) == ("lenet5", 1, 4, 1.5)
    assert runs.active(tmp_path) == []
