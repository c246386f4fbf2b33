"""`ladle report`: what is printed of a version, and what is opened."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from ladle.clients.cli import report


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for version, accuracy in ((1, 0.8), (2, 0.9)):
        folder = tmp_path / "lenet5" / str(version) / "assets.extra"
        (folder / "report").mkdir(parents=True)
        for name in ("mistakes", "curves", "confusion"):
            Image.new("RGB", (900, 10)).save(folder / "report" / f"{name}.png")
        card = {
            "description": "LeNet-5",
            "task": "classify",
            "data": {"name": "digits", "synthetic": True, "splits": {"test": 1000}},
            "metrics": {"test": {"accuracy": accuracy, "likelihood": "none", "class_iou": {"one": 0.5, "two": None}}},
            "onnx": {"model.onnx": {"parity": {"inputs": 64, "max_abs": 2e-6}}},
            "epochs": 3,
            "training_seconds": 12.4,
            "machine": "a CPU",
        }
        (folder / "card.json").write_text(json.dumps(card))
    return tmp_path


def test_the_report_shows_figures_and_pictures_of_the_newest_version(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["lenet5", "--repository", str(repository)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("lenet5 version 2\n")
    for line in (
        "data                  digits (SYNTHETIC): test 1,000",
        "test: accuracy        0.9",
        "test: class_iou, one  0.5",
        "trained               3 epochs in 12 s on a CPU",
        "model.onnx            64 inputs, TensorFlow and ONNX Runtime differ by 2.0e-06",
    ):
        assert line in said
    assert said.index("curves.png") < said.index("confusion.png") < said.index("mistakes.png")


def test_json_names_every_picture_and_holds_the_card(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["lenet5", "--version", "1", "--json", "--repository", str(repository)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["card"]["metrics"]["test"]["accuracy"] == 0.8
    assert [Path(path).name for path in answer["pictures"]] == ["curves.png", "confusion.png", "mistakes.png"]


def test_open_hands_each_picture_to_the_systems_viewer(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tmp_path / "opened"
    os.mkfifo(opened)
    viewer = tmp_path / "viewer"
    viewer.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    viewer.chmod(0o755)
    monkeypatch.setitem(report.OPENERS, "linux", [str(viewer)])
    monkeypatch.setattr(report.sys, "platform", "linux")
    (repository / "lenet5" / "2" / "assets.extra" / "report" / "mistakes.png").unlink()
    (repository / "lenet5" / "2" / "assets.extra" / "report" / "curves.png").unlink()
    assert report.main(["lenet5", "--open", "--repository", str(repository)]) == 0
    assert opened.read_text().strip().endswith("confusion.png")
    monkeypatch.setitem(report.OPENERS, "linux", ["no-such-viewer"])
    assert report.main(["lenet5", "--open", "--repository", str(repository)]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["unet"], "holds no unet; it has lenet5"),
        (["lenet55"], "holds no lenet55; did you mean lenet5?"),
        (["lenet5", "--version", "7"], "holds no version 7 of lenet5; it has 1, 2"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(
    arguments: list[str], said: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([*arguments, "--repository", str(repository)]) == 1
    assert said in capsys.readouterr().err
    assert report.main([*arguments, "--repository", str(repository / "absent")]) == 1
    assert "the folder does not exist; name the model repository with --repository" in capsys.readouterr().err


@pytest.mark.parametrize("content", ['{"data": "x"}', '{"metrics": {"test": [1]}}', "[" * 200_000, "a card"])
def test_a_wrong_card_is_one_line_that_says_what_is_wrong(
    content: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "lenet5" / "2" / "assets.extra" / "card.json").write_text(content)
    assert report.main(["lenet5", "--repository", str(repository)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("ladle report: card.json: ")
    assert "; expected" in line
    assert report.main(["lenet5", "--version", "1", "--repository", str(repository)]) == 0
