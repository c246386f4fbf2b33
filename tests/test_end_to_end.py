"""The showcase as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def demo(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clients.demo", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_showcase_asks_every_network_over_both_protocols(zoo: Path, tmp_path: Path) -> None:
    child = demo("--once", "--repository", zoo, "--output", tmp_path)
    printed, _ = child.communicate(timeout=120)
    assert child.returncode == 0, printed
    assert "6 of 6 networks answered over gRPC and REST" in printed
    # What was trained on generated data is called so.
    assert printed.count("SYNTHETIC") == 6
    assert Image.open(tmp_path / "wgan_gp-generated.png").size[0] > 100
    assert Image.open(tmp_path / "unet-masks.png").mode == "RGB"


def test_the_showcase_fails_when_a_model_does_not_answer(zoo: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    for model in zoo.iterdir():
        (repository / model.name).mkdir()
        (repository / model.name / "1").symlink_to(model / "1")
    (repository / "lenet5" / "1").unlink()
    broken = repository / "lenet5" / "1"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"not a model")
    child = demo("--once", "--repository", repository, "--output", tmp_path / "out")
    printed, _ = child.communicate(timeout=120)
    assert child.returncode == 1, printed
    assert "FAULT  lenet5: " in printed
    assert "5 of 6 networks answered" in printed


def test_ctrl_c_ends_the_showcase_and_its_children(zoo: Path, tmp_path: Path) -> None:
    child = demo("--repository", zoo, "--output", tmp_path)
    assert child.stdout is not None
    for line in child.stdout:
        if "Ctrl-C ends it all" in line:
            break
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_showcase_trains_from_nothing(tmp_path: Path) -> None:
    child = demo("--once", "--repository", tmp_path / "models", "--output", tmp_path / "out")
    printed, _ = child.communicate(timeout=1700)
    assert child.returncode == 0, printed
